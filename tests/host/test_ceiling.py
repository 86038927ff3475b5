"""The host's own ceiling: what its file may say, and what it keeps from running."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from governance.policy.parse import parse_text
from governance.policy.types import Category, Facts
from shellagent.host import ceiling
from shellagent.host.ceiling import NO_CEILING, Ceiling, narrowed
from shellagent.host.environment import is_within, search_path
from shellagent.host.errors import RefusedError, StateError
from shellagent.host.holding import Holding
from shellagent.host.limits import MEBIBYTE
from shellagent.protocol import PathGrant
from tests.host.server import assignment

WHOLE = """
highest_category = "build"
network = false
longest_timeout_seconds = 20
blocked_programs = ["perl"]
environment = ["CI", "APP_*"]
spool_mib = 10

[limits]
processes = 100
memory_mib = 2000

[[roots]]
path = "~/work"
access = "write"

[secrets]
TOKEN = { environment = "THE_TOKEN" }
PASSWORD = { file = "/srv/password" }
"""


#: A program whose name is a link, and the name that it leads to.
LINKED = next(
    (name, os.path.basename(os.path.realpath(path)))
    for name in ("awk", "python3", "sh", "ex")
    if (path := shutil.which(name)) and os.path.basename(os.path.realpath(path)) != name
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ceiling.toml"
    path.write_text("")
    path.chmod(0o600)
    return path


def held(limits: Ceiling, command: str, *, protections: tuple[str, ...] = ("landlock-fs-v7",), **values: object) -> str:
    """Return why a command is refused, or an empty text."""
    holding = Holding(
        limits, facts=Facts("/home/a", "a", "/scratch", is_sandboxed=True), path=search_path(), protections=protections
    )
    values.setdefault("directory", "/srv/work")
    try:
        holding.secrets_of(assignment(plan=parse_text(command), **values))  # type: ignore[arg-type]
    except RefusedError as error:
        return f"{error.reason}: {error}"
    return ""


def test_a_whole_file_is_read_and_shown_without_values(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_TOKEN", "a value of the token")
    file.write_text(WHOLE)
    found = ceiling.load(file)
    shown = found.shown()
    assert found.roots == (PathGrant(os.path.expanduser("~/work"), "write"),)
    assert shown["secrets"] == {"TOKEN": "environment THE_TOKEN", "PASSWORD": "file /srv/password"}
    assert "a value of the token" not in str(shown) + repr(found)
    assert found.values_of(("TOKEN",)) == {"TOKEN": "a value of the token"}
    assert found.files == (str(file), "/srv/password")
    assert (found.limits.processes, found.limits.memory_bytes) == (100, 2000 * MEBIBYTE)
    assert shown["limits"] == {"memory_mib": 2000, "processes": 100, "spool_mib": 10}
    assert found.shown_limits() == {**NO_CEILING.shown_limits(), **shown["limits"]}


def test_without_a_file_there_is_no_limit_and_no_secret(tmp_path: Path) -> None:
    none = ceiling.load(tmp_path / "ceiling.toml")
    assert not held(none, "perl x.pl", obligations=("network",), timeout=300)
    with pytest.raises(RefusedError, match="no ceiling file"):
        none.values_of(("TOKEN",))
    with pytest.raises(StateError, match="does not exist"):
        ceiling.load(tmp_path / "ceiling.toml", must_exist=True)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("colour = 1", "'colour' is no key"),
        ("network = 'no'", "'network' is true or false"),
        ("network = ", "is not TOML"),
        ("longest_timeout_seconds = 0", "from 1 to 300"),
        ("longest_timeout_seconds = true", "from 1 to 300"),
        ("highest_category = 'blocked'", "one of read, write"),
        ("blocked_programs = 'perl'", "a list of texts"),
        ("environment = ['A B']", "'A B'"),
        ("roots = ['/srv']", "[[roots]]"),
        ("[[roots]]\npath = 'srv'\naccess = 'read'", "absolute"),
        ("[[roots]]\npath = '/srv'\naccess = 'all'", "read or write"),
        ("[[roots]]\npath = '/srv'\naccess = 'read'\nmode = 1", "'mode' is no key"),
        ("[secrets]\nTOKEN = 'value'", "says where it is"),
        ("[secrets]\nTOKEN = { value = 'x' }", "'value' is no key"),
        ("[secrets]\nTOKEN = { }", "either"),
        ("[secrets]\nTOKEN = { file = 'x' }", "absolute"),
        ("[secrets]\nPATH = { environment = 'X' }", "'PATH' cannot be"),
        ("limits = 5", "a table: [limits]"),
        ("[limits]\ndisk_mib = 5", "in [limits], 'disk_mib' is no key"),
        ("[limits]\nmemory_mib = 1", "'memory_mib' is a whole number from 16"),
        ("[limits]\nprocesses = '5'", "'processes' is a whole number"),
        ("spool_mib = 0", "'spool_mib' is a whole number from 1"),
    ],
)
def test_what_is_wrong_is_named(file: Path, content: str, named: str) -> None:
    file.write_text(content)
    with pytest.raises(StateError) as caught:
        ceiling.load(file)
    assert named in str(caught.value)
    assert str(file) in str(caught.value)


@given(st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=3), max_size=3))
def test_any_other_key_is_an_error(content: dict[str, object]) -> None:
    reader = ceiling._Reader(Path("/x"), content)
    if content:
        with pytest.raises(StateError):
            reader.ceiling()
    else:
        assert reader.ceiling() == Ceiling(path="/x")


def test_a_file_that_others_can_change_is_refused(file: Path) -> None:
    file.chmod(0o644)
    ceiling.load(file)
    file.chmod(0o664)
    with pytest.raises(StateError, match="chmod go-w"):
        ceiling.load(file)
    file.chmod(0o600)
    file.parent.chmod(0o777)
    with pytest.raises(StateError, match="put another file in place"):
        ceiling.load(file)


@pytest.mark.parametrize(
    ("limits", "command", "values", "why"),
    [
        (Ceiling("x", longest_timeout_seconds=20), "ls", {"timeout": 21}, "20 s here at most"),
        (Ceiling("x", environment=("CI", "APP_*")), "ls", {"env": {"OTHER": "1"}}, "OTHER"),
        (Ceiling("x", network=False), "ls", {"obligations": ("network",)}, "network"),
        (Ceiling("x", network=False), "ls", {"obligations": ("daemon",)}, "network"),
        (Ceiling("x", highest_category=Category.READ), "ls && rm -r x", {}, "this one is delete"),
        (Ceiling("x", blocked_programs=("perl",)), "ls | perl x.pl", {}, "perl"),
        (Ceiling("x", blocked_programs=("perl",)), "timeout 5 perl x.pl", {}, "perl"),
        (Ceiling("x", blocked_programs=(LINKED[1],)), LINKED[0], {}, LINKED[1]),
        (Ceiling("x", roots=(PathGrant("/srv/work", "read"),)), "touch x", {}, "/srv/work"),
        (Ceiling("x", roots=(PathGrant("/srv/work", "write"),)), "cat /var/log/x", {}, "/var/log/x"),
        (Ceiling("x", roots=()), "ls", {}, "working directory"),
        (Ceiling("x", roots=(PathGrant("/srv", "write"),)), "ls", {"protections": ()}, "no sandbox"),
    ],
)
def test_what_is_above_the_ceiling_is_refused(
    limits: Ceiling, command: str, values: dict[str, object], why: str
) -> None:
    if (
        "python3.11" in limits.blocked_programs
        and os.path.basename(os.path.realpath("/usr/bin/python3")) != "python3.11"
    ):
        pytest.skip("python3 is another one here")
    refusal = held(limits, command, **values)  # type: ignore[arg-type]
    assert why in refusal
    assert refusal.startswith("host_ceiling: This host's own ceiling")


def test_what_is_below_the_ceiling_runs() -> None:
    roots = (PathGrant("/srv/work", "write"),)
    limits = Ceiling(
        "x",
        roots=roots,
        blocked_programs=("perl",),
        highest_category=Category.WRITE,
        network=False,
        longest_timeout_seconds=30,
        environment=("APP_*",),
    )
    assert not held(limits, "cp a b && touch /scratch/c", env={"APP_X": "1"}, timeout=30)


@pytest.mark.parametrize("value", ["", "abc", "a\0bcdef"])
def test_a_secret_that_cannot_be_given_is_refused(tmp_path: Path, value: str) -> None:
    file = tmp_path / "secret"
    file.write_text(value)
    file.chmod(0o600)
    limits = Ceiling("x", secrets={"TOKEN": ceiling.SecretSource(file=str(file))})
    with pytest.raises(RefusedError) as caught:
        limits.values_of(("TOKEN",))
    assert "TOKEN" in str(caught.value)
    file.write_text("long enough")
    assert limits.values_of(("TOKEN",)) == {"TOKEN": "long enough"}
    file.chmod(0o644)
    with pytest.raises(RefusedError, match="read by others"):
        limits.values_of(("TOKEN",))


paths = st.lists(st.sampled_from("ab"), max_size=3).map(lambda parts: "/srv-none/" + "/".join(parts))
grants = st.lists(st.builds(PathGrant, paths, st.sampled_from(["read", "write"])), max_size=4).map(tuple)


@given(grants, grants, paths)
def test_narrowed_grants_open_what_both_open(
    granted: tuple[PathGrant, ...], roots: tuple[PathGrant, ...], path: str
) -> None:
    def opens(grants: tuple[PathGrant, ...], access: str) -> bool:
        return any(
            is_within(os.path.normpath(path), os.path.normpath(grant.path)) and access in ("read", grant.access)
            for grant in grants
        )

    for access in ("read", "write"):
        assert opens(narrowed(granted, roots), access) is (opens(granted, access) and opens(roots, access))


def test_narrowed_grants_follow_links(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    roots = (PathGrant(str(tmp_path / "inside"), "write"),)
    assert narrowed((PathGrant(str(tmp_path / "inside" / "link"), "write"),), roots) == ()
