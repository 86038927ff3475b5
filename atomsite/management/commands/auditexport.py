"""`manage.py auditexport`: the trail, or a part of it, as one file for somebody else."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from django.core.management.base import CommandParser
from django.db import DatabaseError
from django.utils import timezone

from atomsite.commands import AtomCommand, UnavailableError, UsageError, check_set_up
from audit import standalone
from audit.exporting import Form
from audit.key_files import KeyFileError
from audit.sealing import SealError
from audit.trail import SYSTEM
from audit.trail_keys import trail_keys, verifier_text
from governance.errors import ProblemError
from shellagent.exporting import Export, export_make, export_selection

_FILTERS: Final = {
    "after": "a day or time, such as 2026-11-29 or 2026-11-29T12:00:00Z: events of then or later",
    "before": "a day or time: events before it",
    "agent": "id or name of an agent that they are about",
    "host": "id or name of a host that they are about",
    "approver": "id of a user: what they decided on sessions",
    "session": "a session's id",
    "outcome": "what sessions came to, such as denied or succeeded",
    "category": "the category of the command",
    "tag": "which event, such as key:issued",
    "about": "the first part of the tag, such as rule",
    "actor": "who acted: user, agent, host or system",
    "words": "words that are in the event",
}


class Command(AtomCommand):
    help = (
        "Export the audit trail, or what the filters leave of it, and write that into the trail. A bundle can be\n"
        "verified by anybody, with one script and without the product; csv, ocsf (OCSF 1007 Process Activity, JSON\n"
        "lines; sessions' events only) and asciicast (v3, what one session printed) are to be read.\n"
        "The file is there whole or not at all. Exit codes: 0 done, 64 wrong usage, 69 no database, key or room."
    )
    examples = (
        "  manage.py auditexport trail.zip\n"
        "  manage.py auditexport november.zip --after 2026-11-01 --before 2026-12-01\n"
        "  manage.py auditexport denied.csv --format csv --outcome denied --agent coder\n"
        "  manage.py auditexport - --format ocsf --after 2026-11-29 | gzip > siem.gz\n"
        "  manage.py auditexport run.cast --format asciicast --session 019a3c1e-7a5b-7c3d-8e9f-0123456789ab\n"
        "  manage.py auditexport --show-key\n"
        "  manage.py auditexport --show-script > verify.py\n"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", metavar="FILE", help="where to; - for the standard output")
        parser.add_argument("--format", choices=[form.value for form in Form], default=Form.BUNDLE.value)
        for name, what in _FILTERS.items():
            parser.add_argument(f"--{name}", default="", help=what)
        parser.add_argument("--show-key", action="store_true", help="print the public keys to verify bundles with")
        parser.add_argument("--show-script", action="store_true", help="print the script that verifies bundles")
        parser.add_argument("--json", action="store_true", help="print one JSON object on what was written")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print what is asked for without a trail, or write the file."""
        if options["show_script"]:
            self.stdout.write(standalone.script(), ending="")
            return
        try:
            if options["show_key"]:
                self._show_key(is_json=options["json"])
            else:
                self._export(options)
        except (KeyFileError, SealError) as error:
            raise UnavailableError(str(error)) from error
        except DatabaseError as error:
            raise UnavailableError(f"The database cannot be used: {error}") from error

    def _show_key(self, *, is_json: bool) -> None:
        keys = trail_keys()
        texts = [verifier_text(keys.log, key) for key in reversed(list(keys.public.keys.values()))]
        self.stdout.write(json.dumps({"log": keys.log, "keys": texts}) if is_json else "\n".join(texts))

    def _export(self, options: dict[str, Any]) -> None:
        if not options["file"]:
            raise UsageError("Name the file to write, or - for the standard output.")
        check_set_up()
        asked = {name: options[name] for name in _FILTERS}
        is_piped = options["file"] == "-"
        try:
            selection = export_selection(asked)
            with _target(options["file"]) as stream:
                export = export_make(
                    form=Form(options["format"]),
                    selection=selection,
                    actor=SYSTEM,
                    door="a command",
                    now=timezone.now(),
                )
                size = self._write(export, stream)
        except ProblemError as error:
            raise UsageError(str(error.detail)) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UnavailableError(f"{options['file']} cannot be written: {error.strerror or error}") from error
        told = {"file": options["file"], "format": options["format"], "bytes": size, "log_size": export.size}
        where = self.stderr if is_piped else self.stdout
        where.write(json.dumps(told) if options["json"] else f"{options['file']}: {size:,} bytes", ending="\n")

    def _write(self, export: Export, stream: IO[bytes]) -> int:
        size, told = 0, time.monotonic()
        for piece in export.pieces:
            stream.write(piece)
            size += len(piece)
            if sys.stderr.isatty() and time.monotonic() - told > 0.2:
                told = time.monotonic()
                sys.stderr.write(f"\r\033[K{size / 1e6:,.1f} MB")
                sys.stderr.flush()
        if sys.stderr.isatty():
            sys.stderr.write("\r\033[K")
        return size


@contextmanager
def _target(name: str) -> Iterator[IO[bytes]]:
    """Open the file under a name of its own, owner-only, and give it the final one once it is whole and on the disk."""
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    final = Path(name)
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(descriptor)
        partial.replace(final)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
