"""One of several processes that race for the same sessions: `python -m tests.shellagent.racer NUMBER`.

It sets itself up and says `ready`. Each line on its standard input is a race, `KIND ID…`, and is answered by a line of
JSON: what it was told of each session. The racing itself is the services' own code on the database of DATABASE_URL.
"""

import json
import sys
from collections.abc import Callable
from uuid import UUID

import django

Told = dict[str, str]


def main() -> None:
    """Race until there is no more."""
    django.setup()
    number = int(sys.argv[1])
    from django.db import connection  # noqa: PLC0415  (Django has to be set up first)

    connection.ensure_connection()
    _say("ready")
    for line in sys.stdin:
        kind, *ids = line.split()
        _say(json.dumps(_RACES[kind](number, [UUID(item) for item in ids])))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _claim(number: int, ids: list[UUID]) -> Told:
    """Poll as the one process of the host that all racers are, each with a claim key of its own."""
    from shellagent.models import Host  # noqa: PLC0415
    from shellagent.services import host_poll  # noqa: PLC0415
    from tests.shellagent.scene import poll_request  # noqa: PLC0415

    told: Told = {}
    while True:
        request = poll_request(claim_key=f"racer-{number}", free_slots=3)
        claimed = host_poll(host=Host.objects.get(), request=request).sessions
        new = {item.id: "claimed" for item in claimed if item.id not in told}
        if not new:
            return told
        told |= new
        number += 100


def _hold(number: int, ids: list[UUID]) -> Told:
    """Hold a poll open, and look again only where this process is woken by another one."""
    from shellagent import wake  # noqa: PLC0415
    from shellagent.models import Host  # noqa: PLC0415
    from shellagent.services import host_poll  # noqa: PLC0415
    from tests.shellagent.scene import poll_request  # noqa: PLC0415

    del ids
    wake.RECHECK_SECONDS = 60
    request = poll_request(claim_key=f"racer-{number}", hold_seconds=20)
    return {item.id: "claimed" for item in host_poll(host=Host.objects.get(), request=request).sessions}


def _each(ids: list[UUID], act: "Callable[[UUID], object]") -> Told:
    from shellagent.errors import StateError  # noqa: PLC0415

    told = {}
    for session_id in ids:
        try:
            act(session_id)
        except StateError as error:
            who = error.extra.get("decided_by", "nobody")
            told[str(session_id)] = f"lost to {error.extra['status_now']} by {who}"
        else:
            told[str(session_id)] = "won"
    return told


def _decide(number: int, ids: list[UUID]) -> Told:
    """Approve, reject or cancel, by the racer's number."""
    from django.contrib.auth.models import User  # noqa: PLC0415

    from governance.services import user_party  # noqa: PLC0415
    from shellagent.models import ShellSession  # noqa: PLC0415
    from shellagent.services import session_approve, session_cancel, session_reject  # noqa: PLC0415

    user = User.objects.get(username=f"racer-{number}")

    def act(session_id: UUID) -> None:
        session = ShellSession.objects.get(pk=session_id)
        if number % 3 == 0:
            session_approve(session=session, approver=user)
        elif number % 3 == 1:
            session_reject(session=session, approver=user, reason="because")
        else:
            session_cancel(session=session, actor=user_party(user))

    return _each(ids, act)


def _word(number: int, ids: list[UUID]) -> Told:
    """Approve or reject, every second racer the one and every second the other, in an order of one's own."""
    from django.contrib.auth.models import User  # noqa: PLC0415

    from shellagent.models import ShellSession  # noqa: PLC0415
    from shellagent.services import session_approve, session_reject  # noqa: PLC0415

    user = User.objects.get(username=f"racer-{number}")

    def act(session_id: UUID) -> None:
        session = ShellSession.objects.select_related("agent").get(pk=session_id)
        if number % 2:
            session_reject(session=session, approver=user, reason="because")
        else:
            session_approve(session=session, approver=user, digest=session.digest)

    return _each(ids[number % 2 :] + ids[: number % 2], act)


def _start(number: int, ids: list[UUID]) -> Told:
    """Ask for the start with a key of one's own."""
    from shellagent.models import Host, ShellSession  # noqa: PLC0415
    from shellagent.protocol import Start, StartRequest  # noqa: PLC0415
    from shellagent.services import sessions_start  # noqa: PLC0415

    digests = dict(ShellSession.objects.values_list("pk", "digest"))
    starts = tuple(Start(str(item), f"racer-{number}", digests[item]) for item in ids)
    answer = sessions_start(host=Host.objects.get(), request=StartRequest(1, "instance-1", starts))
    return {grant.id: str(grant.status) for grant in answer.grants}


def _record(number: int, ids: list[UUID]) -> Told:
    """Hand in a record that differs from each other racer's."""
    from shellagent.models import Host, ShellSession  # noqa: PLC0415
    from shellagent.protocol import RecordRequest  # noqa: PLC0415
    from shellagent.services import sessions_record  # noqa: PLC0415
    from tests.shellagent.scene import report  # noqa: PLC0415

    sessions = ShellSession.objects.in_bulk(ids)
    reports = tuple(report(sessions[item], exit_codes=(number,)) for item in ids)
    return sessions_record(host=Host.objects.get(), request=RecordRequest(1, "instance-1", reports)).statuses


_RACES: dict[str, Callable[[int, list[UUID]], Told]] = {
    "claim": _claim,
    "hold": _hold,
    "decide": _decide,
    "word": _word,
    "start": _start,
    "record": _record,
}

if __name__ == "__main__":
    main()
