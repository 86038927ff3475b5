"""The trail, as the API shows it to people with the permission. Reading it is itself an event."""

import json
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from audit.models import AuditEvent
from audit.pagination import CheckedCursorPagination
from audit.reading import reading_record
from audit.tags import Tag


class EventSerializer(serializers.ModelSerializer[AuditEvent]):
    body = serializers.SerializerMethodField()

    class Meta:
        model = AuditEvent
        fields = [
            "id",
            "uid",
            "occurred_at",
            "tag",
            "actor_type",
            "actor_id",
            "actor_label",
            "subject_type",
            "subject_id",
            "subject_label",
            "session_id",
            "session_seq",
            "outcome",
            "hash",
            "body",
        ]
        read_only_fields = fields

    def get_body(self, event: AuditEvent) -> dict[str, Any]:
        """Return the canonical body as an object."""
        return dict(json.loads(event.body))


class EventFilterSerializer(serializers.Serializer[Any]):
    tag = serializers.ChoiceField(choices=[item.value for item in Tag], required=False)
    session_id = serializers.UUIDField(required=False)
    actor_type = serializers.CharField(required=False, max_length=16)
    actor_id = serializers.CharField(required=False, max_length=64)
    subject_type = serializers.CharField(required=False, max_length=16)
    subject_id = serializers.CharField(required=False, max_length=64)
    after = serializers.DateTimeField(required=False, help_text="At this time or later.")
    before = serializers.DateTimeField(required=False)


class EventPagination(CheckedCursorPagination):
    ordering = "-id"
    page_size = 100
    max_page_size = 500
    page_size_query_param = "page_size"


class EventListView(GenericAPIView[AuditEvent]):
    """Audit events, newest first."""

    serializer_class = EventSerializer
    pagination_class = EventPagination

    def get_queryset(self) -> QuerySet[AuditEvent]:
        return AuditEvent.objects.all()

    @extend_schema(
        operation_id="audit_events",
        parameters=[EventFilterSerializer],
        responses={200: EventSerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        user: Any = request.user
        if not (isinstance(user, User) and user.has_perm("audit.view_audit")):
            raise PermissionDenied("The trail is for people with the permission to read it.")
        filters = EventFilterSerializer(data=request.query_params)
        filters.is_valid(raise_exception=True)
        wanted = dict(filters.validated_data)
        asked = {name: str(value) for name, value in wanted.items()}
        after, before = wanted.pop("after", None), wanted.pop("before", None)
        events = self.get_queryset().filter(**wanted)
        if after:
            events = events.filter(occurred_at__gte=after)
        if before:
            events = events.filter(occurred_at__lt=before)
        page = self.paginate_queryset(events)
        reading_record(user, {**asked, "by": "the API"})
        return self.get_paginated_response(self.get_serializer(page, many=True).data)
