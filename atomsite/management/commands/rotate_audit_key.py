"""`manage.py rotate_audit_key`: put a new key in place of the one that signs the audit trail."""

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.db import DatabaseError, transaction
from django.utils import timezone

from atomsite.commands import AtomCommand, UnavailableError, check_set_up
from audit import trail_keys
from audit.key_files import KeyFileError
from audit.sealing import SealError, seal_all
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Party, record


class Command(AtomCommand):
    help = (
        "Put a new key in place of the one that signs events and checkpoints of the audit trail. What waits is sealed\n"
        "first, with the old key; of that only the public part stays, so that what it signed still verifies. Running\n"
        "servers take the new key up within a second."
    )
    examples = "  manage.py rotate_audit_key\n  manage.py rotate_audit_key --json\n"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Seal, replace the file, write the event with the new key, and seal that."""
        check_set_up()
        folder = Path(settings.ATOM_KEYS)
        try:
            seal_all(timezone.now())
            keys = trail_keys.rotate(folder)
            verifier = trail_keys.verifier_text(keys.log, keys.public.keys[keys.id])
            with transaction.atomic():
                subject = Party("system", label="the key that signs the audit trail")
                record(Event(Tag.AUDIT_KEY_ROTATED, SYSTEM, subject, data={"key": verifier}))
            seal_all(timezone.now())
        except (KeyFileError, OSError, SealError) as error:
            raise UnavailableError(str(error)) from error
        except DatabaseError as error:
            raise UnavailableError(f"The database cannot be used: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps({"key": verifier}))
            return
        self.stdout.write(f"The key {verifier} signs the trail from now on; it is in {folder}.")
        self.stdout.write("Where servers run on several machines, copy that folder to each of them now.")
