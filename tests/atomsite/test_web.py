"""The web server: its worker says that it lives, whatever the clock does. No process of the server shows its memory."""

import asyncio
import subprocess
import sys
import time

import pytest
from django.conf import settings
from uvicorn.config import Config

from atomsite.web import _Server


def test_a_clock_that_was_set_back_does_not_silence_it() -> None:
    told = []

    async def tell() -> None:
        told.append(True)

    server = _Server(Config(app="", callback_notify=tell, timeout_notify=30))
    server.last_notified = time.time() + 20
    assert asyncio.run(server.on_tick(0)) is False
    assert told
    asyncio.run(server.on_tick(10))
    assert len(told) == 1, "and no more often than it is to"


@pytest.mark.parametrize(
    "start",
    [
        "import runpy; runpy.run_path('gunicorn.conf.py')['on_starting'](None)",
        "import manage; sys.argv[1:] = ['qcluster', '--help']; manage.main()",
        "import manage; sys.argv[1:] = ['up', '--help']; manage.main()",
    ],
    ids=["web", "worker", "up"],
)
def test_other_processes_of_its_user_cannot_read_its_memory(start: str) -> None:
    code = f"""
import ctypes, sys
try:
    {start}
except SystemExit:
    pass
print("dumpable:", ctypes.CDLL(None).prctl(3))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("dumpable: 0\n")
