"""The obligation `git-hardened`: a git that runs no program which the repository names, or no git at all.

A repository is an argument that an agent may have been handed: its configuration and attributes name programs, and
reading commands run them (a file system monitor, filters, text converters, a pager, a signature checker). What an
option or a setting of our own switches off is switched off. For the rest the configuration is read, by the same git
from the same folder with the same settings, and the command is refused when a program is named that it could run. Git
commands that governance judges as running code, or as reaching the network, keep what their repository says.

Call it on a thread that is confined already: the git that reads the configuration is then confined too.
"""

import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from shellagent.host.errors import RefusedError
from shellagent.host.git_programs import INSERTED, GitCommand
from shellagent.host.reach import shown
from shellagent.protocol import Reason

OBLIGATION_GIT_HARDENED: Final = "git-hardened"
#: The first version that can be told to leave a bare repository alone that nobody named.
OLDEST: Final = (2, 38)
READING_SECONDS: Final = 5.0
MOST_BYTES: Final = 32 * 1024 * 1024

#: What every git gets: nothing of the machine's, and nobody is asked.
_ENVIRONMENT: Final = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PAGER": "cat",
    # Git does not run this editor, but takes the text as it is.
    "GIT_EDITOR": ":",
    "GIT_SEQUENCE_EDITOR": ":",
}
_HARDENED_ENVIRONMENT: Final = {
    **_ENVIRONMENT,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_OPTIONAL_LOCKS": "0",
    # A repository that was cloned in part fetches what it misses while it is read.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
_DROPPED: Final = re.compile("GIT_.*|PAGER|LESS.*|LV|EDITOR|VISUAL|BROWSER|SSH_ASKPASS|XDG_CONFIG_HOME")
_SETTINGS: Final = (
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.pager=cat",
    "safe.bareRepository=explicit",
    "log.showSignature=false",
    # Its other value merges again, by the repository's own drivers.
    "log.diffMerges=separate",
    "gpg.program=false",
    "gpg.openpgp.program=false",
    "gpg.x509.program=false",
    "gpg.ssh.program=false",
    "gpg.ssh.defaultKeyCommand=false",
    # A submodule has a configuration of its own, so git is kept from looking into its files.
    "diff.ignoreSubmodules=dirty",
    "diff.submodule=short",
    "status.submoduleSummary=false",
    "submodule.recurse=false",
)
_GLOBAL_OPTIONS: Final = ("--no-pager", "--no-optional-locks", *(word for text in _SETTINGS for word in ("-c", text)))
#: Git's own options, before its subcommand, that take the next word.
_TAKE_NEXT: Final = frozenset(["-C", "-c", "--git-dir", "--work-tree", "--namespace", "--config-env", "--attr-source"])


@dataclass(frozen=True, slots=True)
class _Wrapper:
    """A program that starts another one: its options, and how many operands stand before the other one's name."""

    flags: str = ""
    takes_next: str = ""
    operands: int = 0

    def length(self, option: str) -> int:
        """Return how many words an option takes with itself, 0 where it is not known."""
        takers = self.takes_next.split()
        if option in takers:
            return 2
        is_glued = any(option.startswith(f"{taker}=" if taker.startswith("--") else taker) for taker in takers)
        return 1 if is_glued or option in self.flags.split() or re.fullmatch("-[0-9]+", option) else 0


_WRAPPERS: Final[Mapping[str, _Wrapper]] = {
    "timeout": _Wrapper("--preserve-status --foreground -v --verbose", "-k --kill-after -s --signal", operands=1),
    "nice": _Wrapper(takes_next="-n --adjustment"),
    "ionice": _Wrapper("-t --ignore", "-c --class -n --classdata"),
    "nohup": _Wrapper(),
    "stdbuf": _Wrapper(takes_next="-i --input -o --output -e --error"),
    "time": _Wrapper("-p --portability -v --verbose -a --append -q --quiet", "-f --format -o --output"),
}


def harden(argv: Sequence[str], env: Mapping[str, str], directory: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the environment to start a command with; any command but git is returned as it is.

    `directory` is where it will start; nothing is changed there. Raises RefusedError where git cannot be kept from
    running a program of the repository's. It starts git once or twice for that, each a few milliseconds.
    """
    place = _place(argv)
    if place is None:
        return list(argv), dict(env)
    git = _parsed(argv[place:])
    cleaned = {name: value for name, value in env.items() if not _DROPPED.fullmatch(name)}
    if not git.subcommand or git.runs_code:
        return list(argv), cleaned | _ENVIRONMENT
    hardened = cleaned | _HARDENED_ENVIRONMENT
    _check_version(hardened)
    if git.arguments[:1] == ("--help",):
        raise _refused("`git --help` starts a program that shows a page of the manual.")
    before = (*git.before, *_GLOBAL_OPTIONS)
    if objection := git.objection(_settings(before, hardened, directory)):
        raise _refused(objection)
    if git.looks_into_submodules and _has_submodules(before, hardened, directory):
        raise _refused(f"`git {git.subcommand}` would look into submodules, which have configurations of their own.")
    return [*argv[:place], *before, git.subcommand, *INSERTED.get(git.subcommand, ()), *git.arguments], hardened


def _refused(message: str) -> RefusedError:
    return RefusedError(Reason.HOST_CEILING, message)


def _place(argv: Sequence[str]) -> int | None:
    """Return where git stands: first, or behind programs that start another one. None where it is not what runs."""
    place = 0
    while place < len(argv) and (wrapper := _WRAPPERS.get(os.path.basename(argv[place]))) is not None:
        place += 1
        while place < len(argv) and argv[place].startswith("-") and argv[place] != "--":
            length = wrapper.length(argv[place])
            if not length:
                if "git" in map(os.path.basename, argv):
                    raise _refused(f"It is not clear what {shown(argv[place])} means, and so whether git is started.")
                return None
            place += length
        place += argv[place : place + 1] == ["--"]
        place += wrapper.operands
    return place if place < len(argv) and os.path.basename(argv[place]) == "git" else None


def _parsed(argv: Sequence[str]) -> GitCommand:
    index = 1
    while index < len(argv) and argv[index].startswith("-"):
        if argv[index].startswith("--exec-path="):
            raise _refused("`--exec-path` names another folder of git's own programs.")
        index += 2 if argv[index] in _TAKE_NEXT else 1
    subcommand = argv[index] if index < len(argv) else ""
    return GitCommand(tuple(argv[:index]), subcommand, tuple(argv[index + 1 :]))


def _settings(before: Sequence[str], env: Mapping[str, str], directory: str) -> list[tuple[str, str]]:
    """Return every key and value that git would use here, whichever file it includes."""
    code, output = _output([*before, "config", "--list", "-z"], env, directory)
    if code:
        raise _refused("Git cannot read the configuration of this repository.")
    entries = (entry.partition("\n") for entry in output.split("\0") if entry)
    # A key without a value has no newline either; it counts as a value that is not empty.
    return [(key, value if newline else "true") for key, newline, value in entries]


def _has_submodules(before: Sequence[str], env: Mapping[str, str], directory: str) -> bool:
    code, output = _output([*before, "ls-files", "--stage", "-z", ":/"], env, directory)
    return bool(code) or any(entry.startswith("160000 ") for entry in output.split("\0"))


def _check_version(env: Mapping[str, str]) -> None:
    path = shutil.which("git", path=env.get("PATH", os.defpath))
    if path is not None and _version(path, os.stat(path).st_mtime_ns) < OLDEST:
        raise _refused("This host's git is older than 2.38, and cannot be kept from a repository's own programs.")


@lru_cache(maxsize=8)
def _version(path: str, changed_ns: int) -> tuple[int, ...]:
    # The time is an argument so that a git that was replaced is asked again.
    _, output = _output([path, "version"], {"PATH": os.path.dirname(path)}, "/")
    found = re.search(r"([0-9]+)\.([0-9]+)", output)
    return tuple(map(int, found.groups())) if found else ()


def _output(argv: Sequence[str], env: Mapping[str, str], directory: str) -> tuple[int, str]:
    """Run a git that is hardened already, and return its exit code and what it printed."""
    try:
        with subprocess.Popen(  # noqa: S603 - git, with arguments that were checked
            argv,
            cwd=directory,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                output = _read_all(process)
                code = process.wait(READING_SECONDS)
            finally:
                process.kill()
    except (OSError, subprocess.SubprocessError) as error:
        raise _refused(f"Git cannot say what is configured in this repository ({type(error).__name__}).") from error
    return code, output.decode(errors="surrogateescape")


def _read_all(process: "subprocess.Popen[bytes]") -> bytes:
    """Return what is printed until the end. Raises TimeoutExpired where that takes too long or is too much."""
    assert process.stdout is not None  # noqa: S101 - it was opened as a pipe
    deadline = time.monotonic() + READING_SECONDS
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    output = bytearray()
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000) and len(output) <= MOST_BYTES:
        part = os.read(process.stdout.fileno(), 65536)
        if not part:
            return bytes(output)
        output += part
    raise subprocess.TimeoutExpired(process.args, READING_SECONDS)
