"""The digest of a stream, with and without a thread of its own."""

import hashlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shellagent.host.digest import FULL_IN_A_ROW, Digest

FULL = 4


@given(st.lists(st.sampled_from([b"", b"a", b"abcd", b"abcdefgh"]) | st.binary(max_size=9), max_size=3 * FULL_IN_A_ROW))
def test_it_is_that_of_all_that_was_fed(pieces: list[bytes]) -> None:
    digest = Digest(full_bytes=FULL)
    for piece in pieces:
        digest.update(bytearray(piece))
    assert digest.hexdigest() == hashlib.sha256(b"".join(pieces)).hexdigest() == digest.hexdigest()


def test_a_thread_takes_it_only_where_the_pipe_is_full_all_the_time() -> None:
    digest, piece = Digest(full_bytes=FULL), b"x" * FULL
    for _ in range(3):
        for _piece in range(FULL_IN_A_ROW - 1):
            digest.update(piece)
        digest.update(b"x")
    assert not digest.is_beside()
    for _piece in range(FULL_IN_A_ROW):
        digest.update(piece)
    assert digest.is_beside()
    # It stays, whatever comes then, and a few more pieces than it keeps are taken.
    for _piece in range(100):
        digest.update(b"y")
    count = 3 * (FULL_IN_A_ROW - 1) + FULL_IN_A_ROW
    assert digest.hexdigest() == hashlib.sha256(b"x" * (FULL * count + 3) + b"y" * 100).hexdigest()
    assert not digest.is_beside()


def test_where_no_thread_can_be_started_it_is_taken_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that has used up its processes leaves its supervisor no thread either."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    digest, piece = Digest(full_bytes=FULL), b"x" * FULL
    for _piece in range(2 * FULL_IN_A_ROW):
        digest.update(piece)
    assert digest.hexdigest() == hashlib.sha256(piece * 2 * FULL_IN_A_ROW).hexdigest()
