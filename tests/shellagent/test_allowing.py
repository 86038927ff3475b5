"""A grant covers what was shown and nothing else, ends by itself, and is never given for what runs other code."""

import itertools
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from audit.models import AuditEvent
from audit.trail import SYSTEM
from governance.errors import ConflictError, ForbiddenError, InvalidError
from governance.models import ApprovalTerms, PolicyRule
from governance.policies import policy_changed
from governance.policy.types import Maturity, Outcome
from governance.services import agent_set_maturity, rule_delete
from shellagent.models import ShellSession
from shellagent.services.allowing import GrantKind, grant_offer, policy_with, session_grant
from shellagent.services.deciding import Circumstances
from shellagent.services.reading import Ask, request_read
from shellagent.states import Status
from tests.conftest import person
from tests.shellagent.scene import Scene

LEVEL = Maturity.SUPERVISED
FOLDER = "/tmp/work"  # noqa: S108 - in what is asked for, not here
COMMAND = "touch -c /tmp/work/a"


@pytest.fixture
def granter(db: None) -> User:
    return person("granter", "shellagent.approve", "governance.edit_policy")


def asked(scene: Scene, command: str = COMMAND, level: Maturity = LEVEL, **options: Any) -> ShellSession:
    return scene.session((level, command), **{"working_directory": FOLDER, **options})


def granted(session: ShellSession, granter: User, kind: GrantKind = GrantKind.COMMAND) -> PolicyRule:
    seen = grant_offer(session, kind).digest
    return session_grant(session=session, kind=kind, person=granter, reason="It does no harm.", seen=seen)


def test_a_granted_command_runs_and_is_counted_until_the_grant_ends(scene: Scene, granter: User) -> None:
    first = asked(scene)
    row = granted(first, granter)
    assert first.status == Status.PENDING, "it is not decided by the grant"
    again = asked(scene)
    assert (again.status, again.approval_required) == (Status.QUEUED, False)
    row.refresh_from_db()
    assert (row.used, row.granted_from) == (1, first.pk)
    assert timedelta(hours=23) < row.expires_at - timezone.now() <= timedelta(hours=24)  # type: ignore[operator]
    assert asked(scene, level=Maturity.INTERN).status == Status.PENDING
    assert asked(scene, working_directory="/tmp/other").status == Status.PENDING  # noqa: S108
    PolicyRule.objects.filter(pk=row.pk).update(expires_at=timezone.now())
    policy_changed()
    assert asked(scene).status == Status.PENDING
    granted(first, granter)  # in place of the one that is over
    assert asked(scene).status == Status.QUEUED
    agent_set_maturity(agent=scene.agents[LEVEL], maturity=Maturity.INTERN, reason="x", actor=SYSTEM)
    assert asked(scene).status == Status.PENDING, "it was for what the agent was trusted with then"


def test_a_revoked_grant_reaches_what_is_queued(scene: Scene, granter: User) -> None:
    row = granted(asked(scene), granter)
    queued = asked(scene)
    rule_delete(row=row, actor=SYSTEM)
    assert scene.poll().sessions == ()
    assert ShellSession.objects.get(pk=queued.pk).status == Status.PENDING
    assert AuditEvent.objects.filter(tag="rule:changed", actor_label="granter").count() == 1


@pytest.mark.parametrize("kind", GrantKind)
def test_it_covers_what_was_shown_and_nothing_else(scene: Scene, granter: User, kind: GrantKind) -> None:
    """Every line of these words in these folders, decided with the grant: only what its words say is let through."""
    offer = grant_offer(asked(scene), kind)
    assert offer.rule is not None
    shown = offer.rule.pattern.source()
    assert shown == (COMMAND if kind is GrantKind.COMMAND else "touch -c")
    asker, link = scene.agents[LEVEL], scene.agents[LEVEL].hosts.get()
    circumstances = Circumstances.of(agent=asker.name, maturity=LEVEL, is_suspended=False, host=scene.host, link=link)
    with_grant = Circumstances(
        **{name: getattr(circumstances, name) for name in circumstances.__slots__ if name != "policy"},
        policy=policy_with(offer.rule),
    )
    paths = (f"{FOLDER}/a", f"{FOLDER}/b", "/etc/x", f"&& rm {FOLDER}/a", f"> {FOLDER}/c")
    words = ("touch", "rm", "-c", *paths)
    let_through = set()
    for parts, folder in itertools.product(
        (line for size in (1, 2, 3) for line in itertools.permutations(words, size) if line[0] in ("touch", "rm")),
        (FOLDER, "/tmp", "/tmp/work/below"),  # noqa: S108
    ):
        request = request_read(Ask(command=" ".join(parts)))
        if with_grant.decide(request, folder).outcome is Outcome.ALLOW:
            assert circumstances.decide(request, folder).outcome is Outcome.ASK
            let_through.add((" ".join(parts), folder.removeprefix(FOLDER)))
    assert {folder for _line, folder in let_through} == {"", "/below"}
    lines = {line for line, _folder in let_through}
    if kind is GrantKind.COMMAND:
        assert lines == {COMMAND}
    else:
        assert COMMAND in lines
        assert all(line.startswith("touch -c ") and not set("&>") & set(line) for line in lines)
        assert "touch -c /etc/x" not in lines


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("sudo reboot", "denied"),
        ("make test", "It runs files"),
        ("python3 tool.py", "runs"),
        ("python3 -c 'print(1)'", "grant may cover"),
        ("timeout 5 touch /tmp/a", "runs another program"),
        ("env touch /tmp/work/a", "denied"),
        ("touch a && touch b", "several"),
        ("touch /tmp/work/*.txt", "as they are"),
        ("touch $HOME/x", "as they are"),
        ("head /tmp/work/a > /tmp/work/b", "redirects"),
        ("cat /etc/passwd", "grant may cover"),
        ("unheard-of-program", "grant may cover"),
        ("ls /tmp/work", "without asking already"),
    ],
)
@pytest.mark.parametrize("kind", GrantKind)
def test_what_no_grant_covers_is_refused_by_the_service(
    scene: Scene, granter: User, kind: GrantKind, command: str, why: str
) -> None:
    session = asked(scene, command)
    offer = grant_offer(session, kind)
    assert offer.rule is None
    assert why in offer.refusal
    with pytest.raises(InvalidError, match=why):
        session_grant(session=session, kind=kind, person=granter, reason="Please.", seen="")
    assert not PolicyRule.objects.exists()


def test_what_is_more_than_words_is_refused(scene: Scene, granter: User) -> None:
    kind = GrantKind.COMMAND
    assert "environment" in grant_offer(asked(scene, env={"LANG": "C"}), kind).refusal
    assert "too little" in grant_offer(asked(scene, "rm /tmp/work/a"), GrantKind.SHAPE).refusal
    assert "folder" in grant_offer(asked(scene, working_directory="/home/atom"), kind).refusal
    ApprovalTerms.objects.update_or_create(category="write", defaults={"approvals_required": 2})
    policy_changed()
    assert "Two people" in grant_offer(asked(scene), kind).refusal


def test_who_may_not_decide_does_not_grant(scene: Scene, granter: User, approver: User, superuser: User) -> None:
    session, kind = asked(scene), GrantKind.COMMAND
    seen = grant_offer(session, kind).digest
    ShellSession.objects.filter(pk=session.pk).update(requester_user=superuser)
    own = ShellSession.objects.select_related("agent", "host").get(pk=session.pk)
    for wrong, one in ((approver, session), (superuser, own)):
        with pytest.raises(ForbiddenError):
            session_grant(session=one, kind=kind, person=wrong, reason="x", seen=seen)
    with pytest.raises(InvalidError):
        session_grant(session=session, kind=kind, person=granter, reason=" ", seen=seen)
    for other in ("", grant_offer(session, GrantKind.SHAPE).digest):
        with pytest.raises(ConflictError, match="since you saw it"):
            session_grant(session=session, kind=kind, person=granter, reason="x", seen=other)
    granted(session, granter)
    with pytest.raises(InvalidError, match="without asking already"):
        granted(session, granter)
