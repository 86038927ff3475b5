"""`manage.py rotate_signing_key`: put a new key in place of the one that signs starts."""

import json
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import CommandParser
from django.db import DatabaseError, transaction

from atomsite.commands import AtomCommand, UnavailableError, UsageError
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Party, record
from shellagent import signing_keys
from shellagent.errors import SigningKeyError

MOST_HOURS: Final = 24 * 30


class Command(AtomCommand):
    help = (
        "Put a new key in place of the one that signs starts. Running servers take it up by themselves.\n"
        "The old key endorses the new one: hosts learn it with their next poll, and what the old key granted counts\n"
        "for a while longer. After a leak its word is worth nothing: give --leaked, and enrol each host again."
    )
    examples = (
        "  manage.py rotate_signing_key\n"
        "  manage.py rotate_signing_key --overlap-hours 1 --json\n"
        "  manage.py rotate_signing_key --leaked\n"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--overlap-hours",
            type=int,
            default=signing_keys.OVERLAP_SECONDS // 3600,
            metavar="N",
            help="how long the old key's grants still count on hosts; 24",
        )
        parser.add_argument("--leaked", action="store_true", help="do not let the old key endorse the new one")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Replace the file, and write the event."""
        hours = options["overlap_hours"]
        if not 0 <= hours <= MOST_HOURS:
            raise UsageError(f"--overlap-hours is a number from 0 to {MOST_HOURS}.")
        folder = Path(settings.ATOM_KEYS)
        try:
            with transaction.atomic():
                is_endorsed = not options["leaked"]
                key = signing_keys.rotate(folder, overlap_seconds=hours * 3600, is_endorsed=is_endorsed)
                subject = Party("system", label="the key that signs starts")
                record(Event(Tag.SIGNING_KEY_ROTATED, SYSTEM, subject, data={"key": key, "is_endorsed": is_endorsed}))
        except (SigningKeyError, OSError) as error:
            raise UnavailableError(str(error)) from error
        except DatabaseError as error:
            raise UnavailableError(f"The database cannot be used: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps({"key": key, "is_endorsed": is_endorsed, "overlap_hours": hours}))
            return
        self.stdout.write(f"The key {key} signs starts from now on; it is in {folder}.")
        if is_endorsed:
            self.stdout.write("Where servers run on several machines, copy that folder to each of them now.")
        else:
            self.stdout.write("No host knows it yet: enrol each of them again with `localagent enroll`.")
