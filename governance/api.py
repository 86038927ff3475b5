"""Agents, as the API shows them."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from audit.pagination import CheckedCursorPagination
from governance.authentication import AgentCaller
from governance.errors import ForbiddenError
from governance.models import Agent


class AgentSerializer(serializers.ModelSerializer[Agent]):
    owner = serializers.CharField(source="owner.username")

    class Meta:
        model = Agent
        fields = ["id", "name", "owner", "maturity", "is_suspended", "created_at"]
        read_only_fields = fields


class AgentPagination(CheckedCursorPagination):
    ordering = "name"
    page_size = 50


def visible_agents(request: Request) -> QuerySet[Agent]:
    """Return the agents that the caller may see: itself for an agent, a person's own, all with the permission."""
    agents = Agent.objects.select_related("owner")
    caller: Any = request.user
    if isinstance(caller, AgentCaller):
        return agents.filter(pk=caller.agent_id)
    if not isinstance(caller, User):
        raise ForbiddenError
    return agents if caller.has_perm("governance.view_agent") else agents.filter(owner=caller)


class AgentListView(GenericAPIView[Agent]):
    """The agents that you may see."""

    serializer_class = AgentSerializer
    pagination_class = AgentPagination

    def get_queryset(self) -> QuerySet[Agent]:
        return visible_agents(self.request)

    @extend_schema(operation_id="agents", responses={200: AgentSerializer(many=True)})
    def get(self, request: Request) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)
