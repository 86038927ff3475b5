"""The state folder: owner-only, held by one process, and no other machine's."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shellagent.client.credentials import read_secret, take_key
from shellagent.host.errors import AlreadyRunningError, StateError
from shellagent.host.state import (
    Enrolment,
    StateFolder,
    atom_home,
    default_state_folder,
    write_durably,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_is_owner_only(state: StateFolder) -> None:
    before = os.umask(0)
    try:
        state.enrol(Enrolment("http://localhost:1", "7", "web"), "ath_secret")
    finally:
        os.umask(before)
    assert mode(state.path) == 0o700
    assert {mode(state.key_file), mode(state.path / "config.json")} == {0o600}
    assert state.key() == "ath_secret"
    assert state.enrolment() == Enrolment("http://localhost:1", "7", "web")


def test_a_key_that_others_can_read_is_refused(state: StateFolder) -> None:
    state.enrol(Enrolment(), "ath_secret")
    state.key_file.chmod(0o640)
    with pytest.raises(StateError, match="chmod 600"):
        state.key()


def test_without_a_key_the_next_step_is_said(state: StateFolder) -> None:
    with pytest.raises(StateError, match="localagent enroll"):
        state.key()
    assert state.enrolment() == Enrolment()


@pytest.mark.parametrize("content", ["{", "[]", "3"])
def test_a_damaged_config_is_said(state: StateFolder, content: str) -> None:
    (state.path / "config.json").write_text(content)
    with pytest.raises(StateError, match="Enrol this host again"):
        state.enrolment()


def test_one_process_holds_it(state: StateFolder) -> None:
    state.lock()
    other = StateFolder(state.path)
    with pytest.raises(AlreadyRunningError):
        other.lock()
    state.unlock()
    other.lock()
    other.unlock()


def test_the_instance_stays_and_a_copy_is_another(state: StateFolder, tmp_path: Path) -> None:
    instance = state.instance_id()
    assert StateFolder(state.path).instance_id() == instance
    shutil.copytree(state.path, tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "instance.json").read_text())["id"] == instance
    assert StateFolder(tmp_path / "copy").instance_id() != instance


def test_the_key_leaves_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOM_HOST_KEY", " ath_x ")
    assert take_key("ATOM_HOST_KEY") == "ath_x"
    assert "ATOM_HOST_KEY" not in os.environ


def test_the_kernel_does_not_show_the_key_either() -> None:
    code = (
        "from shellagent.client.credentials import take_key; from shellagent.host.state import conceal_key;"
        "conceal_key('ATOM_HOST_KEY');"
        "shown = open('/proc/self/environ').read();"
        "print(take_key('ATOM_HOST_KEY'), 'ath_hidden' in shown)"
    )
    env = {**os.environ, "ATOM_HOST_KEY": "ath_hidden"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "ath_hidden False\n"


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shellagent.host.state.PRODUCT", tmp_path)
    monkeypatch.setenv("ATOM_HOME", "/srv/atom")
    assert default_state_folder() == Path("/srv/atom/host")
    monkeypatch.delenv("ATOM_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", "/srv/state")
    assert default_state_folder() == Path("/srv/state/atom-local-agent")
    assert atom_home() == tmp_path / "var"
    # Once `make run` has made it, the folder of the checkout.
    (tmp_path / "var" / "host").mkdir(parents=True)
    assert default_state_folder() == tmp_path / "var" / "host"
    monkeypatch.setenv("ATOM_HOME", "/srv/atom")
    assert default_state_folder() == Path("/srv/atom/host")


def test_a_write_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_durably(file, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_durably(file, b"new")
    assert file.read_bytes() == b"old"


def test_a_secret_of_another_user_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("x")
    file.chmod(0o600)
    if os.geteuid() != 0:
        pytest.skip("needs to give a file away")
    os.chown(file, 12345, 12345)
    with pytest.raises(StateError, match="another user"):
        read_secret(file, missing="")
