"""Requests repeated, throttled, capped and waited for; lists in pages; what the answer of each holds."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import connections
from django.utils import timezone

from audit.models import AuditEvent
from governance.policy.types import Maturity
from shellagent import waiting
from shellagent.links import card_url
from shellagent.models import IdempotencyKey, ShellSession
from shellagent.protocol import OutputSegment
from shellagent.services import Ask, Idempotency, idempotency_keys_retire, session_request
from shellagent.states import Status
from tests.shellagent.scene import ALLOWED, ASKED, Answer, Caller, Scene, report, reread, tags

SESSIONS = "/api/local-agent/sessions"


class TestIdempotency:
    def ask(self, scene: Scene, key: str = "one", command: str = "ls /tmp", **body: Any) -> Answer:
        caller = scene.as_agent(Maturity.AUTONOMOUS)
        return caller.post("/api/local-agent/execute", {"command": command, **body}, HTTP_IDEMPOTENCY_KEY=key)

    def test_the_same_again_gives_the_same_session_as_it_is_now(self, scene: Scene) -> None:
        first = self.ask(scene)
        assert "Idempotent-Replayed" not in first.headers
        scene.poll()
        again = self.ask(scene)
        assert (again.status, again.headers["Idempotent-Replayed"]) == (202, "true")
        assert (again.json["id"], again.json["status"]) == (first.json["id"], "claimed")
        assert ShellSession.objects.count() == 1

    def test_another_body_is_a_conflict(self, scene: Scene) -> None:
        self.ask(scene)
        answer = self.ask(scene, command="ls /")
        assert (answer.status, answer.problem, answer.json["next_action"]) == (409, "idempotency-conflict", "revise")
        assert self.ask(scene, timeout_seconds=7).status == 409
        assert ShellSession.objects.count() == 1

    def test_what_was_denied_is_denied_again(self, scene: Scene) -> None:
        caller = scene.as_agent(Maturity.STUDENT)
        body = {"command": "sudo reboot"}
        first = caller.post("/api/local-agent/execute", body, HTTP_IDEMPOTENCY_KEY="one")
        again = caller.post("/api/local-agent/execute", body, HTTP_IDEMPOTENCY_KEY="one")
        assert (again.status, again.problem) == (403, "denied")
        assert again.json["session_id"] == first.json["session_id"]
        assert again.headers["Idempotent-Replayed"] == "true"

    def test_what_expired_meanwhile_is_told_so(self, scene: Scene) -> None:
        first = self.ask(scene)
        ShellSession.objects.update(expires_at=timezone.now())
        again = self.ask(scene)
        assert (again.status, again.json["id"], again.json["status"]) == (200, first.json["id"], "expired")

    def test_a_refused_request_holds_no_key(self, scene: Scene) -> None:
        assert self.ask(scene, command="ls $(id)").status == 400
        assert not IdempotencyKey.objects.exists()
        assert self.ask(scene).status == 202

    def test_keys_are_each_callers_own(self, scene: Scene) -> None:
        self.ask(scene)
        other = scene.as_agent(Maturity.SUPERVISED).post(
            "/api/local-agent/execute", {"command": "ls /tmp"}, HTTP_IDEMPOTENCY_KEY="one"
        )
        assert "Idempotent-Replayed" not in other.headers
        assert ShellSession.objects.count() == 2

    def test_a_persons_key_is_for_one_agent(self, scene: Scene, requester: User) -> None:
        caller = Caller.logged_in(requester)
        for maturity, status in ((Maturity.STUDENT, 202), (Maturity.AUTONOMOUS, 409)):
            body = {"command": "ls /tmp", "agent_id": scene.agents[maturity].pk}
            answer = caller.post("/api/local-agent/execute", body, HTTP_IDEMPOTENCY_KEY="one")
            assert answer.status == status
        assert ShellSession.objects.count() == 1

    def test_a_day_later_it_is_a_new_request(self, scene: Scene) -> None:
        first = self.ask(scene)
        IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))
        assert self.ask(scene).json["id"] != first.json["id"]
        IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))
        assert idempotency_keys_retire() == 1
        assert idempotency_keys_retire() == 0

    def test_eight_at_once_make_one(self, own_scene: Scene) -> None:
        asker = own_scene.asker(Maturity.AUTONOMOUS)
        start = threading.Barrier(8)

        def ask(_number: int) -> tuple[str, bool]:
            try:
                start.wait(10)
                session, is_replay = session_request(
                    ask=Ask(command="ls /tmp"), asker=asker, idempotency=Idempotency("one", "a" * 64)
                )
                return str(session.pk), is_replay
            finally:
                connections.close_all()

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(8)))
        assert len({session_id for session_id, _is_replay in answers}) == 1
        assert sorted(is_replay for _id, is_replay in answers) == [False] + [True] * 7
        assert tags(ShellSession.objects.get()) == ["queued"]


class TestThrottles:
    def test_requests_a_minute(self, scene: Scene, settings: Any) -> None:
        settings.ATOM_EXECUTE_PER_MINUTE = 3
        caller = scene.as_agent(Maturity.AUTONOMOUS)
        answers = [caller.execute() for _ in range(5)]
        # The minute may turn in between; then the count begins anew.
        assert [answer.status for answer in answers[:3]] == [202] * 3
        refused = [answer for answer in answers if answer.status == 429]
        assert refused
        assert (refused[0].problem, refused[0].json["next_action"]) == ("throttled", "wait")
        assert 1 <= int(refused[0].headers["Retry-After"]) <= 60
        assert ShellSession.objects.count() == 5 - len(refused)
        assert scene.as_agent(Maturity.SUPERVISED).execute("ls /tmp").status == 202

    def test_what_waits_for_a_person(self, scene: Scene, settings: Any) -> None:
        settings.ATOM_PENDING_PER_AGENT = 2
        caller = scene.as_agent(Maturity.STUDENT)
        assert [caller.execute().status for _ in range(2)] == [202, 202]
        events = AuditEvent.objects.count()
        answer = caller.execute()
        assert (answer.status, answer.problem, answer.headers["Retry-After"]) == (429, "throttled", "30")
        assert (ShellSession.objects.count(), AuditEvent.objects.count()) == (2, events)
        # What is allowed, denied or past its time needs no room.
        assert caller.execute("sudo reboot").status == 403
        ShellSession.objects.filter(status=Status.PENDING).update(expires_at=timezone.now())
        assert caller.execute().status == 202


class TestWaiting:
    def test_a_result_ends_the_wait(self, own_scene: Scene) -> None:
        caller = own_scene.as_agent(Maturity.AUTONOMOUS)

        def work() -> None:
            try:
                while not (sessions := own_scene.poll().sessions):
                    time.sleep(0.02)
                own_scene.start(sessions[0].id)
                own_scene.record(report(ShellSession.objects.get(pk=sessions[0].id)))
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(work)
            began = time.monotonic()
            answer = caller.execute(wait_seconds=20)
            assert time.monotonic() - began < 10
            done.result()
        assert (answer.status, answer.json["status"], answer.json["stdout"]) == (200, "succeeded", "hi")
        assert (answer.json["exit_code"], answer.json["duration_seconds"]) == (0, 0.0012)

    def test_when_the_wait_is_over_it_is_no_error(self, scene: Scene) -> None:
        answer = scene.as_agent(Maturity.AUTONOMOUS).execute(wait_seconds=1)
        assert (answer.status, answer.json["status"], answer.json["next_action"]) == (202, "queued", "wait")

    def test_beyond_the_caps_the_answer_is_at_once(self, scene: Scene, settings: Any) -> None:
        settings.ATOM_WAITS_PER_KEY, settings.ATOM_WAITS_TOTAL = 1, 2
        session = scene.session()
        with waiting.place("one"):
            began = time.monotonic()
            assert waiting.session_wait(session, 20, waiter="one").status == Status.QUEUED
            with waiting.place("two"):
                assert waiting.session_wait(session, 20, waiter="three").status == Status.QUEUED
            assert time.monotonic() - began < 5
        assert not waiting._held

    def test_what_has_ended_is_not_waited_for(self, scene: Scene) -> None:
        session = scene.running()
        scene.record(report(session))
        answer = scene.as_agent(Maturity.AUTONOMOUS).get(f"{SESSIONS}/{session.pk}?wait_seconds=45")
        assert (answer.status, answer.json["status"]) == (200, "succeeded")


class TestLists:
    def test_pages_hold_each_session_once_newest_first(self, scene: Scene) -> None:
        made = [str(scene.session().pk) for _ in range(7)]
        caller = scene.as_agent(Maturity.AUTONOMOUS)
        seen: list[str] = []
        path = f"{SESSIONS}?page_size=3"
        while path:
            answer = caller.get(path).json
            seen += [item["id"] for item in answer["results"]]
            if len(seen) == 3:
                made.append(str(scene.session().pk))  # one that comes meanwhile disturbs no page
            path = (answer["next"] or "").removeprefix("http://testserver")
        assert seen == made[6::-1]

    def test_filters(self, scene: Scene) -> None:
        allowed, asked = scene.session(ALLOWED), scene.session(ASKED)
        caller = Caller.logged_in(User.objects.create_superuser("all"))
        hour = timedelta(hours=1)
        ShellSession.objects.filter(pk=asked.pk).update(created_at=asked.created_at - hour)
        when = (asked.created_at - hour / 2).isoformat().replace("+00:00", "Z")
        wanted = {
            "": {allowed, asked},
            "status=pending": {asked},
            "agent=autonomous": {allowed},
            f"agent={asked.agent_id}": {asked},
            "agent=nobody": set(),
            "host=here": {allowed, asked},
            f"host={scene.host.pk}&status=queued": {allowed},
            "category=read": {allowed, asked},
            "category=delete": set(),
            f"created_after={when}": {allowed},
            f"created_before={when}": {asked},
        }
        for query, sessions in wanted.items():
            found = {item["id"] for item in caller.get(f"{SESSIONS}?{query}").json["results"]}
            assert found == {str(item.pk) for item in sessions}, query

    def test_what_expired_is_told_so_on_reading(self, scene: Scene) -> None:
        queued, pending = scene.session(ALLOWED), scene.session(ASKED)
        ShellSession.objects.update(expires_at=timezone.now())
        shown = scene.as_agent(Maturity.AUTONOMOUS).get(f"{SESSIONS}/{queued.pk}").json
        assert (shown["status"], shown["next_action"], shown["expires_at"]) == ("expired", "none", None)
        assert reread(pending).status == Status.PENDING
        scene.as_agent(Maturity.STUDENT).get(SESSIONS)
        assert (tags(queued), tags(pending)) == (["queued", "expired"], ["pending", "expired"])


def test_a_pending_session_says_what_it_waits_for(scene: Scene, settings: Any) -> None:
    settings.ATOM_PUBLIC_URL = "https://atom.example"
    answer = scene.as_agent(Maturity.STUDENT).post(
        "/api/local-agent/execute", {"command": "ls /tmp", "reason": "to see"}, HTTP_X_FORWARDED_HOST="evil.example"
    )
    shown = answer.json
    assert (answer.status, shown["status"], shown["approval_required"]) == (202, "pending", True)
    assert shown["approve_url"] == card_url(UUID(shown["id"]))
    assert re.fullmatch(r"https://atom\.example/s/[0-9A-Za-z]{22}", shown["approve_url"])
    assert (shown["next_action"], shown["poll_after_seconds"], shown["reason"]) == ("wait", 5, "to see")
    assert shown["expires_at"]


def test_output_as_text_and_as_bytes(scene: Scene) -> None:
    session = scene.running()
    scene.record(report(session, output=(OutputSegment.of("stdout", 0, b"\xff\n"),)))
    caller = scene.as_agent(Maturity.AUTONOMOUS)
    assert caller.get(f"{SESSIONS}/{session.pk}").json["stdout"] == "\ufffd\n"
    assert caller.get(f"{SESSIONS}/{session.pk}?encoding=base64").json["stdout"] == "/wo="
    parts = caller.get(f"{SESSIONS}/{session.pk}/output").json
    assert parts["stdout"] == [{"offset": 0, "bytes": 2, "text": "\ufffd\n"}]
    assert (parts["finished"], parts["stderr"]) == (True, [])


def test_each_agent_has_a_scratch_folder_of_its_own(scene: Scene) -> None:
    for maturity in (Maturity.SUPERVISED, Maturity.AUTONOMOUS):
        scene.session((maturity, "ls"))
    granted = [[grant.path for grant in item.grants] for item in scene.poll().sessions]
    assert [paths[0] for paths in granted] == ["/scratch/supervised", "/scratch/autonomous"]
    assert not any("/scratch" in paths for paths in granted)
    asked = scene.session((Maturity.AUTONOMOUS, "cat /scratch/supervised/x"))
    assert asked.status == Status.PENDING
