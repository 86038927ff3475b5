"""Starting the local agent of the server's own machine, as its own process in the background."""

import logging
import subprocess
import sys

from django.conf import settings

logger = logging.getLogger(__name__)
_PATIENCE_SECONDS = 20


def spawn() -> bool:
    """Run `localagent start` for the host that `init` enrolled here. Returns whether it runs now."""
    command = [
        sys.executable,
        str(settings.BASE_DIR / "manage.py"),
        "localagent",
        "start",
        "--state-dir",
        str(settings.HOME.host_state),
        "--backend-url",
        settings.ATOM_URL,
        # It is as much root's as this server is, which its operator chose.
        "--allow-root",
    ]
    try:
        done = subprocess.run(  # noqa: S603  (our own program and arguments)
            command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False, close_fds=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.error("the local agent could not be started: %s", error)
        return False
    if done.returncode != 0:
        logger.error("the local agent could not be started: %s", done.stderr.strip())
    return done.returncode == 0
