"""Quiet hours: a time of day in a person's own time zone, also over midnight and over a change of the clocks."""

from datetime import UTC, datetime, timedelta

from shellagent.notifying.models import Preference


def quiet_until(preference: Preference, now: datetime) -> datetime | None:
    """Return when the quiet hours that are now end, or None outside of them."""
    begin, end = preference.quiet_from, preference.quiet_until
    if begin is None or end is None or begin == end:
        return None
    local = now.astimezone(preference.zone)
    time = local.time()
    is_quiet = begin <= time < end if begin < end else time >= begin or time < end
    if not is_quiet:
        return None
    day = local.date() if time < end else local.date() + timedelta(days=1)
    until = datetime.combine(day, end, tzinfo=preference.zone).astimezone(UTC)
    # Where the clocks were set back within the hour that ends it, that end is past already.
    return until if until > now else now + timedelta(minutes=1)
