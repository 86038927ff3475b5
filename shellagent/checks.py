"""System check of the key that signs starts."""

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from django.db import DEFAULT_DB_ALIAS

from shellagent.errors import SigningKeyError
from shellagent.signing_keys import signing_keys


@register(Tags.database)
def starts_can_be_signed(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Report a key that is missing, damaged, or that others may read: nothing runs then.

    Asked with the checks of the database, because like those it is about an installation and not about the code. A
    warning: `migrate` runs these checks, and comes before `init`.
    """
    if DEFAULT_DB_ALIAS not in (databases or []):
        return []
    try:
        signing_keys()
    except SigningKeyError as error:
        hint = "`manage.py init` makes a key where there is none; several servers share one (ATOM_KEYS)."
        return [
            checks.Warning(f"No start can be signed, so that nothing runs: {error}", hint=hint, id="shellagent.W001")
        ]
    return []
