"""The times and sizes that the product promises, in one place. Seconds unless the name says otherwise."""

from typing import Final

TIMEOUT_DEFAULT_SECONDS: Final = 60
TIMEOUT_MAX_SECONDS: Final = 300
WAIT_MAX_SECONDS: Final = 45
QUEUED_SECONDS: Final = 5 * 60
LEASE_SECONDS: Final = 60
#: A lease is written again once it has less than this left, so that not every poll writes.
LEASE_RENEW_SECONDS: Final = 40
#: A running session is lost this long after its lease died.
LOST_AFTER_SECONDS: Final = 120
#: No lease dies while hosts have had less than this since the server came up.
SERVER_GRACE_SECONDS: Final = 60
OFFLINE_SECONDS: Final = 30
POLL_HOLD_SECONDS: Final = 20
#: `last_seen_at` is written again once it is this old.
SEEN_EVERY_SECONDS: Final = 5
GRACE_SECONDS: Final = 10
#: The same under a kill switch, after which all is to be gone within five.
KILL_GRACE_SECONDS: Final = 2
ENROLMENT_SECONDS: Final = 10 * 60
#: How long a host's old key works after its new one was first used: longer than any poll is held.
KEY_OVERLAP_SECONDS: Final = 60
IDEMPOTENCY_HOURS: Final = 24
CLAIM_BATCH: Final = 32
COMMAND_MAX_BYTES: Final = 8 * 1024
ARGV_MAX: Final = 256
REASON_MAX_CHARACTERS: Final = 2000
ENV_MAX: Final = 64
ENV_VALUE_MAX_CHARACTERS: Final = 4096
SECRETS_MAX: Final = 16
#: Sessions that a host is asked about at a time, and files of each whose content it is asked for.
LOOKS_MAX: Final = 8
SCRIPTS_MAX: Final = 32
#: The largest body that an agent or a person may send.
BODY_MAX_BYTES: Final = 2 * 1024 * 1024
#: The largest body that a host may send in one call: a batch of records with their output.
HOST_BODY_MAX_BYTES: Final = 16 * 1024 * 1024
