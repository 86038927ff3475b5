"""`manage.py tour`: five real requests by the demonstration agents."""

import json
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from atomsite.commands import AtomCommand, UnavailableError, check_set_up
from atomsite.initial import credentials
from atomsite.terminal import is_coloured
from atomsite.tour import STOPS, Tour, TourError, curl_line


class Command(AtomCommand):
    help = (
        "Let the demonstration agents ask for five commands over HTTP, and show each answer: two run, one waits for\n"
        "a person, one is denied, one is refused. `manage.py up` shows it once by itself."
    )
    examples = "  manage.py tour\n  manage.py tour --json\n"
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--first", action="store_true", help="of the first start: show the password, remember it")
        parser.add_argument("--json", action="store_true", help="print one JSON object a request")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the requests and print what came back."""
        known = credentials(settings.HOME)
        agents = known.get("agents")
        if not isinstance(agents, dict) or not agents:
            if options["first"]:
                return  # set up without the demonstration: there is nothing to show
            check_set_up()
            raise UnavailableError(f"{settings.HOME.credentials} holds no demonstration agents, so there is no tour.")
        tour = Tour(settings.ATOM_URL, agents, is_coloured=is_coloured(self.stdout))
        try:
            if options["json"]:
                for stop in STOPS:
                    answer = tour.ask(stop)
                    self.stdout.write(
                        json.dumps(
                            {
                                "agent": stop.agent,
                                "command": stop.command,
                                "http_status": answer.status,
                                "answer": answer.body,
                            }
                        )
                    )
                return
            self.stdout.write("A short tour, on this machine: five requests by four demonstration agents.")
            for line in tour.lines():
                self.stdout.write(line)
                self.stdout.flush()
        except TourError as error:
            raise UnavailableError(str(error)) from error
        if options["first"]:
            self._farewell(known, agents)
            settings.HOME.tour_marker.touch(mode=0o600)

    def _farewell(self, known: Mapping[str, object], agents: Mapping[str, Mapping[str, object]]) -> None:
        admin = known.get("admin")
        write = self.stdout.write
        write("")
        write(f"Approve, and look around:  {settings.ATOM_PUBLIC_URL}/admin/")
        if isinstance(admin, dict):
            login = f"{admin.get('username')}, password {admin.get('password')}"
            write(f"Log in as:                 {login}  (shown this once)")
        write("Try it yourself:")
        write(f"  {curl_line(settings.ATOM_URL, str(agents['autonomous']['key']))}")
        write(f"The agents' keys are in {settings.HOME.credentials}, which only you can read.")
        write("")
