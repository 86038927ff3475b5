"""The task queues: django-q2 on a database, Celery on Redis. Real workers, real brokers, one client process each."""

import importlib.util
import json
import subprocess
import sys

from bench.peers import Peer
from bench.services import Postgres, Redis
from bench.workspace import PeerFailed, Workspace, environment, is_listening, readline, run, watchdog

ANSWER_SECONDS = 60.0


class Driver:
    """The client process of a queue. It takes the time itself, so that this pipe is not in the figure."""

    def __init__(self, workspace: Workspace, module: str, env: dict[str, str], name: str) -> None:
        log = (workspace.path / f"{name}.log").open("ab")
        workspace.callback(log.close)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=environment(env),
            cwd=workspace.path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        workspace.callback(self._close)
        with watchdog(self._process, ANSWER_SECONDS):
            while self._readline() != "ready":
                continue

    def ask(self, request: str, seconds: float = ANSWER_SECONDS) -> float:
        """Send a request and return the seconds it took. Raises PeerFailed with the client's own words."""
        if self._process.stdin is None:
            raise PeerFailed("the driver has no standard input")
        try:
            self._process.stdin.write(f"{request}\n".encode())
            self._process.stdin.flush()
        except OSError as error:
            raise PeerFailed(f"the driver is gone: {error}") from error
        with watchdog(self._process, seconds):
            answer = json.loads(self._readline())
        if "error" in answer:
            raise PeerFailed(str(answer["error"]))
        return float(answer["seconds"])

    def _readline(self) -> str:
        if self._process.stdout is None:
            raise PeerFailed("the driver has no standard output")
        return readline(self._process.stdout)

    def _close(self) -> None:
        self._process.kill()
        self._process.communicate()


class QueuePeer(Peer):
    """A queue with a worker and a client, each a process of its own."""

    at_once = "its default workers"

    def __init__(self) -> None:
        self._driver: Driver | None = None

    def one(self) -> float:
        return self._client().ask("one")

    def many(self, count: int) -> float:
        return self._client().ask(f"many {count}", seconds=ANSWER_SECONDS + count / 5)

    def _client(self) -> Driver:
        if self._driver is None:
            raise PeerFailed("it was not started")
        return self._driver


class DjangoQ(QueuePeer):
    """django-q2 with its ORM broker, on SQLite or on PostgreSQL, at its defaults or tuned."""

    def __init__(self, database: str, postgres: Postgres, *, is_tuned: bool) -> None:
        super().__init__()
        self.database = database
        self.postgres = postgres
        self.is_tuned = is_tuned
        self.key = f"djangoq-{database}{'-tuned' if is_tuned else ''}"
        title = "SQLite" if database == "sqlite" else "PostgreSQL"
        if not is_tuned:
            # Its ORM broker polls every 0.2 s; once it holds its 250 results, each new one costs a deletion too.
            self.pause_seconds = 0.2
            self.warm_count = 300
        self.label = f"django-q2 on {title}, {'tuned' if is_tuned else 'its defaults'}"

    def missing(self) -> str | None:
        return None if self.database == "sqlite" else self.postgres.missing()

    def start(self, workspace: Workspace) -> None:
        folder = workspace.folder(self.key)
        if self.database == "sqlite":
            url = f"sqlite:///{folder / 'db.sqlite3'}"
        else:
            url = self.postgres.create(workspace, self.key.replace("-", "_"))
        env = {"PEER_DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "bench.projects.djangoq_settings"}
        if self.is_tuned:
            env["PEER_TUNED"] = "1"
        run([sys.executable, "-m", "django", "migrate", "-v", "0"], env=env, cwd=folder)
        argv = [sys.executable, "-m", "django", "qcluster"]
        self.worker = workspace.spawn(argv, name=self.key, env=env, cwd=folder)
        self._driver = Driver(workspace, "bench.projects.djangoq_drive", env, f"{self.key}-client")
        self.one()


class CeleryOnRedis(QueuePeer):
    """Celery at its defaults with Redis as broker and as the store of results."""

    key = "celery"
    label = "Celery on Redis"

    def __init__(self, redis: Redis) -> None:
        super().__init__()
        self.redis = redis

    def missing(self) -> str | None:
        if importlib.util.find_spec("celery") is None:
            return "celery is not installed (requirements-bench.txt)"
        return self.redis.missing()

    def start(self, workspace: Workspace) -> None:
        env = {"PEER_REDIS_URL": self.redis.start(workspace)}
        argv = [sys.executable, "-m", "celery", "-A", "bench.projects.celery_app", "worker", "--loglevel", "WARNING"]
        folder = workspace.folder(self.key)
        self.worker = workspace.spawn(argv, name=self.key, env=env, cwd=folder)
        self.worker.wait_for(lambda: is_listening(self.redis.port), seconds=10)
        self._driver = Driver(workspace, "bench.projects.celery_drive", env, f"{self.key}-client")
        self.one()
