"""The rules that a person edits: by their permission, through their services, and never against the ladder."""

import pytest

from audit.models import AuditEvent
from governance.models import DirectoryRow, MatrixRow, PolicyGeneration
from tests.admin.conftest import Reader, staff

MATRIX = "/admin/governance/matrixrow/"
DIRECTORIES = "/admin/governance/directoryrow/"


@pytest.fixture
def editor(db: None) -> Reader:
    return staff("editor", "governance.edit_policy")


def cell(category: str, maturity: str) -> MatrixRow:
    return MatrixRow.objects.get(category=category, maturity=maturity)


def generation() -> int:
    return PolicyGeneration.objects.get(pk=1).number


def test_the_matrix_is_drawn_whole(editor: Reader) -> None:
    html = editor.get(MATRIX)
    assert html.count('<td class="atom-outcome-') == 32
    assert "delete at STUDENT: deny" in html


def test_a_change_reaches_every_process_and_the_trail(editor: Reader) -> None:
    before, row = generation(), cell("write", "SUPERVISED")
    editor.post(f"{MATRIX}{row.pk}/change/", outcome="allow")
    assert cell("write", "SUPERVISED").outcome == "allow"
    assert generation() == before + 1
    event = AuditEvent.objects.get(tag="rule:changed")
    assert event.actor_label == "editor"
    assert '"outcome":"ask"' in event.body
    assert '"outcome":"allow"' in event.body


@pytest.mark.parametrize(
    ("category", "maturity", "outcome", "why"),
    [
        ("write", "AUTONOMOUS", "deny", "write: AUTONOMOUS gets deny, and SUPERVISED gets ask."),
        ("read", "STUDENT", "allow", "read: INTERN gets ask, and STUDENT gets allow."),
        ("blocked", "AUTONOMOUS", "ask", "blocked is always deny"),
    ],
)
def test_a_change_against_the_ladder_is_refused(
    editor: Reader, category: str, maturity: str, outcome: str, why: str
) -> None:
    before, row = generation(), cell(category, maturity)
    assert why in editor.post(f"{MATRIX}{row.pk}/change/", status=200, outcome=outcome)
    assert cell(category, maturity).outcome == row.outcome
    assert generation() == before


def test_a_broken_matrix_is_shown_and_can_be_mended(editor: Reader) -> None:
    cell("read", "AUTONOMOUS").delete()
    MatrixRow.objects.filter(category="write", maturity="AUTONOMOUS").update(outcome="deny")
    html = editor.get(MATRIX)
    assert "read has no outcome for AUTONOMOUS." in html
    assert "missing: deny" in html
    editor.post(f"{MATRIX}{cell('write', 'AUTONOMOUS').pk}/change/", outcome="allow")
    editor.post(f"{MATRIX}add/", category="read", maturity="AUTONOMOUS", outcome="allow")
    assert "has no outcome" not in editor.get(MATRIX)
    editor.get(f"{MATRIX}add/", status=403)


def test_a_cell_cannot_be_removed_or_moved(editor: Reader) -> None:
    row = cell("read", "STUDENT")
    editor.post(f"{MATRIX}{row.pk}/delete/", status=403, post="yes")
    editor.post(f"{MATRIX}{row.pk}/change/", category="blocked", maturity="AUTONOMOUS", outcome="ask")
    row.refresh_from_db()
    assert (row.category, row.maturity) == ("read", "STUDENT")


@pytest.mark.parametrize(
    ("root", "is_good"),
    [
        ("/srv/data/", True),
        ("~/work", True),
        ("srv", False),
        ("~other/x", False),
        ("/srv/../etc", False),
        ("/a\u202eb", False),
    ],
)
def test_directory_rules(editor: Reader, root: str, is_good: bool) -> None:
    before = generation()
    editor.post(f"{DIRECTORIES}add/", status=302 if is_good else 200, root=root, access="read", least_maturity="INTERN")
    assert DirectoryRow.objects.filter(root=root.rstrip("/")).exists() is is_good
    assert generation() == before + is_good


def test_removing_directory_rules_is_audited(editor: Reader) -> None:
    rows = list(DirectoryRow.objects.all())
    editor.post(f"{DIRECTORIES}{rows[0].pk}/delete/", post="yes")
    editor.post(DIRECTORIES, action="delete_selected", _selected_action=[row.pk for row in rows[1:]], post="yes")
    assert AuditEvent.objects.filter(tag="rule:deleted", actor_label="editor").count() == len(rows)
    assert "No directory rule" in editor.get(DIRECTORIES)


def test_rules_are_for_who_may_edit_them(db: None) -> None:
    other = staff("other", "governance.view_agent", "governance.change_agent", "governance.change_maturity")
    for path in (MATRIX, DIRECTORIES):
        other.get(path, status=403)
        other.get(f"{path}add/", status=403)
    other.post(f"{MATRIX}{cell('write', 'SUPERVISED').pk}/change/", status=403, outcome="allow")
    assert "Matrix rows" not in other.get("/admin/")
