# ruff: noqa: S608  (names of tables are the only thing put into this SQL, and they are constants)
"""What the databases do by themselves: refuse to change what is in the log, and note what waits for a seal."""

from dataclasses import dataclass
from typing import Final

from django.db.backends.base.base import BaseDatabaseWrapper

TABLE: Final = "audit_auditevent"
PENDING: Final = "audit_auditpending"
RETIREMENTS: Final = "audit_auditretirement"
_REFUSAL: Final = "the audit trail is append-only"


@dataclass(frozen=True, slots=True)
class _Guarded:
    """A table that takes new rows only. `unique` is, for SQLite, what a new row may not share with an old one."""

    table: str
    prefix: str
    unique: str


_EVENTS: Final = _Guarded(
    TABLE,
    "audit_event",
    "id = NEW.id OR uid = NEW.uid OR (session_id = NEW.session_id AND session_seq = NEW.session_seq)",
)
_SEALED: Final = (
    _Guarded("audit_auditleaf", "audit_leaf", '"index" = NEW."index" OR event_id = NEW.event_id'),
    _Guarded(
        "audit_auditcheckpoint",
        "audit_checkpoint",
        "number = NEW.number OR digest = NEW.digest OR previous = NEW.previous",
    ),
    _Guarded("audit_auditanchor", "audit_anchor", "id = NEW.id"),
)
_RETIREMENT: Final = _Guarded(RETIREMENTS, "audit_retirement", "number = NEW.number OR size = NEW.size")
_ALL: Final = (_EVENTS, *_SEALED, _RETIREMENT)
#: The tables that take new rows only.
APPEND_ONLY: Final = tuple(guarded.table for guarded in _ALL)
#: The condition under which an event may be deleted: a retirement names a size that its leaf is below. Whether the
#: retirement was signed no database can tell; the verifier does, and events that went without are missing to it.
_IS_RETIRED: Final = (
    'EXISTS (SELECT 1 FROM audit_auditleaf WHERE event_id = OLD.id AND "index" < '
    f"(SELECT coalesce(max(size), 0) FROM {RETIREMENTS}))"
)
#: The trigger that notes an event as pending.
NOTES: Final = "audit_event_pending"
#: Those that let events go that were retired, on SQLite and on PostgreSQL.
_DELETING: Final = "audit_event_no_delete"
_CHANGING: Final = "audit_event_no_change"

_REFUSE: Final = f"""
CREATE OR REPLACE FUNCTION audit_event_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'integrity_constraint_violation'; END $$
"""
_KEEP: Final = f"""
CREATE OR REPLACE FUNCTION audit_event_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
IF TG_OP = 'DELETE' THEN IF {_IS_RETIRED} THEN RETURN OLD; END IF; END IF;
RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'integrity_constraint_violation';
END $$
"""
_NOTE: Final = f"""
CREATE OR REPLACE FUNCTION audit_event_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO {PENDING} (event_id) VALUES (NEW.id); RETURN NULL; END $$
"""


def first_statements(vendor: str) -> list[str]:
    """Return the SQL that guarded the events before ranges of them could be retired."""
    made = _guard(_EVENTS, vendor, is_kept=True)
    return made if vendor == "sqlite" else [_REFUSE, *made]


def statements(vendor: str) -> list[str]:
    """Return the SQL that guards the events and their retirements on a database of this vendor."""
    guards = [*_guard(_EVENTS, vendor), *_guard(_RETIREMENT, vendor)]
    return guards if vendor == "sqlite" else [_REFUSE, _KEEP, *guards]


def removing_statements(vendor: str) -> list[str]:
    """Return the SQL that takes the guards of events away, to put others in their place."""
    on = "" if vendor == "sqlite" else f" ON {TABLE}"
    return [f"DROP TRIGGER {name}{on}" for name in _guards(_EVENTS, vendor)]


def sealing_statements(vendor: str) -> list[str]:
    """Return the SQL that guards what the sealer writes, and that notes each new event as pending."""
    guards = [statement for guarded in _SEALED for statement in _guard(guarded, vendor)]
    if vendor == "sqlite":
        note = f"INSERT INTO {PENDING} (event_id) VALUES (NEW.id)"
        return [*guards, f"CREATE TRIGGER {NOTES} AFTER INSERT ON {TABLE} BEGIN {note}; END"]
    return [
        *guards,
        _NOTE,
        f"CREATE TRIGGER {NOTES} AFTER INSERT ON {TABLE} FOR EACH ROW EXECUTE FUNCTION audit_event_note()",
        f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER {NOTES}",
    ]


def _guard(guarded: _Guarded, vendor: str, *, is_kept: bool = False) -> list[str]:
    """Return the SQL of a table's guards. With `is_kept` no event can go, retired or not."""
    table, made = guarded.table, []
    for name, moment in _guards(guarded, vendor).items():
        if vendor == "sqlite":
            unless = f" WHEN NOT {_IS_RETIRED}" if name == _DELETING and not is_kept else ""
            made.append(f"CREATE TRIGGER {name} {moment}{unless} BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END")
        else:
            function = "audit_event_refuse" if is_kept else _function(name)
            made.append(f"CREATE TRIGGER {name} {moment} EXECUTE FUNCTION {function}()")
            # ALWAYS: it fires for a replication role as well, which an ordinary trigger would not.
            made.append(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")
    return made


def names(vendor: str) -> dict[str, str]:
    """Return the names of all triggers, each with its table."""
    guards = {name: guarded.table for guarded in _ALL for name in _guards(guarded, vendor)}
    return {**guards, NOTES: TABLE}


def _guards(guarded: _Guarded, vendor: str) -> dict[str, str]:
    """Return when each trigger of a guarded table fires, by its name."""
    table, prefix = guarded.table, guarded.prefix
    if vendor == "sqlite":
        return {
            f"{prefix}_no_update": f"BEFORE UPDATE ON {table}",
            f"{prefix}_no_delete": f"BEFORE DELETE ON {table}",
            # `INSERT OR REPLACE` passes the other two, so a third one guards the insert.
            f"{prefix}_no_replace": (
                f"BEFORE INSERT ON {table} WHEN EXISTS (SELECT 1 FROM {table} WHERE {guarded.unique})"
            ),
        }
    return {
        f"{prefix}_no_change": f"BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW",
        f"{prefix}_no_truncate": f"BEFORE TRUNCATE ON {table} FOR EACH STATEMENT",
    }


def missing(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the names of the triggers that are not there, not enabled, or not what they should be."""
    present = _sqlite_present(connection) if connection.vendor == "sqlite" else _postgresql_present(connection)
    return sorted(names(connection.vendor).keys() - present)


def _sqlite_present(connection: BaseDatabaseWrapper) -> set[str]:
    written = set(map(_squeezed, statements("sqlite") + sealing_statements("sqlite")))
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        return {name for name, sql in cursor.fetchall() if _squeezed(sql) in written}


def _postgresql_present(connection: BaseDatabaseWrapper) -> set[str]:
    wanted = {name: _shape(name) for name in names(connection.vendor)}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname, tgtype, prosrc FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid "
            "WHERE tgrelid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name) "
            "AND tgenabled = 'A' AND tgqual IS NULL",
            [list(APPEND_ONLY)],
        )
        return {name for name, kind, source in cursor.fetchall() if wanted.get(name) == (kind, _squeezed(source))}


def _function(name: str) -> str:
    """Return the function of a trigger that refuses, on PostgreSQL."""
    return "audit_event_keep" if name == _CHANGING else "audit_event_refuse"


def _shape(name: str) -> tuple[int, str]:
    """Return PostgreSQL's `tgtype` of a trigger (row 1, before 2, insert 4, delete 8, update 16, truncate 32), and
    what stands between the dollars of its function.
    """
    kind = 1 + 4 if name == NOTES else 2 + 32 if name.endswith("_truncate") else 1 + 2 + 8 + 16
    source = _NOTE if name == NOTES else _KEEP if name == _CHANGING else _REFUSE
    return kind, _squeezed(source.split("$$")[1])


def _squeezed(sql: str) -> str:
    return " ".join(sql.split())
