"""The kill switches in force, kept in memory like the policy: one small read tells whether they are others by now."""

from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction

from governance.policies import policy_generation
from governance.trust_models import KillSwitch


@dataclass(frozen=True, slots=True)
class Stop:
    """A kill switch that is on."""

    id: int
    scope: str
    subject: str
    reason: str
    by: str
    since: datetime

    def covers(self, *, agent: str | None, host: str | None) -> bool:
        """Return whether this agent on this host is stopped. None is about nobody, so only everything stops that."""
        if self.scope == KillSwitch.Scope.EVERYTHING:
            return True
        return self.subject == (host if self.scope == KillSwitch.Scope.HOST else agent)

    @property
    def what(self) -> str:
        """Return what is stopped, in words."""
        return "everything" if self.scope == KillSwitch.Scope.EVERYTHING else f"the {self.scope} {self.subject}"


_kept: tuple[str, int, tuple[Stop, ...]] | None = None


def stops_in_force() -> tuple[Stop, ...]:
    """Return every kill switch that is on, the newest first. One small query where none was switched since."""
    # First the number, then the rows: what changes in between has another number.
    database, generation = str(connection.settings_dict["NAME"]), policy_generation()
    if _kept is not None and _kept[:2] == (database, generation):
        return _kept[2]
    rows = KillSwitch.objects.filter(lifted_at=None)
    stops = tuple(Stop(row.pk, row.scope, row.subject, row.reason, row.switched_label, row.switched_at) for row in rows)
    # A transaction that is taken back takes its generation with it, which then comes to mean other switches.
    transaction.on_commit(lambda: _keep(database, generation, stops))
    return stops


def stop_of(*, agent: str | None = None, host: str | None = None) -> Stop | None:
    """Return the kill switch that stops this agent on this host, or None."""
    return next((stop for stop in stops_in_force() if stop.covers(agent=agent, host=host)), None)


def _keep(database: str, generation: int, stops: tuple[Stop, ...]) -> None:
    global _kept  # noqa: PLW0603  (a cache of one value, guarded by its generation)
    _kept = (database, generation, stops)
