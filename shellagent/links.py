"""Where people find things: the addresses that leave the product, each built here and from `ATOM_PUBLIC_URL` only."""

import string
from typing import Final
from uuid import UUID

from django.conf import settings
from django.urls import reverse

_ALPHABET: Final = string.digits + string.ascii_letters
#: As many as the largest UUID needs.
_LENGTH: Final = 22


class SessionConverter:
    """A session's id in an address: 22 letters and digits, which no program that finds links cuts short."""

    regex = rf"[0-9A-Za-z]{{{_LENGTH}}}"

    def to_python(self, value: str) -> UUID:
        """Return the id. Raises ValueError for letters that are none."""
        number = 0
        for letter in value:
            number = number * len(_ALPHABET) + _ALPHABET.index(letter)
        return UUID(int=number)

    def to_url(self, value: UUID | str) -> str:
        """Return the letters of an id."""
        number, letters = UUID(str(value)).int, ""
        while len(letters) < _LENGTH:
            number, place = divmod(number, len(_ALPHABET))
            letters = _ALPHABET[place] + letters
        return letters


def card_url(session_id: UUID) -> str:
    """Return the address of the card on which a person decides on this session, and sees what became of it."""
    return f"{settings.ATOM_PUBLIC_URL}{reverse('card', args=[session_id])}"


def queue_url() -> str:
    """Return the address of all that waits for a person."""
    return f"{settings.ATOM_PUBLIC_URL}{reverse('queue')}"


def admin_url(name: str, *args: object) -> str:
    """Return the address of a page of the admin, by the name of its pattern."""
    return f"{settings.ATOM_PUBLIC_URL}{reverse(f'admin:{name}', args=args)}"
