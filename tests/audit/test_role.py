"""The role of the running product on PostgreSQL: all that the product does works, and the trail is out of its reach."""

import secrets
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from audit import sealing, triggers, verifying
from audit.models import AuditEvent
from audit.tags import Tag
from audit.trail import SYSTEM, Event, record
from audit.trail_keys import trail_keys
from audit.verifying_report import Verdict
from tests.database import OwnDatabase

SENTENCES = {
    "UPDATE audit_auditevent SET tag = 'x'": "permission denied",
    "DELETE FROM audit_auditleaf": "permission denied",
    "TRUNCATE audit_auditcheckpoint": "permission denied",
    "INSERT INTO audit_auditretirement VALUES (1, 99, '', now())": "permission denied",
    f"ALTER TABLE {triggers.TABLE} DISABLE TRIGGER ALL": "must be owner",
    f"DROP TRIGGER {triggers.NOTES} ON {triggers.TABLE}": "must be owner",
    "CREATE OR REPLACE FUNCTION audit_event_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RETURN NEW; END $$": "must be owner|permission denied",
    "SET session_replication_role = replica": "permission denied",
}


@pytest.fixture
def role(own_database: OwnDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of such a role, which this test's connection has."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no roles")
    name, password = f"atom_role_{secrets.token_hex(4)}", secrets.token_hex(8)
    monkeypatch.setenv("ATOM_ROLE_PASSWORD", password)
    for _ in range(2):  # After each `init` it is done again.
        call_command("auditrole", name)
    connection.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connection.settings_dict, "USER", name)
        patch.setitem(connection.settings_dict, "PASSWORD", password)
        yield name
        connection.close()
    with connection.cursor() as cursor:
        cursor.execute(f"DROP OWNED BY {name}")
        cursor.execute(f"DROP ROLE {name}")


@pytest.fixture
def owner(own_database: OwnDatabase) -> Iterator[psycopg.Cursor[Any]]:
    """A superuser's cursor. This test's connection is that of a plain role, `atom_owner_…`, which owns the tables."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no roles")
    name, password = f"atom_owner_{secrets.token_hex(4)}", secrets.token_hex(8)
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
    with psycopg.connect(own_database.url, autocommit=True) as superuser, pytest.MonkeyPatch.context() as patch:
        cursor_of_all = superuser.cursor()
        cursor_of_all.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{password}'")
        cursor_of_all.execute(f"ALTER DATABASE {connection.settings_dict['NAME']} OWNER TO {name}")
        for table in tables:
            cursor_of_all.execute(f"ALTER TABLE {table} OWNER TO {name}")
        connection.close()
        patch.setitem(connection.settings_dict, "USER", name)
        patch.setitem(connection.settings_dict, "PASSWORD", password)
        yield cursor_of_all
        connection.close()
        cursor_of_all.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
        cursor_of_all.execute(f"DROP OWNED BY {name}")
        cursor_of_all.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize("is_there", [False, True])
def test_who_owns_the_tables_makes_it(
    owner: psycopg.Cursor[Any], is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"atom_role_{secrets.token_hex(4)}"
    if is_there:  # Somebody else made it, and the owner may make none.
        owner.execute(f"CREATE ROLE {name} LOGIN")
        owner.execute(f"ALTER ROLE {connection.settings_dict['USER']} NOCREATEROLE")
    else:
        monkeypatch.setenv("ATOM_ROLE_PASSWORD", secrets.token_hex(8))
    try:
        for _ in range(2):
            call_command("auditrole", name, *(["--no-password"] if is_there else []))
        may = "SELECT has_table_privilege(%s, 'audit_auditevent', %s)"
        assert [owner.execute(may, [name, right]).fetchone() for right in ("INSERT", "DELETE")] == [(True,), (False,)]
    finally:
        owner.execute(f"DROP OWNED BY {name}")
        owner.execute(f"DROP ROLE {name}")


def test_it_takes_rights_away(own_database: OwnDatabase) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no roles")
    name = f"atom_role_{secrets.token_hex(4)}"
    with psycopg.connect(own_database.url, autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {name} LOGIN CREATEDB BYPASSRLS")
        try:
            call_command("auditrole", name, "--no-password")
            found = superuser.execute("SELECT rolcreatedb, rolbypassrls FROM pg_roles WHERE rolname = %s", [name])
            assert found.fetchone() == (False, False)
        finally:
            superuser.execute(f"DROP OWNED BY {name}")
            superuser.execute(f"DROP ROLE {name}")


def test_it_adds_and_seals_and_changes_nothing(role: str) -> None:
    with transaction.atomic():
        record(Event(Tag.HOST_CHANGED, SYSTEM, SYSTEM))
    sealing.seal(timezone.now())
    with connection.cursor() as cursor:
        assert cursor.execute("SELECT current_user").fetchone() == (role,)
    for statement, words in SENTENCES.items():
        with pytest.raises(DatabaseError, match=words), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    assert AuditEvent.objects.count() == 1
    assert verifying.verify(trail_keys().public, now=timezone.now()).verdict is Verdict.SOUND


@pytest.mark.parametrize(("name", "says"), [("Atom App", "small letters"), ("atom_app", "ATOM_ROLE_PASSWORD")])
def test_a_wrong_call_is_a_sentence(db: None, name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATOM_ROLE_PASSWORD", raising=False)
    with pytest.raises(CommandError, match=says if connection.vendor == "postgresql" else "SQLite has none") as caught:
        call_command("auditrole", name)
    assert caught.value.returncode == 64
