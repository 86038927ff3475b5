"""`manage.py approvals`: what waits for a person, seen and decided in a terminal on the server."""

import json
import sys
import time
from argparse import ArgumentParser
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.models import User
from django.core.management.base import CommandError, CommandParser
from django.db import close_old_connections, connection
from django.utils import timezone

from atomsite.approving_person import (
    NotThatPersonError,
    code_asked,
    from_the_command_line,
    password_asked,
    person_by_password,
)
from atomsite.commands import AtomCommand, UsageError, check_set_up
from governance.errors import ConflictError, ForbiddenError, ProblemError
from shellagent import limits
from shellagent.models import ShellSession
from shellagent.services import may_approve, session_approve, session_reject, sessions_expire
from shellagent.services.approving import session_terms
from shellagent.states import Status

EXIT_STANDS: Final = 1
EXIT_FORBIDDEN: Final = 77
_WATCH_SECONDS: Final = 1.0

_LIST_HELP: Final = "List what waits for a person, riskiest first, then oldest."
_SHOW_HELP: Final = "Show one session: what would run, where, for whom, and why a person is asked."
_APPROVE_HELP: Final = """\
Approve a session that waits. It is shown, and the password of the person who approves is asked for; what is approved
is what was shown. With --password-stdin nothing is shown or asked, and --digest says what was seen."""
_REJECT_HELP: Final = "Reject a session that waits. The agent gets the reason, so say what it should do instead."
_WATCH_HELP: Final = """\
Follow the queue until Ctrl-C. A terminal shows the table as it is; anything else gets a line for each change."""
_EXITS: Final = """
exit codes: 0 done; 1 not decided, because another state stands or the rules of now deny it; 64 usage, or there is no
such session; 69 no database; 70 internal error; 77 the person may not, or the password is wrong
"""
_READ_EXITS: Final = "\nexit codes: 0 done; 64 usage, or there is no such session; 69 no database; 70 internal error\n"


class Command(AtomCommand):
    help = "See and decide on what waits for a person: the rules, services and events are those of the admin."
    examples = (
        "  manage.py approvals list\n"
        "  manage.py approvals show 019a3c1e-7a5b-7c3d-8e9f-0123456789ab\n"
        "  manage.py approvals approve 019a3c1e-7a5b-7c3d-8e9f-0123456789ab --as anna\n"
        "  manage.py approvals reject 019a3c1e-7a5b-7c3d-8e9f-0123456789ab --as anna --reason 'Use the test database'\n"
        "  manage.py approvals watch\n"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="{list,show,approve,reject,watch}")

        def action(name: str, told: str, examples: str) -> ArgumentParser:
            one: ArgumentParser = actions.add_parser(
                name,
                help=told.partition("\n")[0].partition(":")[0].partition(",")[0].partition(". ")[0].removesuffix("."),
                description=told,
                epilog=f"examples:\n{examples}",
                formatter_class=parser.formatter_class,
            )
            one.add_argument("--json", action="store_true", help="print JSON, for programs")
            return one

        action("list", _LIST_HELP, f"  manage.py approvals list --json\n{_READ_EXITS}")
        show = action("show", _SHOW_HELP, f"  manage.py approvals show ID --json\n{_READ_EXITS}")
        approve = action(
            "approve",
            _APPROVE_HELP,
            "  manage.py approvals approve ID --as anna\n"
            f"  manage.py approvals approve ID --as anna --digest SHA256 --password-stdin < password\n{_EXITS}",
        )
        reject = action("reject", _REJECT_HELP, f"  manage.py approvals reject ID --as anna --reason 'Why'\n{_EXITS}")
        watch = action("watch", _WATCH_HELP, f"  manage.py approvals watch --json --seconds 60\n{_READ_EXITS}")
        for one in (show, approve, reject):
            one.add_argument("session", metavar="ID", help="the session's id, or its last characters while it waits")
        for one in (approve, reject):
            one.add_argument("--as", required=True, dest="user", metavar="USER", help="who decides")
            one.add_argument("--digest", metavar="SHA256", default="", help="what was seen; another is not decided on")
            one.add_argument("--password-stdin", action="store_true", help="read the password from the standard input")
        approve.add_argument("--code", default="", metavar="CODE", help="a one-time code, where one is needed")
        approve.add_argument("--reason", default="", help="kept with the approval")
        reject.add_argument("--reason", default="", help="required: what the agent is told")
        watch.add_argument("--seconds", type=int, metavar="N", help="end after N seconds")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked; the exit code says how it went."""
        check_set_up()
        work = {
            "list": self._list,
            "show": self._show,
            "approve": self._decide,
            "reject": self._decide,
            "watch": self._watch,
        }
        work[options["action"]](options)

    def _list(self, options: dict[str, Any]) -> None:
        # Every command is imported for `help`, and drawing is only needed here.
        from atomsite.approvals_output import queue_shown, terminal, waiting  # noqa: PLC0415

        sessions_expire()
        found = waiting()
        if options["json"]:
            from shellagent.representation import sessions_json  # noqa: PLC0415

            shown = sessions_json(list(found.sessions), with_output=False)
            self.stdout.write(json.dumps({"waiting": shown, "more": found.more}))
            return
        terminal(self.stdout).print(queue_shown(found, timezone.now()))

    def _show(self, options: dict[str, Any]) -> None:
        session = _session(options["session"])
        if options["json"]:
            self._print_json(session)
        else:
            self._card(session)

    def _decide(self, options: dict[str, Any]) -> None:
        session = _session(options["session"])
        is_approval, reason = options["action"] == "approve", options["reason"]
        _check(session, options)
        approver = self._person(session, options)
        decide = session_approve if is_approval else session_reject
        try:
            with from_the_command_line(approver):
                code = {"code": self._code(session, options)} if is_approval else {}
                session = decide(session=session, approver=approver, reason=reason, digest=session.digest, **code)
        except ForbiddenError as error:
            raise CommandError(error.detail, returncode=EXIT_FORBIDDEN) from error
        except ConflictError as error:
            raise CommandError(error.detail, returncode=EXIT_STANDS) from error
        except ProblemError as error:
            raise UsageError(error.detail) from error
        if options["json"]:
            self._print_json(session)
        if is_approval and session.status == Status.DENIED:
            why = f"Not approved: by the rules of now this is denied. {session.termination_detail}"
            raise CommandError(why, returncode=EXIT_STANDS)
        if not options["json"]:
            self.stdout.write(_done(session))

    def _person(self, session: ShellSession, options: dict[str, Any]) -> User:
        """Return who decides, once they have seen it and shown who they are."""
        name = options["user"]
        known = User.objects.filter(username=name).first()
        # Said before the password is asked for; the service asks again.
        if known is not None and session.status == Status.PENDING and (refusal := may_approve(session, known)):
            raise CommandError(refusal, returncode=EXIT_FORBIDDEN)
        try:
            if options["password_stdin"]:
                return person_by_password(name, sys.stdin.readline().rstrip("\n"))
            if not options["json"]:
                self._card(session)
            return person_by_password(name, password_asked(name))
        except NotThatPersonError as error:
            raise CommandError(str(error), returncode=EXIT_FORBIDDEN) from error

    def _code(self, session: ShellSession, options: dict[str, Any]) -> str:
        """Return the one-time code that came with the command, or that is asked for where one is needed."""
        code: str = options["code"]
        if code or options["password_stdin"] or not session_terms(session).needs_code:
            return code
        try:
            return code_asked()
        except NotThatPersonError as error:
            raise CommandError(str(error), returncode=EXIT_FORBIDDEN) from error

    def _watch(self, options: dict[str, Any]) -> None:
        from rich.live import Live  # noqa: PLC0415

        from atomsite.approvals_output import Waiting, change_lines, queue_shown, terminal, waiting  # noqa: PLC0415

        seconds = options["seconds"]
        if seconds is not None and seconds < 0:
            raise UsageError("--seconds is 0 or more.")
        until = None if seconds is None else time.monotonic() + seconds
        console, before = terminal(self.stdout), Waiting((), {})
        is_live = console.is_terminal and not console.is_dumb_terminal and not options["json"]
        with Live(console=console, auto_refresh=False, transient=False) if is_live else _Nothing() as live:
            while True:
                sessions_expire()
                found, now = waiting(), timezone.now()
                if isinstance(live, Live):
                    live.update(queue_shown(found, now), refresh=True)
                else:
                    for line in change_lines(before, found, now, as_json=options["json"]):
                        self.stdout.write(line)
                    self.stdout.flush()
                before = found
                if until is not None and time.monotonic() >= until:
                    return
                if not connection.in_atomic_block:
                    close_old_connections()
                time.sleep(_WATCH_SECONDS if until is None else max(0.0, min(_WATCH_SECONDS, until - time.monotonic())))

    def _card(self, session: ShellSession) -> None:
        from atomsite.approvals_output import card_shown, terminal  # noqa: PLC0415

        terminal(self.stdout).print(card_shown(session, timezone.now()))

    def _print_json(self, session: ShellSession) -> None:
        from shellagent.representation import session_json  # noqa: PLC0415

        self.stdout.write(json.dumps(session_json(session)))


def _done(session: ShellSession) -> str:
    if session.status == Status.REJECTED:
        return "Rejected. The agent is told why."
    if session.status == Status.PENDING:
        return "Approved by you. A second person has to approve it too."
    return "Approved. It runs as soon as the host takes it."


def _check(session: ShellSession, options: dict[str, Any]) -> None:
    """Raise what the arguments of a decision deserve, before anybody is asked for a password."""
    is_approval = options["action"] == "approve"
    reason, digest = options["reason"], options["digest"]
    if not is_approval and not reason.strip():
        raise UsageError("Say why with --reason: the agent gets it.")
    if len(reason) > limits.REASON_MAX_CHARACTERS:
        raise UsageError(f"--reason has at most {limits.REASON_MAX_CHARACTERS} characters.")
    if is_approval and options["password_stdin"] and not digest:
        raise UsageError("With --password-stdin say what was seen with --digest; `approvals show` has it.")
    if digest and digest != session.digest:
        raise CommandError("What would run is not what --digest says. Look at it again.", returncode=EXIT_STANDS)


class _Nothing:
    """What stands for a live display where there is none."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _session(text: str) -> ShellSession:
    """Return the session of this id, or the one that waits and whose id ends like this. Raises UsageError."""
    sessions_expire()
    every = ShellSession.objects.select_related("agent", "host")
    try:
        found = list(every.filter(pk=UUID(text)))
    except ValueError:
        pending = every.filter(status=Status.PENDING)
        found = [one for one in pending if len(text) >= 4 and str(one.pk).endswith(text.lower())]
    if len(found) != 1:
        what = (
            "More than one session that waits has an id that ends"
            if found
            else "There is no session whose id is or ends"
        )
        raise UsageError(f"{what} with {text!r}. `approvals list` shows what waits.")
    return found[0]
