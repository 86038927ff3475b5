"""The product, everything on: governance, audit and sandbox, as `up` starts it, asked over HTTP as an agent asks."""

import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import psutil

from bench import doors
from bench.figures import DoorFigure, Footprint
from bench.options import REPOSITORY
from bench.peers import COMMAND, Peer, timed
from bench.services import Postgres
from bench.workspace import PeerFailed, Spawned, Workspace, free_port, run

MANAGE = str(REPOSITORY / "manage.py")
UP = REPOSITORY / "atomsite" / "management" / "commands" / "up.py"
WAIT_SECONDS = 45
#: Statuses that a session leaves by itself; with any other it will not change any more.
OPEN = ("pending", "queued", "claimed", "running")
FINISH_SECONDS = 60.0
#: So many ask at once while its rate is measured, each waiting for the answer before it asks again. Task queues take
#: all that is asked for without an answer.
CLIENTS = 16
MIB = 1024 * 1024


class Client:
    """A kept connection to the product. The standard library's, because what a client library costs is not ours."""

    def __init__(self, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS + 15)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        """Return what the API answers to GET. Raises PeerFailed for any answer that is no success."""
        return self._call("GET", f"{path}?{urlencode(query)}", None)

    def execute(self, wait_seconds: int) -> dict[str, Any]:
        """Ask for `/bin/true`, and return the session as the answer has it."""
        return self._call("POST", "/execute", json.dumps({"command": COMMAND, "wait_seconds": wait_seconds}))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _call(self, method: str, path: str, body: str | None) -> dict[str, Any]:
        self._connection.request(method, f"/api/local-agent{path}", body, self._headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status not in (200, 202):
            raise PeerFailed(f"HTTP {response.status}: {content[:500]!r}")
        answer: dict[str, Any] = json.loads(content)
        return answer


class Ours(Peer):
    """The product on SQLite or on PostgreSQL, with a home, a port and a database of its own."""

    def __init__(self, database: str, postgres: Postgres, *, concurrency: int, has_trail: bool = True) -> None:
        self.database = database
        self.postgres = postgres
        self.concurrency = concurrency
        self.has_trail = has_trail
        self.key = f"ours-{database}" if has_trail else f"untrailed-{database}"
        self.label = f"ours on {'SQLite' if database == 'sqlite' else 'PostgreSQL'}"
        self.at_once = f"{CLIENTS} clients, host's concurrency {concurrency}"
        # Until each of its slots has its supervisor, and each of its statements is prepared.
        self.warm_count = 800
        self._up: Spawned | None = None
        self._port = 0
        self._key = ""
        self._client = Client(0, "")

    def missing(self) -> str | None:
        if not UP.exists():
            return "this checkout has no `up` command"
        return None if self.database == "sqlite" else self.postgres.missing()

    def start(self, workspace: Workspace) -> None:
        folder = workspace.folder(self.key)
        home, cache = folder / "home", folder / "cache"
        cache.mkdir(mode=0o700)
        port = free_port()
        env = {
            "ATOM_HOME": str(home),
            "PORT": str(port),
            "XDG_CACHE_HOME": str(cache),
            "ATOM_EXECUTE_PER_MINUTE": "100000000",
            "LOG_LEVEL": "WARNING",
        }
        if self.database == "postgres":
            env["DATABASE_URL"] = self.postgres.create(workspace, self.key.replace("-", "_"))
        run([sys.executable, MANAGE, "migrate", "-v", "0"], env=env, cwd=REPOSITORY)
        run([sys.executable, MANAGE, "init"], env=env, cwd=REPOSITORY)
        credentials = json.loads((home / "credentials.json").read_text())
        self._port = port
        self._key = str(credentials["agents"]["autonomous"]["key"])
        self._client = Client(port, self._key)
        if not self.has_trail:
            env["DJANGO_SETTINGS_MODULE"] = "bench.projects.untrailed_settings"
        argv = [sys.executable, MANAGE, "up", "--no-tour", "--concurrency", str(self.concurrency)]
        self._up = workspace.spawn(argv, name=self.key, env=env, cwd=REPOSITORY)
        self._up.wait_for(self._answers, seconds=60)
        self.one()

    def resume(self) -> None:
        """Take the turn with a new connection: the server closes one that nobody has used for 75 s."""
        self._client.close()
        super().resume()

    def one(self) -> float:
        return timed(lambda: _assert_ran(self._client.execute(WAIT_SECONDS)))

    def rest(self) -> None:
        """Close the kept connection, which the server would close while nothing is asked."""
        self._client.close()

    def many(self, count: int) -> float:
        identifiers: list[str] = []
        seconds = timed(lambda: identifiers.extend(self._all(count)))
        self._assert_all_ran(identifiers)
        return seconds

    def doors(self, *, is_quick: bool) -> DoorFigure:
        """Return what `atom` and the MCP server cost with it."""
        api = [self.one() for _ in range(3 if is_quick else doors.CALLS)]
        url = f"http://127.0.0.1:{self._port}"
        return doors.measure(database=self.database, url=url, key=self._key, api=api, is_quick=is_quick)

    def footprint(self, idle_seconds: float) -> Footprint:
        """Return what its processes hold now, and what the host costs while nothing is asked of it."""
        processes = self._up.tree() if self._up else []
        named = [(process, " ".join(process.cmdline())) for process in processes]
        hosts = [process for process, line in named if "runlocalagent" in line]
        webs = [process for process, line in named if "gunicorn" in line]
        if not hosts or not webs:
            raise PeerFailed("the host or the web server is not among the processes of `up`")
        # A master forks its workers, so whoever has no parent in the list is the one that was started.
        host = next(process for process in hosts if process.ppid() not in {one.pid for one in hosts})
        workers = [process for process in webs if process.ppid() in {one.pid for one in webs}] or webs
        family = [host, *host.children(recursive=True)]
        time.sleep(2)
        begun = time.monotonic()
        before = sum(map(_cpu_seconds, family))
        time.sleep(idle_seconds)
        spent = sum(map(_cpu_seconds, family)) - before
        counted = {process.pid for process in [*family, *workers]}
        return Footprint(
            key=self.key,
            host_mib=_mib(host),
            host_children_mib=tuple(_mib(process) for process in family[1:]),
            web_workers_mib=tuple(_mib(process) for process in workers),
            others_mib={f"{_short(line)} [{p.pid}]": _mib(p) for p, line in named if p.pid not in counted},
            idle_seconds=idle_seconds,
            idle_host_percent=100 * spent / (time.monotonic() - begun),
        )

    def _all(self, count: int) -> list[str]:
        """Submit from several clients at once, then wait until the server has the last result. Returns the ids."""

        def lane(share: int) -> list[str]:
            with closing(Client(self._port, self._key)) as client:
                return [str(client.execute(0)["id"]) for _index in range(share)]

        shares = [share for start in range(CLIENTS) if (share := len(range(start, count, CLIENTS)))]
        with ThreadPoolExecutor(CLIENTS) as pool:
            lanes = list(pool.map(lane, shares))
        deadline = time.monotonic() + FINISH_SECONDS
        for ids in lanes:
            # The last of each client; they run in the order of the queue, so the rest has ended or is about to.
            while self._client.get(f"/sessions/{ids[-1]}", wait_seconds=WAIT_SECONDS)["status"] in OPEN:
                _assert_before(deadline)
        while any(self._client.get("/status")["sessions"].values()):
            _assert_before(deadline)
            time.sleep(0.005)
        return [identifier for ids in lanes for identifier in ids]

    def _assert_all_ran(self, identifiers: list[str]) -> None:
        """Read the list of sessions back, which is not measured: every one of these must have run."""
        wanted, cursor = set(identifiers), ""
        while wanted:
            page = self._client.get("/sessions", page_size=100, **({"cursor": cursor} if cursor else {}))
            for seen in page["results"]:
                if seen["id"] in wanted:
                    _assert_ran(seen)
                    wanted.remove(seen["id"])
            if not page["next"]:
                break
            (cursor,) = parse_qs(urlsplit(page["next"]).query)["cursor"]
        if wanted:
            raise PeerFailed(f"{len(wanted)} of {len(identifiers)} sessions are not in the list")

    def _answers(self) -> bool:
        try:
            self._client.get("/status")
        except (OSError, http.client.HTTPException):
            self._client.close()
            return False
        return True


def _assert_before(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise PeerFailed(f"not all sessions had ended {FINISH_SECONDS:.0f} s after the last was asked for")


def _assert_ran(seen: dict[str, Any]) -> None:
    if seen["status"] != "succeeded" or seen["exit_code"] != 0:
        raise PeerFailed(f"the session is {seen['status']}: {json.dumps(seen)[:800]}")


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / MIB


def _short(line: str) -> str:
    for name in ("qcluster", "gunicorn", "up"):
        if name in line.split() or name in line:
            return name
    return line.split(" ", maxsplit=1)[0]
