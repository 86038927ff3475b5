"""System check of what messages need."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from django.db import DEFAULT_DB_ALIAS, connection

from shellagent.notifying.models import Sink


@register(Tags.database)
def email_has_a_server(databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """Warn where somebody is to be told by email and no mail server is known."""
    if DEFAULT_DB_ALIAS not in (databases or []) or settings.EMAIL_URL:
        return []
    # `migrate` makes the table, and runs this check first.
    if Sink._meta.db_table not in connection.introspection.table_names():
        return []
    if not Sink.objects.filter(way=Sink.Way.EMAIL, is_enabled=True).exists():
        return []
    hint = "Set EMAIL_URL, such as smtp://user:password@mail.example.com:587, or switch the sink off."
    return [checks.Warning("A sink sends email, and EMAIL_URL is not set.", hint=hint, id="notifying.W001")]
