"""The tools. None of them approves, and nothing is asked of the client's user: an approval is a person's, elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Final, TypeVar

import anyio
from anyio.to_thread import run_sync
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from shellagent.client import Atom, AtomError, DeniedError, Session, UnavailableError
from shellagent.client.atom import VERSION
from shellagent.mcp_server.answers import (
    CommandList,
    CommandResult,
    PolicyResult,
    command_line,
    command_result,
    denied_result,
    policy_result,
    sentence_of,
)

INSTRUCTIONS: Final = """\
Commands run on real machines under governance: each is allowed, denied, or waits for a person. Use run_command for
every shell command. A result with status `pending` is not an error: tell the user the approval link, and wait on with
get_command. A person's rejection carries their reason; follow it, and look for no other way to the same end."""
#: Many clients give up on a call after 30 s, and not all count progress.
WAIT_SECONDS: Final = 25
#: How often progress is told; each turn is a call to the server, held that long.
TURN_SECONDS: Final = 4
CALLS_AT_ONCE: Final = 64

T = TypeVar("T")
#: Return a client for whoever called. Raises AtomError.
Connect = Callable[[Context], Atom]

Line = Annotated[str | None, Field(description="One line as it would be typed, such as `ls -l | wc -l`. Or give argv.")]
Words = Annotated[
    list[str] | None, Field(description='A program and its arguments taken literally: ["ls", "-l"]. Or give command.')
]
Folder = Annotated[str | None, Field(description="Absolute path of the working directory on the host.")]
HostName = Annotated[str | None, Field(description="The host to run on, where you may use several.")]
Wait = Annotated[int, Field(ge=0, le=45, description="Seconds to wait for its end before answering as it stands.")]
Id = Annotated[str, Field(description="The id that run_command answered.")]
Reason = Annotated[str | None, Field(description="Why you need it, for whoever approves.")]
Timeout = Annotated[int | None, Field(ge=1, le=300, description="Seconds that the command may run; 60.")]
Variables = Annotated[dict[str, str] | None, Field(description="Environment variables. Never secrets.")]
Once = Annotated[
    str | None, Field(description="The same text with the same request gives the same command: nothing runs twice.")
]

_READS: Final = ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False)
_RUNS: Final = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=True)
_STOPS: Final = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True)


def make_server(connect: Connect) -> MCPServer:
    """Return the server, whose tools ask through the client that `connect` returns for each call."""
    server = MCPServer("atom", title="Atom Local Agent", instructions=INSTRUCTIONS, version=VERSION, log_level="ERROR")
    tools = _Tools(connect)
    for tool, annotations in (
        (tools.run_command, _RUNS),
        (tools.get_command, _READS),
        (tools.cancel_command, _STOPS),
        (tools.list_commands, _READS),
        (tools.check_policy, _READS),
    ):
        server.add_tool(tool, annotations=annotations)
    return server


class _Tools:
    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._room = anyio.CapacityLimiter(CALLS_AT_ONCE)

    async def run_command(
        self,
        ctx: Context,
        *,
        command: Line = None,
        argv: Words = None,
        working_directory: Folder = None,
        timeout_seconds: Timeout = None,
        host: HostName = None,
        reason: Reason = None,
        env: Variables = None,
        wait_seconds: Wait = WAIT_SECONDS,
        idempotency_key: Once = None,
    ) -> CommandResult:
        """Run a shell command under governance: it is allowed, denied, or waits for a person's approval.

        Give one of command and argv. Where it has not ended after wait_seconds the answer has the status it is in, such
        as `pending` with the link where a person approves it, and next_step says how to go on.
        """
        asked, begun = _asked(command, argv), time.monotonic()
        with self._client(ctx) as atom:
            ask = partial(
                atom.execute,
                asked,
                working_directory=working_directory,
                timeout_seconds=timeout_seconds,
                host=host,
                reason=reason,
                env=env,
                idempotency_key=idempotency_key,
                wait_seconds=min(TURN_SECONDS, wait_seconds),
            )
            try:
                session = await self._call(ask)
            except DeniedError as error:
                return denied_result(asked if isinstance(asked, str) else " ".join(asked), error.problem)
            return command_result(await self._waited(ctx, atom, session, begun + wait_seconds), atom.clock_warning)

    async def get_command(self, ctx: Context, id: Id, wait_seconds: Wait = WAIT_SECONDS) -> CommandResult:  # noqa: A002
        """Say how a command stands, and wait up to wait_seconds for its end. Asks for nothing new."""
        begun = time.monotonic()
        with self._client(ctx) as atom:
            session = await self._call(partial(atom.session, id))
            return command_result(await self._waited(ctx, atom, session, begun + wait_seconds), atom.clock_warning)

    async def cancel_command(self, ctx: Context, id: Id, reason: str = "") -> CommandResult:  # noqa: A002
        """Cancel a command: at once where it waits; where it runs, the host is told to stop it."""
        with self._client(ctx) as atom:
            return command_result(await self._call(partial(atom.cancel, id, reason=reason)))

    async def list_commands(
        self,
        ctx: Context,
        status: Annotated[str | None, Field(description="Only those in this state, such as pending.")] = None,
        limit: Annotated[int, Field(ge=1, le=100)] = 20,
    ) -> CommandList:
        """List the newest commands that were asked for with this key, newest first, without their output."""
        with self._client(ctx) as atom:
            sessions = await self._call(partial(atom.sessions, status=status, limit=limit))
        return {"commands": [command_line(session) for session in sessions]}

    async def check_policy(
        self,
        ctx: Context,
        *,
        command: Line = None,
        argv: Words = None,
        working_directory: Folder = None,
        host: HostName = None,
    ) -> PolicyResult:
        """Say what governance would say of a command, and why. Nothing runs and nobody is asked."""
        asked = _asked(command, argv)
        with self._client(ctx) as atom:
            check = partial(atom.check, asked, working_directory=working_directory, host=host)
            return policy_result(await self._call(check))

    async def _waited(self, ctx: Context, atom: Atom, session: Session, deadline: float) -> Session:
        """Return a session when it has ended or the time is over, telling progress every few seconds."""
        begun = time.monotonic()
        while not session.is_over and (left := int(deadline - time.monotonic())) > 0:
            where = f" at {session.approve_url}" if session.approve_url else ""
            turn = time.monotonic()
            await ctx.report_progress(turn - begun, deadline - begun, f"{session.status}: waiting{where}")
            try:
                session = await self._call(partial(atom.session, session.id, wait_seconds=min(TURN_SECONDS, left)))
            except ToolError as error:
                if not isinstance(error.__cause__, UnavailableError):
                    raise
                # It goes on without us: what is known of it is the better answer.
                break
            if not session.is_over and time.monotonic() - turn < 1:
                # The server holds no more answers for this key at the moment.
                await anyio.sleep(1)
        return session

    @contextmanager
    def _client(self, ctx: Context) -> Iterator[Atom]:
        try:
            atom = self._connect(ctx)
        except AtomError as error:
            raise ToolError(sentence_of(error)) from error
        with atom:
            yield atom

    async def _call(self, call: Callable[[], T]) -> T:
        """Run a call in a thread of its own. DeniedError passes, every other becomes a sentence for the model.

        Where the client gives up, a call that was begun is made to its end: what was asked for goes on, and is listed.
        """
        try:
            return await run_sync(call, limiter=self._room)
        except DeniedError:
            raise
        except AtomError as error:
            raise ToolError(sentence_of(error)) from error


def _asked(command: str | None, argv: list[str] | None) -> str | list[str]:
    if (command is None) == (argv is None):
        raise ToolError("Give one of command (a line of text) and argv (a list). Nothing was done.")
    return command if command is not None else list(argv or [])


def headers_key(ctx: Any) -> str:
    """Return the key that an HTTP caller showed, empty where there is none."""
    value = (ctx.headers or {}).get("authorization", "")
    scheme, _, key = value.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
