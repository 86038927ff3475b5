"""Globs that stand inside a path: what they may match, without looking at any folder.

A glob part of a word is held as one mark: STAR for `*`, ANY for `?` and for a bracket expression, which is read as
any character. Both are control characters, which no command may hold.
"""

from functools import lru_cache
from typing import Final

STAR: Final = "\x11"
ANY: Final = "\x12"
_TYPED: Final = str.maketrans({STAR: "*", ANY: "?"})
_MARKED: Final = str.maketrans({"*": STAR, "?": ANY})


def typed(text: str) -> str:
    """Return the text as a person would type it."""
    return text.translate(_TYPED)


def marked(pattern: str) -> str:
    """Return a pattern of `*` and `?` with marks in their place."""
    return pattern.translate(_MARKED)


def has_mark(text: str) -> bool:
    """Return whether a glob stands in the text."""
    return STAR in text or ANY in text


def split_glob(path: str) -> tuple[str, list[str]]:
    """Return the folder before the first glob of a normalised path, and the names from there on."""
    names = path.split("/")
    first = next(index for index, name in enumerate(names) if has_mark(name))
    return "/".join(names[:first]) or "/", names[first:]


@lru_cache(maxsize=8192)
def may_match(one: str, other: str) -> bool:
    """Return whether some file name is matched by both patterns; letters' case does not count.

    As in bash, no glob at the start of the first pattern matches a leading dot.
    """
    one, other = one.casefold(), other.casefold()
    if has_mark(one[:1]) and other.startswith("."):
        return False
    # Which beginnings of `other` can be matched by the beginning of `one` that was read so far.
    reached = _after_stars(other, {0})
    for sign in one:
        if sign == STAR:
            reached = set(range(min(reached), len(other) + 1)) if reached else reached
            continue
        stepped = set()
        for place in reached:
            if place < len(other) and (other[place] == STAR):
                stepped.add(place)
            if place < len(other) and (sign == ANY or other[place] in (sign, ANY)):
                stepped.add(place + 1)
        reached = _after_stars(other, stepped)
        if not reached:
            return False
    return len(other) in _after_stars(other, reached)


def _after_stars(pattern: str, places: set[int]) -> set[int]:
    """Return the places, and those behind each star that one of them stands before."""
    found = set(places)
    for place in places:
        while place < len(pattern) and pattern[place] == STAR:
            place += 1  # noqa: PLW2901 - the walk starts at each place
            found.add(place)
    return found
