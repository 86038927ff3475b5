"""The clerk: what waits is answered together, one's trouble is not the others', and a held call is looked at again."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, OperationalError, connection, transaction

from governance.errors import InvalidError
from shellagent import wake
from shellagent.clerk import Answer, Call, Clerk, Listen

pytestmark = pytest.mark.usefixtures("own_database")


class Note(Call):
    """A call that makes a group by its name; `does` comes after."""

    def __init__(self, name: str, does: Callable[[], object] = lambda: None, *, holds: float = 0.0) -> None:
        self.name = name
        self.does = does
        self.holds = holds
        self.looks = 0
        self.fails_at_look = False
        self.is_closed = False

    def begin(self, listen: Listen) -> Answer | None:
        Group.objects.create(name=self.name)
        self.does()
        if not self.holds:
            return Answer(200, self.name.encode())
        self.until = time.monotonic() + self.holds
        listen(self.name)
        return None

    def look(self) -> Answer | None:
        self.looks += 1
        if self.fails_at_look:
            err()
        return Answer(200, b"looked") if self.looks > 1 or time.monotonic() >= self.until else None

    def failed(self, error: Exception) -> Answer:
        return Answer(500, type(error).__name__.encode())

    def close(self) -> None:
        self.is_closed = True


class Desk:
    """A clerk that serves on this thread."""

    def __init__(self) -> None:
        self.answers: dict[Call, Answer] = {}
        self.handed_over: list[int] = []
        self.clerk = Clerk(self._deliver)

    def _deliver(self, answers: Sequence[tuple[Call, Answer]]) -> None:
        self.handed_over.append(len(answers))
        self.answers.update(answers)

    def serve(self, *calls: Call, enough: int = 0) -> list[tuple[int, str]]:
        for call in calls:
            self.clerk.take(call)
        self.clerk.serve(until=lambda: len(self.answers) >= (enough or len(calls)))
        return [(self.answers[call].status, self.answers[call].body.decode()) for call in calls if call in self.answers]


def made() -> set[str]:
    return set(Group.objects.values_list("name", flat=True))


def break_the_rules() -> None:
    Group.objects.create(name="first")


def swallow_an_error() -> None:
    try:
        with transaction.atomic(savepoint=False):
            break_the_rules()
    except IntegrityError:
        pass


def refuse_halfway() -> None:
    with transaction.atomic(savepoint=False):
        refuse()


def refuse() -> None:
    raise InvalidError("no")


def err() -> None:
    raise ZeroDivisionError


def test_what_waits_is_answered_in_one_transaction() -> None:
    desk = Desk()
    assert desk.serve(Note("first"), Note("second")) == [(200, "first"), (200, "second")]
    assert desk.handed_over == [2]
    assert made() == {"first", "second"}


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (break_the_rules, "IntegrityError"),
        (swallow_an_error, "_SpoiltError"),
        (err, "ZeroDivisionError"),
        (refuse_halfway, "InvalidError"),
    ],
)
def test_the_trouble_of_one_is_not_that_of_the_others(trouble: Callable[[], None], told: str) -> None:
    calls = Note("first"), Note("bad", trouble), Note("second")
    assert Desk().serve(*calls) == [(200, "first"), (500, told), (200, "second")]
    assert made() == {"first", "second"}


def test_an_error_that_the_caller_is_told_of_undoes_nothing_else() -> None:
    desk = Desk()
    assert desk.serve(Note("first"), Note("bad", refuse)) == [(200, "first"), (500, "InvalidError")]
    assert desk.handed_over == [2]


def test_a_commit_that_fails_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def commit() -> None:
        tried.append(1)
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "commit", commit)
    assert Desk().serve(Note("first"), Note("second")) == [(500, "OperationalError")] * 2
    monkeypatch.undo()
    assert (len(tried), made()) == (1, set())


def test_a_database_that_is_gone_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def begin(*_arguments: object, **_options: object) -> None:
        tried.append(1)
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "set_autocommit", begin)
    assert Desk().serve(Note("first"), Note("second")) == [(500, "OperationalError")] * 2
    assert len(tried) == 1


def test_a_database_that_is_gone_in_the_middle_is_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, set_autocommit = [], connection.set_autocommit

    def begin(autocommit: bool, **options: bool) -> None:
        if not autocommit:
            tried.append(1)
            raise OperationalError("gone")
        set_autocommit(autocommit, **options)

    def go() -> None:
        monkeypatch.setattr(connection, "set_autocommit", begin)
        raise OperationalError("gone")

    calls = Note("first", go), Note("second"), Note("third")
    assert Desk().serve(*calls) == [(500, "OperationalError")] * 3
    # Each may have waited for as long as it takes to find out that nobody answers.
    assert len(tried) == 1


def test_a_held_call_that_fails_does_not_fail_who_rang_for_it() -> None:
    desk, held = Desk(), Note("held", holds=30)
    held.fails_at_look = True
    desk.clerk.take(held)
    assert desk.serve(Note("first"), enough=1) == [(200, "first")]
    rings = Note("rings", lambda: wake.ring_on_commit("held"))
    assert desk.serve(rings, enough=3) == [(200, "rings")]
    assert (desk.answers[held].body, made()) == (b"ZeroDivisionError", {"held", "first", "rings"})


def test_a_held_call_whose_caller_has_just_gone_is_not_looked_at() -> None:
    desk, held = Desk(), Note("held", holds=30)
    desk.clerk.take(held)
    assert desk.serve(Note("first"), enough=1) == [(200, "first")]

    def go_and_ring() -> None:
        desk.clerk.drop(held)
        wake.ring_on_commit("held")

    assert desk.serve(Note("rings", go_and_ring), enough=2) == [(200, "rings")]
    assert desk.serve(Note("second"), enough=3) == [(200, "second")]
    assert (held.is_closed, held.looks) == (True, 0)


def test_a_call_that_cannot_listen_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def listen(*_arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(wake, "listen", listen)
    assert Desk().serve(Note("held", holds=30), Note("first")) == [(500, "RuntimeError"), (200, "first")]


def test_a_call_that_cannot_say_what_failed_does_not_end_the_clerk(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, bad = Desk(), Note("bad", err)
    monkeypatch.setattr(bad, "failed", lambda _error: err())
    assert desk.serve(bad) == [(500, "")]
    assert desk.serve(Note("first"), enough=2) == [(200, "first")]


def test_a_held_call_is_looked_at_when_it_is_rung_for() -> None:
    desk, held = Desk(), Note("held", holds=30)
    held.looks = 1
    rings = Note("rings", lambda: wake.ring_on_commit("held"))
    assert desk.serve(held, rings) == [(200, "looked"), (200, "rings")]
    # In the same transaction, so that both were handed over together.
    assert (desk.handed_over, held.is_closed, wake.bells(["held"])) == ([2], True, [])


def test_a_ring_of_another_thread_is_heard() -> None:
    desk, held = Desk(), Note("held", holds=30)
    held.looks = 1
    timer = threading.Timer(0.05, wake.ring, [["held"]])
    timer.start()
    assert desk.serve(held) == [(200, "looked")]
    timer.join()


def test_a_held_call_is_answered_when_its_time_is_over_and_once() -> None:
    desk, held = Desk(), Note("held", holds=0.05)
    # The look that the ring brings makes a second time to look at, the same as the first.
    desk.serve(held, Note("rings", lambda: wake.ring_on_commit("held")), enough=2)
    assert (desk.answers[held].body, desk.handed_over) == (b"looked", [1, 1])
    assert desk.serve(Note("after"), enough=3) == [(200, "after")]


def test_a_call_whose_caller_has_gone_is_forgotten() -> None:
    desk, held = Desk(), Note("held", holds=30)
    desk.clerk.take(held)
    assert desk.serve(Note("first"), enough=1) == [(200, "first")]
    desk.clerk.drop(held)
    assert desk.serve(Note("second"), enough=2) == [(200, "second")]
    assert (held.is_closed, held.looks, wake.bells(["held"])) == (True, 0, [])


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite makes its plans anew")
def test_the_clerks_connections_read_no_table_whole_and_others_may() -> None:
    seen = []

    def look() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('enable_seqscan'), current_setting('jit')")
            seen.append(cursor.fetchone())

    def work() -> None:
        try:
            Desk().serve(Note("first", look))
            connection.close()
            # Also the one in place of one that was closed.
            Desk().serve(Note("second", look))
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    look()
    assert seen == [("off", "off"), ("off", "off"), ("on", "on")]
