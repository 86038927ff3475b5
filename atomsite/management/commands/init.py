"""`manage.py init`: set up what is missing; safe to repeat."""

import json
import os
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandParser
from django.db import DEFAULT_DB_ALIAS, DatabaseError

from atomsite.commands import AtomCommand, UnavailableError
from atomsite.initial import ADMINISTRATOR, Made, initialise
from governance.checks import policy_is_sound
from shellagent.errors import SigningKeyError
from shellagent.host.errors import StateError
from shellagent.tasks import schedules_install


class Command(AtomCommand):
    help = (
        "Set up what is missing: the database, an administrator, four demonstration agents (one for each maturity),\n"
        "this machine as a host, and the schedules. Repeating it changes nothing that is there."
    )
    examples = (
        "  manage.py init\n"
        "  manage.py init --no-demo --no-credentials       for a real installation; secrets are printed once\n"
        "  ATOM_HOME=/srv/atom manage.py init --json\n"
    )
    # The first call finds no tables, which checks of the database would report; `handle` looks at the rules later.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--no-credentials", action="store_true", help="write no credentials.json; print the keys once"
        )
        parser.add_argument("--no-demo", action="store_true", help="make no demonstration agents")
        parser.add_argument("--quiet", action="store_true", help="say nothing where nothing is new")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, then make what is missing. Every folder and file of it is the owner's only."""
        os.umask(0o077)
        keeps = not options["no_credentials"]
        try:
            settings.HOME.create()
            # Of two that begin at once the second finds what the first made; half of it would fail it.
            with settings.HOME.one_at_a_time():
                made = _set_up(has_demonstration=not options["no_demo"], keeps_credentials=keeps)
            problems = policy_is_sound(databases=[DEFAULT_DB_ALIAS])
        except DatabaseError as error:
            raise UnavailableError(f"The database cannot be used: {error}") from error
        except (SigningKeyError, StateError) as error:
            raise UnavailableError(str(error)) from error
        except OSError as error:
            raise UnavailableError(f"ATOM_HOME ({settings.HOME.path}) cannot be used: {error}") from error
        for problem in problems:
            # What a refused table or rule would have allowed is unknown, so that the product may start all the same.
            self.stderr.write(f"{problem.id}: {problem.msg} {problem.hint}")
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(made, shows_secrets=not keeps)))
        else:
            self._tell(made, keeps=keeps, is_quiet=options["quiet"])

    def _tell(self, made: Made, *, keeps: bool, is_quiet: bool) -> None:
        home = settings.HOME
        if made.host is not None:
            self.stdout.write(f"Set up {home.path}; this machine is the host {made.host.name}.")
        elif not is_quiet:
            self.stdout.write(f"{home.path} is set up; nothing was missing.")
        if not made.has_secrets or (keeps and is_quiet):
            return
        self.stdout.write(f"Administrator: {ADMINISTRATOR}, password {made.password} (shown this once)")
        if keeps:
            self.stdout.write(f"The agents' keys are in {home.credentials}, which only you can read.")
            return
        for name, agent in made.agents.items():
            self.stdout.write(f"Key of demo-{name} (shown this once): {agent['key']}")


def _set_up(*, has_demonstration: bool, keeps_credentials: bool) -> Made:
    home = settings.HOME
    if settings.IS_SQLITE and str(settings.DATABASES["default"]["NAME"]) == str(home.database):
        home.create_database()
    call_command("migrate", interactive=False, verbosity=0)
    made = initialise(
        home, url=settings.ATOM_URL, has_demonstration=has_demonstration, keeps_credentials=keeps_credentials
    )
    schedules_install()
    return made


def _as_json(made: Made, *, shows_secrets: bool) -> dict[str, object]:
    result: dict[str, object] = {
        "home": str(settings.HOME.path),
        "url": settings.ATOM_URL,
        "is_new": made.has_secrets,
        "host": {"id": made.host.pk, "name": made.host.name} if made.host else None,
    }
    if shows_secrets and made.has_secrets:
        result["admin"] = {"username": ADMINISTRATOR, "password": made.password}
        result["agents"] = dict(made.agents)
    return result
