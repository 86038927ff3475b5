"""`manage.py killswitch`: stop everything, a host or an agent, and lift it again."""

import getpass
import json
from typing import Any

from django.core.management.base import CommandParser
from django.db import DatabaseError

from atomsite.commands import AtomCommand, UnavailableError, UsageError, check_set_up
from audit.trail import Party
from governance.errors import ConflictError, NotFoundError, ProblemError
from governance.models import Agent, KillSwitch
from shellagent.models import Host
from shellagent.services import killswitch_off, killswitch_on

SHOWN = 20


class Command(AtomCommand):
    help = (
        "Stop everything, one host or one agent at once: nothing new is taken, what waits is cancelled, what runs\n"
        "gets TERM and two seconds later KILL. `off` lifts the switch, with a reason; `status` lists what is stopped,\n"
        "and the last switches. Without --host and --agent it is about everything."
    )
    examples = (
        '  manage.py killswitch on --reason "The agents delete what they should not"\n'
        '  manage.py killswitch on --agent builder --reason "It loops"\n'
        '  manage.py killswitch off --agent builder --reason "Its prompt is mended"\n'
        "  manage.py killswitch status --json\n"
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("state", choices=["on", "off", "status"], help="what to do")
        parser.add_argument("--host", metavar="NAME", default="", help="about this host only")
        parser.add_argument("--agent", metavar="NAME", default="", help="about this agent only")
        parser.add_argument("--reason", default="", help="why; everybody reads it, and the audit trail keeps it")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Switch it, then say what is stopped."""
        check_set_up()
        try:
            if options["state"] != "status":
                self._switch(options)
            rows = list(KillSwitch.objects.filter(lifted_at=None))
            ended = list(KillSwitch.objects.exclude(lifted_at=None)[:SHOWN])
        except DatabaseError as error:
            raise UnavailableError(f"The database cannot be used: {error}") from error
        if options["json"]:
            shown = {"on": [_json(row) for row in rows], "lifted": [_json(row) for row in ended]}
            self.stdout.write(json.dumps(shown))
            return
        for row in rows:
            since = f"{row.switched_at:%Y-%m-%d %H:%M:%S} UTC"
            self.stdout.write(f"STOPPED  {_what(row)}, since {since} by {row.switched_label}: {row.reason}")
        if not rows:
            self.stdout.write("Nothing is stopped.")
        if options["state"] == "status":
            for row in ended:
                self.stdout.write(f"lifted   {_what(row)}, by {row.lifted_label}: {row.lifted_reason}")

    def _switch(self, options: dict[str, Any]) -> None:
        host = Host.objects.filter(name=options["host"]).first() if options["host"] else None
        agent = Agent.objects.filter(name=options["agent"]).first() if options["agent"] else None
        if (options["host"] and not host) or (options["agent"] and not agent):
            missing = f"host called {options['host']!r}" if options["host"] and not host else ""
            raise UsageError(f"There is no {missing or 'agent called ' + repr(options['agent'])}.")
        switch = killswitch_on if options["state"] == "on" else killswitch_off
        try:
            switch(reason=options["reason"], actor=_operator(), host=host, agent=agent)
        except (ConflictError, NotFoundError) as error:
            # It is as it was asked for already: an alarm that is rung twice is no error.
            self.stderr.write(error.detail)
        except ProblemError as error:
            raise UsageError(f"{error.detail} Use --reason." if not options["reason"] else error.detail) from error


def _operator() -> Party:
    """Return who runs the command, as far as the machine knows."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "an unknown account"
    return Party("system", label=f"{name} at the server's command line")


def _what(row: KillSwitch) -> str:
    return "everything" if row.scope == KillSwitch.Scope.EVERYTHING else f"{row.scope} {row.subject}"


def _json(row: KillSwitch) -> dict[str, Any]:
    return {
        "scope": row.scope,
        "subject": row.subject or None,
        "reason": row.reason,
        "by": row.switched_label,
        "at": row.switched_at.isoformat(),
        "lifted_by": row.lifted_label or None,
        "lifted_at": row.lifted_at.isoformat() if row.lifted_at else None,
        "lifted_reason": row.lifted_reason or None,
    }
