"""Every operation on sessions and hosts. The API, the admin, the tasks and the commands call these and nothing else."""

from shellagent.services.approving import (
    approvals_given,
    may_approve,
    session_approve,
    session_reject,
    session_terms,
    sessions_approve,
)
from shellagent.services.asking import Asker, Idempotency, Kept, session_request, sessions_request
from shellagent.services.cancelling import may_cancel, session_cancel
from shellagent.services.dry_running import dry_run
from shellagent.services.erasing import erasure_decide, erasure_request, may_erase, payloads_retire
from shellagent.services.hosts import (
    agent_host_delete,
    agent_host_set,
    enrolment_issue,
    host_enrol,
    host_party,
    host_set_audit_mode,
    host_set_desired,
    host_set_enabled,
    hosts_in_best_effort,
)
from shellagent.services.polling import host_poll
from shellagent.services.promoting import promotion_decline, promotion_grant, promotions_review
from shellagent.services.reading import Ask
from shellagent.services.recording import Ended, just_ended, output_append, output_of, sessions_record
from shellagent.services.starting import sessions_start
from shellagent.services.stopping import killswitch_off, killswitch_on, stops_enforce
from shellagent.services.tidying import (
    idempotency_keys_retire,
    leases_tidy,
    session_expire,
    sessions_expire,
)

__all__ = [
    "Ask",
    "Asker",
    "Ended",
    "Idempotency",
    "Kept",
    "agent_host_delete",
    "agent_host_set",
    "approvals_given",
    "dry_run",
    "enrolment_issue",
    "erasure_decide",
    "erasure_request",
    "host_enrol",
    "host_party",
    "host_poll",
    "host_set_audit_mode",
    "host_set_desired",
    "host_set_enabled",
    "hosts_in_best_effort",
    "idempotency_keys_retire",
    "just_ended",
    "killswitch_off",
    "killswitch_on",
    "leases_tidy",
    "may_approve",
    "may_cancel",
    "may_erase",
    "output_append",
    "output_of",
    "payloads_retire",
    "promotion_decline",
    "promotion_grant",
    "promotions_review",
    "session_approve",
    "session_cancel",
    "session_expire",
    "session_reject",
    "session_request",
    "session_terms",
    "sessions_approve",
    "sessions_expire",
    "sessions_record",
    "sessions_request",
    "sessions_start",
    "stops_enforce",
]
