"""A host's key is replaced without losing what runs: the old one works until shortly after the new one was used."""

from datetime import datetime, timedelta

from django.db import transaction

from audit.tags import Tag
from audit.trail import Event, Party, record
from governance import keys
from governance.errors import ConflictError
from shellagent import limits, wake
from shellagent.models import Host
from shellagent.services.hosts import host_party


@transaction.atomic
def host_key_wish(*, host: Host, actor: Party) -> Host:
    """Have a host's local agent ask for a new key, with its next poll. Raises ConflictError for one without a key."""
    if not host.is_enrolled:
        raise ConflictError(f"{host.name} has no key yet. Enrol it.")
    Host.objects.filter(pk=host.pk).update(wants_new_key=True)
    record(Event(Tag.HOST_KEY_WISHED, actor, host_party(host)))
    wake.ring_on_commit(wake.host_channel(host.pk))
    host.refresh_from_db()
    return host


@transaction.atomic
def host_key_renew(*, host: Host, shown: str) -> str:
    """Return a new key for a host that showed the key with this digest, the only time that it can be read.

    The key that was shown goes on working until the new one is used: its answer may be lost on the way.
    """
    locked = Host.objects.select_for_update().get(pk=host.pk)
    made = keys.make(keys.KeyKind.HOST)
    locked.key_digest, locked.key_prefix = made.digest, made.prefix
    locked.previous_key_digest, locked.previous_key_until = shown, None
    locked.wants_new_key = False
    columns = ["key_digest", "key_prefix", "previous_key_digest", "previous_key_until", "wants_new_key"]
    locked.save(update_fields=columns)
    party = host_party(locked)
    record(Event(Tag.HOST_KEY_ISSUED, party, party, data={"prefix": made.prefix}))
    return made.text


@transaction.atomic
def host_key_used(host: Host, now: datetime) -> None:
    """Let the key before end soon: the new one has been used."""
    until = now + timedelta(seconds=limits.KEY_OVERLAP_SECONDS)
    waiting = Host.objects.filter(pk=host.pk, key_digest=host.key_digest, previous_key_until=None)
    if waiting.exclude(previous_key_digest=None).update(previous_key_until=until):
        party = host_party(host)
        record(Event(Tag.HOST_KEY_REPLACED, party, party, data={"prefix": host.key_prefix}))
