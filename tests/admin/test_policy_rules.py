"""Operators' rules in the admin: proved by their examples, shown with what they would have done, and in the trail."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.models import AuditEvent, AuditPayload
from governance.models import DirectoryRow, MatrixRow, PolicyRule, PolicyVersion
from governance.policies import current_policy
from governance.policy.types import Maturity
from tests.admin.conftest import Reader, staff
from tests.shellagent.scene import Scene

RULES = "/admin/governance/policyrule/"
VERSIONS = "/admin/governance/policyversion/"
NOT_SAVED = "Not saved yet."


@pytest.fixture
def editor(db: None) -> Reader:
    return staff("editor", "governance.edit_policy")


def values(**changes: Any) -> dict[str, Any]:
    """Return a form's values: a grant of a day, unless they are changed."""
    return {
        "name": "notes",
        "tokens": "touch",
        "outcome": "allow",
        "justification": "It takes notes.",
        "expires_at": f"{timezone.now() + timedelta(days=1):%Y-%m-%dT%H:%M}",
        "examples": "touch a\r\n\r\n  touch b ",
        "refuses": "mkdir a",
        **changes,
    }


def save(editor: Reader, path: str = f"{RULES}add/", **changes: Any) -> PolicyRule:
    editor.post(path, **values(**changes))
    return PolicyRule.objects.get(name=changes.get("name", "notes"))


def test_a_rule_is_saved_with_its_event_and_takes_part(editor: Reader) -> None:
    before = current_policy().version
    row = save(editor)
    assert row.examples == ["touch a", "touch b"]
    assert row.author == "editor"
    assert [rule.name for rule in current_policy().rules] == ["notes"]
    assert current_policy().version != before
    editor.post(f"{RULES}{row.pk}/change/", **values(justification="Other words."))
    editor.post(f"{RULES}{row.pk}/delete/", post="yes")
    assert current_policy().version == before
    made, changed, deleted = AuditEvent.objects.filter(actor_label="editor", subject_type="rule").order_by("id")
    assert (made.tag, changed.tag, deleted.tag) == ("rule:changed", "rule:changed", "rule:deleted")
    assert '"before":null' in made.body
    assert "It takes notes." in changed.body
    assert "Other words." in changed.body
    assert '"after":null' in deleted.body


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"examples": "mkdir a"}, "mkdir a: It must match, and the rule does not fire for it."),
        ({"refuses": "touch a b"}, "touch a b: It must not match, and the rule fires for it."),
        ({"examples": "touch .env"}, "touch .env: A grant cannot cover it: protected-path"),
        ({"tokens": "make", "examples": "make a"}, "make a: A grant cannot cover it"),
        ({"examples": "touch &#x27;a", "outcome": "deny"}, "It cannot be read"),
        ({"examples": ""}, "This field is required."),
        ({"refuses": ""}, "Give at least one command that the rule is not about."),
        ({"tokens": "git |push"}, "is not a word"),
        ({"tokens": "*"}, "A rule that allows names a program."),
        ({"tokens": "touch \u202e"}, "Only characters that can be seen."),
        ({"expires_at": ""}, "A rule that allows must expire."),
        ({"expires_at": "2020-01-01T00:00"}, "This is over already."),
        ({"directories": "srv"}, "A root is an absolute path"),
        ({"agents": ["nobody"]}, "nobody is not one of the available choices"),
        ({"least_maturity": "AUTONOMOUS", "most_maturity": "INTERN"}, "No agent is at least AUTONOMOUS"),
    ],
)
def test_a_rule_that_cannot_be_saved(editor: Reader, changes: dict[str, Any], said: str) -> None:
    assert said in editor.post(f"{RULES}add/", status=200, **values(**changes)).replace("&amp;", "&")
    assert not PolicyRule.objects.exists()


def test_a_rule_of_every_command_needs_no_command_that_it_is_not_about(editor: Reader) -> None:
    row = save(editor, tokens="*", outcome="deny", examples="anything", refuses="", expires_at="")
    assert row.expires_at is None
    assert "everybody" in editor.get(RULES)
    html = editor.get(f"{RULES}{row.pk}/change/")
    assert "anything</textarea>" in html


def test_what_a_rule_would_have_done_is_shown_before_it_is_saved(editor: Reader, scene: Scene) -> None:
    for command in ("touch /tmp/a", "touch /tmp/b", "ls /tmp", "touch /srv/c"):
        scene.session((Maturity.SUPERVISED, command))
    erased = scene.session((Maturity.SUPERVISED, "touch /tmp/d"))
    AuditPayload.objects.filter(session_id=erased.pk).delete()
    scope = {"agents": ["supervised"], "hosts": ["here"]}
    html = editor.post(f"{RULES}add/", status=200, **values(**scope))
    assert NOT_SAVED in html
    assert "Would have allowed 3 of the last 4 (before: 1)." in html
    assert "2 that asked a person would be allowed." in html
    assert "Of 1 more the request was erased" in html
    assert "touch /tmp/b" in html
    assert "/srv/c" not in html
    seen = html.partition('name="seen" value="')[2].partition('"')[0]
    # What was shown is what is saved: with other values it is shown again.
    assert NOT_SAVED in editor.post(f"{RULES}add/", status=200, **values(justification="Why not.", **scope), seen=seen)
    editor.post(f"{RULES}add/", **values(**scope), seen=seen)
    assert PolicyRule.objects.get().agents == ["supervised"]
    assert scene.session((Maturity.SUPERVISED, "touch /tmp/a")).status == "queued"
    assert scene.session((Maturity.INTERN, "touch /tmp/a")).status == "pending"


def test_what_a_cell_and_a_root_would_have_done_is_shown_too(editor: Reader, scene: Scene) -> None:
    scene.session((Maturity.SUPERVISED, "touch /tmp/a"))
    scene.session((Maturity.SUPERVISED, "ls /srv"))
    cell = MatrixRow.objects.get(category="write", maturity="SUPERVISED")
    html = editor.post(f"/admin/governance/matrixrow/{cell.pk}/change/", status=200, outcome="allow")
    assert "Would have allowed 1 of the last 2 (before: 0)." in html
    root = {"root": "/srv", "access": "read", "least_maturity": "INTERN"}
    html = editor.post("/admin/governance/directoryrow/add/", status=200, **root)
    assert "Would have allowed 1 of the last 2 (before: 0)." in html
    html = editor.post("/admin/governance/directoryrow/add/", status=200, **{**root, "root": "/opt"}, seen="0" * 64)
    assert "No decision would be another." in html
    assert not DirectoryRow.objects.filter(root__in=["/srv", "/opt"]).exists()


def test_a_version_is_shown_and_linked_from_the_session(editor: Reader, scene: Scene) -> None:
    save(editor, scope="", least_maturity="INTERN", directories="~/notes")
    session = scene.session((Maturity.SUPERVISED, "touch /tmp/a"))
    page = f"{VERSIONS}{session.policy_version}/change/"
    reader = staff("reader", "shellagent.view_shellsession")
    assert page in reader.get(f"/admin/shellagent/shellsession/{session.pk}/change/")
    for html in (reader.get(page), editor.get(page)):
        assert "in force" in html
        assert "It takes notes." in html
        assert "in ~/notes, from INTERN" in html
        assert "files.toml" in html
    assert session.policy_version in editor.get(VERSIONS)
    editor.post(f"{VERSIONS}{session.policy_version}/delete/", status=403, post="yes")
    staff("other").get(page, status=404)
    editor.get(f"{VERSIONS}{'0' * 64}/change/", status=404)
    PolicyVersion.objects.all().delete()
    assert page not in reader.get(f"/admin/shellagent/shellsession/{session.pk}/change/")


def test_who_may_not_edit_the_policy_sees_no_rule(editor: Reader) -> None:
    row = save(editor)
    other = staff("other", "governance.view_agent", "shellagent.approve")
    for path in (RULES, f"{RULES}add/", f"{RULES}{row.pk}/change/"):
        other.get(path, status=403)


def test_an_expired_rule_is_marked(editor: Reader) -> None:
    row = save(editor)
    PolicyRule.objects.update(expires_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
    html = editor.get(RULES)
    assert "2026-01-02 03:04" in html
    assert "expired" in html
    # It can be saved again only with a time to come.
    assert "This is over already." in editor.post(
        f"{RULES}{row.pk}/change/", status=200, **values(expires_at="2026-01-02T03:04")
    )
