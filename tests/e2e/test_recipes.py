"""What `atom connect` prints for tools without hooks runs as it is, with a scripted model in place of a paid one."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from django.db import connections

from governance.models import Agent
from governance.policy.types import Maturity
from shellagent.client import connecting
from shellagent.client_file import client_file
from shellagent.models import ShellSession
from tests.e2e.product import ROOT, Product, eventually

pytestmark = pytest.mark.e2e

MODELS = Path(__file__).parent / "models"
#: An environment with LangGraph and the OpenAI Agents SDK, which `make test-slow` makes.
PYTHON = ROOT / ".venv" / "recipes" / "bin" / "python"
REASON = "Not on this machine."


@pytest.fixture
def there(product: Product) -> Path:
    """A folder with `atom` and the recipes, as `atom connect` prints them."""
    folder = product.folder / "recipes"
    folder.mkdir(exist_ok=True)
    (folder / "atom").write_bytes(client_file())
    (folder / "atom").chmod(0o755)
    for name, file in connecting.RECIPES.items():
        printed = subprocess.run([folder / "atom", "connect", name], capture_output=True, check=True)
        (folder / file).write_bytes(printed.stdout)
    return folder


@pytest.fixture
def environment(product: Product, there: Path) -> Mapping[str, str]:
    # The test before asked for what is blocked, which costs an agent its maturity.
    Agent.objects.filter(pk=product.agents["supervised"]["id"]).update(maturity=Maturity.SUPERVISED)
    return {
        "PATH": f"{there}:{os.environ['PATH']}",
        "HOME": str(there),
        "PYTHONPATH": f"{there}:{there / 'atom'}",
        "ATOM_URL": product.url,
        "ATOM_KEY": product.agents["supervised"]["key"],
    }


def wanted(there: Path) -> list[str]:
    """One that is allowed, one to approve, one to reject, one that is denied."""
    return [f"ls {there}", f"touch {there}/approved", f"touch {there}/rejected", "sudo reboot"]


def decide(product: Product) -> bool:
    """Decide on what waits: reject what says so, approve the rest. Returns whether anything did."""
    waiting = list(ShellSession.objects.filter(status="pending"))
    for session in waiting:
        maturity = next(name for name, agent in product.agents.items() if agent["id"] == session.agent_id)
        found = product.session(str(session.pk), maturity)
        command = found["command"] or " ".join(found["argv"])
        decision, reason = ("reject", REASON) if "rejected" in command else ("approve", "")
        assert product.person().decide(str(session.pk), decision, reason).status_code == 200
    return bool(waiting)


@contextmanager
def deciding(product: Product) -> Iterator[None]:
    """Decide as long as the block lasts."""
    is_over = threading.Event()

    def work() -> None:
        while not is_over.wait(0.2):
            decide(product)
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def check(answers: list[str], there: Path) -> None:
    """Check what the model was told of each of its commands."""
    allowed, approved, rejected, denied = answers
    assert "exit code 0\n" in allowed
    assert "langgraph_tool.py" in allowed
    assert "exit code 0\n" in approved
    assert (there / "approved").exists()
    assert REASON in rejected
    assert not (there / "rejected").exists()
    assert "did not run" in denied
    assert "sudo" in denied
    (there / "approved").unlink()


@pytest.mark.parametrize("name", ["openai_agents", "requests"])
def test_a_model_asks_waits_and_is_told(
    product: Product, there: Path, environment: Mapping[str, str], name: str
) -> None:
    with deciding(product):
        done = subprocess.run(
            [PYTHON, MODELS / f"{name}_model.py", json.dumps(wanted(there))],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
    assert done.returncode == 0, done.stderr
    check(json.loads(done.stdout.splitlines()[-1])["answers"], there)


def test_a_graph_stops_while_a_person_decides(product: Product, there: Path, environment: Mapping[str, str]) -> None:
    said: list[dict[str, Any]] = []
    with subprocess.Popen(
        [PYTHON, MODELS / "langgraph_model.py", json.dumps(wanted(there))],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as graph:
        assert graph.stdin is not None
        assert graph.stdout is not None
        for line in graph.stdout:
            said.append(json.loads(line))
            if "interrupt" in said[-1]:
                eventually(lambda: decide(product))
                graph.stdin.write("\n")
                graph.stdin.flush()
        assert graph.wait(60) == 0
    assert [step["interrupt"]["command"] for step in said[:-1]] == wanted(there)[1:3]
    assert all(step["interrupt"]["approve_url"].startswith(product.url) for step in said[:-1])
    check(said[-1]["answers"], there)


def test_each_line_of_the_crontab_is_a_command_that_runs(
    product: Product, there: Path, environment: Mapping[str, str]
) -> None:
    lines = [line for line in (there / "crontab.txt").read_text().splitlines() if re.match(r"[0-9*]", line)]
    assert len(lines) == 2
    with deciding(product):
        for line in lines:
            command = re.sub(r"^(?:\S+ ){5}", "", line).replace("--wait 3600", "--wait 15")
            # The same on less than all that a machine has in /tmp.
            command = command.replace("/tmp", str(there))  # noqa: S108
            done = subprocess.run(
                ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=False, timeout=120
            )
            # What there is to remove is not there: the command ran, and says so itself.
            assert done.returncode == ("rm -r" in command), done.stderr
    assert "No such file" in (there / "cleaning.log").read_text()


class Workflow:
    """Walks through a workflow of n8n: its requests, its question and its pause, as their parameters say."""

    def __init__(self, path: Path, product: Product) -> None:
        found = json.loads(path.read_text())
        self.nodes = {node["name"]: node for node in found["nodes"]}
        self.connections = found["connections"]
        self.product = product
        self.item: dict[str, Any] = {}
        self.fixed: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        name, steps = "Start", 0
        while self.nodes[name]["type"] != "n8n-nodes-base.noOp":
            way = self.step(self.nodes[name])
            name = self.connections[name]["main"][way][0]["node"]
            steps += 1
            assert steps < 50
        return self.item

    def step(self, node: dict[str, Any]) -> int:
        """Do what a node does, and return which of its outputs is taken."""
        kind, given = node["type"].rpartition(".")[2], node["parameters"]
        if kind == "set":
            self.fixed |= {item["name"]: item["value"] for item in given["assignments"]["assignments"]}
        elif kind == "httpRequest":
            named = given.get("headerParameters", {}).get("parameters", [])
            headers = {item["name"]: self.filled(item["value"]) for item in named}
            answer = requests.request(
                given["method"],
                self.filled(given["url"]),
                headers={**headers, **self.product.headers("student"), "Content-Type": "application/json"},
                data=given.get("jsonBody"),
                timeout=given["options"]["timeout"] / 1000,
            )
            self.item = answer.json()
        elif kind == "if":
            (condition,) = given["conditions"]["conditions"]
            return 0 if self.filled(condition["leftValue"]) == condition["rightValue"] else 1
        elif kind == "wait":
            assert float(self.filled(given["amount"])) > 0
        return 0

    def filled(self, text: str) -> str:
        """Return an expression with what it names put in."""
        names = {f"$('Server').first().json.{name}": value for name, value in self.fixed.items()}
        names |= {"$workflow.id": "a", "$execution.id": "1"}
        names |= {f"$json.{name}": value for name, value in self.item.items() if not isinstance(value, dict | list)}
        return re.sub(r"{{ (.+?) }}", lambda found: str(names[found[1]]), text.removeprefix("="))


def test_the_workflow_asks_and_comes_to_its_end(product: Product, there: Path) -> None:
    file = there / "n8n_workflow.json"
    file.write_text(file.read_text().replace("http://localhost:8000", product.url))
    with deciding(product):
        ended = Workflow(file, product).run()
    assert (ended["status"], ended["exit_code"]) == ("succeeded", 0)


@pytest.mark.skipif(shutil.which("n8n") is None, reason="needs n8n")
def test_n8n_itself_runs_the_workflow(product: Product, there: Path) -> None:
    def n8n(*arguments: str) -> str:
        environment = {**os.environ, "N8N_USER_FOLDER": str(there), "N8N_DIAGNOSTICS_ENABLED": "false"}
        done = subprocess.run(
            ["n8n", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    workflow = json.loads((there / "n8n_workflow.json").read_text().replace("http://localhost:8000", product.url))
    (name,) = {node["credentials"]["httpHeaderAuth"]["name"] for node in workflow["nodes"] if "credentials" in node}
    header = {"name": "Authorization", "value": product.headers("student")["Authorization"]}
    (there / "key.json").write_text(json.dumps([{"id": "key", "name": name, "type": "httpHeaderAuth", "data": header}]))
    (there / "workflow.json").write_text(json.dumps({**workflow, "id": "atom"}))
    n8n("import:credentials", f"--input={there}/key.json")
    n8n("import:workflow", f"--input={there}/workflow.json")
    with deciding(product):
        ran = n8n("execute", "--id=atom", "--rawOutput")
    assert '"lastNodeExecuted": "Done"' in ran
    assert '"exit_code": 0' in ran
