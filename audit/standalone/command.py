"""Verify what an Atom Local Agent exported of its audit trail, on any machine and without the product.

One file that needs Python 3.9 and the `cryptography` package. It shares no code with what wrote the trail: what it says
is a second reading of RFC 6962, of the signed notes and of the bundle's format.

    python3 verify.py BUNDLE --key 'atom-local-agent/5f2a…+1a2b3c4d+AX…'     a bundle
    python3 verify.py --receipt receipt.json --key '…' [BUNDLE]             a receipt, and that the bundle has its event
    python3 verify.py BUNDLE --key '…' --anchor audit-anchors.txt           and nothing else than what was published

Exit codes: 0 sound, 1 tampered with, 2 it cannot be said (no key, an unknown key, no bundle), 64 wrong usage, 70 an
internal error. The key has to come from whoever runs the product, and not from the bundle: `manage.py auditexport
--show-key` prints it there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audit.standalone.bundle import CODES, Options, Report, bundle_verify, receipt_verify
from audit.standalone.forms import FormatError, Keys, json_object


def main(arguments: list[str] | None = None) -> int:
    """Verify what the command line names, print the verdict, and return its code."""
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", type=Path)
    parser.add_argument(
        "--key", action="append", default=[], help="a public key of the log, name+id+base64; repeatable"
    )
    parser.add_argument("--receipt", type=Path, help="a file with the receipt, or with the answer that holds it")
    parser.add_argument("--anchor", type=Path, help="a file of published checkpoints")
    parser.add_argument("--signatures", action="store_true", help="verify each event's own signature too (slower)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(arguments)
    if asked.bundle is None and asked.receipt is None:
        parser.error("name a bundle, a receipt, or both")
    try:
        report = _verified(asked)
    except (OSError, FormatError) as error:
        parser.error(str(error))
    if asked.json:
        sys.stdout.write(json.dumps(report.to_json()) + "\n")
    else:
        for severity, what in report.findings:
            sys.stdout.write(f"{severity}: {what}\n")
        about = f"events {report.first:,} to {report.size:,} of {report.log}, {report.events:,} of them here"
        sys.stdout.write(f"{report.verdict}: {about if asked.bundle else 'the receipt'}\n")
    return CODES[report.verdict]


def _verified(asked: argparse.Namespace) -> Report:
    report, wanted = Report(), ""
    if asked.receipt:
        said = json_object(asked.receipt.read_text(encoding="utf-8"))
        wanted = receipt_verify(json_object(said.get("receipt", said)), Keys(asked.key), report)
    elif asked.key:
        Keys(asked.key)
    if asked.bundle is None:
        return report
    with asked.bundle.open("rb") as stream, _lines(asked.anchor) as anchor:
        options = Options(tuple(asked.key), anchor, asked.signatures, wanted, _progress)
        whole = bundle_verify(stream, options)
    for severity, what in report.findings:
        whole.find(severity, what)
    return whole


@contextmanager
def _lines(path: Path | None) -> Iterator[Iterable[str] | None]:
    if path is None:
        yield None
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        yield stream


def _progress(done: int, size: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done:,} of {size:,} events" if done < size else "\r\033[K")
        sys.stderr.flush()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.exit(64, f"{self.prog}: {message}\n")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as unforeseen:  # noqa: BLE001 - a crash must not look like a verdict
        sys.stderr.write(f"internal error: {type(unforeseen).__name__}: {unforeseen}\n")
        sys.exit(70)
