"""The kill switch through the API."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from governance.authentication import AgentCaller
from governance.errors import ForbiddenError, NotFoundError
from governance.models import Agent
from governance.services import user_party
from governance.stops import Stop, stops_in_force
from shellagent.api.access import person
from shellagent.api.parsers import BoundedFormParser, BoundedJSONParser
from shellagent.api.serializers import KillSwitchSerializer, StopSerializer
from shellagent.models import AgentHost, Host
from shellagent.representation import Json
from shellagent.schema import problems
from shellagent.services import killswitch_off, killswitch_on


def stops_json(caller: Any) -> list[Json]:
    """Return the kill switches that are on and that this caller may know of: for an agent, those that stop it."""
    stops = stops_in_force()
    if stops and isinstance(caller, AgentCaller):
        hosts = AgentHost.objects.filter(agent_id=caller.agent_id).values_list("host__name", flat=True)
        stops = tuple(one for one in stops if any(one.covers(agent=caller.name, host=host) for host in (None, *hosts)))
    return [_stop_json(stop) for stop in stops]


def _stop_json(stop: Stop) -> Json:
    return {
        "scope": stop.scope,
        "subject": stop.subject or None,
        "reason": stop.reason,
        "by": stop.by,
        "since": stop.since.isoformat(),
    }


class KillSwitchView(GenericAPIView[Any]):
    """Stop everything, a host or an agent: nothing new, nothing that waits, nothing that runs. Or lift it."""

    serializer_class = KillSwitchSerializer
    parser_classes = [BoundedJSONParser, BoundedFormParser]

    @extend_schema(operation_id="kill_switch", responses={200: StopSerializer(many=True), **problems(409)})
    def post(self, request: Request) -> Response:
        user = person(request)
        if not user.has_perm("shellagent.control_host"):
            raise ForbiddenError("You lack the permission to control hosts, which the kill switch needs.")
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        values = serializer.validated_data
        switch = killswitch_on if values["state"] == "on" else killswitch_off
        switch(
            reason=values["reason"],
            actor=user_party(user),
            user=user,
            host=_named(Host, values.get("host", "")),
            agent=_named(Agent, values.get("agent", "")),
        )
        return Response(stops_json(user))


def _named(model: Any, wanted: str) -> Any:
    """Return the host or the agent with this name or id, None for an empty text. Raises NotFoundError."""
    if not wanted:
        return None
    found = model.objects.filter(name=wanted).first()
    if found is None and wanted.isdecimal() and len(wanted) < 19:
        found = model.objects.filter(pk=int(wanted)).first()
    if found is None:
        kind = model._meta.verbose_name
        raise NotFoundError(f"There is no {kind} called {wanted!r}.", field=kind)
    return found
