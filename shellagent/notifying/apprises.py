"""Sending by one of Apprise's services, in a process of its own: 20 MiB that the worker does not keep, a deadline that
ends whatever hangs, and a guard on its network calls that touches nobody else's.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from django.conf import settings

from shellagent.notifying.parcels import Delivery, Parcel

DEADLINE_SECONDS: Final = 25.0
_MODULE: Final = "shellagent.notifying.apprise_process"


def apprise_send(parcel: Parcel, *, deadline_seconds: float = DEADLINE_SECONDS) -> Delivery:
    """Send by the service of a parcel's URL. What goes wrong is told in the answer."""
    answer = _run({"url": parcel.address, "title": parcel.title, "text": parcel.text}, deadline_seconds)
    if isinstance(answer, str):
        return Delivery(is_delivered=False, detail=answer)
    return Delivery(is_delivered=bool(answer.get("is_delivered")), detail=str(answer.get("detail", ""))[:300])


def apprise_problem(url: str) -> str:
    """Return why a URL is not one of a service that may be used, or an empty text where it is."""
    answer = _run({"url": url}, DEADLINE_SECONDS)
    return answer if isinstance(answer, str) else str(answer.get("problem", ""))


def _run(question: dict[str, str], seconds: float) -> dict[str, object] | str:
    # The URL goes by the standard input: arguments and the environment can be read by others.
    asked = json.dumps({**question, "allows_private": settings.ATOM_WEBHOOK_PRIVATE_ADDRESSES})
    try:
        done = subprocess.run(  # noqa: S603 - this Python, and a module of ours
            [sys.executable, "-m", _MODULE],
            input=asked,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            cwd=Path(settings.BASE_DIR),
            # None of the product's own secrets.
            env={name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "HOME") if name in os.environ},
        )
    except subprocess.TimeoutExpired:
        return f"The service did not answer within {seconds:g} s."
    except OSError as error:
        return f"The sending process could not be started: {error.strerror}."
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return f"The sending process ended with code {done.returncode} and no answer."
    return answer if isinstance(answer, dict) else "The sending process gave no answer."
