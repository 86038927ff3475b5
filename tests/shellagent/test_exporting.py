"""Exports by each door: who may, what is in them, that they are told of, and that no half of one is left behind."""

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.core.signals import request_finished
from django.db import close_old_connections
from rest_framework.test import APIClient

from atomsite.management.commands import auditexport
from audit.models import AuditEvent
from audit.selecting import Selection, SelectionError, selection_read
from audit.standalone.bundle import Options, bundle_verify
from audit.trail_keys import trail_keys, verifier_text
from shellagent import downloads
from shellagent.models import ShellSession
from shellagent.protocol import VERSION, OutputRequest, OutputSegment
from shellagent.services import output_append
from tests.conftest import person
from tests.shellagent.scene import DENIED, Scene, report, reread

EXPORT = "/api/audit/export"


@pytest.fixture
def exporter(db: None) -> APIClient:
    client = APIClient()
    client.force_login(person("exporter", "audit.export_audit"))
    return client


@pytest.fixture
def ran(scene: Scene) -> ShellSession:
    """A session that printed in two pieces and ended well, and one that was denied."""
    scene.session(DENIED)
    session = scene.running()
    session = reread(session)
    segments = (OutputSegment.of("stdout", 0, b"one\n"), OutputSegment.of("stderr", 0, b"=oh\r\n"))
    output_append(host=scene.host, session_id=session.pk, request=OutputRequest(VERSION, session.start_key, segments))
    scene.record(report(session, output=()))
    return reread(session)


def got(client: APIClient, status: int = 200, **asked: Any) -> bytes:
    answer: Any = client.get(EXPORT, asked)
    assert answer.status_code == status, answer.content
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return bytes(content)


def test_it_is_for_people_with_the_permission_and_is_told(exporter: APIClient, ran: ShellSession) -> None:
    outsider = APIClient()
    outsider.force_login(person("reader", "audit.view_audit"))
    assert b"permission to export" in got(outsider, 403)
    assert b"no format" in got(exporter, 400, format="pdf")
    assert b"no filter" in got(exporter, 400, color="red")
    rows = list(csv.DictReader(io.StringIO(got(exporter, format="csv", agent="student", about="session").decode())))
    assert [row["event"] for row in rows] == ["session:denied"]
    told = json.loads(AuditEvent.objects.get(tag="trail:exported").body)
    filters = {"agent": int(rows[0]["agent_id"]), "about": "session"}
    assert told["data"] == {"format": "csv", "filters": filters, "by": "the API"}
    assert told["actor"]["label"] == "exporter"


def test_a_bundle_of_a_session_is_sound_by_the_installations_own_key(exporter: APIClient, ran: ShellSession) -> None:
    keys = trail_keys()
    content = got(exporter, session=str(ran.pk))
    held_to = Options((verifier_text(keys.log, keys.public.keys[keys.id]),), has_signatures=True)
    verdict = bundle_verify(io.BytesIO(content), held_to)
    assert (verdict.verdict, verdict.findings) == ("sound", [])
    assert verdict.events == AuditEvent.objects.filter(session_id=ran.pk).count()
    assert verdict.filters == {"session": str(ran.pk)}


def test_ocsf_lines_are_process_activities(exporter: APIClient, ran: ShellSession) -> None:
    lines = [json.loads(line) for line in got(exporter, format="ocsf").splitlines()]
    launched, ended = (line for line in lines if line["activity_id"] != 99)
    for line in lines:
        assert (line["class_uid"], line["category_uid"]) == (1007, 1)
        assert line["type_uid"] == 100_700 + line["activity_id"]
        assert {"actor", "device", "metadata", "process", "severity_id", "time"} <= set(line)
    assert launched["process"] == {"uid": str(ran.pk), "cmd_line": "ls /tmp"}
    assert (ended["activity_name"], ended["status_id"], ended["exit_code"]) == ("Terminate", 1, 0)
    denied = next(line for line in lines if line["unmapped"]["tag"] == "session:denied")
    assert denied["actor"]["user"]["type_id"] == 99
    assert (denied["action_id"], denied["metadata"]["profiles"]) == (2, ["security_control"])


def test_an_asciicast_has_a_header_and_intervals(exporter: APIClient, ran: ShellSession) -> None:
    head, *events = [json.loads(line) for line in got(exporter, format="asciicast", session=str(ran.pk)).splitlines()]
    assert (head["version"], set(head["term"]), head["command"]) == (3, {"cols", "rows"}, "ls /tmp")
    assert all(interval >= 0 for interval, _code, _data in events)
    # Both pieces came in one call: standard error stands first, as on the page.
    assert [event[1:] for event in events] == [["o", "=oh\r\n"], ["o", "one\r\n"], ["x", "0"]]
    assert b"one session" in got(exporter, 400, format="asciicast")
    assert b"no such session" in got(exporter, 404, format="asciicast", session=str(uuid4()))


def test_the_places_are_limited_and_come_back(exporter: APIClient, ran: ShellSession) -> None:
    held: list[Any] = [exporter.get(EXPORT, {"format": "csv"}) for _ in range(downloads.MOST_AT_ONCE)]
    assert b"Try again" in got(exporter, 429, format="csv")
    # The end of a request would close the connection that holds this test's transaction.
    request_finished.disconnect(close_old_connections)
    for answer in held:  # One was never begun: its caller has gone.
        answer.close()
    request_finished.connect(close_old_connections)
    assert got(exporter, format="csv")


def test_the_admin_hands_over_what_its_filters_leave(ran: ShellSession, client: Any) -> None:
    client.force_login(person("reviewer", "audit.view_audit", "audit.export_audit", "shellagent.view_shellsession"))
    page = client.get("/admin/audit/auditevent/?outcome=denied").content.decode()
    assert 'href="/admin/audit/auditevent/export/?outcome=denied&amp;format=csv"' in page
    answer = client.get("/admin/audit/auditevent/export/?outcome=denied&format=csv")
    assert b"".join(answer.streaming_content).count(b"session:denied") == 1
    assert 'filename="atom-trail-' in answer["Content-Disposition"]
    story = client.get(f"/admin/shellagent/shellsession/{ran.pk}/story/").content.decode()
    assert f"format=asciicast&amp;session={ran.pk}" in story
    wrong = client.get("/admin/audit/auditevent/export/?from_day=never", follow=True).content.decode()
    assert "From_day is a day or a time" in wrong
    client.force_login(person("only reader", "audit.view_audit"))
    assert "format=csv" not in client.get("/admin/audit/auditevent/").content.decode()
    assert client.get("/admin/audit/auditevent/export/").status_code == 403


def test_the_command_leaves_the_whole_file_or_none(
    ran: ShellSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    target = tmp_path / "trail.zip"
    call_command("auditexport", str(target), "--json")
    assert json.loads(capsys.readouterr().out)["bytes"] == target.stat().st_size
    assert target.stat().st_mode & 0o777 == 0o600
    assert zipfile.ZipFile(target).testzip() is None

    def full(self: object, export: Any, stream: Any) -> int:
        stream.write(next(export.pieces))
        raise OSError(28, "No space left on device")

    before = target.read_bytes()
    monkeypatch.setattr(auditexport.Command, "_write", full)
    with pytest.raises(CommandError, match="No space left") as caught:
        call_command("auditexport", str(target), "--format", "csv")
    assert caught.value.returncode == 69
    assert [item.name for item in tmp_path.iterdir()] == ["trail.zip"]
    assert target.read_bytes() == before
    for wrong in (["--session", "7"], ["--agent", "nobody"], ["--after", "yesterday"]):
        with pytest.raises(CommandError) as caught:
            call_command("auditexport", str(target), *wrong)
        assert caught.value.returncode == 64
    with pytest.raises(CommandError, match="Name the file"):
        call_command("auditexport")


def test_filters_are_spelled_as_in_the_admin(db: None) -> None:
    read = selection_read({"from_day": "2026-11-01", "to_day": "2026-11-30", "q": " two words ", "p": ""})
    assert (str(read.after), str(read.before)) == ("2026-11-01 00:00:00+00:00", "2026-12-01 00:00:00+00:00")
    assert read.words == "two words"
    assert selection_read({"q": "agent:7"}) == Selection(agent=7)
    assert selection_read({"q": "user:7"}) == Selection(party="user:7")
    assert selection_read({"q": "key:issued"}) == Selection(tag="key:issued")
    for wrong in ({"agent": "1" * 19}, {"agent": "²"}, {"after": "9999-12-31T99"}, {"to_day": "9999-12-31"}):
        with pytest.raises(SelectionError):
            selection_read(wrong)
