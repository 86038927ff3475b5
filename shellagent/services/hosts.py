"""Hosts: their enrolment, what is wanted of them, and which agents may use them."""

from dataclasses import asdict
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from audit.tags import Tag
from audit.trail import About, Event, Party, record
from governance import keys
from governance.authentication import key_refused
from governance.errors import ConflictError, InvalidError, UnauthenticatedError
from governance.models import Agent
from governance.policy.types import Maturity
from shellagent import limits, wake
from shellagent.models import AgentHost, EnrolmentCode, Host
from shellagent.protocol import Desired, HostFacts
from shellagent.states import AuditMode


def host_party(host: Host) -> Party:
    """Return a host as the trail names it."""
    return Party("host", str(host.pk), host.name)


@transaction.atomic
def enrolment_issue(*, name: str, actor: Party, is_local: bool = False) -> str:
    """Return a one-use code that makes a machine the host of this name, new or known. It lasts ten minutes.

    A known host keeps its key until the code is used; then the old key is void. Raises ValidationError for a bad name.
    """
    host = Host.objects.filter(name=name).first() or Host(name=name)
    host.is_local = host.is_local or is_local
    host.full_clean()
    # Of a known one nothing else is written: somebody may have changed it since it was read.
    host.save(update_fields=["is_local"] if host.pk else None)
    made = keys.make(keys.KeyKind.ENROLMENT)
    expires_at = timezone.now() + timedelta(seconds=limits.ENROLMENT_SECONDS)
    EnrolmentCode.objects.create(host=host, digest=made.digest, expires_at=expires_at)
    record(Event(Tag.HOST_ENROLMENT_ISSUED, actor, host_party(host)))
    return made.text


def host_enrol(*, code: str, facts: HostFacts) -> tuple[Host, str]:
    """Use an enrolment code. Returns the host and its key, the only time that it can be read.

    Raises UnauthenticatedError for a code that is unknown, used or expired. The latter two leave an event: somebody
    else may have used it, or found it.
    """
    now = timezone.now()
    known = EnrolmentCode.objects.select_related("host").filter(digest=keys.digest(code)).first()
    with transaction.atomic():
        codes = EnrolmentCode.objects.filter(digest=keys.digest(code), used_at=None, expires_at__gt=now)
        if known and codes.update(used_at=now):
            # Read again under a lock: somebody may have changed it since, and the whole row is written.
            return _enrolled(Host.objects.select_for_update(no_key=True).get(pk=known.host_id), facts)
    if known:
        key_refused(host_party(known.host), "used or expired", key=known.pk)
    raise UnauthenticatedError("This enrolment code is unknown, used or expired. Ask an operator for a new one.")


def _enrolled(host: Host, facts: HostFacts) -> tuple[Host, str]:
    made = keys.make(keys.KeyKind.HOST)
    before = host.key_prefix if host.key_digest else ""
    host.key_digest, host.key_prefix = made.digest, made.prefix
    # Whoever had the host's key before has nothing any more.
    host.previous_key_digest, host.previous_key_until, host.wants_new_key = None, None, False
    host.refused_instance_id, host.instance_refused_at = "", None
    host.facts = asdict(facts)
    host.instance_id = ""
    host.save()
    party = host_party(host)
    # With a key before it, this is its rotation: the old key opens nothing from here on.
    data = {"prefix": made.prefix, "prefix_before": before, "hostname": facts.hostname}
    record(Event(Tag.HOST_ENROLLED, party, party, data=data))
    return host, made.text


@transaction.atomic
def host_set_desired(*, host: Host, desired: Desired, actor: Party) -> Host:
    """Start (or resume) or stop a host's local agent; its next poll brings the word. Asking twice is no error."""
    if Host.objects.filter(pk=host.pk).exclude(desired_state=desired).update(desired_state=desired):
        tag = Tag.HOST_STARTED if desired is Desired.RUNNING else Tag.HOST_STOPPED
        record(Event(tag, actor, host_party(host), outcome=desired))
        wake.ring_on_commit(wake.host_channel(host.pk))
    host.refresh_from_db()
    return host


@transaction.atomic
def host_set_enabled(*, host: Host, is_enabled: bool, actor: Party) -> Host:
    """Enable or disable a host; a disabled one's key opens nothing. Raises ConflictError where it is so already."""
    if not Host.objects.filter(pk=host.pk, is_enabled=not is_enabled).update(is_enabled=is_enabled):
        raise ConflictError(f"{host.name} is {'enabled' if is_enabled else 'disabled'} already.")
    record(Event(Tag.HOST_CHANGED, actor, host_party(host), data={"is_enabled": is_enabled}))
    host.refresh_from_db()
    return host


@transaction.atomic
def host_set_audit_mode(*, host: Host, mode: AuditMode, actor: Party) -> Host:
    """Say what happens on a host where the audit trail cannot be kept. Raises ConflictError where it is so already."""
    if not Host.objects.filter(pk=host.pk).exclude(audit_mode=mode).update(audit_mode=mode):
        raise ConflictError(f"{host.name} is in {mode.value.replace('_', ' ')} already.")
    data = {"audit_mode": {"before": host.audit_mode, "after": str(mode)}}
    record(Event(Tag.HOST_CHANGED, actor, host_party(host), data=data))
    host.refresh_from_db()
    return host


def hosts_in_best_effort() -> dict[int, str]:
    """Return the hosts on which commands run although the trail cannot be kept: names by id."""
    found = Host.objects.filter(audit_mode=AuditMode.BEST_EFFORT.value).order_by("name")
    return dict(found.values_list("pk", "name"))


@transaction.atomic
def agent_host_set(
    *,
    agent: Agent,
    host: Host,
    actor: Party,
    is_default: bool = False,
    working_directory: str = "",
    maturity_cap: Maturity | None = None,
) -> AgentHost:
    """Let an agent use a host, or change how. Raises InvalidError for a folder that is not absolute."""
    if working_directory and not working_directory.startswith("/"):
        raise InvalidError("The working directory must be absolute.", field="working_directory")
    link = AgentHost.objects.filter(agent=agent, host=host).first() or AgentHost(agent=agent, host=host)
    before = _terms(link) if link.pk else None
    if is_default:
        AgentHost.objects.filter(agent=agent).exclude(pk=link.pk).update(is_default=False)
    link.is_default = is_default
    link.working_directory = working_directory
    link.maturity_cap = maturity_cap or ""
    link.full_clean()
    link.save()
    data = {"host": host.name, "before": before, "after": _terms(link)}
    party = Party("agent", str(agent.pk), agent.name)
    record(Event(Tag.AGENT_HOST_CHANGED, actor, party, data=data, about=About(host_id=host.pk)))
    return link


@transaction.atomic
def agent_host_delete(*, link: AgentHost, actor: Party) -> None:
    """Take a host from an agent; what waits there is decided again, and denied, when it would be claimed."""
    party = Party("agent", str(link.agent_id), link.agent.name)
    data = {"host": link.host.name, "before": _terms(link)}
    record(Event(Tag.AGENT_HOST_DELETED, actor, party, data=data, about=About(host_id=link.host_id)))
    link.delete()


def _terms(link: AgentHost) -> dict[str, object]:
    return {
        "is_default": link.is_default,
        "working_directory": link.working_directory,
        "maturity_cap": link.maturity_cap,
    }
