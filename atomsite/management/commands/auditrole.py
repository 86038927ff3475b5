"""`manage.py auditrole`: a role on PostgreSQL for the running product, which can add to the trail and not change it."""

import os
import re
from typing import Any, Final

from django.core.management.base import CommandParser
from django.db import DatabaseError, connection, transaction
from psycopg import sql

from atomsite.commands import AtomCommand, UnavailableError, UsageError, check_set_up
from audit import triggers

#: What a role may have of its own that this one must not, as `pg_roles` names it, and the word that takes it away.
_RIGHTS: Final = {
    "rolsuper": "NOSUPERUSER",
    "rolcreatedb": "NOCREATEDB",
    "rolcreaterole": "NOCREATEROLE",
    "rolreplication": "NOREPLICATION",
    "rolbypassrls": "NOBYPASSRLS",
}


class Command(AtomCommand):
    help = (
        "Make or renew the role that the running product uses on PostgreSQL. It reads and writes as it needs,\n"
        "owns nothing, and on the tables of the audit trail it may only read and insert. Run it as the owner of the\n"
        "tables, after each `init`; its password comes from the variable ATOM_ROLE_PASSWORD. Where the owner may\n"
        "not create roles, somebody else creates it with a password, and --no-password leaves that as it is."
    )
    examples = "  ATOM_ROLE_PASSWORD=… manage.py auditrole atom_app\n  manage.py auditrole atom_app --no-password\n"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="the role, such as atom_app")
        parser.add_argument(
            "--no-password", action="store_true", help="leave how it logs in as it is, or to pg_hba.conf"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the role and set what it may do, in one transaction."""
        name, password = options["name"], os.environ.get("ATOM_ROLE_PASSWORD", "")
        if connection.vendor != "postgresql":
            raise UsageError("Roles are PostgreSQL's; SQLite has none. There the triggers and the file's mode hold.")
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", name):
            raise UsageError("A role's name has small letters, digits and underscores.")
        if not password and not options["no_password"]:
            raise UsageError("Set ATOM_ROLE_PASSWORD, or give --no-password.")
        check_set_up()
        try:
            with transaction.atomic():
                _make(name, "" if options["no_password"] else password)
        except DatabaseError as error:
            raise UnavailableError(f"The role could not be made: {error}") from error
        self.stdout.write(f"{name} may add to the audit trail and not change it. Use it in DATABASE_URL from now on.")


def _make(name: str, password: str) -> None:
    role = sql.Identifier(name)
    trail = sql.SQL(", ").join(map(sql.Identifier, triggers.APPEND_ONLY))
    retirements = sql.Identifier(triggers.RETIREMENTS)
    with connection.cursor() as cursor:
        asked = sql.SQL("SELECT {} FROM pg_roles WHERE rolname = %s").format(
            sql.SQL(" OR ").join(map(sql.Identifier, _RIGHTS))
        )
        cursor.execute(asked.as_string(None), [name])
        found = cursor.fetchone()
        if found is None:
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role).as_string(None))
        elif found[0]:
            # Even to say that a role is no superuser takes a superuser, so that it is said only where it has to be.
            words = sql.SQL(" ").join(map(sql.SQL, _RIGHTS.values()))
            cursor.execute(sql.SQL("ALTER ROLE {} {}").format(role, words).as_string(None))
        if password:
            secret = sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(password))
            cursor.execute(secret.as_string(None).replace("%", "%%"))
        for statement in (
            sql.SQL("GRANT USAGE ON SCHEMA public TO {role}"),
            sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"),
            sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"),
            sql.SQL("REVOKE UPDATE, DELETE ON {trail} FROM {role}"),
            # Only the owner of the tables lets events go (`auditretire`).
            sql.SQL("REVOKE INSERT ON {retirements} FROM {role}"),
            sql.SQL("GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}"),
        ):
            cursor.execute(statement.format(role=role, trail=trail, retirements=retirements).as_string(None))
