"""`manage.py policy check`, `test` and `diff`."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from atomsite.commands import UnavailableError
from audit.models import AuditPayload
from audit.trail import SYSTEM
from governance.models import MatrixRow, PolicyRule, PolicyVersion
from governance.policies import current_policy
from governance.policy.decide import build_policy
from governance.policy.types import Maturity
from governance.services import rule_save
from tests.shellagent.scene import Scene, rows

Policy = Callable[..., tuple[int, str]]


@pytest.fixture
def policy(db: None) -> Policy:
    """Run the command; gives its exit code and what it printed. A usage error has the code 64."""

    def run(*words: str) -> tuple[int, str]:
        out, err = io.StringIO(), io.StringIO()
        try:
            call_command("policy", *words, stdout=out, stderr=err)
        except CommandError as error:
            return error.returncode, str(error)
        except SystemExit as error:
            return int(error.code or 0), out.getvalue() + err.getvalue()
        return 0, out.getvalue()

    return run


class TestCheck:
    @pytest.mark.parametrize(
        ("maturity", "command", "code"),
        [
            ("SUPERVISED", "ls | head -3", 0),
            ("INTERN", "ls | head -3", 3),
            ("SUPERVISED", "touch a", 3),
            ("AUTONOMOUS", "sudo ls", 4),
            ("STUDENT", "nonesuch", 4),
            ("SUPERVISED", "ls $(pwd)", 64),
            ("SUPERVISED", "", 64),
        ],
    )
    def test_its_exit_code_is_the_answer(self, policy: Policy, maturity: str, command: str, code: int) -> None:
        assert policy("check", "--maturity", maturity, "--", command)[0] == code

    def test_people_see_the_plan_the_words_the_rule_and_what_would_allow_it(self, policy: Policy) -> None:
        code, told = policy("check", "--maturity", "SUPERVISED", "--", "ls -l && rm a | cat '\u00e9'")
        assert code == 3
        for said in (
            "  1   ls -l",
            "then, only if that succeeded:",
            "  2   rm a",
            "  3 | cat",
            "matrix:delete:SUPERVISED",
            "-l    option",
            "What would allow it: An approver can allow it.",
            "from the database.",
        ):
            assert said in told, told

    def test_programs_get_the_decision_object(self, policy: Policy, scene: Scene) -> None:
        code, told = policy("check", "--maturity", "SUPERVISED", "--directory", "/srv/x", "--json", "--", "cat", "a b")
        assert code == 0
        decision = json.loads(told)
        assert decision["plan"]["steps"][0]["pipeline"][0]["argv"] == ["cat", "a b"]
        assert {"path": "/srv/x", "access": "read"} in decision["grants"]
        assert decision["policy_version"] == current_policy().version

    def test_what_cannot_be_read_is_told_with_its_place(self, policy: Policy) -> None:
        code, told = policy("check", "--json", "--maturity", "SUPERVISED", "--", "ls; (x)")
        error = json.loads(told)["error"]
        assert (code, error["column"]) == (64, 5)
        assert error["hint"]

    def test_one_object_is_shown_everywhere(self, policy: Policy, scene: Scene) -> None:
        """By the dry run, the answer of execute, the session as it is stored, and this command."""
        agent, command = scene.as_agent(Maturity.SUPERVISED), "touch /tmp/a && ls /tmp"
        code, told = policy("check", "--agent", "supervised", "--json", "--", command)
        decision = json.loads(told)
        assert code == 3
        asked = agent.execute(command).json
        assert asked["decision"] == decision
        address = f"/api/agents/{scene.agents[Maturity.SUPERVISED].pk}/governance"
        assert agent.post(address, {"command": command}).json == decision
        stored = AuditPayload.objects.get(session_id=asked["id"], kind=AuditPayload.Kind.DECISION)
        assert json.loads(bytes(stored.data)) == decision
        assert agent.execute("sudo ls").json["decision"]["rules"][0]["id"] == "blocked"

    def test_an_agent_may_be_tried_with_another_maturity(self, policy: Policy, scene: Scene) -> None:
        before = rows()
        assert policy("check", "--agent", "intern", "--", "ls /tmp")[0] == 3
        assert policy("check", "--agent", "intern", "--maturity", "SUPERVISED", "--", "ls /tmp")[0] == 0
        assert rows() == before

    @pytest.mark.parametrize(
        "words",
        [
            ("check", "ls"),
            ("check", "--maturity", "BOSS", "ls"),
            ("check", "--maturity", "INTERN"),
            ("check", "--maturity", "INTERN", "--directory", "srv", "ls"),
            ("check", "--agent", "nobody", "ls"),
            ("check", "--agent", "intern", "--host", "nowhere", "ls"),
            ("check", "--agent", "intern", "--shipped", "ls"),
            ("test", "/nonexistent"),
            ("diff", "--last", "0"),
            ("diff", "--against", "ffff"),
            ("diff", "--against", ""),
            ("diff", "--rules", "/nonexistent"),
            ("diff", "--rules", "a", "--against", "b"),
            ("judge",),
            (),
        ],
    )
    def test_usage(self, policy: Policy, scene: Scene, words: tuple[str, ...]) -> None:
        assert policy(*words)[0] == 64

    def test_without_a_database_the_shipped_rules_decide(self, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
        MatrixRow.objects.filter(category="read").update(outcome="deny")
        assert policy("check", "--maturity", "SUPERVISED", "ls")[0] == 4
        assert policy("check", "--maturity", "SUPERVISED", "--shipped", "ls")[0] == 0

        def missing() -> None:
            raise UnavailableError("There is none.")

        monkeypatch.setattr("atomsite.management.commands.policy.check_set_up", missing)
        code, told = policy("check", "--maturity", "SUPERVISED", "ls")
        assert code == 0
        assert "from the shipped rules, because there is no database: There is none." in told
        assert policy("diff")[0] == 69


class TestExpectations:
    def test_failures_and_every_figure_are_told(self, policy: Policy, tmp_path: Path) -> None:
        file = tmp_path / "rows.jsonl"
        file.write_text(
            '{"command": "ls", "expect": "allow", "label": "read"}\n'
            '{"command": "touch a", "expect": "allow", "label": "read"}\n'
            '{"command": "cat a", "label": "escape"}\n'
            '{"command": "ls | wc -l", "label": "oneliner"}\n'
        )
        code, told = policy("test", str(file))
        assert code == 1
        for said in (
            "rows.jsonl:2: touch a",
            "expected allow at SUPERVISED, found ask: ",
            "an escape is allowed at SUPERVISED",
            "Expectations:        1 of 2 hold",
            "Reading allowed:     1 of 2 (50.0 %)",
            "Escapes allowed:     1 of 1",
            "One-liners parsed:   1 of 1 (100.0 %)",
        ):
            assert said in told
        code, told = policy("test", "--json", "--shipped", str(file))
        report = json.loads(told)
        assert code == 1
        assert (report["read_allowed"], report["escape_allowed"], report["oneliner_parsed"]) == (1, 1, 1)
        assert [failure["place"] for failure in report["failures"]] == [f"{file}:2"]
        assert report["policy_version"] == build_policy().version
        file.write_text('{"command": "ls", "expect": "allow"}\n')
        assert policy("test", str(file))[0] == 0
        file.write_text("ls\n")
        assert policy("test", str(file)) == (64, f"{file}:1: Expecting value: line 1 column 1 (char 0)")


class TestDiff:
    def test_against_what_was_decided_then(self, policy: Policy, scene: Scene) -> None:
        scene.session((Maturity.SUPERVISED, "ls /tmp"))
        touched = scene.session((Maturity.SUPERVISED, "touch /tmp/a"))
        scene.session((Maturity.AUTONOMOUS, "touch /tmp/a"))
        gone = scene.session((Maturity.SUPERVISED, "touch /tmp/b"))
        AuditPayload.objects.filter(session_id=gone.pk).delete()
        assert "No decision would be another." in policy("diff")[1]
        first = current_policy().version
        cell = MatrixRow.objects.get(category="write", maturity="SUPERVISED")
        cell.outcome = "allow"
        rule_save(row=cell, actor=SYSTEM)
        # Whether the agent may do more now is another matter.
        scene.agents[Maturity.SUPERVISED].maturity = "STUDENT"
        scene.agents[Maturity.SUPERVISED].save()
        before = rows()
        code, told = policy("diff")
        assert code == 0
        assert "ask -> allow  touch /tmp/a" in told
        assert "Would have allowed 3 of the last 3 (before: 2). 1 that asked a person would be allowed." in told
        assert "Of 1 more the request was erased" in told
        result = json.loads(policy("diff", "--json", "--last", "100")[1])
        (change,) = result["changes"]
        assert (change["session_id"], change["before"], change["after"]) == (str(touched.pk), "ask", "allow")
        assert (result["total"], result["erased"], result["before"]) == (3, 1, None)
        assert json.loads(policy("diff", "--json", "--last", "2")[1])["total"] == 1
        result = json.loads(policy("diff", "--json", "--against", first[:12])[1])
        assert [one["before"] for one in result["changes"]] == ["ask"]
        assert (result["before"], result["after"]) == (first, current_policy().version)
        assert rows() == before

    def test_with_rules_that_are_not_saved(self, policy: Policy, scene: Scene, tmp_path: Path) -> None:
        for maturity in (Maturity.INTERN, Maturity.SUPERVISED):
            scene.session((maturity, "touch /tmp/a"))
        file = tmp_path / "rules.jsonl"
        rule: dict[str, Any] = {
            "tokens": "touch",
            "outcome": "allow",
            "justification": "Notes.",
            "scope": {"agents": ["intern"]},
        }
        file.write_text(f"# a grant\n\n{json.dumps(rule)}\n")
        told = policy("diff", "--rules", str(file))[1]
        assert "ask -> allow  touch /tmp/a" in told
        assert "intern (INTERN) on here" in told
        assert "Would have allowed 1 of the last 2 (before: 0)." in told
        assert not PolicyRule.objects.exists()
        file.write_text('{"tokens": "touch"}')
        code, told = policy("diff", "--rules", str(file))
        assert (code, told.startswith(f"{file}:1: ")) == (64, True)

    def test_a_policy_that_cannot_be_made_again_is_told(self, policy: Policy, scene: Scene) -> None:
        version = current_policy().version
        row = PolicyVersion.objects.get(version=version)
        content = row.unpacked()
        content["tables"] = {}
        PolicyVersion.objects.update(content=PolicyVersion.packed(content))
        err = io.StringIO()
        call_command("policy", "diff", "--against", version, stdout=io.StringIO(), stderr=err)
        assert "made for another engine" in err.getvalue()
