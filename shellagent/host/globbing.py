"""Filling in a plan's words on the host: `~`, the variables, and patterns as bash matches them under LC_ALL=C.UTF-8.

Dotfiles are hidden from a pattern that does not begin with a dot, a pattern without a match stays as it was written,
and names come in byte order. In one place this differs from bash on purpose: a name that starts with `-` becomes
`./-…`, so that no file's name is taken for an option.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from governance.policy.plan import PartKind, Word
from governance.policy.types import Access
from shellagent.host.environment import real_path
from shellagent.host.errors import CommandError
from shellagent.host.folder import Folder
from shellagent.host.reach import Reach, shown

MOST_NAMES: Final = 10_000
MOST_LOOKED_AT: Final = 200_000

#: A character of a word, and whether it was written as part of a pattern.
Character = tuple[str, bool]
_CLASSES: Final = {
    "alnum": r"[^\W_]",
    "alpha": r"[^\W\d_]",
    "blank": r"[ \t]",
    "cntrl": r"[\x00-\x1f\x7f]",
    "digit": r"[0-9]",
    "graph": r"[\x21-\x7e\xa1-\U0010ffff]",
    "lower": r"[a-z]",
    "print": r"[\x20-\x7e\xa0-\U0010ffff]",
    "punct": r"[!-/:-@\[-`{-~]",
    "space": r"[ \t\n\r\f\v]",
    "upper": r"[A-Z]",
    "word": r"\w",
    "xdigit": r"[0-9A-Fa-f]",
}


@dataclass(frozen=True, slots=True)
class Segment:
    """What stands between two slashes, and the slashes after it. `pattern` is None where it is a plain name."""

    name: str
    pattern: re.Pattern[str] | None
    shows_hidden: bool
    slashes: str


@dataclass
class Expander:
    """Fills in the words of one command, seen from one folder."""

    folder: Folder
    reach: Reach
    variables: Mapping[str, str]
    _looked_at: int = 0

    def expand(self, word: Word) -> list[str]:
        """Return the words that a word becomes. Raises CommandError for too many names, or one that is protected."""
        literal = word.literal
        if literal is not None:
            return [literal]
        filled = word.resolved(self.variables)
        if not filled.has_glob:
            return [filled.literal or ""]
        characters = [(character, part.kind is PartKind.GLOB) for part in filled.parts for character in part.text]
        segments = split(characters)
        if not any(segment.pattern for segment in segments):
            return ["".join(character for character, _ in characters)]
        found = []
        for path in self._matches("", segments):
            found.append(path)
            if len(found) > MOST_NAMES:
                raise CommandError(126, f"{shown(word.source())} stands for more than {MOST_NAMES} names")
        if not found:
            return ["".join(character for character, _ in characters)]
        found.sort(key=os.fsencode)
        return [f"./{path}" if path.startswith("-") else path for path in found]

    def _matches(self, prefix: str, segments: Sequence[Segment]) -> Iterator[str]:
        """Yield the paths that begin with `prefix` and go on as the segments say, in any order."""
        number = next((number for number, segment in enumerate(segments) if segment.pattern), len(segments))
        prefix += "".join(segment.name + segment.slashes for segment in segments[:number])
        if number == len(segments):
            if self._is_there(prefix):
                self._check(os.path.realpath(self.folder.absolute(prefix)))
                yield prefix
            return
        segment, rest = segments[number], segments[number + 1 :]
        for name, real in self._names(prefix, segment):
            path = prefix + name + segment.slashes
            if rest:
                yield from self._matches(path, rest)
            else:
                self._check(real)
                yield path

    def _names(self, prefix: str, segment: Segment) -> list[tuple[str, str]]:
        """Return the names in a folder that match, each with its real path; none where it may not be listed."""
        pattern = segment.pattern
        try:
            descriptor = os.open(prefix or ".", _LIST, dir_fd=self.folder.descriptor)
        except (OSError, ValueError):
            return []
        found = []
        try:
            place = real_path(descriptor, self.folder.absolute(prefix))
            if pattern is None or self.reach.refusal(place, Access.READ):
                return []
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    self._count()
                    is_hidden = entry.name.startswith(".") and not segment.shows_hidden
                    if is_hidden or not pattern.fullmatch(entry.name):
                        continue
                    if segment.slashes and not _is_folder(entry):
                        continue
                    real = os.path.join(place, entry.name)
                    found.append((entry.name, os.path.realpath(real) if entry.is_symlink() else real))
        except OSError:
            return []
        finally:
            os.close(descriptor)
        return found

    def _is_there(self, path: str) -> bool:
        self._count()
        try:
            os.stat(path, dir_fd=self.folder.descriptor, follow_symlinks=False)
        except (OSError, ValueError):
            return False
        return True

    def _count(self) -> None:
        self._looked_at += 1
        if self._looked_at > MOST_LOOKED_AT:
            raise CommandError(126, f"a pattern has more than {MOST_LOOKED_AT} names to look at")

    def _check(self, real: str) -> None:
        if reason := self.reach.protection_of_match(real):
            raise CommandError(1, reason)


_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def split(characters: Sequence[Character]) -> list[Segment]:
    """Return a word's parts between slashes. A slash always parts, also inside brackets, which then are plain text.

    As in bash, several slashes in a row stay as they are before the first pattern and are one from there on.
    """
    segments: list[Segment] = []
    start, has_pattern = 0, False
    while start < len(characters):
        end = start
        while end < len(characters) and characters[end][0] != "/":
            end += 1
        after = end
        while after < len(characters) and characters[after][0] == "/":
            after += 1
        segment = _segment(characters[start:end], after - end)
        has_pattern = has_pattern or segment.pattern is not None
        if has_pattern and segment.slashes:
            segment = replace(segment, slashes="/")
        segments.append(segment)
        start = after
    return segments


def _segment(characters: Sequence[Character], slashes: int) -> Segment:
    name = "".join(character for character, _ in characters)
    expression = translate(characters)
    pattern = re.compile(expression, re.DOTALL) if expression is not None else None
    return Segment(name, pattern, name.startswith("."), "/" * slashes)


def translate(characters: Sequence[Character]) -> str | None:
    """Return the regular expression of a name's pattern, or None where nothing in it is special."""
    chunks: list[list[str]] = [[]]
    is_special, position = False, 0
    while position < len(characters):
        character, is_pattern = characters[position]
        position += 1
        if is_pattern and character == "*":
            is_special = True
            chunks.append([])
        elif is_pattern and character == "?":
            is_special = True
            chunks[-1].append(".")
        elif is_pattern and character == "[" and (bracket := _bracket(characters, position)):
            is_special = True
            expression, position = bracket
            chunks[-1].append(expression)
        else:
            chunks[-1].append(re.escape(character))
    if not is_special:
        return None
    first, *others = ("".join(chunk) for chunk in chunks)
    if not others:
        return first
    # What comes between two stars is taken at its first place and never again: no pattern makes matching slow.
    middle = "".join(f"(?>.*?{chunk})" for chunk in others[:-1] if chunk)
    return f"{first}{middle}.*{others[-1]}"


def _bracket(characters: Sequence[Character], position: int) -> tuple[str, int] | None:
    """Read a bracket expression after its `[`. Returns its regular expression and where it ends, or None."""
    is_negated = position < len(characters) and characters[position] in (("!", True), ("^", True))
    position += is_negated
    alternatives: list[str] = []
    first = position
    while position < len(characters):
        character, is_pattern = characters[position]
        if is_pattern and character == "]" and position > first:
            either = "|".join(alternatives) or "(?!)"
            return (f"(?!{either})." if is_negated else f"(?:{either})"), position + 1
        if character == "[" and (named := _named_class(characters, position)):
            expression, position = named
            alternatives.append(expression)
            continue
        position += 1
        if characters[position : position + 1] == [("-", True)] and characters[position + 1 : position + 2] not in (
            [],
            [("]", True)],
        ):
            last = characters[position + 1][0]
            position += 2
            if character <= last:
                alternatives.append(f"[{re.escape(character)}-{re.escape(last)}]")
            continue
        alternatives.append(re.escape(character))
    return None


def _named_class(characters: Sequence[Character], position: int) -> tuple[str, int] | None:
    """Read `[:name:]` inside brackets. Returns its regular expression and where it ends, or None."""
    text = "".join(character for character, _ in characters[position : position + 12])
    found = re.match(r"\[:([a-z]+):\]", text)
    if found is None:
        return None
    return _CLASSES.get(found[1], "(?!)"), position + found.end()
