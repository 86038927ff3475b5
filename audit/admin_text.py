"""Text that somebody else wrote, as HTML in which nothing is hidden: controls and invisible characters as escapes."""

import re
from typing import Final

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

#: Shown as nothing although Python calls them printable (Default_Ignorable_Code_Point, and the blank Braille pattern).
_BLANK: Final = frozenset((0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x2800, 0x3164, 0xFFA0)).union(
    range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0000, 0xE1000)
)
_SUSPECT: Final = re.compile(r"[^\x20-\x7e]")


def visible(text: str, keep: str = "") -> SafeString:
    """Return the text escaped for HTML, each character that cannot be seen as an escape such as `\\x1b` in a span.

    The span tells an escape of ours from the same characters in the text. Characters in `keep` stay as they are.
    """

    def shown(match: re.Match[str]) -> str:
        character = match.group()
        if character in keep or (character.isprintable() and ord(character) not in _BLANK):
            return character
        return f'<span class="atom-escape">{_spelled(character)}</span>'

    return mark_safe(_SUSPECT.sub(shown, escape(text)))  # noqa: S308 - escaped just before; the spans are ours


def visible_block(text: str) -> SafeString:
    """Return a text of several lines; its line ends and tabs stay."""
    return visible(text, "\n\t")


def _spelled(character: str) -> str:
    short = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}.get(character)
    if short:
        return short
    point = ord(character)
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
