"""The trail, as the API shows it to people with the permission. Reading it is itself an event."""

import json
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.models import AuditEvent
from audit.pagination import CheckedCursorPagination
from audit.reading import reading_record
from audit.tags import Tag
from audit.trail_health import trail_health
from audit.verdicts import verdict_answer
from audit.verifying_report import Verdict


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


class AskedTimeField(serializers.DateTimeField):
    """A time in an address, where a plus sign stands for a blank unless it is escaped."""

    default_error_messages = {
        "invalid": "This is no time such as 2026-11-29T12:00:00Z. In an address a + is written as %2B."
    }


class EventFilterSerializer(serializers.Serializer[Any]):
    tag = serializers.ChoiceField(choices=[item.value for item in Tag], required=False)
    session_id = serializers.UUIDField(required=False)
    actor_type = serializers.CharField(required=False, max_length=16)
    actor_id = serializers.CharField(required=False, max_length=64)
    subject_type = serializers.CharField(required=False, max_length=16)
    subject_id = serializers.CharField(required=False, max_length=64)
    after = AskedTimeField(required=False, help_text="At this time or later.")
    before = AskedTimeField(required=False)


class FindingSerializer(serializers.Serializer[Any]):
    severity = serializers.ChoiceField(choices=["tampered", "incomplete"])
    what = serializers.CharField()
    first = serializers.IntegerField(allow_null=True, help_text="The first leaf or checkpoint that it is of.")
    last = serializers.IntegerField(allow_null=True)


class VerdictSerializer(serializers.Serializer[Any]):
    verdict = serializers.ChoiceField(choices=[item.value for item in Verdict])
    size = serializers.IntegerField(help_text="Events that were verified: those of the leaves below this number.")
    checkpoint = serializers.IntegerField()
    digest = serializers.CharField(help_text="SHA-256 of that checkpoint's note, hexadecimal.")
    verified_at = serializers.DateTimeField()
    whole_at = serializers.DateTimeField(allow_null=True, help_text="When the whole log was last verified.")
    sealed_size = serializers.IntegerField(help_text="Above `size`: more is sealed than was verified; ask again.")
    sealed_seconds = serializers.IntegerField(allow_null=True)
    anchored_seconds = serializers.IntegerField(allow_null=True)
    oldest_pending_seconds = serializers.IntegerField(allow_null=True)
    findings = FindingSerializer(many=True)


class EventPagination(CheckedCursorPagination):
    ordering = "-id"
    page_size = 100
    max_page_size = 500
    page_size_query_param = "page_size"


def _reader(request: Request) -> User:
    user: Any = request.user
    if not (isinstance(user, User) and user.has_perm("audit.view_audit")):
        raise PermissionDenied("The trail is for people with the permission to read it.")
    return user


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
        user = _reader(request)
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


class VerifyView(APIView):
    """Whether the trail is what was written: verified from the checkpoint where the last look ended.

    What is kept of a look serves until there is a new checkpoint. `manage.py auditverify` verifies everything at once.
    """

    @extend_schema(operation_id="audit_verify", responses={200: VerdictSerializer})
    def get(self, request: Request) -> Response:
        reading_record(_reader(request), {"by": "the API", "what": "the verdict"})
        now = timezone.now()
        found, health = verdict_answer(now), trail_health(now)
        return Response(
            {
                "verdict": found.verdict,
                "size": found.size,
                "checkpoint": found.checkpoint,
                "digest": found.digest,
                "verified_at": found.at.isoformat(),
                "whole_at": found.whole_at.isoformat() if found.whole_at else None,
                "sealed_size": health.sealed_size,
                "sealed_seconds": health.sealed_seconds,
                "anchored_seconds": health.anchored_seconds,
                "oldest_pending_seconds": health.oldest_pending_seconds,
                "findings": [finding.to_json() for finding in found.findings],
            }
        )
