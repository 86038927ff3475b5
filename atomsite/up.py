"""Start web server, worker and local agent under one process, as `manage.py up` does."""

import errno
import fcntl
import http.client
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from atomsite.console import Console
from atomsite.home import Home
from atomsite.supervise import Child, GaveUp, Service, StopRequested, Supervisor

HEALTHY_WITHIN_SECONDS: Final = 60.0
EXIT_HURRIED: Final = 130
EXIT_GAVE_UP: Final = 70
#: The local agent's own: ended in order, key refused, another instance holds the key (docs/reference/commands.md).
AGENT_FINAL_CODES: Final = frozenset({0, 3, 4})


class CannotStartError(Exception):
    """Nothing was started, and the message says what is in the way."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start, and where. `url` is the address that people and the local agent use."""

    home: Home
    directory: Path
    bind: str
    port: int
    url: str
    concurrency: int = 2
    has_worker: bool = True
    has_agent: bool = True
    has_tour: bool = True
    #: The worker's queue, where it is not in the database.
    redis_url: str = ""

    def services(self) -> tuple[Service, ...]:
        """Return what to start after the web server answers, in order; the last one started is the first to stop."""
        manage = (sys.executable, str(self.directory / "manage.py"))
        services = []
        if self.has_worker:
            services.append(Service("worker", (*manage, "qcluster"), rungs=((signal.SIGTERM, 10.0),)))
        if self.has_agent:
            options = ("--concurrency", str(self.concurrency), "--state-dir", str(self.home.host_state))
            services.append(
                Service(
                    "agent",
                    (*manage, "runlocalagent", "--backend-url", self.url, *options),
                    # The first TERM lets running commands end, the second aborts them.
                    rungs=((signal.SIGTERM, 30.0), (signal.SIGTERM, 15.0)),
                    final_codes=AGENT_FINAL_CODES,
                )
            )
        return tuple(services)

    def web(self) -> Service:
        """Return the web server. gunicorn.conf.py holds its settings."""
        options = ("-c", str(self.directory / "gunicorn.conf.py"), "--chdir", str(self.directory))
        argv = (sys.executable, "-m", "gunicorn", *options, "atomsite.asgi:application")
        return Service("web", argv, rungs=((signal.SIGTERM, 10.0),))

    def tour(self) -> Service:
        """Return the tour of the first start."""
        argv = (sys.executable, str(self.directory / "manage.py"), "tour", "--first")
        return Service("tour", argv, rungs=((signal.SIGTERM, 2.0),), is_once=True)

    def environment(self) -> dict[str, str]:
        """Return the environment of what is started: ours, with the address settled."""
        # glibc gives each thread an arena of its own, up to eight a core; a web server of 32 threads would hold on to
        # many times the memory that it uses.
        common = {"MALLOC_ARENA_MAX": "2"}
        own = {"ATOM_HOME": str(self.home.path), "ATOM_BIND": self.bind, "PORT": str(self.port), "ATOM_URL": self.url}
        return {**common, **os.environ, **own, "PYTHONUNBUFFERED": "1"}


def check_port(bind: str, port: int) -> None:
    """Raise CannotStartError where the address cannot be listened on, or where someone else's `localhost` is there."""
    addresses = {bind, "::1"} if bind in ("127.0.0.1", "localhost") else {bind}
    for address in sorted(addresses):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
        except PermissionError:
            raise CannotStartError(
                f"Port {port} needs root. Choose one from 1024 up: make run PORT={port + 8000}"
            ) from None
        except OSError as error:
            if address == "::1" and error.errno != errno.EADDRINUSE:
                continue  # no IPv6 here
            if error.errno == errno.EADDRINUSE:
                raise CannotStartError(
                    f"Port {port} on {address} is taken by another program. "
                    f"Stop it, or choose another port: make run PORT={port + 1000 if port < 64000 else 8000}"
                ) from None
            raise CannotStartError(f"Cannot listen on {address}:{port}: {error.strerror}.") from None


def check_redis(url: str) -> None:
    """Raise CannotStartError where the worker's queue cannot be used."""
    # Only who has a REDIS_URL needs it.
    import redis  # noqa: PLC0415

    try:
        with redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise CannotStartError(f"Redis, which REDIS_URL names, cannot be used: {error}") from None


@contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Hold the folder's lock. Raises CannotStartError where another `up` runs from this folder."""
    with home.lock.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.seek(0)
            pid = stream.read().strip() or "unknown"
            raise CannotStartError(
                f"Atom Local Agent runs from {home.path} already (process {pid}). Stop it, or name another ATOM_HOME."
            ) from None
        stream.seek(0)
        stream.truncate()
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


def is_healthy(address: str, port: int) -> bool:
    """Return whether a web server answers there without an error of its own."""
    connection = http.client.HTTPConnection("127.0.0.1" if address == "0.0.0.0" else address, port, timeout=2)  # noqa: S104
    try:
        connection.request("GET", "/admin/login/", headers={"Host": f"localhost:{port}"})
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def run(plan: Plan, console: Console) -> int:
    """Start everything, keep it going until a stop is wished for, and return the exit code. Raises CannotStartError."""
    with only_one(plan.home):
        check_port(plan.bind, plan.port)
        if plan.redis_url and plan.has_worker:
            check_redis(plan.redis_url)
        supervisor = Supervisor(console, environment=plan.environment(), directory=plan.directory)
        code = 0
        with supervisor:
            try:
                _start(plan, supervisor, console)
                supervisor.wait()
            except StopRequested:
                console.say("Stopping: the local agent ends its running commands first. Ctrl-C again kills.")
            except GaveUp as end:
                console.say(f"Giving up: {end}.")
                code = EXIT_GAVE_UP
        console.say("Stopped." if not supervisor.was_hurried else "Killed.")
        return EXIT_HURRIED if supervisor.was_hurried else code


def _start(plan: Plan, supervisor: Supervisor, console: Console) -> None:
    web = supervisor.start(plan.web())
    if not supervisor.wait(
        until=lambda: web.is_running and is_healthy(plan.bind, plan.port), seconds=HEALTHY_WITHIN_SECONDS
    ):
        raise GaveUp(f"the web server did not answer on {plan.url} within {HEALTHY_WITHIN_SECONDS:.0f} s")
    children = [web, *(supervisor.start(service) for service in plan.services())]
    console.report({"url": plan.url, "pids": {child.service.name: child.process.pid for child in children}})
    if plan.has_tour and plan.has_agent:
        console.hold()
        try:
            tour: Child = supervisor.start(plan.tour())
            supervisor.wait(until=lambda: tour.exit_code is not None)
        finally:
            console.release()
    console.say(f"Atom Local Agent is at {plan.url} and stops with Ctrl-C.")
