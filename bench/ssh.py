"""ssh to this machine through a private sshd: OpenSSH's client with ControlMaster, and asyncssh on one connection."""

import asyncio
import importlib
import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.account import Account
from bench.peers import AT_ONCE, COMMAND, COMMAND_SECONDS, CommandPeer, Peer, timed
from bench.workspace import PeerFailed, Workspace, free_port, is_listening, run

SSHD_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowUsers {user}
MaxSessions 64
UseDNS no
PrintMotd no
PermitUserRC no
LogLevel ERROR
{home}
"""


class SshServer:
    """One sshd on a loopback port with keys and configuration of its own; both ssh rows share it."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.port = 0
        self.folder = Path()

    @staticmethod
    def missing() -> str | None:
        """Return which program is not there."""
        for program in ("sshd", "ssh", "ssh-keygen"):
            if not _which(program):
                return f"{program} is not installed (--install-peers)"
        return None

    def start(self, workspace: Workspace) -> None:
        """Start it once; a second call does nothing. Raises PeerFailed."""
        if self.port:
            return
        self.folder = workspace.folder("ssh", mode=0o711)
        for name in ("host_key", "client_key"):
            run([_which("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)])
        shutil.copy(self.folder / "client_key.pub", self.folder / "authorized_keys")
        (self.folder / "authorized_keys").chmod(0o644)
        port = free_port()
        home = "" if self.account.is_temporary else f"SetEnv HOME={self.account.home}"
        config = self.folder / "sshd_config"
        config.write_text(SSHD_CONFIG.format(port=port, folder=self.folder, user=self.account.name, home=home))
        self._privilege_separation_folder(workspace)
        server = workspace.spawn([_which("sshd"), "-D", "-e", "-f", str(config)], name="sshd")
        server.wait_for(lambda: is_listening(port), seconds=10)
        self.port = port

    def options(self) -> list[str]:
        """Return the ssh client's options but for the connection to share."""
        return [
            "-F", "none", "-T", "-q",
            "-i", str(self.folder / "client_key"),
            "-p", str(self.port),
            "-o", "IdentitiesOnly=yes",
            "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null",
        ]  # fmt: skip

    @staticmethod
    def _privilege_separation_folder(workspace: Workspace) -> None:
        folder = Path("/run/sshd")
        if os.geteuid() == 0 and not folder.exists():
            folder.mkdir(mode=0o755)
            workspace.callback(folder.rmdir)


class SshControlMaster(CommandPeer):
    """One process of the ssh client a command, over a connection that is already open."""

    key = "ssh-master"
    label = "ssh with ControlMaster"

    def __init__(self, server: SshServer) -> None:
        self.server = server
        self._argv: tuple[str, ...] = ()

    def missing(self) -> str | None:
        return self.server.missing()

    def start(self, workspace: Workspace) -> None:
        self.server.start(workspace)
        socket = workspace.folder("mux") / "s"
        target = f"{self.server.account.name}@127.0.0.1"
        shared = [_which("ssh"), *self.server.options(), "-o", f"ControlPath={socket}"]
        master = workspace.spawn([*shared, "-M", "-N", target], name="ssh-master")
        master.wait_for(socket.exists, seconds=15)
        self._argv = (*shared, target, COMMAND)
        self._assert_plain(shared, target)

    def argv(self) -> Sequence[str]:
        return self._argv

    def _assert_plain(self, shared: list[str], target: str) -> None:
        """Make sure that the shell finds no start-up file: the row would be slow for a reason that is not ssh's."""
        seen = run([*shared, target, 'ls -A "$HOME" | wc -l; echo "${ENV-}${BASH_ENV-}"']).split()
        if seen != ["0"]:
            raise PeerFailed(f"the account for ssh is not plain: {' '.join(seen)!r}")


class AsyncSsh(Peer):
    """A library's persistent connection: no process of a client a command."""

    key = "asyncssh"
    label = "asyncssh on one connection"

    def __init__(self, server: SshServer) -> None:
        self.server = server
        self._runner = asyncio.Runner()
        self._connection: Any = None

    def missing(self) -> str | None:
        if importlib.util.find_spec("asyncssh") is None:
            return "asyncssh is not installed (requirements-bench.txt)"
        return self.server.missing()

    def start(self, workspace: Workspace) -> None:
        self.server.start(workspace)
        asyncssh = importlib.import_module("asyncssh")
        workspace.callback(self._close)
        try:
            self._connection = self._runner.run(self._connect(asyncssh))
        except (OSError, asyncssh.Error) as error:
            raise PeerFailed(f"asyncssh: {error}") from error

    def one(self) -> float:
        return timed(lambda: self._runner.run(self._call()))

    def many(self, count: int) -> float:
        return timed(lambda: self._runner.run(self._all(count)))

    async def _connect(self, asyncssh: Any) -> Any:
        return await asyncssh.connect(
            "127.0.0.1",
            self.server.port,
            username=self.server.account.name,
            client_keys=[str(self.server.folder / "client_key")],
            known_hosts=None,
            config=None,
            agent_path=None,
        )

    async def _call(self) -> None:
        done = await self._connection.run(COMMAND, timeout=COMMAND_SECONDS)
        if done.exit_status != 0:
            raise PeerFailed(f"asyncssh: `true` ended with {done.exit_status}")

    async def _all(self, count: int) -> None:
        todo = iter(range(count))

        async def lane() -> None:
            for _index in todo:
                await self._call()

        await asyncio.gather(*(lane() for _lane in range(AT_ONCE)))

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.abort()
        self._runner.close()


def _which(program: str) -> str:
    """Return a program's path, also from the folders that only root has in PATH; sshd must be run by its full path."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""


def install_peers() -> None:
    """Install ssh and sudo with apt-get. Raises PeerFailed where that does not work."""
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    wanted = {"sshd": "openssh-server", "ssh": "openssh-client", "sudo": "sudo"}
    packages = [package for program, package in wanted.items() if not _which(program)]
    if packages:
        run(["apt-get", "update", "-q"], env=env, seconds=300)
        run(["apt-get", "install", "-y", "--no-install-recommends", *packages], env=env, seconds=600)
