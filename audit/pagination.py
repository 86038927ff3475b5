"""Lists by cursor. A cursor that no list gave out is answered as such, not as an error of the server's."""

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DataError
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.views import APIView


class CheckedCursorPagination(CursorPagination):
    """DRF's, which passes the position in a cursor to the database whatever it is.

    DRF builds its links from the request's Host header, which the caller writes; here they begin with ATOM_PUBLIC_URL.
    """

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any] | None:
        try:
            page: list[Any] | None = super().paginate_queryset(queryset, request, view)
        except (ValueError, ValidationError, DataError):
            raise NotFound(self.invalid_cursor_message) from None
        self.base_url = settings.ATOM_PUBLIC_URL + request.get_full_path()
        return page
