"""An upgrade is made whatever the checks say of the database that is to be upgraded."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from audit import triggers
from governance.models import PolicyRule
from tests.database import OwnDatabase


def test_what_an_older_database_lacks_keeps_nobody_from_migrating(own_database: OwnDatabase) -> None:
    table = triggers.names(connection.vendor)[triggers.NOTES]
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {PolicyRule._meta.db_table} RENAME COLUMN examples TO samples")
        cursor.execute(f"DROP TRIGGER {triggers.NOTES}" + ("" if connection.vendor == "sqlite" else f" ON {table}"))
    with pytest.raises(CommandError, match=r"governance\.E002"):
        call_command("check", databases=["default"])
    with pytest.raises(CommandError, match=r"audit\.E001"):
        call_command("check", databases=["default"])
    call_command("migrate", skip_checks=False, verbosity=0)
