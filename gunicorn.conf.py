"""gunicorn's settings: `python -m gunicorn -c gunicorn.conf.py atomsite.asgi:application`, as `manage.py up` runs it.

uvicorn's worker under gunicorn's master, because hosts and waiting agents hold a request open for up to 45 seconds: a
held request costs no thread. docs/how-to/behind-tls.md shows it behind TLS.
"""

import os
import warnings
from pathlib import Path
from typing import Any

_is_sqlite = (os.environ.get("DATABASE_URL") or "sqlite:").startswith("sqlite")

bind = f"{os.environ.get('ATOM_BIND') or '127.0.0.1'}:{os.environ.get('PORT') or '8000'}"
# One process answers more together, and wakes whom it rings for by itself. More are for machines with many processors,
# and on PostgreSQL only: on SQLite a held request is woken inside the process alone, and one process writes at a time.
workers = 1 if _is_sqlite else int(os.environ.get("WEB_CONCURRENCY") or 1)
worker_class = "atomsite.web.Worker"
# Longer than a host's pause between two polls, so that its connection is not closed under the next request.
keepalive = 75
# More than the grace of `atomsite.web`.
graceful_timeout = 4
timeout = 60
# The heartbeat of a worker is a file; on a disk that is busy its update can be what makes the worker look dead.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gunicorn unlinks the file at once
# The control socket has one place for each user, where two installations would meet; signals do all that is needed.
control_socket_disable = True
loglevel = os.environ.get("ATOM_WEB_LOG_LEVEL") or "warning"
proc_name = "atom-local-agent"

# WhiteNoise serves the files of the packages by itself; collecting them into a folder is a choice.
warnings.filterwarnings("ignore", message="No directory at")


def on_starting(server: Any) -> None:
    """Keep the keys in the memory of this process, and of the workers that it forks, from commands on this machine."""
    from atomsite.leash import hide_memory  # noqa: PLC0415 - nothing runs when this file is read

    hide_memory()
