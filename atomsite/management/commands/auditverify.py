"""`manage.py auditverify`: whether the audit trail is what was written."""

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.core.management.base import CommandParser
from django.db import DatabaseError
from django.utils import timezone

from atomsite.commands import AtomCommand, UnavailableError, UsageError, check_set_up
from audit import trail_keys, verifying
from audit.key_files import KeyFileError
from audit.standalone import bundle
from audit.trail_keys import PublicKeys, verifier_text
from audit.verifying_report import Report, Severity, Verdict
from audit.verifying_rows import CHUNK

CODES: Final = {Verdict.SOUND: 0, Verdict.TAMPERED: 1, Verdict.INCOMPLETE: 2}


class Command(AtomCommand):
    help = (
        "Verify the audit trail: every leaf, event, checkpoint and payload, and what waits to be sealed.\n"
        "Exit codes: 0 sound, 1 tampered with, 2 it cannot be said (unsealed too long, an unknown key, no anchor),\n"
        "64 wrong usage, 69 no database or keys, 70 internal error. Every bad range is named, not only the first."
    )
    examples = (
        "  manage.py auditverify\n"
        "  manage.py auditverify --last --json\n"
        "  manage.py auditverify --from 48000\n"
        "  manage.py auditverify --entry 019a3c1e-7a5b-7c3d-8e9f-0123456789ab\n"
        "  manage.py auditverify --receipt answer.json\n"
        "  manage.py auditverify --anchor /mnt/worm/audit-anchors.txt\n"
        "  manage.py auditverify --bundle november.zip\n"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--from", type=int, metavar="N", dest="begin", help="begin at the checkpoint before leaf N")
        mode.add_argument("--last", action="store_true", help="only the newest checkpoint and what it added")
        mode.add_argument("--entry", metavar="UID", help="only one event, with the checkpoint that took it in")
        mode.add_argument("--receipt", metavar="FILE", help="a receipt, or the answer that holds one, and its event")
        mode.add_argument("--bundle", metavar="FILE", help="a bundle of `auditexport`, with this server's keys")
        parser.add_argument("--anchor", metavar="FILE", help="compare with the checkpoints published in this file")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify, print, and leave with the verdict's code."""
        try:
            keys = trail_keys.trail_keys().public
            if options["bundle"] is not None:
                self._bundle(keys, options)
                return
            check_set_up()
            report = self._verified(keys, options)
            compared = self._anchored(report, keys, options["anchor"])
        except KeyFileError as error:
            raise UnavailableError(str(error)) from error
        except DatabaseError as error:
            raise UnavailableError(f"The database cannot be read: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps({**report.to_json(), "anchored": compared}))
        else:
            self._print(report, compared)
        if code := CODES[report.verdict]:
            sys.exit(code)

    def _verified(self, keys: PublicKeys, options: dict[str, Any]) -> Report:
        now = timezone.now()
        if options["entry"] is not None:
            try:
                uid = UUID(options["entry"])
            except ValueError as error:
                raise UsageError("--entry is the uid of an event.") from error
            return verifying.verify_entry(keys, uid)
        if options["receipt"] is not None:
            return verifying.verify_receipt(keys, self._receipt(options["receipt"]))
        if options["last"]:
            return verifying.verify_last(keys)
        if options["begin"] is not None:
            if options["begin"] < 0:
                raise UsageError("--from is the number of a leaf, from 0.")
            return verifying.verify_from(keys, options["begin"], now=now, progress=self._progress)
        return verifying.verify(keys, now=now, progress=self._progress, processes=os.cpu_count() or 1)

    def _receipt(self, name: str) -> dict[str, Any]:
        try:
            said = json.loads(Path(name).read_text(encoding="utf-8"))
            receipt = said.get("receipt", said)
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror}") from error
        except (ValueError, AttributeError) as error:
            raise UsageError(f"{name} is no JSON of a receipt.") from error
        return receipt if isinstance(receipt, dict) else {}

    def _bundle(self, keys: PublicKeys, options: dict[str, Any]) -> None:
        """Verify a bundle by the checks of the script that comes with it."""
        known = tuple(verifier_text(keys.log, key) for key in keys.keys.values())
        anchor = options["anchor"]
        try:
            with ExitStack() as files:
                stream = files.enter_context(Path(options["bundle"]).open("rb"))
                lines = files.enter_context(Path(anchor).open(encoding="utf-8", errors="replace")) if anchor else None
                asked = bundle.Options(known, lines, progress=self._progress)
                report = bundle.bundle_verify(stream, asked)
        except OSError as error:
            raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error
        if options["json"]:
            self.stdout.write(json.dumps(report.to_json()))
        else:
            for severity, what in report.findings:
                self.stdout.write(f"{severity}: {what}")
            about = f"events {report.first:,} to {report.size:,} of {report.log}, {report.events:,} of them here"
            self.stdout.write(f"{report.verdict}: {about}")
        if code := bundle.CODES[report.verdict]:
            sys.exit(code)

    def _anchored(self, report: Report, keys: PublicKeys, name: str | None) -> int | None:
        if name is None:
            return None
        try:
            with Path(name).open(encoding="utf-8", errors="replace") as stream:
                return verifying.anchored(report, stream, keys)
        except OSError as error:
            report.find(Severity.INCOMPLETE, f"the anchor {name} cannot be read: {error.strerror}")
            return 0

    def _progress(self, done: int, size: int) -> None:
        if size > 100_000 and sys.stderr.isatty():
            width = 40 * done // size
            sys.stderr.write(f"\r[{'#' * width}{'.' * (40 - width)}] {done:,} of {size:,}")
            sys.stderr.write("\r\033[K" if done + 2 * CHUNK > size else "")
            sys.stderr.flush()

    def _print(self, report: Report, compared: int | None) -> None:
        for finding in report.findings:
            place = "" if finding.first is None else f" {finding.first}"
            place += "" if finding.last in (None, finding.first) else f" to {finding.last}"
            self.stdout.write(f"{finding.severity}: {finding.what}{':' if place else ''}{place}")
        if report.more:
            self.stdout.write(f"and {report.more:,} more")
        anchored = "" if compared is None else f", compared with {compared:,} published checkpoints"
        retired = f", retired to {report.retired:,}" if report.retired else ""
        covered = f"events {report.first:,} to {report.size:,}, checkpoint {report.checkpoint:,}{retired}{anchored}"
        self.stdout.write(f"{report.verdict}: {covered}")
