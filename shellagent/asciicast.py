"""A session's output as asciicast v3 (docs.asciinema.org/manual/asciicast/v3), for asciinema's player and others."""

import json
from collections.abc import Iterator

from shellagent.admin_plans import requests_of
from shellagent.admin_story import output_frames
from shellagent.models import ShellSession

#: A command writes to pipes and not to a terminal, so none has a size; lines are rarely wider.
_COLUMNS, _ROWS = 120, 30


def asciicast_pieces(session: ShellSession) -> Iterator[bytes]:
    """Yield a header line, and a line for each piece of output: seconds since the one before, and what was printed.

    Line ends become those that a terminal makes of them. Both streams are what a terminal would show.
    """
    begin = session.started_at or session.created_at
    request = requests_of([session]).get(session.pk)
    header: dict[str, object] = {
        "version": 3,
        "term": {"cols": _COLUMNS, "rows": _ROWS},
        "timestamp": int(begin.timestamp()),
        "title": f"{session.agent_label} on {session.host_label}, {session.pk}",
    }
    if request:
        header["command"] = request.plan.source()
    yield _line(header)
    before = 0
    for frame in output_frames(session):
        text = frame.text.replace("\r\n", "\n").replace("\n", "\r\n")
        yield _line([(frame.at_ms - before) / 1000, "o", text])
        before = frame.at_ms
    if session.exit_code is not None:
        end = session.finished_at or begin
        since = max(0, round((end - begin).total_seconds() * 1000) - before)
        yield _line([since / 1000, "x", str(session.exit_code)])


def _line(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()
