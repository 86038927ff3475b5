"""`manage.py migrate`: Django's, which asks nothing of a database that it is about to bring up to date."""

from typing import Any

from django.core.management.commands import migrate


class Command(migrate.Command):
    """The checks of the database are for its newest tables, and say no while events wait for a server to seal them.

    Either would keep an upgrade from being made. `manage.py check --database default` asks them afterwards.
    """

    def get_check_kwargs(self, options: Any) -> Any:
        """Return what Django gives to the checks, without the databases."""
        return {**super().get_check_kwargs(options), "databases": []}
