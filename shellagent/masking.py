"""Masking secrets in what a command prints, as it streams by: each byte of a secret becomes one `*`.

Offsets and sizes stay what they were. What is masked depends on the stream alone, never on the pieces in which it came:
a line is judged whole, a line longer than `LINE_BYTES` in pieces that are cut at fixed places and that look some way
past their end, and an unfinished line is let out up to a blank that no secret can span.

Standard library and pure modules only: the host masks before anything leaves it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from governance.policy.secret_shapes import SHAPES

MASK: Final = b"*"
LINE_BYTES: Final = 16 * 1024
#: A secret up to this size is found wherever it stands; a longer one on lines up to LINE_BYTES.
LONGEST_SECRET: Final = 4 * 1024
#: Shorter values would mask ordinary text.
SHORTEST_KNOWN: Final = 5
#: A private key that does not end is masked up to here.
_BLOCK_BYTES: Final = 32 * 1024

#: `(rule, start, end)`: a rule's id and the place of what it found.
Found = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Known:
    """Secrets whose values are known, as `(rule, value)`."""

    values: tuple[tuple[str, bytes], ...] = ()

    @classmethod
    def of(cls, named: Mapping[str, str]) -> "Known":
        """Return the secrets by their names: the rule is `secret:NAME`. Each line of a value is one of its own."""
        values = [
            (f"secret:{name}", line)
            for name, value in sorted(named.items())
            for line in value.encode(errors="surrogateescape").splitlines()
            if len(line) >= SHORTEST_KNOWN
        ]
        return cls(tuple(values))

    @property
    def longest(self) -> int:
        """Return the size of the longest value."""
        return max((len(value) for _rule, value in self.values), default=0)

    @property
    def has_blank(self) -> bool:
        """Return whether a value holds a blank, so that no blank is a safe place to cut."""
        return any(set(value) & set(_BLANKS) for _rule, value in self.values)


_BLANKS: Final = b" \t\r"
NOTHING_KNOWN: Final = Known()


@dataclass(frozen=True, slots=True)
class _Rule:
    """`anchors`, of which each match holds one, keep the pattern from being tried on most text."""

    id: str
    anchors: tuple[bytes, ...]
    #: Its group 1 is the secret where it has one.
    pattern: re.Pattern[bytes]
    is_folded: bool = False


_NAMES: Final = (
    rb"passw(?:or)?d|passphrase|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|token|credentials?"
    rb"|(?:api|access|private|account|auth|encryption|signing)[_-]?key"
)
_NAME_ANCHORS: Final = (b"passwd", b"password", b"passphrase", b"pwd", b"secret", b"token", b"credential", b"key")
_LOOSE: Final = (
    # A value that is code, such as a call or an index, is not a secret; nor is a constant.
    _Rule(
        "assignment",
        _NAME_ANCHORS,
        re.compile(
            rb"(?i)(?:" + _NAMES + rb")[\"']?[ \t]{0,8}[=:][ \t]{0,8}[\"']?"
            rb"(?!(?:null|none|true|false|undefined)\b|[a-z_][\w.]{0,200}[(\[])"
            rb"([^\s\"'`,;(){}\[\]<>$&|][^\s\"'`,;<>&]{4,})"
        ),
        is_folded=True,
    ),
    _Rule(
        "authorization",
        (b"bearer", b"basic"),
        re.compile(rb"(?i)\b(?:bearer|basic)[ \t]{1,8}([A-Za-z0-9._~+/-]{12,}={0,2})"),
        is_folded=True,
    ),
    _Rule("url-password", (b"://",), re.compile(rb"://[^\s/:@?#\"'<>]{0,256}:([^\s/@\"'<>]{1,1024})@")),
    _Rule("password-hash", (b"$",), re.compile(rb"(?<![\w$])\$(?:1|5|6|7|y|gy|2[abxy])\$([./A-Za-z0-9$=,]{20,})")),
)
_BLOCK: Final = "private-key"
_RULES: Final = (
    *(
        _Rule(
            shape.id, tuple(anchor.encode() for anchor in shape.anchors), re.compile(shape.pattern.encode(), re.ASCII)
        )
        for shape in SHAPES
        if shape.id != _BLOCK
    ),
    *_LOOSE,
)
_BEGIN: Final = re.compile(next(shape.pattern for shape in SHAPES if shape.id == _BLOCK).encode())
_BEGIN_MARK: Final = b"-----BEGIN"
_END_MARK: Final = b"-----END"
#: A line inside a private key, also with a number or a mark of its file before it.
_BODY: Final = re.compile(rb"[ \t]*(?:[+>|-]|\d+[:\t-]?)?[ \t]*(?:[A-Za-z0-9+/=\\]*|[A-Za-z-]+: [^\n]*)[ \t]*\r?\n?\Z")
#: The end of a text after which a blank does not end what was begun.
_OPEN: Final = re.compile(rb"(?i)(?:" + _NAMES + rb"|[=:]|bearer|basic)[\"']?[ \t\r]*\Z")
_OPEN_BYTES: Final = 64


def _found(text: bytes, known: Known) -> Iterator[Found]:
    """Yield what is to be masked in lines, in no order; a private key's lines are not among it."""
    for name, value in known.values:
        at = text.find(value)
        while at >= 0:
            yield name, at, at + len(value)
            at = text.find(value, at + 1)
    folded = text.lower()
    for rule in _RULES:
        searched = folded if rule.is_folded else text
        if any(anchor in searched for anchor in rule.anchors):
            for match in rule.pattern.finditer(text):
                yield rule.id, *match.span(match.lastindex or 0)


class Masker:
    """One stream. `on_found` is told of each secret once, by the rule and the places where it starts and ends."""

    def __init__(
        self,
        known: Known = NOTHING_KNOWN,
        *,
        start: int = 0,
        on_found: Callable[[str, int, int], None] = lambda rule, start, end: None,
    ) -> None:
        self._known = known
        self._on_found = on_found
        #: How far past the end of a piece it looks.
        self.lookahead = max(LONGEST_SECRET, known.longest)
        self._may_cut_at_blank = not known.has_blank
        self._raw = bytearray()
        #: The place of the first byte of `_raw`, and of the line, or piece of a long one, that it belongs to.
        self._at = start
        self._unit = start
        self._masked_until = 0
        self._block_left = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; returns those that are settled, masked."""
        self._raw += data
        return self._settle(is_closed=False)

    def close(self) -> bytes:
        """Return the rest, masked."""
        return self._settle(is_closed=True)

    def _settle(self, *, is_closed: bool) -> bytes:
        settled = bytearray()
        while self._raw:
            piece = self._piece(is_closed=is_closed)
            if piece is None:
                break
            settled += self._mask_block(*piece) if self._block_left > 0 else self._mask(*piece)
        return bytes(settled)

    def _piece(self, *, is_closed: bool) -> tuple[int, int] | None:
        """Return where the next piece ends and how far to look for it, or None where more bytes are needed."""
        raw, limit = self._raw, self._unit + LINE_BYTES - self._at
        newline = raw.find(b"\n", 0, limit) if self._block_left > 0 else raw.rfind(b"\n", 0, limit)
        if newline >= 0:
            return newline + 1, newline + 1
        if len(raw) >= limit:
            look = limit + self.lookahead
            newline = raw.find(b"\n", limit, look)
            if newline < 0 and len(raw) < look and not is_closed:
                return None
            return limit, newline if newline >= 0 else min(look, len(raw))
        end = len(raw) if is_closed else self._safe_blank()
        return (end, end) if end else None

    def _safe_blank(self) -> int:
        """Return the end of what can be let out of an unfinished line, 0 where nothing can."""
        raw = self._raw
        if not self._may_cut_at_blank or self._block_left > 0:
            return 0
        end = max(raw.rfind(blank) for blank in (b" ", b"\t", b"\r")) + 1
        is_open = _OPEN.search(raw, max(0, end - _OPEN_BYTES), end) or raw.find(_BEGIN_MARK, 0, end) >= 0
        return 0 if is_open else end

    def _mask(self, end: int, look: int) -> bytes:
        text = bytes(self._raw[:look])
        spans = list(_found(text, self._known))
        for begin in _BEGIN.finditer(text):
            if begin.start() >= end:
                break
            line_end = text.find(b"\n", begin.end())
            over = text.find(_END_MARK, begin.end(), line_end if line_end >= 0 else look)
            if over >= 0:
                spans.append((_BLOCK, begin.end(), over))
                continue
            # The rest of this line is masked, and the lines that follow are judged one by one.
            end = min(end, line_end + 1) if line_end >= 0 else end
            spans.append((_BLOCK, begin.end(), line_end if line_end >= 0 else max(end, begin.end())))
            self._block_left = _BLOCK_BYTES
            break
        return self._taken(end, spans)

    def _mask_block(self, end: int, look: int) -> bytes:
        """Mask a line inside a private key, or find that the key is over."""
        line = bytes(self._raw[:end])
        over = self._raw.find(_END_MARK, 0, look)
        if 0 <= over < end:
            self._block_left = 0
            return self._taken(end, [("", 0, over)])
        if not _BODY.match(line):
            self._block_left = 0
            return b""
        self._block_left -= end
        return self._taken(end, [("", 0, len(line.rstrip(b"\r\n")))])

    def _taken(self, end: int, spans: list[Found]) -> bytes:
        """Take the first bytes out, with what was found in them masked."""
        at, piece = self._at, bytearray(self._raw[:end])
        carried = min(self._masked_until - at, end)
        if carried > 0:
            piece[:carried] = MASK * carried
        for rule, first, last in spans:
            if first < end:
                piece[first : min(last, end)] = MASK * (min(last, end) - first)
                self._masked_until = max(self._masked_until, at + last)
                if rule:
                    self._on_found(rule, at + first, at + last)
        del self._raw[:end]
        self._at += end
        is_line_end = piece.endswith(b"\n")
        ends_unit = self._at - self._unit >= LINE_BYTES
        if ends_unit or is_line_end:
            self._unit = self._at
        return bytes(piece)


def masked(data: bytes, known: Known = NOTHING_KNOWN) -> bytes:
    """Return a whole stream, masked."""
    masker = Masker(known)
    return masker.feed(data) + masker.close()
