"""`manage.py auditretire`: let old events go, once a bundle holds them."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.db import DatabaseError
from django.utils import timezone

from atomsite.commands import AtomCommand, UnavailableError, UsageError, check_set_up
from audit.key_files import KeyFileError
from audit.retiring import RetireError, range_retire
from audit.sealing import SealError
from audit.selecting import SelectionError, selection_read


class Command(AtomCommand):
    help = (
        "Remove events that were sealed before a day from the database, where a bundle holds every one of them and\n"
        "verifies. A signed statement stays, with all leaves and checkpoints, so that the trail still verifies and\n"
        "the bundle can be held against it. Keep the bundle: what is only there can be had from nowhere else.\n"
        "What was interrupted is gone on with by the next run. On PostgreSQL run it as the owner of the tables.\n"
        "Exit codes: 0 done, 1 the bundle does not hold or prove them, 64 wrong usage, 69 no database or key."
    )
    examples = (
        "  manage.py auditexport 2025.zip && manage.py auditretire --before 2026-01-01 --bundle 2025.zip\n"
        "  manage.py auditretire --before 2026-01-01 --bundle 2025.zip --dry-run --json\n"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--before", required=True, metavar="DAY", help="a day or time, such as 2026-01-01")
        parser.add_argument("--bundle", required=True, metavar="FILE", help="a bundle that holds the events")
        parser.add_argument("--dry-run", action="store_true", help="only verify, and say what would go")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify the bundle, write the statement, and remove the events."""
        check_set_up()
        is_dry = options["dry_run"]
        try:
            before = selection_read({"before": options["before"]}).before
            if before is None:
                raise UsageError("--before takes a day, such as 2026-01-01.")
            with Path(options["bundle"]).open("rb") as stream:
                done = range_retire(before=before, bundle=stream, now=timezone.now(), is_dry=is_dry)
        except SelectionError as error:
            raise UsageError(str(error)) from error
        except OSError as error:
            raise UsageError(f"{options['bundle']} cannot be read: {error.strerror or error}") from error
        except RetireError as error:
            self.stderr.write(f"auditretire: {error}")
            raise SystemExit(1) from error
        except (KeyFileError, SealError) as error:
            raise UnavailableError(str(error)) from error
        except DatabaseError as error:
            raise UnavailableError(f"The database refuses: {error}") from error
        told = {"first": done.first, "size": done.size, "checkpoint": done.checkpoint, "removed": done.removed}
        if options["json"]:
            self.stdout.write(json.dumps({**told, "dry_run": is_dry}))
        elif done.first == done.size:
            self.stdout.write(
                f"Nothing more to retire: it is retired to {done.size:,}. {done.removed:,} events removed."
            )
        else:
            self.stdout.write(
                f"{'It would be r' if is_dry else 'R'}etired to {done.size:,} (checkpoint {done.checkpoint:,}); "
                f"{done.removed:,} events removed."
            )
