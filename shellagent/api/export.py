"""`GET /api/audit/export`: events, or a session's output, as a file. Taking them away is itself an event."""

from typing import Any

from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from audit.exporting import Form
from audit.negotiation import AsItIs
from governance.errors import InvalidError
from governance.services import user_party
from shellagent.api.access import person
from shellagent.downloads import download
from shellagent.exporting import Export, export_check, export_make, export_selection
from shellagent.schema import problems

_FILTERS = ("after", "before", "agent", "host", "approver", "session", "outcome", "category", "tag", "about", "words")
#: The first is what client generators know, and has them read bytes; the others are what `format` makes.
_ANSWERS = [(200, "application/octet-stream"), *((200, form.media_type.partition(";")[0]) for form in Form)]


class ExportView(APIView):
    """The trail, or what the filters leave of it, piece by piece."""

    content_negotiation_class = AsItIs
    renderer_classes = [JSONRenderer]

    @extend_schema(
        operation_id="audit_export",
        parameters=[
            OpenApiParameter("format", str, enum=[form.value for form in Form], default=Form.BUNDLE.value),
            *(OpenApiParameter(name, str) for name in _FILTERS),
        ],
        responses={**dict.fromkeys(_ANSWERS, OpenApiTypes.BINARY), **problems(429)},
    )
    def get(self, request: Request) -> HttpResponseBase:
        user = person(request)
        export_check(user)
        asked: dict[str, Any] = request.query_params.dict()
        form = asked.pop("format", Form.BUNDLE)
        if form not in list(Form):
            raise InvalidError(f"There is no format {form[:40]!r}: {', '.join(Form)}.", field="format")
        selection, actor = export_selection(asked), user_party(user)

        def make() -> Export:
            return export_make(form=Form(form), selection=selection, actor=actor, door="the API", now=timezone.now())

        return download(make)
