"""The product as real processes: web server, worker and two hosts, started again when they end."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from bench.options import REPOSITORY
from bench.services import Postgres
from bench.workspace import PeerFailed, Workspace, environment, free_port, is_listening, run
from faults.clocks import Clock, build
from faults.proxy import Proxies

MANAGE: Final = str(REPOSITORY / "manage.py")
HOSTS: Final = ("one", "two")
#: Whose folder in the scratch folder the commands run in.
AGENT: Final = "demo-autonomous"
#: Main process, its children, and theirs.
GENERATIONS: Final = ("main", "child", "grandchild")
RESTART_SECONDS: Final = 0.3
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0


@dataclass
class Service:
    """A program that is to run. `tree` is what it consisted of when it was last killed."""

    name: str
    argv: list[str]
    env: dict[str, str]
    #: Whether what a kill leaves of its tree is killed before the next start, as a service manager does.
    ends_with_tree: bool = False
    process: "subprocess.Popen[bytes] | None" = None
    not_before: float = 0.0
    was_killed: bool = False
    tree: list[psutil.Process] = field(default_factory=list)

    def members(self) -> list[psutil.Process]:
        """Return the process and its descendants that are alive."""
        if self.process is None or self.process.poll() is not None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        return []

    @property
    def pid(self) -> int:
        """Return its main process's id, 0 while there is none."""
        return self.process.pid if self.process is not None and self.process.poll() is None else 0


class Stack:
    """All processes of one run on one database. Only what this object started is ever signalled."""

    def __init__(self, workspace: Workspace, database: str, postgres: Postgres, seed: int) -> None:
        self.workspace = workspace
        #: In the command line of every process of the run, those of agents' commands included.
        self.marker = workspace.path.name.rpartition("-")[2]
        self.proxies = Proxies()
        workspace.callback(self.proxies.close)
        self.port = free_port()
        self.ends: Counter[str] = Counter()
        self.services: dict[str, Service] = {}
        library = build(workspace.path)
        self.clocks = {name: Clock(workspace.path / f"clock-{name}", library) for name in ("server", *HOSTS)}
        self.home = workspace.folder("home")
        self.client_port = 0
        self._lock = threading.RLock()
        self._is_over = threading.Event()
        self._env = {
            "ATOM_HOME": str(self.home),
            "PORT": str(self.port),
            "XDG_CACHE_HOME": str(workspace.folder("cache")),
            "ATOM_EXECUTE_PER_MINUTE": "100000000",
            "LOG_LEVEL": "WARNING",
        }
        if database == "postgres":
            self._env["DATABASE_URL"] = postgres.create(workspace, f"faults_{self.marker}")
        self._seed = seed
        self._random = random.Random(f"{seed}:victims")  # noqa: S311 - no secret: the seed is to repeat it
        self._asking = threading.Lock()
        self._inside: subprocess.Popen[str] | None = None

    # Setting up

    def start(self) -> None:
        """Set up and start everything. Raises PeerFailed."""
        run([sys.executable, MANAGE, "init"], env=self._env, cwd=REPOSITORY)
        self.workspace.callback(self._sweep)
        self.workspace.callback(self.stop)
        server = {**self._env, **self.clocks["server"].environment()}
        gunicorn = ["-c", str(REPOSITORY / "gunicorn.conf.py"), "--chdir", str(REPOSITORY)]
        web = [sys.executable, "-m", "gunicorn", *gunicorn, "atomsite.asgi:application"]
        self._add("web", web, server, ends_with_tree=True)
        self._wait_for_web()
        self._add("worker", [sys.executable, MANAGE, "qcluster"], server, ends_with_tree=True)
        self._open_inside()
        for name in HOSTS:
            self._add_host(name)
        self.ask(ask="hosts")
        self.client_port = self._proxy("clients")
        self._wait_for_hosts()
        threading.Thread(target=self._keep, name="keeper", daemon=True).start()

    def _add_host(self, name: str) -> None:
        state, scratch = self.state(name), self.scratch(name)
        state.mkdir(mode=0o700, exist_ok=True)
        scratch.mkdir(mode=0o700, parents=True)
        (scratch / "effects").mkdir(mode=0o700)
        shutil.copy(Path(__file__).with_name("work.py"), scratch / "work.py")
        code = self.ask(ask="enrol", name=name)
        url = f"http://127.0.0.1:{self.port}"
        enrol = [sys.executable, MANAGE, "localagent", "enroll", "--backend-url", url, "--state-dir", str(state)]
        run(enrol, env={**self._env, "ATOM_ENROL_CODE": code}, cwd=REPOSITORY)
        through = f"http://127.0.0.1:{self._proxy(name)}"
        argv = [sys.executable, MANAGE, "runlocalagent", "--backend-url", through, "--state-dir", str(state)]
        argv += ["--scratch", str(scratch.parent), "--concurrency", "8"]
        self._add(name, argv, {**self._env, **self.clocks[name].environment()})

    def _proxy(self, name: str) -> int:
        port = free_port()
        self.proxies.add(name, port, self.port, f"{self._seed}:{name}")
        return port

    def state(self, host: str) -> Path:
        """Return a host's state folder."""
        return self.workspace.path / f"state-{host}"

    def scratch(self, host: str) -> Path:
        """Return the folder that the agent's commands run in on a host, with their `effects`."""
        return self.workspace.path / f"scratch-{host}" / AGENT

    def agent_key(self) -> str:
        """Return the key of the demonstration agent that needs no approval."""
        credentials: Mapping[str, Any] = json.loads((self.home / "credentials.json").read_text())
        return str(credentials["agents"]["autonomous"]["key"])

    # Processes

    def _add(self, name: str, argv: list[str], env: dict[str, str], *, ends_with_tree: bool = False) -> None:
        service = self.services[name] = Service(name, argv, env, ends_with_tree)
        self._spawn(service)

    def _spawn(self, service: Service) -> None:
        with (self.workspace.path / f"{service.name}.log").open("ab") as stream:
            service.process = subprocess.Popen(
                service.argv,
                env=environment(service.env),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_for_web(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not is_listening(self.port):
            if time.monotonic() > deadline or not self.services["web"].pid:
                log = (self.workspace.path / "web.log").read_text(errors="replace")
                raise PeerFailed(f"the web server does not answer:\n{log[-2000:]}")
            time.sleep(0.05)

    def _wait_for_hosts(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while self.ask(ask="ready") < len(HOSTS):
            if time.monotonic() > deadline:
                log = (self.workspace.path / f"{HOSTS[0]}.log").read_text(errors="replace")
                raise PeerFailed(f"a host did not report:\n{log[-2000:]}")
            time.sleep(0.1)

    def kill(self, name: str, which: str = "main", *, down_seconds: float = 0.0) -> bool:
        """Send KILL to a process of a service; `which` is main, child or grandchild. Returns whether there was one.

        Of a host the child is the zygote, and the grandchildren are supervisors.
        """
        with self._lock:
            service = self.services[name]
            members = service.members()
            pids = _generation(members, which)
            if not pids:
                return False
            service.tree = members
            if which == "main":
                service.was_killed = True
                service.not_before = time.monotonic() + max(down_seconds, RESTART_SECONDS)
            os.kill(self._random.choice(pids), signal.SIGKILL)
        return True

    def _keep(self) -> None:
        """Start again what ended."""
        while not self._is_over.wait(0.1):
            with self._lock:
                for service in self.services.values():
                    self._look_after(service)

    def _look_after(self, service: Service) -> None:
        if service.process is not None and not self._is_over.is_set():
            code = service.process.poll()
            if code is None:
                return
            service.process = None
            kind = "host" if service.name in HOSTS else service.name
            self.ends[f"{kind} killed" if service.was_killed else f"{kind} ended with {code}"] += 1
            if not service.was_killed:
                service.not_before = time.monotonic() + RESTART_SECONDS
        if time.monotonic() < service.not_before or self._is_over.is_set():
            return
        if service.ends_with_tree:
            _kill_all(service.tree)
        service.was_killed = False
        self._spawn(service)

    def stop(self) -> None:
        """End all in order: hosts first, then worker and web server. May be called twice."""
        self._is_over.set()
        with self._lock:
            for name in (*HOSTS, "worker", "web"):
                service = self.services.get(name)
                if service is None:
                    continue
                members = [*service.members(), *service.tree]
                if service.process is not None:
                    service.process.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        service.process.wait(STOP_SECONDS)
                    service.process = None
                if service.ends_with_tree:
                    # A killed member may have left others. Hosts have to end theirs by themselves.
                    _kill_all(members)
        with self._asking:
            if self._inside is not None and self._inside.stdin is not None:
                self._inside.stdin.close()
                self._inside.wait(10)
                self._inside = None

    def left(self) -> list[str]:
        """Return each living process of this run, as pid and command line."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or ())
            if self.marker in line and process.info["status"] != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                found.append(f"{process.pid} {line[:160]}")
        return found

    def _sweep(self) -> None:
        """Kill what carries this run's marker, so that nothing of it stays however it ended."""
        for entry in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(entry.split(" ", 1)[0]), signal.SIGKILL)
        for service in self.services.values():
            _kill_all(service.tree)

    # The database

    def _open_inside(self) -> None:
        self._inside = subprocess.Popen(
            [sys.executable, "-m", "faults.inside"],
            env=environment({**self._env, **self.clocks["server"].environment()}),
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.workspace.callback(self._inside.kill)

    def ask(self, **question: str) -> Any:
        """Ask the process that reads the database. Raises PeerFailed where it has ended."""
        with self._asking:
            inside = self._inside
            if inside is None or inside.stdin is None or inside.stdout is None:
                raise PeerFailed("the process that reads the database is not there")
            inside.stdin.write(f"{json.dumps(question)}\n")
            inside.stdin.flush()
            line = inside.stdout.readline()
        if not line:
            raise PeerFailed("the process that reads the database has ended")
        return json.loads(line)


def _generation(members: list[psutil.Process], which: str) -> list[int]:
    """Return the pids of one generation of a service, whose first member is its main process."""
    if not members:
        return []
    parents = [members[0].pid]
    for _ in range(GENERATIONS.index(which)):
        found = []
        for one in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                if one.ppid() in parents:
                    found.append(one.pid)
        parents = found
    return parents


def _kill_all(processes: list[psutil.Process]) -> None:
    for one in processes:
        # psutil compares the create time first, so that a pid that is somebody else's by now is left alone.
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(processes, timeout=5)
