"""A temporary account whose start-up files are empty: a shell's start-up files would slow the peers and flatter us."""

import getpass
import os
import pwd
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.workspace import Workspace, run

#: The quickest ordinary login shell; with bash each command of the ssh rows would cost about a millisecond more.
SHELL = "/bin/sh"
SHELL_SAMPLES = 30


@dataclass(frozen=True, slots=True)
class Account:
    """Who runs the peers' commands. Only root can make a user; anyone else lends their own, with an empty HOME."""

    name: str
    home: Path
    shell: str
    is_temporary: bool

    @property
    def summary(self) -> str:
        """Say in a phrase who it is, for the report."""
        if self.is_temporary:
            return f"a temporary user with the shell {self.shell} and an empty home folder"
        return f"the user that ran the benchmark, with the shell {self.shell} and HOME set to an empty folder"

    def shell_ms(self, command: str) -> float:
        """Return the median of what the account's shell takes by itself, in ms, started as sshd starts it."""
        env = {"HOME": str(self.home), "PATH": "/usr/local/bin:/usr/bin:/bin", "SSH_CLIENT": "127.0.0.1 1 22"}
        samples = []
        for _sample in range(SHELL_SAMPLES):
            begun = time.perf_counter()
            subprocess.run([self.shell, "-c", command], env=env, stdin=subprocess.DEVNULL, check=True)
            samples.append(time.perf_counter() - begun)
        return statistics.median(samples) * 1000


def create(workspace: Workspace) -> Account:
    """Make the account, gone with the workspace. Raises PeerFailed where useradd does not work."""
    home = workspace.folder("home", mode=0o755)
    if os.geteuid() != 0 or not shutil.which("useradd"):
        return Account(getpass.getuser(), home, pwd.getpwuid(os.geteuid()).pw_shell, is_temporary=False)
    name = f"atombench{os.getpid()}"
    # "*" is no password and, unlike "!", no lock: sshd refuses a locked account whatever its key is.
    run(["useradd", "--no-create-home", "--home-dir", str(home), "--shell", SHELL, "--password", "*", name])
    workspace.callback(subprocess.run, ["userdel", "--force", name], check=False, capture_output=True)
    shutil.chown(home, name)
    return Account(name, home, SHELL, is_temporary=True)
