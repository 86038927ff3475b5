"""What only this server can say, with a key that is not in the database: that a session may run, and that it starts."""

import logging
from collections.abc import Sequence

from shellagent import limits
from shellagent.errors import SigningKeyError
from shellagent.models import ShellSession
from shellagent.protocol import GrantStatus, ServerKey, StartGrant
from shellagent.signing import Start
from shellagent.signing_keys import look_again, signing_keys

logger = logging.getLogger(__name__)


def public_keys() -> tuple[ServerKey, ...]:
    """Return what hosts are told of this server's keys, oldest first; nothing where it cannot sign."""
    try:
        return signing_keys().public
    except SigningKeyError as error:
        logger.error("No start can be signed, so none is granted: %s", error)
        return ()


def warrant_of(session: ShellSession, digest: str) -> str:
    """Return the warrant by which a session may run with this digest. Raises SigningKeyError."""
    return signing_keys().warrant(session.pk, agent_id=session.agent_id, host_id=session.host_id, digest=digest)


def is_warranted(session: ShellSession) -> bool:
    """Return whether this server let the session run as it stands. Raises SigningKeyError."""
    if _is_warranted(session):
        return True
    # A process that knows of a new key already may have given the warrant.
    look_again()
    return _is_warranted(session)


def _is_warranted(session: ShellSession) -> bool:
    return signing_keys().is_warranted(
        session.warrant, session.pk, agent_id=session.agent_id, host_id=session.host_id, digest=session.digest
    )


def start_grants(sessions: Sequence[ShellSession]) -> tuple[StartGrant, ...]:
    """Return the grants of these warranted sessions of one host, each under its start key, in this order.

    One signature is for all of them. Raises SigningKeyError.
    """
    if not sessions:
        return ()
    signer = signing_keys().signer
    starts = [
        Start(str(session.pk), session.start_key, session.digest, session.timeout_seconds + limits.GRACE_SECONDS)
        for session in sessions
    ]
    signature = signer.granted(*starts, host_id=str(sessions[0].host_id))
    return tuple(
        StartGrant(
            start.session_id,
            GrantStatus.GRANTED,
            start.deadline_seconds,
            key=signer.public_key,
            signature=signature,
        )
        for start in starts
    )
