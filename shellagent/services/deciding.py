"""From a request to a decision, at the request, the approval and the claim, always with the rules of that moment."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from django.conf import settings

from audit import canonical, driver
from audit.models import AuditPayload
from audit.statements import insert
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Payload, payloads_of, record, store
from governance.policies import current_policy
from governance.policy.decide import Policy, decide
from governance.policy.hosts import host_of
from governance.policy.plan import Plan
from governance.policy.types import Decision, Facts, Maturity, Outcome, Question, Rule
from governance.stops import stop_of
from shellagent import models, protocol
from shellagent.models import AgentHost, Host, ShellSession
from shellagent.services.moving import session_about, session_party

#: A host that reports a protection of this name confines what commands can reach in the file system.
SANDBOX_PROTECTION = "landlock-fs"


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """What the agent sent, and the plan that was read from it, as kept in the erasable store."""

    command: str
    argv: tuple[str, ...] | None
    plan: Plan
    env: Mapping[str, str]
    reason: str
    #: Names of secrets that the host is to give.
    secrets: tuple[str, ...] = ()
    #: What the scripts held when a person was to decide, as far as the host could say; kept beside the request.
    scripts: tuple[protocol.ScriptDigest, ...] = ()
    #: Who is to be told of its end, besides whoever asks; empty for nobody.
    callback_url: str = ""

    def to_data(self) -> bytes:
        """Return the request as bytes to store."""
        data = {
            "command": self.command,
            "argv": list(self.argv) if self.argv is not None else None,
            "plan": self.plan.to_json(),
            "env": dict(self.env),
            "reason": self.reason,
            **({"secrets": list(self.secrets)} if self.secrets else {}),
            **({"callback_url": self.callback_url} if self.callback_url else {}),
        }
        return canonical.dumps(data).encode()

    @classmethod
    def read(cls, data: bytes, scripts: bytes | None = None) -> "StoredRequest":
        """Read what `to_data` made, and what a host found in the scripts."""
        request = _stored(data) if len(data) <= SHORT_BYTES else _read_stored(data)
        if not scripts:
            return request
        found = (protocol.decode(protocol.ScriptDigest, item) for item in json.loads(scripts))
        return replace(request, scripts=tuple(found))


#: Requests and decisions up to this size are kept as they were read: the same ones come again and again.
SHORT_BYTES = 2048


def _read_stored(data: bytes) -> StoredRequest:
    stored = json.loads(data)
    argv = stored["argv"]
    return StoredRequest(
        stored["command"],
        tuple(argv) if argv is not None else None,
        Plan.from_json(stored["plan"]),
        stored["env"],
        stored["reason"],
        tuple(stored.get("secrets", ())),
        callback_url=stored.get("callback_url", ""),
    )


def scratch_of(folder: str, agent: str) -> str:
    """Return an agent's own folder in a host's scratch folder; empty where the host has not reported one yet."""
    return f"{folder.rstrip('/')}/{agent}" if folder else ""


_stored = lru_cache(maxsize=256)(_read_stored)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """All that a decision depends on besides the request: whose it is, where, and the rules of the moment."""

    policy: Policy
    maturity: Maturity
    facts: Facts
    agent_roots: tuple[str, ...]
    #: The names of the agent and of the host, for operators' rules about them.
    agent: str
    host: str
    #: A fact outside the policy that denies: `kill-switch`, `suspended`, `host-not-granted`, or empty.
    bar: str = ""

    @classmethod
    def of(
        cls, *, agent: str, maturity: str, is_suspended: bool, host: Host, link: AgentHost | None
    ) -> "Circumstances":
        """Return the circumstances of now; `link` says what the agent may do on the host, None that it may nothing."""
        levels = [Maturity(maturity)]
        if link and link.maturity_cap:
            levels.append(Maturity(link.maturity_cap))
        facts = host.facts
        bar = "suspended" if is_suspended else "" if link else "host-not-granted"
        return cls(
            policy=current_policy(),
            maturity=min(levels, key=lambda level: level.rank),
            facts=Facts(
                home=facts.get("home", ""),
                user=facts.get("user", ""),
                scratch=scratch_of(facts.get("scratch", ""), agent),
                is_sandboxed=any(str(name).startswith(SANDBOX_PROTECTION) for name in host.protections),
                protected=tuple(facts.get("protected", ())),
                own_hosts=_own_hosts(facts.get("hostname", ""), settings.ATOM_URL, settings.ATOM_PUBLIC_URL),
            ),
            agent_roots=(link.working_directory,) if link and link.working_directory else (),
            agent=agent,
            host=host.name,
            bar="kill-switch" if stop_of(agent=agent, host=host.name) else bar,
        )

    @property
    def digest(self) -> str:
        """Return a digest that is another whenever a decision could be another."""
        told = self.agent_roots, self.agent, self.host, self.bar
        return _circumstances_digest(self.policy.version, self.maturity, self.facts, told)

    def decide(self, request: StoredRequest, working_directory: str) -> Decision:
        """Ask governance."""
        decision = decide(
            Question(
                plan=request.plan,
                maturity=self.maturity,
                facts=self.facts,
                working_directory=working_directory,
                env=request.env,
                agent_roots=self.agent_roots,
                agent=self.agent,
                host=self.host,
            ),
            self.policy,
        )
        if request.secrets and self.maturity is not Maturity.AUTONOMOUS and decision.outcome is not Outcome.DENY:
            decision = _asked_for_secrets(decision, request.secrets)
        if not self.bar:
            return decision
        rule = Rule(self.bar, Outcome.DENY, _BARS[self.bar])
        return replace(
            decision,
            outcome=Outcome.DENY,
            rules=(*decision.rules, rule),
            explanation=rule.justification,
            would_allow="",
        )


def _asked_for_secrets(decision: Decision, names: Sequence[str]) -> Decision:
    """Return a decision that asks a person: what a command is given it can print, masked or spelled in another way."""
    rule = Rule("names-secrets", Outcome.ASK, f"It is given the secrets {', '.join(names)}.")
    rules = tuple(sorted((*decision.rules, rule), key=lambda one: -one.outcome.strictness))
    if decision.outcome is Outcome.ASK:
        return replace(decision, rules=rules)
    explanation = f"This needs a person's approval: {rule.justification[0].lower()}{rule.justification[1:]}"
    would_allow = "Ask for it without `secrets`, or with the maturity AUTONOMOUS."
    return replace(decision, outcome=Outcome.ASK, rules=rules, explanation=explanation, would_allow=would_allow)


_BARS = {
    "kill-switch": "A kill switch is on, so nothing begins until a person lifts it.",
    "suspended": "The agent was suspended after it asked.",
    "host-not-granted": "The agent may no longer use this host.",
}


@dataclass(frozen=True, slots=True)
class Spec:
    """The part of a decision that the host acts on."""

    grants: tuple[protocol.PathGrant, ...]
    obligations: tuple[str, ...]

    @classmethod
    def of(cls, decision: Decision) -> "Spec":
        """Return a decision's part."""
        return cls(
            tuple(protocol.PathGrant(grant.path, str(grant.access)) for grant in decision.grants), decision.obligations
        )

    @classmethod
    def read(cls, data: bytes) -> "Spec":
        """Read it out of a stored decision."""
        return _spec(data) if len(data) <= SHORT_BYTES else _read_spec(data)


def _read_spec(data: bytes) -> Spec:
    stored = json.loads(data)
    grants = tuple(protocol.PathGrant(item["path"], item["access"]) for item in stored["grants"])
    return Spec(grants, tuple(stored["obligations"]))


_spec = lru_cache(maxsize=256)(_read_spec)


@lru_cache(maxsize=512)
def _circumstances_digest(
    policy: str, maturity: Maturity, facts: Facts, told: tuple[tuple[str, ...], str, str, str]
) -> str:
    agent_roots, agent, host, bar = told
    return canonical.sha256(
        {
            "policy": policy,
            "maturity": str(maturity),
            "facts": asdict(facts),
            "agent_roots": agent_roots,
            "agent": agent,
            "host": host,
            "bar": bar,
        }
    )


def decision_digest(decision: Decision, request: StoredRequest, session: ShellSession) -> str:
    """Return the digest of exactly what will run under this decision."""
    return spec_digest(Spec.of(decision), request, session)


def spec_digest(spec: Spec, request: StoredRequest, session: ShellSession) -> str:
    """Return the digest of exactly what will run, as `session_digest` has it."""
    return protocol.session_digest(
        plan=request.plan,
        working_directory=session.working_directory,
        host_id=str(session.host_id),
        env=request.env,
        timeout_seconds=session.timeout_seconds,
        grants=spec.grants,
        obligations=spec.obligations,
        secrets=request.secrets,
        scripts=request.scripts,
    )


def decision_row(
    decision: Decision,
    session: ShellSession,
    moment: models.Decision.Moment,
    maturity: Maturity,
    *,
    number: int,
    data: bytes = b"",
) -> tuple[models.Decision, Payload]:
    """Return the row and the payload that keep a decision, neither saved yet; `data` may be its `decision_text`."""
    row = models.Decision(
        session=session,
        moment=moment,
        number=number,
        outcome=decision.outcome,
        category=decision.category,
        rules=[rule.id for rule in decision.rules],
        maturity=maturity,
        policy_version=decision.policy_version,
        created_at=session.created_at,
    )
    return row, Payload(session.pk, AuditPayload.Kind.DECISION, data or decision_text(decision), offset=number)


def decision_text(decision: Decision) -> bytes:
    """Return a decision as bytes to store."""
    return canonical.dumps(decision.to_json()).encode()


def engine_error_record(decision: Decision, session: ShellSession) -> None:
    """Write an event where governance failed inside, in the transaction that keeps its decision."""
    why = next((rule.justification for rule in decision.rules if rule.id == "engine-error"), "")
    if why:
        data = {"session": str(session.pk), "why": why, "policy_version": decision.policy_version}
        subject = session_party(session.pk, session.agent_label)
        record(Event(Tag.POLICY_ENGINE_ERROR, SYSTEM, subject, "denied", data, about=session_about(session)))


@lru_cache(maxsize=512)
def _own_hosts(hostname: str, *urls: str) -> tuple[str, ...]:
    """Return the product's own hosts, which no command may reach: the server's addresses, and the host by its name."""
    hosts = (*map(host_of, urls), hostname.lower().rstrip("."))
    return tuple(dict.fromkeys(filter(None, hosts)))


def decision_again(
    session: ShellSession,
    moment: models.Decision.Moment,
    request: StoredRequest,
    circumstances: Circumstances,
    now: datetime,
) -> tuple[Decision, dict[str, object]]:
    """Take the decision again for a session that exists and keep it. Returns it, and what its event should say."""
    decision = circumstances.decide(request, session.working_directory)
    number = models.Decision.objects.filter(session=session).count()
    row, payload = decision_row(decision, session, moment, circumstances.maturity, number=number)
    row.created_at = now
    insert([row])
    store([payload], now)
    engine_error_record(decision, session)
    return decision, decision_data(decision, payload)


def decision_data(decision: Decision, payload: Payload) -> dict[str, object]:
    """Return what an event says of a decision; its words are in the payload that it commits to."""
    return {
        "outcome": str(decision.outcome),
        "category": str(decision.category),
        "rules": [rule.id for rule in decision.rules],
        "policy_version": decision.policy_version,
        "decision_commitment": payload.commitment,
    }


def stored_of(sessions: Sequence[ShellSession]) -> dict[UUID, tuple[StoredRequest, Spec]]:
    """Return each session's request and what its newest decision lets the host do; erased ones are missing."""
    found = {item.pk: kept for item in sessions if (kept := driver.noted((StoredRequest, item.pk))) is not None}
    sessions = [item for item in sessions if item.pk not in found]
    kinds = (AuditPayload.Kind.REQUEST, AuditPayload.Kind.DECISION, AuditPayload.Kind.SCRIPTS)
    newest = {(row.session_id, row.kind): row.data for row in payloads_of([session.pk for session in sessions], *kinds)}
    for session in sessions:
        request, decision, scripts = (newest.get((session.pk, kind.value)) for kind in kinds)
        if request is not None and decision is not None:
            found[session.pk] = StoredRequest.read(request, scripts), Spec.read(decision)
    return found
