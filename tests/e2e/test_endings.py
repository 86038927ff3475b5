"""The seven ways that asking for a command can end, through each door, as the model reads them."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from audit.trail import SYSTEM
from governance.models import Agent, AgentKey
from governance.services import key_issue, key_revoke
from tests.e2e.ai_tool import Tool
from tests.e2e.doors import Door, Hooked, Mcp, Shell, id_in
from tests.e2e.product import Product

pytestmark = pytest.mark.e2e

REASON = "Not on this machine."
#: In plain text, or as text in JSON.
PRINTED = re.compile(r"it ran(?:\n|\\n)")
Make = Callable[[str], Door]


@pytest.fixture(params=["stdio", "http", "atom", "hook-check", "hook-run"])
def door(request: pytest.FixtureRequest, product: Product, http: str, tmp_path: Path) -> Iterator[Make]:
    """Make a door for a key."""
    open_until = ExitStack()

    def make(key: str) -> Door:
        match request.param:
            case "stdio" | "http":
                return Mcp(product, key, open_until, http if request.param == "http" else "")
            case "atom":
                return Shell(product, key, tmp_path)
            case hooked:
                return Hooked(Tool(product, tmp_path, key), hooked.removeprefix("hook-"))

    with open_until:
        yield make


@contextmanager
def away(product: Product) -> Iterator[None]:
    """Have no web server for a while."""
    product.processes["web"].stop()
    try:
        yield
    finally:
        product.start_web()


def has_run(through: Door) -> bool:
    """Ask for what nobody has to approve, and return whether the model reads its output, at once or when it looks."""
    text = through.ask("echo it ran")
    if not PRINTED.search(text):
        text = through.look(id_in(text))
    return PRINTED.search(text) is not None


def test_each_ending_is_read_by_the_model(product: Product, door: Make, tmp_path: Path) -> None:
    person, student = product.person(), door(product.agents["student"]["key"])

    def decided(command: str, decision: str, reason: str = "", timeout_seconds: int | None = None) -> str:
        asked = student.ask(command, timeout_seconds=timeout_seconds)
        assert f"{product.url}/" in asked, "it has the link"
        session_id = id_in(asked)
        assert person.decide(session_id, decision, reason).status_code == 200
        return student.look(session_id)

    assert has_run(door(product.agents["autonomous"]["key"]))
    (tmp_path / "listed.txt").touch()
    assert "listed.txt" in decided(f"ls {tmp_path}", "approve")
    assert REASON in decided(f"touch {tmp_path}/never", "reject", REASON)
    assert "timed_out" in decided("sleep 60", "approve", timeout_seconds=1)

    waiting = id_in(student.ask(f"touch {tmp_path}/never"))
    assert "cancelled" in student.cancel(waiting)
    assert "cancelled" in student.look(waiting)

    agent = Agent.objects.get(pk=product.agents["autonomous"]["id"])
    fresh = door(key_issue(agent=agent, actor=SYSTEM, label="short"))
    assert has_run(fresh)
    key_revoke(key=AgentKey.objects.filter(label="short").latest("pk"), actor=SYSTEM)
    assert "revoked" in fresh.ask(f"touch {tmp_path}/never")

    with away(product):
        assert "No server answers" in student.ask(f"touch {tmp_path}/never")
    assert not (tmp_path / "never").exists()
