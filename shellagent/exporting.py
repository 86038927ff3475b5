"""One call for every door of an export: what is asked for is checked and recorded, then handed over piece by piece."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.contrib.auth.models import User

from audit.bundles import bundle_pieces
from audit.exporting import Form, csv_pieces, export_begin
from audit.selecting import Selection, SelectionError, selection_read
from audit.trail import Party
from audit.trail_keys import trail_keys
from governance.errors import ForbiddenError, InvalidError, NotFoundError
from governance.models import Agent
from shellagent.asciicast import asciicast_pieces
from shellagent.models import Host, ShellSession
from shellagent.ocsf import ocsf_pieces

EXPORT_PERMISSION: Final = "audit.export_audit"


@dataclass(frozen=True, slots=True)
class Export:
    """What was asked for, ready to be written: a name for the file, its media type, and its bytes in pieces."""

    form: Form
    name: str
    size: int
    pieces: Iterator[bytes]


def export_check(user: User) -> None:
    """Raise ForbiddenError where a person may not export."""
    if not user.has_perm(EXPORT_PERMISSION):
        raise ForbiddenError("Exports are for people with the permission to export the audit trail.")


def export_selection(asked: Mapping[str, str]) -> Selection:
    """Read the filters of an export; agents and hosts may be named too. Raises InvalidError."""
    ids = dict(asked)
    for name, model in (("agent", Agent), ("host", Host)):
        text = ids.get(name, "").strip()
        if text and not text.isdecimal():
            found = model.objects.filter(name=text).values_list("pk", flat=True).first()
            if found is None:
                raise InvalidError(f"There is no {name} called {text[:60]!r}.", field=name)
            ids[name] = str(found)
    try:
        return selection_read(ids)
    except SelectionError as error:
        raise InvalidError(str(error)) from error


def export_make(*, form: Form, selection: Selection, actor: Party, door: str, now: datetime) -> Export:
    """Record the export and return it. Nothing of the trail is read before that, and then only as pieces are taken.

    Raises InvalidError and NotFoundError for an asciicast without its session, KeyFileError, SealError, and the
    database's own errors.
    """
    session = None
    if form is Form.ASCIICAST:
        if selection.session is None or selection != Selection(session=selection.session):
            raise InvalidError("An asciicast is of one session: give its id, and no other filter.", field="session")
        session = ShellSession.objects.filter(pk=selection.session).first()
        if session is None:
            raise NotFoundError("There is no such session.", field="session")
    until = export_begin(actor=actor, form=form, selection=selection, door=door, now=now)
    if session is not None:
        pieces = asciicast_pieces(session)
    elif form is Form.BUNDLE:
        pieces = bundle_pieces(selection, until=until, keys=trail_keys(), now=now)
    elif form is Form.OCSF:
        pieces = ocsf_pieces(selection, until.size)
    else:
        pieces = csv_pieces(selection, until.size)
    what = str(selection.session or "trail")
    return Export(form, f"atom-{what}-{now:%Y%m%d-%H%M%S}.{form.suffix}", until.size, pieces)
