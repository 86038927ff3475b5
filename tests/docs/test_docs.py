"""The documentation names what there is, all of it, and nothing else. No server and no database."""

import json
import re
import subprocess
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import BaseCommand
from django.urls import URLPattern
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer

from atomsite import urls
from atomsite.problems import known_types
from audit.tags import Tag
from governance.policy.classify import ASK_RULES
from governance.policy.matrix import SHIPPED_DIRECTORIES, SHIPPED_MATRIX
from governance.policy.paths import load_protection
from governance.policy.types import Category, Maturity
from shellagent import client, protocol
from shellagent.client import cli
from shellagent.client.arguments import Parser
from shellagent.codec import decode
from shellagent.host import localagent, runlocalagent
from shellagent.mcp_server import command as mcp
from shellagent.states import BEGINNINGS, TRANSITIONS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
#: Written by `make bench` and by the browser tests, so that a clone may be without them.
GENERATED = frozenset(
    f"docs/{name}"
    for name in (
        "benchmarks.md",
        *(
            f"images/{shot}.png"
            for shot in ("index", "record", "approval-queue", "session", "agent", "host", "matrix", "story", "trail")
        ),
    )
)
PRODUCT = ("atomsite", "audit", "governance", "shellagent")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def rows(page: Path, *, columns: int) -> list[list[str]]:
    """Return the rows of every table of a page that has this many columns, without the marks of code."""
    found = []
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == columns:
            found.append([cell.replace("`", "") for cell in cells])
    return found


def sources(*patterns: str) -> Iterator[str]:
    """Yield the text of the product's own Python files."""
    for package in patterns:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.read_text()


def squeezed(text: str) -> str:
    """Return a text with every run of blanks as one, because a help text is wrapped to the terminal."""
    return " ".join(text.split())


@pages
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            assert str(file.relative_to(ROOT)) in GENERATED, f"{target} leads nowhere"
        elif anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_index_lists_every_page() -> None:
    listed = set(re.findall(r"\]\(([^)\s]+)\)", (DOCS / "README.md").read_text()))
    assert {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if page != DOCS / "README.md"} <= listed


@pages
def test_every_command_named_exists(page: Path) -> None:
    known = {*get_commands(), "help"}
    named = set(re.findall(r"manage\.py ([a-z_]+)", page.read_text()))
    assert named <= known, named - known


@pages
def test_every_make_target_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= targets, named - targets


def test_every_make_target_is_described() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    described = {row[0].removeprefix("make ") for row in rows(REFERENCE / "commands.md", columns=2)}
    assert targets <= described


def test_the_options_described_are_those_there_are() -> None:
    helps = {
        "runlocalagent": runlocalagent.parser().format_help(),
        "localagent": localagent.parser().format_help(),
        "mcp": mcp.parser().format_help(),
        "atom": cli.parser().format_help(),
        **{f"atom {name}": parser.format_help() for name, parser in subparsers(cli.parser()).items()},
        "atom policy check": subparsers(subparsers(cli.parser())["policy"])["check"].format_help(),
        **{f"localagent {name}": parser.format_help() for name, parser in actions().items()},
    }
    for name in (
        "init",
        "up",
        "tour",
        "rotate_signing_key",
        "rotate_audit_key",
        "auditverify",
        "auditexport",
        "auditretire",
        "auditrole",
        "killswitch",
    ):
        command = load_command_class("atomsite", name)
        assert isinstance(command, BaseCommand)
        helps[name] = command.create_parser("manage.py", name).format_help()
    assert get_commands()["qcluster"] == "atomsite.worker", "django-q2's own has other exit codes and no examples"
    worker = load_command_class("atomsite.worker", "qcluster")
    assert isinstance(worker, BaseCommand)
    helps["qcluster"] = worker.create_parser("manage.py", "qcluster").format_help()
    for name in ("policy", "approvals"):
        command = load_command_class("atomsite", name)
        assert isinstance(command, BaseCommand)
        parser = command.create_parser("manage.py", name)
        helps[name] = parser.format_help()
        helps |= {f"{name} {action}": one.format_help() for action, one in subparsers(parser).items()}
    described = {squeezed(block) for block in blocks(REFERENCE / "commands.md", "text")}
    for name, text in helps.items():
        assert squeezed(text) in described, f"the help of {name} is another one"
        assert "\nexamples:\n" in text or name == "atom policy", f"the help of {name} has no examples"
    assert len(described) == len(helps)


def actions() -> dict[str, Parser]:
    """Return the parsers of `localagent`'s actions."""
    return subparsers(localagent.parser())


def subparsers(parser: ArgumentParser) -> dict[str, Any]:
    """Return the parsers of a command's actions."""
    (found,) = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return found


def test_every_setting_read_is_described_and_the_other_way_round() -> None:
    described = {row[0] for row in rows(REFERENCE / "settings.md", columns=3)} - {"variable"}
    text = "\n".join([*sources(*PRODUCT), (ROOT / "gunicorn.conf.py").read_text()])
    read = set(re.findall(r"(?:environ(?:\.get|\.pop)?[(\[]|_flag\(|_number\()\s*\"([A-Z][A-Z_]*)\"", text))
    read |= set(re.findall(r"environ(?:\.get|\.pop)?[(\[]'([A-Z_]+)'", text))
    read |= set(re.findall(r"^[A-Z]*_?VARIABLE: Final = \"([A-Z_]+)\"", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    read |= {name for name in ("PYTHON", "PYTEST_ARGS", "TEST_DATABASE_URL") if f"$({name})" in makefile}
    assert described == read


def test_every_system_check_is_described() -> None:
    described = {
        row[0] for row in rows(REFERENCE / "commands.md", columns=2) if re.fullmatch(r"[a-z]+\.[EW]\d+", row[0])
    }
    assert described == set(re.findall(r"id=\"([a-z]+\.[EW]\d+)\"", "\n".join(sources(*PRODUCT))))


def test_every_metric_is_described_and_the_other_way_round() -> None:
    described = set(re.findall(r"`(atom_[a-z_]+)`", (REFERENCE / "metrics.md").read_text()))
    exported = re.findall(r"\"(atom_[a-z_]+)\"", (ROOT / "atomsite" / "metrics.py").read_text())
    assert {name.removesuffix("_total") for name in described} == {name.removesuffix("_total") for name in exported}


def test_every_problem_is_described_as_it_is() -> None:
    described = {row[0]: (row[1], row[2]) for row in rows(REFERENCE / "problems.md", columns=4)}
    del described["type"]
    assert described == {name: (str(item.status), item.next_action) for name, item in known_types().items()}


def test_every_arrow_is_described() -> None:
    described = {(row[1], row[2]): row[0] for row in rows(REFERENCE / "states.md", columns=4)}
    del described["from", "to"]
    assert described == {(str(source), str(target)): letter for (source, target), letter in TRANSITIONS.items()}
    begins = {row[1]: row[0] for row in rows(REFERENCE / "states.md", columns=3)}
    del begins["state"]
    assert begins == {str(state): letter for state, letter in BEGINNINGS.items()}


def test_the_diagram_has_every_arrow() -> None:
    (diagram,) = blocks(REFERENCE / "states.md", "")
    drawn = set()
    source = ""
    for line in diagram.splitlines():
        source = line.split()[0] if line[0] != " " else source
        for letter, targets in re.findall(r"-([a-z])-> ([a-z_, ]+)", line):
            drawn |= {(source, target, letter) for target in re.findall(r"[a-z]+_?[a-z]+", targets) if target != "or"}
    arrows = {(str(one), str(other), letter) for (one, other), letter in TRANSITIONS.items()}
    assert drawn == arrows | {("request", str(state), letter) for state, letter in BEGINNINGS.items()}


def test_every_address_is_described() -> None:
    text = (REFERENCE / "api.md").read_text()
    routes = [pattern.pattern for pattern in urls.urlpatterns if isinstance(pattern, URLPattern)]
    addresses = {"/" + re.sub(r"<(?:\w+:)?(\w+)>", _place, str(route)) for route in routes}
    assert len(addresses) > 15
    assert not {address for address in addresses if address not in text}


def _place(match: re.Match[str]) -> str:
    return "{type}" if match[1] == "slug" else "{id}"


def test_the_answers_told_of_a_call_are_in_its_description() -> None:
    described = json.loads((REFERENCE / "openapi.json").read_text())["paths"]
    missing = []
    for title, text in re.findall(
        r"^### (.+)$\n(.*?)(?=^##)", (REFERENCE / "api.md").read_text(), re.DOTALL | re.MULTILINE
    ):
        told = set(re.findall(r"\b([45]\d\d)\b", text))
        for path in re.findall(r"(/api/\S+?)(?:,|$)", title, re.MULTILINE):
            (calls,) = [calls for known, calls in described.items() if re.sub(r"{\w+}", "{id}", known) == path]
            missing += [
                (path, status) for status in told if not any(status in call["responses"] for call in calls.values())
            ]
    assert missing == []


def test_the_examples_of_messages_can_be_read() -> None:
    section = (REFERENCE / "protocol.md").read_text().partition("## One command, call by call")[2]
    examples = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```", section, re.DOTALL | re.MULTILINE)]
    kinds = (
        protocol.PollRequest,
        protocol.PollAnswer,
        protocol.StartRequest,
        protocol.OutputRequest,
        protocol.RecordRequest,
        protocol.RecordAnswer,
    )
    for kind, example in zip(kinds, examples, strict=True):
        assert set(example) <= {item.name for item in fields(kind)}
        decode(kind, example)
    (enrol,) = [json.loads(text) for text in re.findall(r"-d '(.*?)'$", section, re.DOTALL | re.MULTILINE)]
    decode(protocol.EnrolRequest, enrol)


@pages
def test_every_file_of_the_code_named_exists(page: Path) -> None:
    named = re.findall(r"`((?:atomsite|audit|governance|shellagent|tests|bench|faults)/[\w./]*)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_event_is_described() -> None:
    described = set(re.findall(r"`([a-z_]+:[a-z_]+)`", (REFERENCE / "events.md").read_text()))
    assert described == {tag.value for tag in Tag}


def test_every_message_and_its_members_are_described() -> None:
    text = (REFERENCE / "protocol.md").read_text()
    words = set(re.findall(r"`([A-Za-z_0-9-]+)`", text))
    messages = [item for item in vars(protocol).values() if isinstance(item, type) and is_dataclass(item)]
    wanted = {message.__name__ for message in messages} | {
        item.name for message in messages for item in fields(message)
    }
    for names in (protocol.RunOutcome, protocol.Reason, protocol.GrantStatus, protocol.Desired):
        wanted |= {item.value for item in names}
    assert wanted <= words, wanted - words


def test_the_matrix_described_is_the_shipped_one() -> None:
    described = {row[0]: row[1:] for row in rows(REFERENCE / "policy.md", columns=5)}
    assert described.pop("category") == list(Maturity)
    assert described == {
        category: [SHIPPED_MATRIX[category, maturity].value for maturity in Maturity] for category in Category
    }


def test_the_directories_described_are_the_shipped_ones() -> None:
    described = [row for row in rows(REFERENCE / "policy.md", columns=3) if row[0].startswith(("/", "~"))]
    assert described == [[rule.root, rule.access, rule.least_maturity] for rule in SHIPPED_DIRECTORIES]


def test_every_protected_path_is_described() -> None:
    text = (REFERENCE / "policy.md").read_text()
    known = load_protection()
    paths = [path for path, _why in (*known.paths, *known.below_home)] + [*known.readable, *known.writable]
    assert not [path for path in paths if f"`{path}`" not in text]


def test_every_rule_is_described_and_the_other_way_round() -> None:
    code = "\n".join([*sources("governance/policy"), *sources("shellagent/services")])
    fired = set(re.findall(r"\.(?:add|find)\(\s*\"([a-z-]+)\"", code)) | set(ASK_RULES)
    fired |= set(re.findall(r"\"(unknown-[a-z]+)\"", code)) | set(re.findall(r"Rule\(\"([a-z-]+)\"", code))
    (bars,) = re.findall(r"^_BARS = \{(.*?)^\}", code, re.DOTALL | re.MULTILINE)
    fired |= set(re.findall(r"\"([a-z-]+)\":", bars))
    page = (REFERENCE / "policy.md").read_text()
    (section,) = re.findall(r"^## Rules\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    assert set(re.findall(r"^\| `([a-z-]+)` ", section, re.MULTILINE)) == fired


@pages
def test_examples_can_be_read(page: Path) -> None:
    for code in blocks(page, "python"):
        compile(code, str(page), "exec")
    for script in blocks(page, "sh"):
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_client_s_calls_and_names_are_described() -> None:
    text = (REFERENCE / "python-client.md").read_text()
    called = {name for name, value in vars(client.Atom).items() if callable(value) and not name.startswith("_")}
    described = set(re.findall(r"^\| `(\w+)\(", text, re.MULTILINE))
    assert called - {"close"} == described
    for name in client.__all__:
        assert f"`{name}" in text, f"{name} is not described"


def test_the_description_that_is_shipped_is_that_of_the_code() -> None:
    schema = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    made = json.loads(OpenApiJsonRenderer().render(schema))
    assert json.loads((REFERENCE / "openapi.json").read_text()) == made, "run `make schema`"
