"""An agent, or a person in its name, asks for a command."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone
from uuid_utils.compat import uuid7

from audit import driver
from audit.models import AuditPayload
from audit.statements import insert
from audit.tags import Tag
from audit.trail import Event, Party, Payload, Receipt, record, store
from governance.authentication import AgentCaller
from governance.errors import ConflictError, NotFoundError, ProblemError, SuspendedError
from governance.models import Agent
from governance.policy.types import Outcome
from governance.services import grants_count
from governance.stops import stop_of
from governance.terms import terms_of
from shellagent import limits, models, queries, wake
from shellagent.errors import (
    ForbiddenContentError,
    HostRequiredError,
    IdempotencyConflictError,
    NoHostError,
    StoppedError,
    TooManyError,
)
from shellagent.models import AgentHost, Host, IdempotencyKey, ShellSession
from shellagent.notifying.callbacks import callback_check
from shellagent.notifying.outbox import callbacks_hold
from shellagent.services.deciding import (
    Circumstances,
    StoredRequest,
    decision_data,
    decision_row,
    engine_error_record,
)
from shellagent.services.demoting import violations_keep
from shellagent.services.granting import warrant_of
from shellagent.services.judging import Judged, request_judge, request_read_once
from shellagent.services.looking import looks_wish
from shellagent.services.moving import session_about, session_party
from shellagent.services.reading import Ask
from shellagent.services.tidying import session_expire
from shellagent.states import Status


@dataclass(frozen=True, slots=True)
class Asker:
    """In whose name: the agent as its key showed it, and the person where one asked for it."""

    agent_id: int
    name: str
    maturity: str
    is_suspended: bool
    party: Party
    key_id: int | None = None
    user: User | None = None

    @classmethod
    def agent(cls, caller: AgentCaller) -> "Asker":
        """Return an agent that asks for itself."""
        return cls(
            caller.agent_id, caller.name, caller.maturity, caller.is_suspended, caller.party, key_id=caller.key_id
        )

    @classmethod
    def person(cls, user: User, agent: Agent) -> "Asker":
        """Return a person who asks in an agent's name; whether they may is the caller's to check."""
        party = Party("user", str(user.pk), f"{user.get_username()} for {agent.name}")
        return cls(agent.pk, agent.name, agent.maturity, agent.is_suspended, party, user=user)

    @property
    def scope(self) -> str:
        """Return whose Idempotency-Keys these are."""
        return f"user:{self.user.pk}" if self.user else f"agent:{self.agent_id}"


@dataclass(frozen=True, slots=True)
class Idempotency:
    """The header's value, and the SHA-256 of the body that came with it."""

    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A session just made, with its request and decision as they were stored: `{kind: [(offset, bytes)]}`."""

    session: ShellSession
    stored: Mapping[str, list[tuple[int, bytes]]]
    #: None where the trail could not be written, on a host in best effort.
    receipt: Receipt | None


def session_request(*, ask: Ask, asker: Asker, idempotency: Idempotency | None = None) -> tuple[ShellSession, bool]:
    """Decide on a request and keep it as a session, denied ones too. Returns the session and whether it is a replay.

    Raises ProblemError of the kind that fits: InvalidError, CommandRejectedError, NotFoundError, HostRequiredError,
    NoHostError, StoppedError, SuspendedError, TooManyError, IdempotencyConflictError. Only an event is kept then.
    """
    if idempotency and (known := _replay(asker, idempotency)):
        return known, True
    prepared = _Together().prepare(ask, asker)
    session = prepared.session
    try:
        with transaction.atomic():
            _keep([prepared])
            if idempotency:
                IdempotencyKey.objects.create(
                    scope=asker.scope,
                    key=idempotency.key,
                    body_sha256=idempotency.body_sha256,
                    session=session,
                    created_at=session.created_at,
                )
    except IntegrityError:
        # The same key was sent twice at once: the other request made the session.
        if idempotency and (known := _replay(asker, idempotency)):
            return known, True
        raise
    return session, False


def sessions_request(asked: Sequence[tuple[Ask, Asker]]) -> list[Kept | ProblemError]:
    """Decide on several requests and keep them together. Returns what each led to, or the error it has to be told."""
    together = _Together()
    found: list[_Prepared | ProblemError] = []
    for ask, asker in asked:
        try:
            found.append(together.prepare(ask, asker))
        except ProblemError as error:
            found.append(error)
    with transaction.atomic(savepoint=False):
        receipts = iter(_keep([item for item in found if isinstance(item, _Prepared)]))
    return [item.kept(next(receipts)) if isinstance(item, _Prepared) else item for item in found]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A request that was decided on, and all that is to be written of it."""

    session: ShellSession
    judged: Judged
    row: models.Decision
    payloads: tuple[Payload, ...]
    event: Event

    def kept(self, receipt: Receipt | None) -> Kept:
        """Return it as it is once it is written."""
        return Kept(self.session, {str(item.kind): [(item.offset, item.data)] for item in self.payloads}, receipt)


class _Together:
    """Requests that are decided on in one moment: what they share is read once."""

    def __init__(self) -> None:
        self._links: dict[int, list[AgentHost]] = {}
        self._circumstances: dict[tuple[int, str], tuple[Circumstances, str]] = {}
        self._pending: Counter[int] = Counter()

    def prepare(self, ask: Ask, asker: Asker) -> _Prepared:
        """Decide on one request. Raises ProblemError; then nothing is kept but an event."""
        _check_stops(asker)
        if asker.is_suspended:
            _refused(asker, "suspended")
            raise SuspendedError
        try:
            request = request_read_once(ask)
        except ForbiddenContentError as error:
            _refused(asker, error.what)
            raise
        if asker.agent_id not in self._links:
            self._links[asker.agent_id] = queries.links_of_agent(asker.agent_id)
        if request.callback_url:
            callback_check(request.callback_url, asker.agent_id)
        link = _choose(ask.host, self._links[asker.agent_id])
        _check_stops(asker, link.host.name)
        session = _session(ask, asker, link)
        circumstances, digest = self._circumstances_of(asker, link)
        judged = request_judge(ask, request, session, circumstances, digest)
        decision = judged.decision
        _decided(session, judged, digest)
        if session.status == Status.PENDING:
            _hold_room(asker.agent_id, self._pending[asker.agent_id])
            self._pending[asker.agent_id] += 1
        moment = models.Decision.Moment.REQUEST
        row, decision_payload = decision_row(
            decision, session, moment, circumstances.maturity, number=0, data=judged.decision_data
        )
        request_payload = Payload(session.pk, AuditPayload.Kind.REQUEST, judged.request_data)
        data = {
            **decision_data(decision, decision_payload),
            "digest": session.digest,
            "host": session.host_label,
            "agent": session.agent_label,
            "maturity": str(circumstances.maturity),
            "working_directory": session.working_directory,
            "timeout_seconds": session.timeout_seconds,
            "request_commitment": request_payload.commitment,
        }
        status = Status(session.status)
        party = session_party(session.pk, asker.name)
        about = session_about(session)
        event = Event(status.tag, asker.party, party, status, data, session.pk, session.event_seq, about)
        return _Prepared(session, judged, row, (request_payload, decision_payload), event)

    def _circumstances_of(self, asker: Asker, link: AgentHost) -> tuple[Circumstances, str]:
        key = link.pk, asker.maturity
        if key not in self._circumstances:
            found = Circumstances.of(
                agent=asker.name, maturity=asker.maturity, is_suspended=False, host=link.host, link=link
            )
            self._circumstances[key] = found, found.digest
        return self._circumstances[key]


def _keep(prepared: Sequence[_Prepared]) -> list[Receipt | None]:
    """Write decided requests in the caller's transaction, and wake the hosts that have something to do.

    Returns the receipts of their events.
    """
    if not prepared:
        return []
    now = prepared[0].session.created_at
    with driver.together():
        insert([item.session for item in prepared])
        insert([item.row for item in prepared])
        store([payload for item in prepared for payload in item.payloads], now)
        for item in prepared:
            engine_error_record(item.judged.decision, item.session)
            driver.note((StoredRequest, item.session.pk), (item.judged.request, item.judged.spec))
        receipts = record(*(item.event for item in prepared))
    if called_back := [item.session for item in prepared if item.judged.request.callback_url]:
        callbacks_hold(called_back, now)
    decided = [(item.session, item.judged.decision) for item in prepared]
    violations_keep(pair for pair in decided if pair[1].outcome is Outcome.DENY)
    grants_count(decision for _session, decision in decided if decision.outcome is Outcome.ALLOW)
    hosts = {item.session.host_id for item in prepared if item.session.status == Status.QUEUED}
    # A person is to decide on files that the host can tell of.
    pending = (item for item in prepared if item.session.status == Status.PENDING)
    looks_wish(item.session.host_id for item in pending if item.judged.decision.scripts)
    if hosts:
        wake.ring_on_commit(*map(wake.host_channel, sorted(hosts)))
    return receipts


def _replay(asker: Asker, idempotency: Idempotency) -> ShellSession | None:
    known = (
        IdempotencyKey.objects.select_related("session")
        .filter(
            scope=asker.scope,
            key=idempotency.key,
            created_at__gt=timezone.now() - timedelta(hours=limits.IDEMPOTENCY_HOURS),
        )
        .first()
    )
    if known is None:
        IdempotencyKey.objects.filter(
            scope=asker.scope,
            key=idempotency.key,
            created_at__lte=timezone.now() - timedelta(hours=limits.IDEMPOTENCY_HOURS),
        ).delete()
        return None
    if known.body_sha256 != idempotency.body_sha256:
        raise IdempotencyConflictError
    if known.session.agent_id != asker.agent_id:
        raise ConflictError("This Idempotency-Key was used for another agent.")
    if session_expire(known.session_id):
        known.session.refresh_from_db()
    return known.session


def link_choose(wanted: str, agent_id: int) -> AgentHost:
    """Return the host for an agent: the one that is wanted, else its default, else the only one that can be used.

    A default that is disabled is not replaced: a command meant for one machine runs on no other.

    Raises NotFoundError for a host it may not use, HostRequiredError where it has to say, NoHostError where none of
    its hosts is enrolled and enabled.
    """
    return _choose(wanted, queries.links_of_agent(agent_id))


def _choose(wanted: str, links: list[AgentHost]) -> AgentHost:
    if wanted:
        links = [link for link in links if wanted in (link.host.name, str(link.host_id))]
        if not links:
            raise NotFoundError(f"This agent may use no host called {wanted!r}.", field="host")
    else:
        links = [link for link in links if link.is_default] or links
    usable = [link for link in links if link.host.is_enabled and link.host.is_enrolled]
    if not usable:
        if len(links) == 1 and not links[0].host.is_enabled:
            raise NoHostError(f"The host {links[0].host.name} is disabled. An operator has to enable it.")
        raise NoHostError
    if len(usable) > 1:
        names = [link.host.name for link in links]
        raise HostRequiredError(f"{HostRequiredError.__doc__} It may use {', '.join(names)}.", hosts=names)
    return usable[0]


def _session(ask: Ask, asker: Asker, link: AgentHost) -> ShellSession:
    host: Host = link.host
    return ShellSession(
        id=uuid7(),
        queue_key=time.time_ns() // 1000,
        event_seq=1,
        agent_id=asker.agent_id,
        agent_label=asker.name,
        maturity=asker.maturity,
        requester_user=asker.user,
        requester_key_id=asker.key_id,
        requester_label=asker.party.label,
        host=host,
        host_label=host.name,
        working_directory=ask.working_directory or link.working_directory,
        timeout_seconds=ask.timeout_seconds,
        created_at=timezone.now(),
    )


def _decided(session: ShellSession, judged: Judged, circumstances_digest: str) -> None:
    """Write the decision into a session that is not saved yet."""
    now, decision = session.created_at, judged.decision
    session.category = decision.category
    session.outcome = decision.outcome
    session.policy_version = decision.policy_version
    session.digest = judged.digest
    session.circumstances = circumstances_digest
    if decision.outcome is Outcome.DENY:
        session.status = Status.DENIED
        session.finished_at = now
    elif decision.outcome is Outcome.ASK:
        session.status = Status.PENDING
        session.approval_required = True
        terms = terms_of(decision.category, [rule.id for rule in decision.rules])
        session.expires_at = now + timedelta(minutes=terms.minutes)
    else:
        session.status = Status.QUEUED
        session.warrant = warrant_of(session, session.digest)
        session.expires_at = now + timedelta(seconds=limits.QUEUED_SECONDS)


def _hold_room(agent_id: int, about_to_wait: int) -> None:
    waiting = ShellSession.objects.filter(agent_id=agent_id, status=Status.PENDING, expires_at__gt=timezone.now())
    if waiting.count() + about_to_wait >= settings.ATOM_PENDING_PER_AGENT:
        raise TooManyError(
            f"{settings.ATOM_PENDING_PER_AGENT} commands of this agent wait for a person already. Wait for a decision, "
            "or cancel one.",
            retry_after=30,
        )


def _check_stops(asker: Asker, host: str | None = None) -> None:
    """Raise StoppedError where a kill switch stops this agent, or this agent on this host."""
    if stop := stop_of(agent=asker.name, host=host):
        _refused(asker, "kill-switch")
        raise StoppedError(
            f"{stop.by} stopped {stop.what}: {stop.reason.rstrip('.')}. Nothing begins until a person lifts it.",
            stopped={"scope": stop.scope, "subject": stop.subject, "since": stop.since.isoformat()},
        )


def _refused(asker: Asker, why: str) -> None:
    with transaction.atomic():
        record(Event(Tag.REQUEST_REFUSED, asker.party, Party("agent", str(asker.agent_id), asker.name), why))
