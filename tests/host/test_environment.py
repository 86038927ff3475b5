"""The environment is built from nothing, programs are found in fixed places, and folders are what they say."""

import os
from pathlib import Path

import pytest

from shellagent.host import environment
from shellagent.host.errors import RefusedError
from shellagent.protocol import Reason

PLACE = {"path": ("/usr/bin",), "home": "/scratch", "temporary": "/own", "user": "u"}


def test_nothing_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    env = environment.build("s1", {"NO_COLOR": "1"}, **PLACE)  # type: ignore[arg-type]
    assert env == {
        "NO_COLOR": "1",
        "PATH": "/usr/bin",
        "LANG": "C.UTF-8",
        "HOME": "/scratch",
        "TMPDIR": "/own",
        "USER": "u",
        "LOGNAME": "u",
        "ATOM_SESSION_ID": "s1",
    }


@pytest.mark.parametrize(
    "name",
    [
        *(
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "GIT_SSH_COMMAND",
            "GIT_DIR",
            "BASH_ENV",
            "ENV",
        ),
        *(
            "IFS",
            "PATH",
            "HOME",
            "NODE_OPTIONS",
            "PERL5OPT",
            "EDITOR",
            "PAGER",
            "LESSOPEN",
            "http_proxy",
            "HTTPS_PROXY",
        ),
        *("ATOM_HOST_KEY", "ATOM_SESSION_ID", "GLIBC_TUNABLES"),
        *(
            "GREP",
            "DIFF",
            "CMP",
            "ZCAT",
            "LANGUAGE",
            "GETCONF_DIR",
            "IP_LIB_DIR",
            "LESSECHO",
            "GAWK_PERSIST_FILE",
            "ZIP",
        ),
        *("A-B", "1A", "", "A=B", "A B", "ÄB", "LD_PRELOAD\n"),
    ],
)
def test_dangerous_names_are_refused(name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        environment.build("s1", {name: "x"}, **PLACE)  # type: ignore[arg-type]
    assert caught.value.reason == Reason.HOST_CEILING


def test_a_nul_in_a_value_is_refused() -> None:
    with pytest.raises(RefusedError):
        environment.build("s1", {"A": "x\0y"}, **PLACE)  # type: ignore[arg-type]


def test_programs_are_found_in_order_and_by_path(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    for folder, mode in ((first, 0o644), (second, 0o755)):
        file = folder / "tool"
        file.write_text("")
        file.chmod(mode)
    (first / "folder").mkdir()
    (first / "plain").write_text("")
    path = (str(first), str(second))
    assert environment.find_program("tool", path=path, directory="/") == (f"{second}/tool", 0)
    assert environment.find_program("plain", path=path, directory="/") == (f"{first}/plain", 126)
    assert environment.find_program("folder", path=path, directory="/")[1] == 126
    assert environment.find_program("nothing", path=path, directory="/") == ("nothing", 127)
    assert environment.find_program("./tool", path=path, directory=str(second)) == (f"{second}/./tool", 0)
    assert environment.find_program("a\0b", path=path, directory="/")[1] == 127


def test_the_running_python_is_found_last() -> None:
    path = environment.search_path(("/opt/tools",))
    assert path[:6] == environment.SYSTEM_PATH
    assert "/opt/tools" in path
    assert any(environment.find_program("python3", path=path, directory="/")[1] == 0 for _ in range(1))


def test_a_directory_is_opened_as_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    descriptor, real = environment.open_directory(str(tmp_path / "link"))
    assert real == os.path.realpath(tmp_path / "real")
    os.close(descriptor)


@pytest.mark.parametrize("path", ["missing", "file", "broken"])
def test_a_directory_that_is_none_is_refused_with_its_reason(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(RefusedError, match=path) as caught:
        environment.open_directory(str(tmp_path / path))
    assert caught.value.reason == Reason.NO_FOLDER


def test_a_relative_directory_is_refused() -> None:
    with pytest.raises(RefusedError, match="absolute"):
        environment.open_directory("tmp")
