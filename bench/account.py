"""A temporary account whose start-up files are empty: a shell's start-up files would slow the peers and flatter us."""

import getpass
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.workspace import Workspace, run

#: The quickest ordinary login shell; with bash each command of the ssh rows would cost about a millisecond more.
SHELL = "/bin/sh"


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the peers' commands. Only root can make a user; anyone else lends their own, with an empty HOME."""

    name: str
    home: Path
    is_temporary: bool

    @property
    def summary(self) -> str:
        """Say in a phrase who it is, for the report."""
        if self.is_temporary:
            return f"a temporary user with the shell {SHELL} and an empty home folder"
        return "the user that ran the benchmark, with HOME set to an empty folder"


def create(workspace: Workspace) -> Account:
    """Make the account, gone with the workspace. Raises PeerFailed where useradd does not work."""
    home = workspace.folder("home", mode=0o755)
    if os.geteuid() != 0 or not shutil.which("useradd"):
        return Account(getpass.getuser(), home, is_temporary=False)
    name = f"atombench{os.getpid()}"
    # "*" is no password and, unlike "!", no lock: sshd refuses a locked account whatever its key is.
    run(["useradd", "--no-create-home", "--home-dir", str(home), "--shell", SHELL, "--password", "*", name])
    workspace.callback(subprocess.run, ["userdel", "--force", name], check=False, capture_output=True)
    shutil.chown(home, name)
    return Account(name, home, is_temporary=True)
