# ruff: noqa: S608  (the table's name is the only thing put into this SQL, and it is a constant)
"""The database's own refusal to change or remove an audit event, for both databases."""

from django.db.backends.base.base import BaseDatabaseWrapper

TABLE = "audit_auditevent"
_REFUSAL = "the audit trail is append-only"

#: `INSERT OR REPLACE` passes SQLite's UPDATE and DELETE triggers, so a third one guards the insert.
SQLITE = {
    "audit_event_no_update": f"BEFORE UPDATE ON {TABLE} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
    "audit_event_no_delete": f"BEFORE DELETE ON {TABLE} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
    "audit_event_no_replace": (
        f"BEFORE INSERT ON {TABLE} WHEN EXISTS (SELECT 1 FROM {TABLE} WHERE id = NEW.id OR uid = NEW.uid "
        "OR (session_id = NEW.session_id AND session_seq = NEW.session_seq)) "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    ),
}

POSTGRESQL = {
    "audit_event_no_change": f"BEFORE UPDATE OR DELETE ON {TABLE} FOR EACH ROW",
    "audit_event_no_truncate": f"BEFORE TRUNCATE ON {TABLE} FOR EACH STATEMENT",
}

_POSTGRESQL_FUNCTION = f"""
CREATE OR REPLACE FUNCTION audit_event_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'integrity_constraint_violation'; END $$
"""


def statements(vendor: str) -> list[str]:
    """Return the SQL that installs the triggers on a database of this vendor."""
    if vendor == "sqlite":
        return [f"CREATE TRIGGER {name} {body}" for name, body in SQLITE.items()]
    made = [_POSTGRESQL_FUNCTION]
    for name, body in POSTGRESQL.items():
        made.append(f"CREATE TRIGGER {name} {body} EXECUTE FUNCTION audit_event_refuse()")
        # ALWAYS: it fires for a replication role as well, which an ordinary trigger would not.
        made.append(f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER {name}")
    return made


def missing(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the names of the triggers that are not there or not enabled."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s", [TABLE])
            wanted = SQLITE.keys()
        else:
            cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgenabled = 'A'", [TABLE])
            wanted = POSTGRESQL.keys()
        present = {row[0] for row in cursor.fetchall()}
    return sorted(wanted - present)
