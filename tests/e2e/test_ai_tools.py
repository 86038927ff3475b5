"""An AI tool with our hook, and a whole product behind it: what runs where, in which folder, and what is kept of it."""

import json

import pytest

from tests.e2e.ai_tool import Seen, Tool
from tests.e2e.product import Product

pytestmark = pytest.mark.e2e


@pytest.fixture
def tool(product: Product) -> Tool:
    return Tool(product, product.folder / "user", product.agents["supervised"]["key"])


def test_asking_governance_before_a_shell(product: Product, tool: Tool) -> None:
    tool.connect("check")
    (tool.folder / "here.txt").write_text("it is here\n")
    assert tool.bash("cat here.txt") == Seen("it is here\n", ran="cat here.txt")
    denied = tool.bash("sudo reboot")
    assert (denied.ran, "sudo" in denied.text) == ("", True)
    syntax = tool.bash("echo $(id)")
    assert (syntax.ran, "substitution" in syntax.text) == ("", True)

    for decision, reason in (("approve", ""), ("reject", "Not on this machine.")):
        asked = tool.bash(f"touch {decision}.txt")
        assert asked.ran == ""
        (session_id,) = {word.strip("`") for word in asked.text.split() if word.count("-") == 4}
        assert product.person().decide(session_id, decision, reason).status_code == 200
        seen = tool.sh(f"atom wait {session_id}")
        assert seen.returncode == (0 if decision == "approve" else 77)
        assert reason in seen.stderr
        assert (tool.folder / f"{decision}.txt").exists() is (decision == "approve")


def test_having_every_call_run_by_a_host(product: Product, tool: Tool) -> None:
    tool.connect("run")
    assert tool.sh("atom doctor").returncode == 0
    (tool.folder / "here.txt").write_text("it is here\n")
    seen = tool.bash("cat here.txt | tr a-z A-Z")
    assert seen.text == "IT IS HERE\n"
    assert seen.ran.startswith("atom run ")
    listed = json.loads(tool.sh("atom list --json --limit 1").stdout)["sessions"][0]
    assert (listed["command"], listed["reason"]) == ("cat here.txt | tr a-z A-Z", "a test")
    assert "sudo" in tool.bash("sudo reboot").text
