"""The columns of a host's keys, and of who else used one."""

from datetime import datetime

from django.db import models


class HostKeys(models.Model):
    """A host has one key. While it is replaced there are two, until a while after the new one was first used."""

    key_prefix = models.CharField(max_length=16, blank=True, editable=False)
    key_digest = models.CharField(max_length=64, null=True, unique=True, editable=False)  # noqa: DJ001  (null is many)
    #: The key before, which still works; without an end as long as the new one was not used.
    previous_key_digest = models.CharField(max_length=64, null=True, unique=True, editable=False)  # noqa: DJ001
    previous_key_until = models.DateTimeField(null=True, editable=False)
    #: Whether its local agent is to ask for a new key, with its next poll.
    wants_new_key = models.BooleanField(default=False, editable=False)
    #: A second live process that showed the key, and when it was last refused.
    refused_instance_id = models.CharField(max_length=64, blank=True, editable=False)
    instance_refused_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True

    @property
    def is_enrolled(self) -> bool:
        """Return whether the host has a key."""
        return self.key_digest is not None

    def opens_with(self, digest: str, now: datetime) -> bool:
        """Return whether the key with this digest is still good."""
        if digest == self.key_digest:
            return True
        return digest == self.previous_key_digest and (self.previous_key_until is None or now < self.previous_key_until)
