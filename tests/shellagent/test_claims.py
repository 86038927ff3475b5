"""A host's side: claims, starts, leases, records and output."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from audit.models import AuditEvent
from audit.tags import Tag
from audit.trail import SYSTEM
from governance.errors import ConflictError, InvalidError, NotFoundError
from governance.policy.plan import Plan
from shellagent import limits, protocol
from shellagent.errors import InstanceError
from shellagent.host.journal import WAITING_LIMIT
from shellagent.models import ExecutionRecord, Host, ServerStart, ShellSession
from shellagent.protocol import (
    Desired,
    GrantStatus,
    OutputRequest,
    OutputSegment,
    Reason,
    RunOutcome,
    Start,
    StartRequest,
)
from shellagent.representation import session_json
from shellagent.services import (
    host_set_desired,
    leases_tidy,
    output_append,
    output_of,
    session_cancel,
    sessions_start,
)
from shellagent.states import Status
from tests.shellagent.scene import INSTANCE, Scene, enrolled, report, reread, tags


def lease_ends(session: ShellSession, seconds_ago: float) -> None:
    ShellSession.objects.filter(pk=session.pk).update(lease_expires_at=timezone.now() - timedelta(seconds=seconds_ago))


def server_started(seconds_ago: float) -> None:
    ServerStart.objects.all().delete()
    ServerStart.objects.create(started_at=timezone.now() - timedelta(seconds=seconds_ago))


class TestClaim:
    def test_the_queue_is_first_come_first_served_and_by_free_slots(self, scene: Scene) -> None:
        sessions = [scene.session() for _ in range(5)]
        first = scene.poll(free_slots=2)
        second = scene.poll(free_slots=8)
        assert [item.id for item in (*first.sessions, *second.sessions)] == [str(item.pk) for item in sessions]
        assert len(first.sessions) == 2
        assert all(tags(item) == ["queued", "claimed"] for item in sessions)

    def test_the_same_claim_key_gets_the_same_sessions(self, scene: Scene) -> None:
        scene.session()
        first = scene.poll(claim_key="one", free_slots=1)
        scene.session()
        assert scene.poll(claim_key="one", free_slots=1).sessions == first.sessions
        assert scene.poll(claim_key="two").sessions != first.sessions

    @pytest.mark.parametrize("free_slots", [0, -1])
    def test_without_a_free_slot_nothing_is_claimed(self, scene: Scene, free_slots: int) -> None:
        session = scene.session()
        assert scene.poll(free_slots=free_slots).sessions == ()
        assert reread(session).status == Status.QUEUED

    def test_a_stopped_host_polls_and_claims_nothing(self, scene: Scene) -> None:
        scene.session()
        host_set_desired(host=scene.host, desired=Desired.STOPPED, actor=SYSTEM)
        answer = scene.poll()
        assert (answer.desired_state, answer.sessions) == (Desired.STOPPED, ())
        host_set_desired(host=scene.host, desired=Desired.RUNNING, actor=SYSTEM)
        assert len(scene.poll().sessions) == 1

    def test_a_host_claims_only_its_own(self, scene: Scene) -> None:
        session = scene.session()
        other, _key = enrolled("other")
        assert Scene(scene.owner, other, "").poll().sessions == ()
        assert reread(session).status == Status.QUEUED

    def test_what_expired_in_the_queue_is_not_claimed(self, scene: Scene) -> None:
        session = scene.session()
        ShellSession.objects.filter(pk=session.pk).update(expires_at=timezone.now())
        assert scene.poll().sessions == ()

    def test_an_assignment_has_all_that_the_digest_is_of(self, scene: Scene) -> None:
        session = scene.session(env={"NAME": "value"}, timeout_seconds=7)
        (assignment,) = scene.poll().sessions
        assert assignment.timeout_seconds == 7
        assert assignment.env == {"NAME": "value"}
        assert (
            assignment.digest
            == session.digest
            == protocol.session_digest(
                plan=Plan.from_json(assignment.plan),
                working_directory=assignment.working_directory,
                host_id=str(scene.host.pk),
                env=assignment.env,
                timeout_seconds=assignment.timeout_seconds,
                grants=assignment.grants,
                obligations=assignment.obligations,
            )
        )

    def test_a_second_process_with_the_same_key_is_refused_while_the_first_lives(self, scene: Scene) -> None:
        scene.poll()
        with pytest.raises(InstanceError):
            scene.poll(instance_id="instance-2")
        assert AuditEvent.objects.filter(tag=Tag.HOST_INSTANCE_REFUSED).count() == 1
        Host.objects.update(last_seen_at=timezone.now() - timedelta(seconds=limits.OFFLINE_SECONDS + 1))
        scene.poll(instance_id="instance-2")
        assert Host.objects.get(pk=scene.host.pk).instance_id == "instance-2"


class TestStart:
    def test_the_same_key_is_granted_again_and_any_other_is_not(self, scene: Scene) -> None:
        session = scene.claimed()
        grant = scene.start(session.pk, "one")
        assert (grant.status, grant.deadline_seconds) == (GrantStatus.GRANTED, session.timeout_seconds + 10)
        assert scene.start(session.pk, "one") == grant
        assert scene.start(session.pk, "two").status == GrantStatus.ALREADY_GRANTED
        assert tags(session) == ["queued", "claimed", "running"]

    def test_two_keys_in_one_call_grant_one(self, scene: Scene) -> None:
        session = scene.claimed()
        starts = tuple(Start(str(session.pk), key, session.digest) for key in ("one", "two"))
        answer = sessions_start(host=scene.host, request=StartRequest(1, INSTANCE, starts))
        assert [grant.status for grant in answer.grants] == [GrantStatus.GRANTED]
        assert reread(session).start_key == "one"
        assert scene.start(session.pk, "one").status == GrantStatus.GRANTED
        assert tags(session) == ["queued", "claimed", "running"]

    def test_a_cancelled_one_says_so(self, scene: Scene) -> None:
        session = scene.claimed()
        session_cancel(session=session, actor=SYSTEM)
        assert scene.start(session.pk).status == GrantStatus.CANCELLED

    @pytest.mark.parametrize("kind", ["queued", "ended", "unknown", "no id", "another host's"])
    def test_what_is_not_claimed_by_this_host_is_stale(self, scene: Scene, kind: str) -> None:
        session = scene.session() if kind == "queued" else scene.running()
        if kind == "ended":
            scene.record(report(session))
        other = Scene(scene.owner, enrolled("other")[0], "") if kind == "another host's" else scene
        session_id = {"unknown": str(uuid4()), "no id": "rather not"}.get(kind, str(session.pk))
        before = tags(session)
        assert other.start(session_id, digest=session.digest).status == GrantStatus.STALE_DECISION
        assert tags(session) == before


class TestCancel:
    @pytest.mark.parametrize("kind", ["queued", "claimed"])
    def test_before_the_start_it_is_over_at_once(self, scene: Scene, kind: str) -> None:
        session = scene.session() if kind == "queued" else scene.claimed()
        assert session_cancel(session=session, actor=SYSTEM).status == Status.CANCELLED
        assert session_cancel(session=session, actor=SYSTEM).status == Status.CANCELLED
        assert tags(session)[-1:] == ["cancelled"]
        assert tags(session).count("cancelled") == 1

    def test_while_it_runs_the_host_is_told(self, scene: Scene) -> None:
        session = scene.running()
        assert session_cancel(session=session, actor=SYSTEM).status == Status.RUNNING
        assert session_cancel(session=session, actor=SYSTEM).status == Status.RUNNING
        (order,) = scene.poll(running=(session.pk,)).cancel
        assert (order.id, order.reason, order.grace_seconds) == (str(session.pk), "cancel", limits.GRACE_SECONDS)
        assert scene.poll().cancel == ()
        scene.record(report(session, RunOutcome.ABORTED, reason=Reason.CANCEL))
        assert tags(session) == ["queued", "claimed", "running", "cancel_requested", "aborted"]


class TestRecord:
    @pytest.mark.parametrize(
        "outcome", [RunOutcome.SUCCEEDED, RunOutcome.FAILED, RunOutcome.TIMED_OUT, RunOutcome.ABORTED, RunOutcome.LOST]
    )
    def test_each_end(self, scene: Scene, outcome: RunOutcome) -> None:
        session = scene.running()
        assert scene.record(report(session, outcome, exit_codes=(3,))) == {str(session.pk): "recorded"}
        after = reread(session)
        assert (after.status, after.exit_code) == (outcome.value, 3)
        assert after.finished_at is not None
        assert tags(session) == ["queued", "claimed", "running", outcome.value]
        assert output_of(session.pk) == {"stdout": [(0, b"hi")], "stderr": []}

    def test_a_plan_has_the_exit_code_of_its_last_step_that_ran(self, scene: Scene) -> None:
        session = scene.running()
        scene.record(report(session, RunOutcome.FAILED, exit_codes=(0, 5, 0, None), steps=(5, None)))
        shown = session_json(reread(session))
        assert (shown["exit_code"], shown["exit_codes"]) == (5, [0, 5, 0, None])
        (event,) = AuditEvent.objects.filter(session_id=session.pk, tag="session:failed")
        data = json.loads(event.body)["data"]
        assert (data["exit_codes"], data["steps"]) == ([0, 5, 0, None], [5, None])

    def test_a_refusal_comes_before_the_start(self, scene: Scene) -> None:
        session = scene.claimed()
        refusal = report(session, RunOutcome.REFUSED, reason=Reason.HOST_CEILING, exit_codes=(), output=())
        assert scene.record(refusal) == {str(session.pk): "recorded"}
        assert tags(session) == ["queued", "claimed", "refused"]

    def test_the_same_again_is_known_and_another_is_a_conflict(self, scene: Scene) -> None:
        session = scene.running()
        said = report(session)
        scene.record(said)
        assert scene.record(said) == {str(session.pk): "known"}
        assert scene.record(report(session, exit_codes=(1,))) == {str(session.pk): "conflict"}
        assert ExecutionRecord.objects.get(session=session).exit_codes == [0]
        assert tags(session) == ["queued", "claimed", "running", "succeeded", "record_conflict"]

    def test_the_same_twice_in_one_call_is_kept_once(self, scene: Scene) -> None:
        session = scene.running()
        said = report(session)
        assert scene.record(said, said) == {str(session.pk): "known"}
        assert scene.record(report(session, exit_codes=(1,)), said)[str(session.pk)] == "known"
        assert ExecutionRecord.objects.filter(session=session).count() == 1
        assert tags(session).count("succeeded") == 1

    def test_two_that_differ_in_one_call_keep_the_first(self, scene: Scene) -> None:
        session = scene.running()
        assert scene.record(report(session), report(session, exit_codes=(1,))) == {str(session.pk): "conflict"}
        assert ExecutionRecord.objects.get(session=session).exit_codes == [0]

    def test_a_late_one_stays_beside_the_lost_session(self, scene: Scene) -> None:
        session = scene.running()
        server_started(seconds_ago=3600)
        lease_ends(session, limits.LOST_AFTER_SECONDS + 1)
        assert leases_tidy() == (1, 0)
        said = report(session)
        assert scene.record(said) == {str(session.pk): "late"}
        assert scene.record(said) == {str(session.pk): "known"}
        assert scene.record(report(session, exit_codes=(1,))) == {str(session.pk): "conflict"}
        assert ExecutionRecord.objects.get(session=session).is_late
        assert reread(session).status == Status.LOST
        assert tags(session) == ["queued", "claimed", "running", "lost", "late_result", "record_conflict"]

    @pytest.mark.parametrize("changes", [{"start_key": "another"}, {"start_key": ""}])
    def test_only_who_was_granted_the_start_may_record(self, scene: Scene, changes: dict[str, Any]) -> None:
        session = scene.running()
        assert scene.record(report(session, **changes)) == {str(session.pk): "conflict"}
        assert reread(session).status == Status.RUNNING

    def test_nothing_is_recorded_before_the_start(self, scene: Scene) -> None:
        session = scene.claimed()
        assert scene.record(report(session)) == {str(session.pk): "conflict"}
        assert reread(session).status == Status.CLAIMED

    def test_what_was_lost_before_its_start_waits_again_at_once(self, scene: Scene) -> None:
        session = scene.claimed(timeout_seconds=7)
        lost = report(session, RunOutcome.LOST, start_key="never granted", reason=Reason.AGENT_RESTART, exit_codes=())
        other = report(session, RunOutcome.LOST, start_key="never granted", exit_codes=())
        assert scene.record(lost, lost) == {str(session.pk): "known"}
        after = reread(session)
        assert (after.status, after.claim_key, after.lease_expires_at) == (Status.QUEUED, "", None)
        assert session.expires_at is not None
        assert after.expires_at is not None
        assert after.expires_at > session.expires_at
        event = AuditEvent.objects.get(session_id=session.pk, session_seq=after.event_seq)
        assert (event.tag, event.actor_type) == ("session:queued", "host")
        assert "before the start was granted" in event.body
        # The answer may have been lost: the same again, or the word of another crash, changes nothing.
        for again in (lost, other):
            assert scene.record(again) == {str(session.pk): "requeued"}
        assert not ExecutionRecord.objects.exists()
        assert tags(session) == ["queued", "claimed", "queued"]
        (again_claimed,) = scene.poll(claim_key="after the crash").sessions
        assert (again_claimed.id, again_claimed.timeout_seconds) == (str(session.pk), 7)
        assert scene.start(session.pk).status == protocol.GrantStatus.GRANTED
        assert scene.record(other) == {str(session.pk): "conflict"}
        assert reread(session).status == Status.RUNNING

    def test_two_words_of_a_loss_in_one_call(self, scene: Scene) -> None:
        session = scene.claimed()
        one, two = (report(session, RunOutcome.LOST, start_key=key, exit_codes=()) for key in ("one", "two"))
        assert scene.record(one, two) == {str(session.pk): "conflict"}
        assert reread(session).status == Status.QUEUED

    def test_another_hosts_session_is_unknown(self, scene: Scene) -> None:
        session = scene.running()
        other = Scene(scene.owner, enrolled("other")[0], "")
        assert other.record(report(session), report(session, id="rather not")) == {
            str(session.pk): "unknown",
            "rather not": "unknown",
        }
        assert tags(session) == ["queued", "claimed", "running"]


class TestOutput:
    def append(self, scene: Scene, session: ShellSession, *segments: OutputSegment, start_key: str = "start-1") -> Any:
        return output_append(host=scene.host, session_id=session.pk, request=OutputRequest(1, start_key, segments))

    def test_by_offset_and_again(self, scene: Scene) -> None:
        session = scene.running()
        part = OutputSegment.of("stdout", 0, b"hello ")
        assert self.append(scene, session, part) == {"stdout": 6, "stderr": 0}
        assert self.append(scene, session, part) == {"stdout": 6, "stderr": 0}
        assert self.append(scene, session, OutputSegment.of("stdout", 6, b"there")) == {"stdout": 11, "stderr": 0}
        tail = OutputSegment.of("stdout", 100, b"end", is_tail=True)
        assert self.append(scene, session, tail, OutputSegment.of("stderr", 0, b"!")) == {"stdout": 103, "stderr": 1}
        assert output_of(session.pk)["stdout"] == [(0, b"hello "), (6, b"there"), (100, b"end")]

    def test_a_part_that_overlaps_is_kept_once(self, scene: Scene) -> None:
        session = scene.running()
        self.append(scene, session, OutputSegment.of("stdout", 0, b"hello "))
        assert self.append(scene, session, OutputSegment.of("stdout", 3, b"lo there")) == {"stdout": 11, "stderr": 0}
        assert b"".join(data for _offset, data in output_of(session.pk)["stdout"]) == b"hello there"

    def test_a_gap_names_the_offset_that_is_expected(self, scene: Scene) -> None:
        session = scene.running()
        with pytest.raises(ConflictError) as caught:
            self.append(scene, session, OutputSegment.of("stdout", 6, b"there"))
        assert caught.value.extra == {"expected_offset": {"stdout": 0, "stderr": 0}}

    def test_only_with_the_start_key_and_while_it_runs(self, scene: Scene) -> None:
        session = scene.running()
        part = OutputSegment.of("stdout", 0, b"x")
        with pytest.raises(ConflictError):
            self.append(scene, session, part, start_key="another")
        with pytest.raises(InvalidError):
            self.append(scene, session, OutputSegment.of("stdlog", 0, b"x"))
        with pytest.raises(NotFoundError):
            self.append(Scene(scene.owner, enrolled("other")[0], ""), session, part)
        scene.record(report(session, output=()))
        with pytest.raises(ConflictError):
            self.append(scene, session, part)
        assert output_of(session.pk) == {"stdout": [], "stderr": []}


class TestLeases:
    def test_a_poll_renews_what_runs(self, scene: Scene) -> None:
        session = scene.running()
        lease_ends(session, seconds_ago=5)
        scene.poll(running=(session.pk,), free_slots=0)
        renewed = reread(session).lease_expires_at
        assert renewed is not None
        assert renewed > timezone.now() + timedelta(seconds=limits.LEASE_RENEW_SECONDS)
        # One that has most of its time left is not written again.
        scene.poll(running=(session.pk,), free_slots=0)
        assert reread(session).lease_expires_at == renewed

    def test_a_poll_renews_among_as_many_as_a_full_journal_holds(self, scene: Scene) -> None:
        session = scene.running()
        lease_ends(session, seconds_ago=5)
        scene.poll(running=(*(uuid4() for _ in range(WAITING_LIMIT)), session.pk), free_slots=0)
        assert reread(session).lease_expires_at > timezone.now()  # type: ignore[operator]

    def test_another_host_renews_nothing(self, scene: Scene) -> None:
        session = scene.running()
        lease_ends(session, seconds_ago=5)
        Scene(scene.owner, enrolled("other")[0], "").poll(running=(session.pk,))
        assert reread(session).lease_expires_at < timezone.now()  # type: ignore[operator]

    def test_silence_loses_what_runs_and_queues_again_what_never_started(self, scene: Scene) -> None:
        server_started(seconds_ago=3600)
        running, claimed = scene.running(), scene.claimed()
        lease_ends(running, limits.LOST_AFTER_SECONDS - 5)
        lease_ends(claimed, seconds_ago=1)
        assert leases_tidy() == (0, 1)
        lease_ends(running, limits.LOST_AFTER_SECONDS + 5)
        assert leases_tidy() == (1, 0)
        assert leases_tidy() == (0, 0)
        lost = reread(running)
        assert (lost.status, lost.termination_reason) == (Status.LOST, "lost")
        assert lost.finished_at is not None
        assert tags(running) == ["queued", "claimed", "running", "lost"]
        assert tags(claimed) == ["queued", "claimed", "queued"]
        # Another claim, by the same host after its restart, gets it.
        assert [item.id for item in scene.poll().sessions] == [str(claimed.pk)]
        assert scene.start(claimed.pk).status == GrantStatus.GRANTED

    def test_no_lease_dies_within_a_minute_of_the_servers_start(self, scene: Scene) -> None:
        running, claimed = scene.running(), scene.claimed()
        lease_ends(running, limits.LOST_AFTER_SECONDS + 500)
        lease_ends(claimed, seconds_ago=500)
        server_started(seconds_ago=limits.SERVER_GRACE_SECONDS - 5)
        assert leases_tidy() == (0, 0)
        assert (reread(running).status, reread(claimed).status) == (Status.RUNNING, Status.CLAIMED)
        server_started(seconds_ago=limits.SERVER_GRACE_SECONDS + 5)
        ServerStart.objects.create(started_at=timezone.now() + timedelta(days=1))  # by a clock that was wrong
        assert leases_tidy() == (1, 1)

    def test_a_start_of_what_was_queued_again_is_stale(self, scene: Scene) -> None:
        session = scene.claimed()
        server_started(seconds_ago=3600)
        lease_ends(session, seconds_ago=1)
        leases_tidy()
        assert scene.start(session.pk).status == GrantStatus.STALE_DECISION
        assert tags(session) == ["queued", "claimed", "queued"]


def test_who_acts_is_in_the_trail(scene: Scene) -> None:
    session = scene.running()
    scene.record(report(session))
    events = AuditEvent.objects.filter(session_id=session.pk).order_by("session_seq")
    agent, host = ("agent", str(session.agent_id)), ("host", str(scene.host.pk))
    assert [(item.actor_type, item.actor_id) for item in events] == [agent, host, host, host]
