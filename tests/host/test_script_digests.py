"""Files of code: what is told of them, and that another content is not run."""

import hashlib
import os
from pathlib import Path

import pytest

from governance.policy.types import Facts
from shellagent.host import scripts
from shellagent.host.errors import RefusedError
from shellagent.protocol import ABSENT, Look, ScriptDigest

CONTENT = b"print(1)\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_what_is_told_of_scripts(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_bytes(CONTENT)
    (tmp_path / "link.py").symlink_to(tmp_path / "x.py")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "key").write_bytes(CONTENT)
    (tmp_path / "to-own.py").symlink_to(tmp_path / "own" / "key")
    names = ("x.py", "link.py", "missing.py", "folder", "fifo", "own/key", "to-own.py")
    wish = Look("1", (*(str(tmp_path / name) for name in names), "x.py", "/etc/shadow", "/a\0b"))
    (looked,) = scripts.look([wish], Facts("/home/a", "a", "/scratch", protected=(str(tmp_path / "own"),)))
    assert looked.id == "1"
    assert looked.scripts == (
        ScriptDigest(str(tmp_path / "x.py"), SHA256),
        ScriptDigest(str(tmp_path / "link.py"), SHA256),
        ScriptDigest(str(tmp_path / "missing.py"), ABSENT),
    )


def test_another_content_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    known, absent = ScriptDigest(str(path), SHA256), ScriptDigest(str(path), ABSENT)
    scripts.check([absent])
    with pytest.raises(RefusedError, match="no longer there"):
        scripts.check([known])
    path.write_bytes(CONTENT)
    scripts.check([known])
    with pytest.raises(RefusedError, match="is there now"):
        scripts.check([absent])
    path.write_bytes(CONTENT + b"#")
    with pytest.raises(RefusedError, match="another one") as caught:
        scripts.check([known])
    assert caught.value.reason == "script_changed"
    path.unlink()
    path.mkdir()
    with pytest.raises(RefusedError, match="cannot be looked at"):
        scripts.check([known])


def test_a_file_that_is_too_large_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripts, "MOST_BYTES", 4)
    (tmp_path / "x.py").write_bytes(CONTENT)
    assert scripts.digest_of(str(tmp_path / "x.py")) == ""
