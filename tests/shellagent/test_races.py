"""Eight processes race for the same sessions: each session has one winner, and every loser is told so."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection, connections

from governance.models import DemotionRow
from governance.policy.types import Maturity
from shellagent.models import Approval, ExecutionRecord, ShellSession
from shellagent.states import Status
from tests.conftest import person
from tests.database import OwnDatabase
from tests.shellagent.scene import ALLOWED, ASKED, Scene, reread, tags

pytestmark = pytest.mark.e2e

RACERS = 8
SESSIONS = 12


class Field:
    """The racers, set up and waiting."""

    def __init__(self, started: list[subprocess.Popen[str]]) -> None:
        self.started = started
        assert {self._line(process) for process in started} == {"ready"}

    def race(self, kind: str, sessions: list[ShellSession]) -> list[dict[str, str]]:
        """Let all race for these sessions. Returns what each was told of each session."""
        connections.close_all()
        for process in self.started:
            assert process.stdin is not None
            process.stdin.write(" ".join([kind, *(str(item.pk) for item in sessions)]) + "\n")
            process.stdin.flush()
        return [json.loads(self._line(process)) for process in self.started]

    @staticmethod
    def _line(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line, process.communicate()[1]
        return line


@pytest.fixture
def field(own_database: OwnDatabase, tmp_path: Path) -> Iterator[Field]:
    """Eight racers on a database of the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.shellagent.racer", str(number)],
            cwd=settings.BASE_DIR,
            env=own_database.environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(RACERS)
    ]
    try:
        yield Field(list(started))
    finally:
        for process in started:
            process.kill()
            process.communicate()


def answers(told: list[dict[str, str]], session: ShellSession) -> Counter[str]:
    return Counter(racer[str(session.pk)] for racer in told if str(session.pk) in racer)


def test_every_race_has_one_winner(own_scene: Scene, field: Field) -> None:
    deciding(own_scene, field)
    sessions = [own_scene.session(ALLOWED) for _ in range(SESSIONS)]
    claiming(field, sessions)
    starting(field, sessions)
    recording(field, sessions)


def claiming(field: Field, sessions: list[ShellSession]) -> None:
    told = field.race("claim", sessions)
    for session in sessions:
        assert answers(told, session) == {"claimed": 1}
        assert tags(session) == ["queued", "claimed"]
        claimer = next(number for number, racer in enumerate(told) if str(session.pk) in racer)
        key = ShellSession.objects.get(pk=session.pk).claim_key
        assert int(key.removeprefix("racer-")) % 100 == claimer


def deciding(scene: Scene, field: Field) -> None:
    """Three racers approve, three reject and two cancel each session."""
    for number in range(RACERS):
        person(f"racer-{number}", "shellagent.approve")
    sessions = [scene.session(ASKED) for _ in range(4)]
    told = field.race("decide", sessions)
    for session in sessions:
        of_session = [racer[str(session.pk)] for racer in told]
        approvers, rejecters, cancellers = (of_session[kind::3] for kind in range(3))
        decided = list(Approval.objects.filter(session=session).values_list("decision", flat=True))
        assert len(decided) == approvers.count("won") + rejecters.count("won") <= 1
        if reread(session).status == Status.REJECTED:
            assert (decided, cancellers.count("won")) == (["reject"], 0)
            assert tags(session) == ["pending", "rejected"]
        else:
            # An approval may be followed by a cancel. To cancel what is cancelled is no error, and no second event.
            assert reread(session).status == Status.CANCELLED
            assert (set(cancellers), rejecters.count("won")) == ({"won"}, 0)
            assert tags(session) == ["pending", *["queued"] * len(decided), "cancelled"]
            assert decided in ([], ["approve"])
        lost = {answer.split(" by ")[0] for answer in of_session if answer != "won"}
        assert lost <= {"lost to queued", "lost to rejected", "lost to cancelled"}


def test_four_processes_decide_on_each_of_fifty(own_scene: Scene, field: Field) -> None:
    """One word counts, and every other one is told whose it was."""
    del field.started[4:]
    for number in range(4):
        person(f"racer-{number}", "shellagent.approve")
    # A demotion amid the race would change what runs, and be told instead of who was first.
    DemotionRow.objects.all().delete()
    kinds = [*[ASKED] * 17, *[(Maturity.INTERN, "ls /tmp")] * 17, *[(Maturity.SUPERVISED, "touch /tmp/x")] * 16]
    sessions = [own_scene.session(kind) for kind in kinds]
    told = field.race("word", sessions)
    for session in sessions:
        of_session = [racer[str(session.pk)] for racer in told]
        (winner,) = (number for number, answer in enumerate(of_session) if answer == "won")
        status = Status.REJECTED if winner % 2 else Status.QUEUED
        assert reread(session).status == status
        approval = Approval.objects.get(session=session)
        assert (approval.approver_label, approval.digest) == (f"racer-{winner}", session.digest)
        assert Counter(of_session) == {"won": 1, f"lost to {status} by racer-{winner}": 3}
        assert tags(session) == ["pending", str(status)]


def starting(field: Field, sessions: list[ShellSession]) -> None:
    told = field.race("start", sessions)
    for session in sessions:
        assert answers(told, session) == {"granted": 1, "already-granted": RACERS - 1}
        winner = next(number for number, racer in enumerate(told) if racer[str(session.pk)] == "granted")
        assert reread(session).start_key == f"racer-{winner}"
        assert tags(session) == ["queued", "claimed", "running"]


def recording(field: Field, sessions: list[ShellSession]) -> None:
    told = field.race("record", sessions)
    for session in sessions:
        assert answers(told, session) == {"recorded": 1, "conflict": RACERS - 1}
        winner = next(number for number, racer in enumerate(told) if racer[str(session.pk)] == "recorded")
        assert ExecutionRecord.objects.get(session=session).exit_codes == [winner]
        assert tags(session) == ["queued", "claimed", "running", "succeeded"] + ["record_conflict"] * (RACERS - 1)


@pytest.mark.skipif(connection.vendor == "sqlite", reason="there one process serves, and others look every 2 s")
def test_a_request_in_one_process_wakes_the_poll_that_another_holds(own_scene: Scene, field: Field) -> None:
    del field.started[1:]
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(field.race, "hold", [])
        while not held.done() and time.monotonic() - began < 30:
            own_scene.session(ALLOWED)
            time.sleep(0.3)
        (told,) = held.result()
    assert told
    assert time.monotonic() - began < 15
