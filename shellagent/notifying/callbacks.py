"""Where an agent may be called back: only below addresses that an operator allows, and never without a signature."""

from typing import Final

from django.db.models import Q

from governance.errors import InvalidError
from shellagent.notifying.addresses import AddressError, address_read
from shellagent.notifying.models import CallbackPlace, CallbackSecret

_FIELD: Final = "callback_url"


def callback_check(url: str, agent_id: int) -> None:
    """Raise InvalidError where this agent may not be called back there."""
    if problem := callback_problem(url, agent_id):
        raise InvalidError(problem, field=_FIELD)
    if not CallbackSecret.objects.filter(agent_id=agent_id).exists():
        raise InvalidError(
            "This agent has no secret for its callbacks yet. An operator issues one in the admin, under Notifications.",
            field=_FIELD,
        )


def callback_problem(url: str, agent_id: int) -> str:
    """Return why this agent may not be called back there, or an empty text where it may."""
    try:
        address = address_read(url)
    except AddressError as error:
        return f"`callback_url` cannot be used. {error}"
    places = CallbackPlace.objects.filter(Q(agent=None) | Q(agent_id=agent_id))
    for prefix in places.values_list("prefix", flat=True):
        try:
            if address.begins_with(address_read(prefix)):
                return ""
        except AddressError:
            continue  # allowed before, and no longer an address that is called
    return "`callback_url` is not below an address that an operator allows. They are in the admin, under Notifications."
