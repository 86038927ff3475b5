"""Starting one pipeline of a plan: its words are filled in, its pipes and files are opened, its programs are started.

No shell is anywhere in this. The commands of a pipeline enter the plan's sandbox together, on one thread.
"""

import errno
import os
import re
import signal
import subprocess
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from governance.policy.plan import Command, Step
from shellagent.host import environment
from shellagent.host.builtin import BUILTINS, Place
from shellagent.host.errors import CommandError, RefusedError
from shellagent.host.git import OBLIGATION_GIT_HARDENED, harden
from shellagent.host.globbing import Expander
from shellagent.host.limits import Limits
from shellagent.host.reach import shown
from shellagent.host.redirects import OWN_DESCRIPTORS, open_target
from shellagent.host.runner import Prepared, Runner
from shellagent.host.writer import Writer
from shellagent.protocol import Reason

STDIN, STDOUT, STDERR = 0, 1, 2
#: What a shell reports of a program that was not found, and of one that may not be executed.
NOT_FOUND, NOT_EXECUTABLE = 127, 126
_LETTERS: Final = re.compile("-[A-Za-z0-9]+")
_NAME_BYTES: Final = 255


@dataclass(frozen=True, slots=True)
class End:
    """How a command ended. `detail` is a sentence where the exit code alone does not say it."""

    exit_code: int
    reason: Reason = Reason.EXIT
    detail: str = ""

    @classmethod
    def of(cls, name: str, status: int, limits: Limits | None = None) -> "End":
        """Return the end of a program by what its parent was told: negative for a signal.

        `limits` are those that it had: where the signal stands for one, the detail says so.
        """
        if status >= 0:
            return cls(status)
        about = limits.words_about(-status) if limits is not None else ""
        return cls(128 - status, Reason.SIGNAL, f"{shown(name)} was ended by {_signal_name(-status)}.{about}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(slots=True)
class Running:
    """One command of the pipeline. `number` is its place in the plan; `process` is None where none was started."""

    number: int
    command: Command
    #: The host's descriptors that the command has as its 0, 1 and 2.
    files: list[int]
    argv: list[str] = field(default_factory=list)
    program: str = ""
    process: "subprocess.Popen[bytes] | None" = None
    end: End | None = None
    writers: list[Writer] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Return whether it has ended and all that the host writes for it is written."""
        return self.end is not None and all(writer.is_done for writer in self.writers)

    def say(self, message: str) -> None:
        """Print a message of the host's own where the command would print its own."""
        self.writers.append(
            Writer.begin(self.files[STDERR], f"localagent: {message}\n".encode(errors="backslashreplace"))
        )

    def fail(self, exit_code: int, message: str, detail: str = "", reason: Reason = Reason.EXIT) -> None:
        """End it before it was started."""
        self.end = End(exit_code, reason, detail)
        self.say(message)

    def go_on(self, writer: Writer) -> None:
        """Write what there is room for; that nobody reads what a builtin prints is its end."""
        writer.go_on()
        if writer.error == errno.EPIPE and self.process is None and writer is self.writers[0]:
            self.end = End.of(self.command.program, -signal.SIGPIPE)


class Pipeline:
    """The commands of one step while they run."""

    def __init__(self, step: Step, first: int) -> None:
        self.step = step
        self.running = [Running(first + number, command, []) for number, command in enumerate(step.pipeline)]

    @property
    def is_over(self) -> bool:
        """Return whether every command has ended."""
        return all(command.is_over for command in self.running)

    def end(self) -> End:
        """Return the pipeline's end as `pipefail` has it: that of the last command that did not succeed."""
        ends = [command.end for command in self.running if command.end is not None]
        end = next((end for end in reversed(ends) if end.exit_code), End(0))
        if self.step.is_negated:
            return End(0 if end.exit_code else 1)
        return end

    def start(self, runner: Runner, prepared: Prepared, outputs: Sequence[int]) -> None:
        """Start every command; one that cannot be started has its end at once. `outputs` are the plan's 1 and 2."""
        opened: list[int] = []
        try:
            self._connect(runner.nothing, outputs, opened)
            for command in self.running:
                self._prepare(command, prepared.place, runner, opened)
            ready = [command for command in self.running if command.end is None]
            _close(opened, kept={descriptor for command in ready for descriptor in command.files})
            if ready:
                prepared.confinement.spawn(lambda: _spawn_all(ready, runner, prepared))
                started = [command.process.pid for command in ready if command.process is not None]
                prepared.confinement.as_its_user(lambda: runner.limits.hold(*started))
        finally:
            _close(opened)

    def _connect(self, nothing: int, outputs: Sequence[int], opened: list[int]) -> None:
        source = nothing
        for command in self.running[:-1]:
            read_end, write_end = os.pipe()
            opened += (read_end, write_end)
            command.files = [source, write_end, outputs[1]]
            source = read_end
        self.running[-1].files = [source, *outputs]

    def _prepare(self, running: Running, place: Place, runner: Runner, opened: list[int]) -> None:
        """Fill in the words, open the files, then find the program: in the order in which a shell does it."""
        words = Expander(place.folder, place.reach, place.variables())
        try:
            running.argv = [text for word in running.command.argv for text in words.expand(word)]
            _redirect(running, words, opened)
            name = running.argv[0]
            if name in BUILTINS:
                self._do(running, name, place)
                return
            _check_links(running.argv[1:], place)
            running.program, status = environment.find_program(name, path=runner.path, directory=place.folder.real)
        except CommandError as error:
            running.fail(error.exit_code, str(error), str(error))
            return
        if status == NOT_FOUND:
            detail = f"{shown(name)} was not found on this host. Install it there, or name it by its path."
            running.fail(status, f"{shown(name)}: not found", detail, Reason.NOT_FOUND)
        elif status:
            program = shown(running.program)
            detail = f"{program} is not executable. Make it so (chmod +x), or name the program that is to read it."
            running.fail(status, f"{program}: not executable", detail, Reason.NOT_EXECUTABLE)

    def _do(self, running: Running, name: str, place: Place) -> None:
        result = BUILTINS[name](running.argv[1:], place)
        running.end = End(result.exit_code)
        if result.folder is not None and len(self.running) == 1:
            place.enter(result.folder)
        elif result.folder is not None:
            # As in a shell, where each command of a pipeline has its own working directory.
            result.folder.close()
        if result.output:
            writer = Writer.begin(running.files[STDOUT], result.output)
            running.writers.append(writer)
            if writer.error:
                running.fail(1, f"{name}: {os.strerror(writer.error)}")


def _close(opened: list[int], kept: Collection[int] = ()) -> None:
    """Close what nobody needs, so that a program whose output nobody reads is told so as early as in a shell."""
    for descriptor in [descriptor for descriptor in opened if descriptor not in kept]:
        opened.remove(descriptor)
        os.close(descriptor)


def _check_links(arguments: Iterable[str], place: Place) -> None:
    """Refuse an argument that leads over a link to something protected: governance judged names, and saw no links."""
    for argument in arguments:
        for name in filter(None, _names_in(argument)):
            path = place.folder.absolute(name)
            real = os.path.realpath(path)
            if real != os.path.normpath(path) and (reason := place.reach.protection_of_match(real)):
                raise CommandError(1, reason)


def _names_in(argument: str) -> Iterator[str]:
    """Yield what of an argument may name a file: all of it, or an option's value, also glued to it."""
    if not argument.startswith("-"):
        yield argument
        return
    yield argument.partition("=")[2]
    if letters := _LETTERS.match(argument):
        # `-flink`, and also `-uflink`: how many of them are options is the program's to know.
        last = letters.end()
        yield from (argument[end:] for end in range(max(2, last - _NAME_BYTES), last + 1))


def _redirect(running: Running, words: Expander, opened: list[int]) -> None:
    files = running.files
    for redirect in running.command.redirects:
        if isinstance(redirect.target, int):
            files[redirect.descriptor] = files[redirect.target]
            continue
        targets = words.expand(redirect.target)
        if len(targets) != 1:
            raise CommandError(1, f"{shown(redirect.target.source())} stands for more than one file")
        own = OWN_DESCRIPTORS.get(targets[0])
        if own is None:
            descriptor = open_target(targets[0], redirect.mode, words.folder, words.reach)
            opened.append(descriptor)
        else:
            descriptor = files[own]
        files[redirect.descriptor] = descriptor


def _spawn_all(commands: Iterable[Running], runner: Runner, prepared: Prepared) -> None:
    for command in commands:
        _spawn(command, runner, prepared)


def _spawn(running: Running, runner: Runner, prepared: Prepared) -> None:
    name = shown(running.argv[0])
    argv, env = running.argv, prepared.env
    try:
        if OBLIGATION_GIT_HARDENED in prepared.assignment.obligations:
            argv, env = harden(argv, env, prepared.place.folder.real)
        running.process = runner.launch(prepared, running.program, argv, env, running.files)
    except RefusedError as error:
        running.fail(NOT_EXECUTABLE, str(error), str(error))
    except FileNotFoundError:
        # The program is there, so it is the interpreter in its first line that is not.
        detail = f"{name} or its interpreter was not found on this host. Its first line says which one it wants."
        running.fail(NOT_FOUND, f"{name}: not found, or its interpreter", detail, Reason.NOT_FOUND)
    except PermissionError as error:
        if error.filename in (None, running.program):
            detail = f"{name} may not be executed here."
            running.fail(NOT_EXECUTABLE, f"{name}: may not be executed", detail, Reason.NOT_EXECUTABLE)
            return
        # The local agent could open it; without its capabilities, or as another user, it cannot be entered.
        folder = shown(prepared.place.folder.path)
        detail = f"The user that commands run as may not enter the working directory {folder}. Open it to that user."
        running.fail(NOT_EXECUTABLE, f"{name}: {folder} may not be entered", detail, Reason.NO_FOLDER)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        is_none = isinstance(error, OSError) and error.errno == errno.ENOEXEC
        reason = Reason.NOT_EXECUTABLE if is_none else Reason.EXIT
        running.fail(NOT_EXECUTABLE, f"{name}: {said}", f"{name} could not be started: {said}.", reason)
