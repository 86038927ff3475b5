"""sudo with I/O logging: the nearest thing that every machine has to a command that is decided and recorded."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.account import Account
from bench.peers import COMMAND, CommandPeer
from bench.workspace import PeerFailed, Workspace, run

FOLDER = Path("/etc/sudoers.d")
# Nobody gains a right that lasts: root may become the temporary account, which is gone with the run.
RULES = """\
Defaults>{user} log_output, iolog_dir={logs}
root ALL=({user}) NOPASSWD: ALL
"""


class SudoLogged(CommandPeer):
    """`sudo -n -u <account> true`, with its output logged by a rule that exists only while the run lasts."""

    key = "sudo"
    label = "sudo with I/O logging"

    def __init__(self, account: Account) -> None:
        self.account = account
        self._argv: tuple[str, ...] = ()

    def missing(self) -> str | None:
        if not shutil.which("sudo") or not shutil.which("visudo", path=_PATH):
            return "sudo is not installed (--install-peers)"
        if not self.account.is_temporary or not FOLDER.is_dir():
            return "only root can add the rule that logs"
        return None

    def start(self, workspace: Workspace) -> None:
        logs = workspace.folder("sudo-logs")
        draft = workspace.path / "sudoers"
        draft.write_text(RULES.format(user=self.account.name, logs=logs))
        draft.chmod(0o440)
        run([shutil.which("visudo", path=_PATH) or "visudo", "-c", "-f", str(draft)])
        rules = FOLDER / self.account.name
        workspace.callback(rules.unlink, missing_ok=True)
        shutil.copy(draft, rules)
        self._argv = (shutil.which("sudo") or "sudo", "-n", "-u", self.account.name, COMMAND)
        self.one()
        if not any(logs.rglob("log*")):
            raise PeerFailed("sudo ran the command and logged nothing")

    def argv(self) -> Sequence[str]:
        return self._argv


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
