"""The role of the running product on PostgreSQL: all that the product does works, and the trail is out of its reach."""

import secrets
from collections.abc import Iterator

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
