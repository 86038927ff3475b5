"""Head and tail: whatever the chunks, the first and last bytes are kept, and the digest is of everything."""

import hashlib

from hypothesis import assume, given
from hypothesis import strategies as st

from shellagent import protocol
from shellagent.host.capture import Capture


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 30), st.integers(1, 30))
def test_what_is_kept(chunks: list[bytes], head: int, tail: int) -> None:
    capture = Capture("stdout", head_bytes=head, tail_bytes=tail)
    for chunk in chunks:
        capture.feed(chunk)
    whole = b"".join(chunks)
    totals = capture.totals()
    # What happens to look like a secret is kept as asterisks; other tests are about that.
    assume(not capture.masked)
    assert totals.total_bytes == len(whole)
    assert totals.sha256 == hashlib.sha256(whole).hexdigest()
    assert totals.is_truncated == (len(whole) > head + tail)
    assert capture.head_from(0) == whole[:head]
    assert capture.tail() == (whole[head:][-tail:] if len(whole) > head else b"")


@given(st.binary(max_size=3000))
def test_segments_put_together_are_the_stream(data: bytes) -> None:
    capture = Capture("stderr", head_bytes=2000, tail_bytes=2000)
    capture.feed(data)
    whole = b"".join(segment.content() for segment in capture.segments())
    assert data == whole
    offset = 0
    for segment in capture.segments():
        assert segment.offset == offset
        assert not segment.is_tail
        assert len(segment.content()) <= protocol.SEGMENT_BYTES
        offset += len(segment.content())


def test_a_long_stream_in_pieces_of_many_sizes() -> None:
    capture = Capture("stdout")
    chunks = [bytes([number % 251]) * (40_000 + 37 * number) for number in range(80)]
    for chunk in chunks:
        capture.feed(chunk)
    assert capture.totals().sha256 == hashlib.sha256(b"".join(chunks)).hexdigest()


def test_the_tail_says_where_it_belongs() -> None:
    capture = Capture("stdout", head_bytes=4, tail_bytes=4)
    capture.feed(b"0123456789")
    segments = capture.segments()
    assert [(item.offset, item.content(), item.is_tail) for item in segments] == [
        (0, b"0123", False),
        (6, b"6789", True),
    ]
