"""What machine a run met, in words that say nothing of whose it is."""

import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from bench.services import Postgres


def describe(postgres: Postgres) -> dict[str, str]:
    """Return the machine and the versions of what was measured; what is not there is left out."""
    found = {
        "processors": f"{psutil.cpu_count()} ({_processor()})",
        "memory": f"{psutil.virtual_memory().total / 1024**3:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "PostgreSQL": "" if postgres.missing() else postgres.version(),
        "OpenSSH": _first_line("ssh", "-V"),
        "sudo": _first_line("sudo", "-V"),
        "Redis": _first_line("redis-server", "--version"),
    }
    for package in ("django", "django-q2", "celery", "asyncssh", "gunicorn"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {name: text for name, text in found.items() if text}


def _processor() -> str:
    try:
        model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return platform.machine()
    return model[1] if model else platform.machine()


def _first_line(*argv: str) -> str:
    if not shutil.which(argv[0]):
        return ""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    lines = (done.stdout or done.stderr).splitlines()
    version = re.search(r"\d+(\.\d+)+\w*", lines[0]) if lines else None
    return version[0] if version else ""
