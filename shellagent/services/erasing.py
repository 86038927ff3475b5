"""Erasing what is stored of a session: one person asks with a reason, another one confirms. And ageing out."""

import time
from datetime import timedelta
from typing import Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from audit.erasing import KINDS_OF, payloads_erase
from audit.models import AuditErasure, AuditPayload
from audit.tags import Tag
from audit.trail import SYSTEM, Event, Party, record
from governance.errors import ForbiddenError, InvalidError
from governance.services import user_party
from shellagent.errors import StateError
from shellagent.models import ExecutionRecord, ShellSession
from shellagent.services.moving import session_note
from shellagent.states import ACTIVE, Status

ERASE_PERMISSION: Final = "audit.erase"
#: So many payloads are taken out in one transaction and named in one event.
_BATCH: Final = 500
#: A worker's task has two minutes, in which requests age out, then output, and then what is kept besides.
_AGE_OUT_SECONDS: Final = 40.0
_ERASED_DETAIL: Final = "(erased)"


@transaction.atomic
def erasure_request(*, session: ShellSession, part: AuditErasure.Part, reason: str, user: User) -> AuditErasure:
    """Ask that stored bytes of a session be erased; nothing goes before somebody else confirms it.

    Raises ForbiddenError without the permission, InvalidError without a reason, StateError while the session has not
    ended, where a wish waits already, or where nothing of that part is left.
    """
    _check(user)
    if not reason.strip():
        raise InvalidError("Say why. The reason stays in the trail for good, so do not repeat in it what is to go.")
    locked = ShellSession.objects.select_for_update(of=("self",)).get(pk=session.pk)
    if not Status(locked.status).is_terminal:
        raise StateError("It has not ended; cancel it first.", status_now=locked.status, session_id=str(locked.pk))
    if AuditErasure.objects.filter(session_id=locked.pk, state=AuditErasure.State.WAITING).exists():
        raise StateError("An erasure of this session waits for a second person already.", session_id=str(locked.pk))
    if not _stored(locked, part).exists():
        raise StateError("Nothing of that is stored any more.", session_id=str(locked.pk))
    made = AuditErasure.objects.create(
        session_id=locked.pk,
        part=part,
        reason=reason.strip(),
        requested_by=user,
        requested_by_label=user.get_username(),
        requested_at=timezone.now(),
    )
    data = {"part": str(part), "reason": made.reason, "erasure": made.pk}
    session_note(locked.pk, Tag.ERASURE_REQUESTED, actor=user_party(user), data=data)
    return made


@transaction.atomic
def erasure_decide(*, erasure: AuditErasure, user: User, confirms: bool) -> AuditErasure:
    """Confirm a wish, which erases at once and for good, or refuse it. Returns the wish as it stands.

    Who asked may take it back and not confirm it. Raises ForbiddenError for who may not, StateError where it was
    decided already.
    """
    _check(user)
    session = ShellSession.objects.select_for_update(of=("self",)).get(pk=erasure.session_id)
    wish = AuditErasure.objects.select_for_update(of=("self",)).get(pk=erasure.pk)
    if wish.state != AuditErasure.State.WAITING:
        raise StateError(f"This is {wish.state} already.", session_id=str(wish.session_id))
    if confirms and wish.requested_by_id == user.pk:
        raise ForbiddenError("You asked for this yourself; somebody else has to confirm it.")
    now = timezone.now()
    wish.state = AuditErasure.State.ERASED if confirms else AuditErasure.State.REFUSED
    wish.decided_by, wish.decided_by_label, wish.decided_at = user, user.get_username(), now
    wish.save()
    data: dict[str, object] = {
        "part": wish.part,
        "reason": wish.reason,
        "erasure": wish.pk,
        "requested_by": {"id": str(wish.requested_by_id), "label": wish.requested_by_label},
    }
    if confirms:
        data["commitments"] = payloads_erase(_stored(session, wish.part), now)
        _blank(session, wish.part)
    tag = Tag.ERASURE_DONE if confirms else Tag.ERASURE_REFUSED
    session_note(session.pk, tag, actor=user_party(user), data=data)
    return wish


def payloads_retire(part: AuditErasure.Part, days: int) -> int:
    """Erase that part of sessions that have ended, where it is older than `days` days; 0 keeps it. Returns how many.

    It stops after 40 seconds and goes on the next time. Each batch is one transaction with its event.
    """
    if not days:
        return 0
    cutoff, until, removed = timezone.now() - timedelta(days=days), time.monotonic() + _AGE_OUT_SECONDS, 0
    subject = Party("system", label="stored output and requests")
    active = ShellSession.objects.filter(status__in=[str(status) for status in ACTIVE]).values("pk")
    while time.monotonic() < until:
        with transaction.atomic():
            old = AuditPayload.objects.filter(erased_at=None, created_at__lt=cutoff, kind__in=KINDS_OF[part])
            batch = list(
                old.exclude(session_id__in=active).order_by("created_at").values_list("pk", flat=True)[:_BATCH]
            )
            if not batch:
                break
            gone = payloads_erase(AuditPayload.objects.filter(pk__in=batch), timezone.now())
            if gone:
                data = {"part": str(part), "days": days, "removed": len(gone), "commitments": gone}
                record(Event(Tag.RETENTION_APPLIED, SYSTEM, subject, data=data))
        removed += len(gone)
    return removed


def may_erase(user: User) -> bool:
    """Return whether this person may ask for erasures and decide on those that others asked for."""
    return bool(user.is_active and user.has_perm(ERASE_PERMISSION))


def _check(user: User) -> None:
    if not may_erase(user):
        raise ForbiddenError("You lack the permission to erase.")


def _stored(session: ShellSession, part: str) -> QuerySet[AuditPayload]:
    return AuditPayload.objects.filter(session_id=session.pk, erased_at=None, kind__in=KINDS_OF[part])


def _blank(session: ShellSession, part: str) -> None:
    """Take out of the columns what may quote the erased bytes: governance's explanation, and what the host said."""
    if part != AuditErasure.Part.OUTPUT and session.termination_detail:
        ShellSession.objects.filter(pk=session.pk).update(termination_detail=_ERASED_DETAIL)
    ExecutionRecord.objects.filter(session=session).exclude(detail="").update(detail=_ERASED_DETAIL)
