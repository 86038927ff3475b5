"""Masking: what is a secret, what is not, and that the pieces in which a stream comes never matter."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shellagent.host.capture import Capture
from shellagent.masking import LINE_BYTES, LONGEST_SECRET, Known, Masker, masked

_A36 = "aB3" * 12
_GITHUB = "ghp_" + _A36
_JWT = "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0." + "a" * 43
_KEY = (
    "-----BEGIN OPENSSH " + "PRIVATE KEY-----\n" + ("b3Bl" * 16 + "\n") * 5 + "-----END OPENSSH " + "PRIVATE KEY-----\n"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"x {_GITHUB} y", f"x {'*' * 40} y"),
        (f"a {_JWT}", f"a {'*' * len(_JWT)}"),
        ("password=hunter22", "password=********"),
        ("DB_PASSWORD: 'hunter22'", "DB_PASSWORD: '********'"),
        ('{"api_key": "abc123def"}', '{"api_key": "*********"}'),
        ("aws_secret_access_key = " + "wJalr" * 8, "aws_secret_access_key = " + "*" * 40),
        ("postgresql://app:s3cret@db/x", "postgresql://app:******@db/x"),
        ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer ****************"),
        ("root:$6$salt$" + "x" * 30 + ":19000", "root:$6$" + "*" * 35 + ":19000"),
        (_KEY, _KEY.replace("b3Bl", "****")),
        ("k='" + _KEY.replace("\n", "\\n") + "'", None),
        ("12\t-----BEGIN RSA " + "PRIVATE KEY-----\n13\tTUlJ\nthe end of it\n", None),
    ],
)
def test_a_secret_is_masked(text: str, shown: str | None) -> None:
    found = masked(text.encode()).decode()
    assert len(found) == len(text)
    if shown is None:
        assert "TUlJ" not in found
        assert "b3Bl" not in found
        assert found.endswith(("'", "the end of it\n"))
    else:
        assert found == shown


@pytest.mark.parametrize(
    "text",
    [
        "password = os.environ['DB_PASSWORD']\n",
        "token = next_token(stream)\n",
        "password: null\n",
        "the password is asked for\n",
        "PASSWORD=$PASSWORD\n",
        "https://example.org:8080/path@v2\n",
        "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n",
        "grep: -----BEGIN RSA " + "PRIVATE KEY-----\nan ordinary line of text\n",
        "costs $5 and $6\n",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert masked(text.encode()).decode() == text


def test_a_long_line_is_masked_across_its_cuts() -> None:
    for place in range(LINE_BYTES - 45, LINE_BYTES + 5):
        text = b"." * place + b"," + _GITHUB.encode() + b"," + b"." * LINE_BYTES
        assert masked(text) == text.replace(_GITHUB.encode(), b"*" * 40)


_WORDS = st.sampled_from(
    [
        _GITHUB,
        _JWT,
        _KEY,
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "-----END RSA",
        "TUlJ" * 4,
        "password",
        "Bearer",
        "=",
        ": ",
        "hunter2222",
        "://a:bcdef@",
        "sesame open",
        "open",
        "sesame",
        "\n",
        " ",
        "\t",
        "\r\n",
        "x" * 50,
        "x" * (LINE_BYTES - 20),
        "y" * (LONGEST_SECRET - 20),
    ]
)


@given(st.lists(_WORDS, max_size=12), st.lists(st.integers(0, 60_000), max_size=6), st.booleans())
def test_pieces_do_not_matter(words: list[str], cuts: list[int], has_known: bool) -> None:
    stream = "".join(words).encode()
    known = Known.of({"door": "sesame open"} if has_known else {"door": "sesame"})
    counts: list[tuple[str, int, int]] = []
    masker = Masker(known, on_found=lambda *found: counts.append(found))
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[first:last] for first, last in pairwise(places)]
    found = b"".join(masker.feed(piece) for piece in pieces) + masker.close()
    expected: list[tuple[str, int, int]] = []
    whole = Masker(known, on_found=lambda *found: expected.append(found))
    assert found == whole.feed(stream) + whole.close()
    assert sorted(counts) == sorted(expected)
    assert len(found) == len(stream)
    assert known.values[0][1] not in found


@given(st.lists(_WORDS, max_size=8), st.integers(1, 9), st.integers(20, 60_000), st.integers(20, 60_000))
def test_head_and_tail_hold_no_known_secret(words: list[str], size: int, head: int, tail: int) -> None:
    stream = "".join(words).encode()
    known = Known.of({"door": "sesame"})
    one, other = (Capture("stdout", head, tail, known) for _ in range(2))
    one.feed(stream)
    step = max(1, len(stream) // size)
    for at in range(0, len(stream), step):
        other.feed(stream[at : at + step])
    assert one.totals() == other.totals()
    assert one.masked == other.masked
    assert (one.head_from(0), one.tail()) == (other.head_from(0), other.tail())
    kept = one.head_from(0) + (b"|" if one.is_truncated else b"") + one.tail()
    assert b"sesame" not in kept
    assert len(one.head_from(0)) == min(head, len(stream))
    assert not one.is_truncated or len(one.tail()) == tail
    # Another rule may have masked what a secret stands in, such as a private key's block.
    if not one.is_truncated and set(one.masked) <= {"secret:door"}:
        assert one.masked["secret:door"] == stream.count(b"sesame")
