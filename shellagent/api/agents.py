"""An agent with its record: what it did, what it earned by it, and what it lacks for the next maturity."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.api import AgentSerializer, visible_agents
from governance.errors import NotFoundError
from governance.models import Agent, PromotionProposal
from shellagent.records import COUNTED, AgentRecord, agent_record
from shellagent.representation import Json


class GapSerializer(serializers.Serializer[Any]):
    what = serializers.ChoiceField(choices=["decided", "intervention", "score"])
    has = serializers.CharField()
    needs = serializers.CharField()
    words = serializers.CharField()


class RecordSerializer(serializers.Serializer[Any]):
    """Counts of all that it ever asked for by itself, then what it earned since `since`."""

    asked = serializers.IntegerField()
    allowed = serializers.IntegerField(help_text="Let through without a person.")
    approved = serializers.IntegerField()
    denied = serializers.IntegerField()
    rejected = serializers.IntegerField()
    stopped = serializers.IntegerField(help_text="A person cancelled or aborted it.")
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Or took too long.")
    refused = serializers.IntegerField(help_text="By the host.")
    violations = serializers.IntegerField(help_text="It asked for what is denied to everybody.")
    since = serializers.DateTimeField(help_text="When it got its maturity, or was last declined the next one.")
    decided = serializers.IntegerField(help_text="Different commands that ran, or that a person decided on.")
    interventions = serializers.IntegerField(help_text="Of those, rejected, cancelled or aborted by a person.")
    intervention_percent = serializers.FloatField()
    recent_violations = serializers.IntegerField(help_text="Of the last 30 days.")
    score = serializers.FloatField(help_text="From 0 to 1.")


class RecordedAgentSerializer(AgentSerializer):
    record = RecordSerializer()
    next_maturity = serializers.CharField(allow_null=True)
    gaps = GapSerializer(many=True, help_text="What is lacking for the next maturity; empty where nothing is.")
    is_proposed = serializers.BooleanField(help_text="The next maturity waits for a person to grant it.")

    class Meta(AgentSerializer.Meta):
        fields = [*AgentSerializer.Meta.fields, "record", "next_maturity", "gaps", "is_proposed"]
        read_only_fields = fields


class AgentView(GenericAPIView[Agent]):
    """One agent, its maturity, its record, and what it lacks for the next maturity."""

    serializer_class = RecordedAgentSerializer

    @extend_schema(operation_id="agent", responses={200: RecordedAgentSerializer})
    def get(self, request: Request, agent_id: int) -> Response:
        agent = visible_agents(request).filter(pk=agent_id).first()
        if agent is None:
            raise NotFoundError("There is no such agent that you may see.")
        found = agent_record(agent)
        return Response(
            {
                **AgentSerializer(agent).data,
                "record": record_json(found),
                "next_maturity": str(found.next.maturity) if found.next else None,
                "gaps": [
                    {name: getattr(gap, name) for name in ("what", "has", "needs", "words")} for gap in found.gaps
                ],
                "is_proposed": agent.proposals.filter(status=PromotionProposal.Status.PENDING).exists(),
            }
        )


def record_json(found: AgentRecord) -> Json:
    """Return a record as plain values; the score is cut, not rounded, to three places."""
    earned = found.earned
    return {
        **{name: getattr(found.counts, name) for name in COUNTED},
        "violations": found.violations,
        "since": found.since.isoformat(),
        "decided": earned.decided,
        "interventions": earned.interventions,
        "intervention_percent": round(earned.intervention_percent, 1),
        "recent_violations": earned.violations,
        "score": int(earned.score * 1000) / 1000,
    }
