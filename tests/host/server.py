"""A small real HTTP server that speaks the host's protocol, for tests without a database. What it does can be bent."""

import json
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from governance.policy.plan import Plan
from shellagent import protocol
from shellagent.protocol import Assignment, GrantStatus, PathGrant
from shellagent.signing import Signer, Start, new_private_key

HOST_ID = "7"
KEY = "ath_test"

Answer = tuple[int, object]
#: Takes the parsed body; returns an answer to give in place of the usual one, or None.
Bend = Callable[[dict[str, Any]], Answer | None]


def assignment(
    *argv: str,
    directory: str = "",
    grants: tuple[PathGrant, ...] = (),
    obligations: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    timeout: int = 30,
    plan: Plan | None = None,
) -> Assignment:
    """Return a session whose digest is right."""
    plan = plan or Plan.simple(*argv)
    digest = protocol.session_digest(
        plan=plan,
        working_directory=directory,
        host_id=HOST_ID,
        env=env or {},
        timeout_seconds=timeout,
        grants=grants,
        obligations=obligations,
    )
    return Assignment(
        id=str(uuid.uuid4()),
        digest=digest,
        plan=plan.to_json(),
        working_directory=directory,
        env=env or {},
        timeout_seconds=timeout,
        grants=grants,
        obligations=obligations,
        protected=(),
    )


class StubServer:
    """The server's side of the protocol, in memory. `bend` replaces answers, `lose` drops those that took effect."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.queue: list[Assignment] = []
        self.claims: dict[str, list[Assignment]] = {}
        self.started: dict[str, str] = {}
        self.records: dict[str, dict[str, Any]] = {}
        self.record_calls: list[list[str]] = []
        self.output: dict[str, dict[str, bytearray]] = defaultdict(
            lambda: {"stdout": bytearray(), "stderr": bytearray()}
        )
        self.tails: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.cancels: dict[str, protocol.CancelOrder] = {}
        self.desired = protocol.Desired.RUNNING
        self.audit = "ok"
        self.signer = Signer(new_private_key())
        self.server_keys: tuple[protocol.ServerKey, ...] = (protocol.ServerKey(self.signer.public_key),)
        self.polls: list[dict[str, Any]] = []
        self.calls: list[str] = []
        #: The Idempotency-Key of each call.
        self.idempotency_keys: list[str | None] = []
        #: What the server knows of the host.
        self.status: dict[str, Any] = {"online": True}
        #: Whether what is claimed is started with the claim, as a host asks for with a start key.
        self.starts_with_the_claim = False
        self._bends: dict[str, list[Bend]] = defaultdict(list)
        self._losses: dict[str, int] = defaultdict(int)
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self._thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and let held polls go."""
        self.http.shutdown()
        self.http.server_close()
        with self.changed:
            self.changed.notify_all()

    def bend(self, path: str, *bends: Bend) -> None:
        """Use each of `bends` for one call of `path`, in order."""
        self._bends[path].extend(bends)

    def straighten(self, *paths: str) -> None:
        """Forget what `bend` said of these paths."""
        for path in paths:
            self._bends.pop(path, None)

    def lose(self, path: str, times: int = 1) -> None:
        """Let the next calls of `path` take effect, and then close the connection in place of an answer."""
        self._losses[path] += times

    def submit(self, *assignments: Assignment) -> None:
        """Queue sessions."""
        with self.changed:
            self.queue.extend(assignments)
            self.changed.notify_all()

    def cancel(self, session_id: str, *, reason: str = "cancel", grace_seconds: int = 1) -> None:
        """Order the end of a running session."""
        with self.changed:
            self.cancels[session_id] = protocol.CancelOrder(session_id, reason, grace_seconds)
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait until a condition is true, of this server or of anything else."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"did not come; calls: {self.calls[-20:]}"
            with self.changed:
                self.changed.wait(0.02)

    def result(self, session_id: str, seconds: float = 10.0) -> dict[str, Any]:
        """Return a session's record, once it has come."""
        self.wait_for(lambda: session_id in self.records, seconds)
        return self.records[session_id]

    def answer(self, path: str, key: str, body: dict[str, Any]) -> tuple[Answer, bool]:
        """Return what to answer, and whether the answer is to be lost."""
        with self.changed:
            self.calls.append(path)
            self.changed.notify_all()
            bends = self._bends.get(path)
            bent = bends.pop(0)(body) if bends else None
        if bent is not None:
            return bent, self._is_lost(path)
        if key != KEY:
            return (401, {"title": "Unauthorised", "detail": "This key is not known."}), False
        return self._usual(path, body), self._is_lost(path)

    def _is_lost(self, path: str) -> bool:
        with self.changed:
            is_lost = self._losses[path] > 0
            self._losses[path] -= is_lost
            self.changed.notify_all()
        return is_lost

    def _usual(self, path: str, body: dict[str, Any]) -> Answer:
        if path == "/api/host/poll":
            return 200, self._poll(body)
        if path == "/api/host/status":
            return 200, dict(self.status)
        if path == "/api/host/start":
            return 200, {"v": 1, "grants": [self._grant(start) for start in body["starts"]]}
        if path == "/api/shell/log":
            return 200, {"v": 1, "statuses": {record["id"]: self._record(record) for record in body["records"]}}
        if path.endswith("/output"):
            return self._output(path.split("/")[-2], body)
        return 404, {"title": "Not found", "detail": f"No such path: {path}"}

    def _poll(self, body: dict[str, Any]) -> dict[str, Any]:
        def cancels() -> list[protocol.CancelOrder]:
            return [
                order for item, order in self.cancels.items() if item in body["running"] and item not in self.records
            ]

        with self.changed:
            self.polls.append(body)
            self.changed.notify_all()
            may_claim = body["free_slots"] > 0 and self.desired == protocol.Desired.RUNNING
            before = self.desired
            self.changed.wait_for(
                lambda: (
                    cancels()
                    or (may_claim and (self.queue or body["claim_key"] in self.claims))
                    or self.desired != before
                ),
                min(body["hold_seconds"], 20),
            )
            sessions = self.claims.get(body["claim_key"], []) if may_claim else []
            if may_claim and not sessions and self.queue:
                sessions = self.queue[: body["free_slots"]]
                del self.queue[: len(sessions)]
                self.claims[body["claim_key"]] = sessions
            answer = protocol.PollAnswer(
                1,
                self.desired,
                self.audit,
                tuple(cancels()),
                tuple(sessions),
                body["hold_seconds"],
                HOST_ID,
                self.server_keys,
            )
        encoded: dict[str, Any] = protocol.encode(answer)
        if self.starts_with_the_claim:
            starts = [{"id": one.id, "start_key": body["start_key"], "digest": one.digest} for one in sessions]
            encoded["grants"] = [self._grant(start) for start in starts]
        return encoded

    def _grant(self, start: dict[str, Any]) -> dict[str, Any]:
        with self.changed:
            key = self.started.setdefault(start["id"], start["start_key"])
        status = GrantStatus.GRANTED if key == start["start_key"] else GrantStatus.ALREADY_GRANTED
        signature = self.signer.granted(Start(start["id"], start["start_key"], start["digest"], 310), host_id=HOST_ID)
        grant = protocol.StartGrant(start["id"], status, 310, key=self.signer.public_key, signature=signature)
        encoded: dict[str, Any] = protocol.encode(grant)
        return encoded

    def _record(self, record: dict[str, Any]) -> str:
        report = protocol.decode(protocol.ExecutionReport, record)
        with self.changed:
            self.record_calls.append([record["id"]])
            known = self.records.get(report.id)
            if known is not None:
                return "known" if known == record else "conflict"
            for segment in report.output:
                self._store(report.id, segment)
            self.records[report.id] = record
            self.changed.notify_all()
        return "recorded"

    def _output(self, session_id: str, body: dict[str, Any]) -> Answer:
        request = protocol.decode(protocol.OutputRequest, body)
        with self.changed:
            if session_id in self.records or self.started.get(session_id) != request.start_key:
                return 409, {"title": "Conflict", "detail": "Its output is closed."}
            ends = {stream: len(data) for stream, data in self.output[session_id].items()}
            for segment in request.segments:
                if segment.offset > ends[segment.stream] and not segment.is_tail:
                    return 409, {"title": "Conflict", "detail": "A gap.", "expected_offset": ends}
                self._store(session_id, segment)
                ends = {stream: len(data) for stream, data in self.output[session_id].items()}
            self.changed.notify_all()
        return 200, {"next_offset": ends}

    def _store(self, session_id: str, segment: protocol.OutputSegment) -> None:
        if segment.is_tail:
            self.tails[session_id][segment.stream] = self.tails[session_id].get(segment.stream, b"") + segment.content()
            return
        data = self.output[session_id][segment.stream]
        assert segment.offset == len(data), f"an overlap or a gap at {segment.offset}, {len(data)} are here"
        data += segment.content()


def _handler(server: StubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body leave as one packet; two would wait for each other.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            server.idempotency_keys.append(self.headers.get("Idempotency-Key"))
            (status, content), is_lost = server.answer(self.path.partition("?")[0], key, body)
            if is_lost:
                self.close_connection = True
                self.connection.close()
                return
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()

        do_GET = do_POST  # noqa: N815 - the base class looks for this name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
            """Say nothing."""

    return Handler
