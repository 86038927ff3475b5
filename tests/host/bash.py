"""Running a line by real bash and by the host, in the same folder at the same path, and comparing what came of it.

Compared are standard output, exit status and every file afterwards; not what is printed as an error, whose words are
each one's own. Both sides have the same environment, a limit on the size of files and a timeout. Where two commands
race, bash itself gives more than one result: the host's is to be one of those. In every second repeat bash takes
`printf`, `test` and `[` from the system, as the host does: a builtin of its own wins races that a program loses.
"""

import contextlib
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from governance.policy.parse import parse_text
from governance.policy.plan import Plan
from governance.policy.syntax import CommandSyntaxError
from shellagent.host.run import Run
from shellagent.host.runner import Runner
from shellagent.protocol import PathGrant
from tests.host.server import assignment

FILE_BYTES: Final = 256 * 1024
TIMEOUT_SECONDS: Final = 5
#: How often bash is asked again where the results differ.
REPEATS: Final = 25
#: A message of the host's own may end up in a file. Bash runs by this name, so that its messages begin alike.
NAME: Final = "localagent"
MESSAGE: Final = re.compile(NAME.encode() + rb": .*", re.IGNORECASE)
#: When every file of a tree was written.
WRITTEN_AT: Final = 1_700_000_000


@dataclass(frozen=True)
class Result:
    """What came of a line. A timeout has the status -1."""

    status: int
    output: bytes
    files: tuple[tuple[str, str, bytes], ...]


@dataclass
class Comparison:
    """How many lines were the same, which were refused by the parser, and which differed."""

    same: int = 0
    raced: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    different: list[tuple[str, Result, list[Result]]] = field(default_factory=list)

    def report(self) -> str:
        """Return the differences as text."""
        lines = []
        for text, ours, theirs in self.different:
            lines += ["", text, f"  ours  {_shown(ours, theirs[0])}"]
            lines += [f"  bash  {_shown(result, ours)}" for result in theirs]
        return "\n".join(lines)


def _shown(result: Result, other: Result) -> str:
    own = sorted(set(result.files) - set(other.files))
    return f"{result.status} {result.output[:120]!r} {own!r:.600}"


def make_tree(folder: Path) -> None:
    """Fill a folder with what the lines work on."""
    for name in ("sub/deep", "emptydir", "other"):
        (folder / name).mkdir(parents=True)
    contents = {
        "a.txt": "pear\napple\nfig\napple\n",
        "b.txt": "one two\nthree four\nfive\n",
        "c d.txt": "blank in the name\n",
        "numbers": "10\n9\n2\n33\n1\n",
        "empty": "",
        "[x].txt": "brackets\n",
        "é.txt": "accent\n",
        "B.log": "upper\n",
        ".hidden": "hidden\n",
        "sub/one.py": "print(1)\n",
        "sub/two.py": "import os\n",
        "sub/.dot.py": "dot\n",
        "sub/deep/x.txt": "deep\n",
        "other/one.py": "print(2)\n",
        "plain": "not executable\n",
        "run.sh": '#!/bin/sh\necho "ran $1"\nexit 7\n',
        "slow.sh": '#!/bin/sh\nread line\necho "got $line"\n',
        "badly-made": "#!/no/such/interpreter\n",
    }
    for name, text in contents.items():
        (folder / name).write_text(text)
        # tar tells the second in which a file was written.
        os.utime(folder / name, (WRITTEN_AT, WRITTEN_AT))
    for name in ("run.sh", "slow.sh", "badly-made"):
        (folder / name).chmod(0o700)
    (folder / "link").symlink_to("a.txt")
    (folder / "dirlink").symlink_to("sub")
    (folder / "dangling").symlink_to("newfile")


def snapshot(folder: Path) -> tuple[tuple[str, str, bytes], ...]:
    """Return every file below a folder with its kind and content."""
    found = []
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            relative = os.path.relpath(path, folder)
            if os.path.islink(path):
                found.append((relative, "link", os.fsencode(os.readlink(path))))
            elif os.path.isdir(path):
                found.append((relative, "folder", b""))
            else:
                found.append((relative, "file", MESSAGE.sub(b"<message>", Path(path).read_bytes())))
    return tuple(sorted(found))


@dataclass
class Duel:
    """The host's runner and bash over one folder, which each finds as `make_tree` makes it. HOME is that folder."""

    runner: Runner
    folder: Path
    temporary: Path
    #: What the last line left, to see whether the folder has to be made again.
    _left: tuple[tuple[str, str, bytes], ...] = ()
    _fresh: tuple[tuple[str, str, bytes], ...] = ()

    def __post_init__(self) -> None:
        (self.temporary / "without-builtins").write_text("enable -n printf test [\n")

    def compare(self, text: str, comparison: Comparison) -> None:
        """Run a line by both and note what came of it."""
        try:
            plan = parse_text(text)
        except CommandSyntaxError:
            comparison.refused.append(text)
            return
        with limited_files():
            ours, theirs = self.by_host(plan), [self.by_bash(text)]
            if ours == theirs[0]:
                comparison.same += 1
                return
            for number in range(REPEATS):
                theirs.append(self.by_bash(text, has_builtins=number % 2 == 0))
                if theirs[-1] == ours:
                    comparison.raced.append(text)
                    return
        comparison.different.append((text, ours, list(dict.fromkeys(theirs))))

    def by_host(self, plan: Plan) -> Result:
        """Run a plan as the host does."""
        self._refresh()
        grants = (PathGrant(str(self.folder), "write"),)
        wanted = assignment(plan=plan, directory=str(self.folder), grants=grants, timeout=TIMEOUT_SECONDS)
        report = Run(self.runner, self.runner.prepare(wanted, self.temporary), "start-key").finish()
        assert report.left_behind == ()
        status = -1 if report.outcome == "timed_out" else report.exit_code
        assert status is not None
        return self._result(status, b"".join(item.content() for item in report.output if item.stream == "stdout"))

    def by_bash(self, text: str, *, has_builtins: bool = True) -> Result:
        """Run a line as bash does."""
        without = {} if has_builtins else {"BASH_ENV": str(self.temporary / "without-builtins")}
        self._refresh()
        process = subprocess.Popen(
            [NAME, "--norc", "--noprofile", "-o", "pipefail", "-c", text],
            executable=shutil.which("bash"),
            cwd=self.folder,
            env={
                "PATH": ":".join(self.runner.path),
                "LC_ALL": "C.UTF-8",
                "HOME": str(self.folder),
                "USER": self.runner.user,
                "TMPDIR": str(self.temporary),
                **without,
            },
            stdin=self.runner.nothing,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            umask=0o077,
        )
        try:
            output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
            status = process.returncode if process.returncode >= 0 else 128 - process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, _ = process.communicate()
            status = -1
        return self._result(status, output)

    def _result(self, status: int, output: bytes) -> Result:
        self._left = snapshot(self.folder)
        return Result(status, MESSAGE.sub(b"<message>", output), self._left)

    def _refresh(self) -> None:
        if self._left and self._left == self._fresh:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        make_tree(self.folder)
        self._fresh = snapshot(self.folder)


@contextlib.contextmanager
def limited_files() -> Iterator[None]:
    """Let no process started meanwhile write a large file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
