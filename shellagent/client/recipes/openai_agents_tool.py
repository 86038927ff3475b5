"""A tool for the OpenAI Agents SDK that runs commands under governance.

Copy it. `pip install openai-agents`; the client comes with a checkout of Atom Local Agent, or from its one file:
    PYTHONPATH=/usr/local/bin/atom python3 your_agent.py
ATOM_URL and ATOM_KEY say where and who.
"""

import asyncio

from agents import Agent, function_tool

from shellagent.client import Atom, CallError, DeniedError

#: How long a call waits for a person before the model is told to come back later.
PATIENCE_SECONDS = 600


@function_tool
async def run_command(command: str, reason: str) -> str:
    """Run a shell command under governance. `reason` is shown to the person who may have to approve it."""
    # The client waits in the calling thread, so it gets one of its own.
    return await asyncio.to_thread(_run, command, reason)


@function_tool
async def get_command(session_id: str) -> str:
    """Return what became of a command that was still waiting."""
    return await asyncio.to_thread(_get, session_id)


def _run(command: str, reason: str) -> str:
    try:
        with Atom.from_environment() as atom:
            session = atom.execute(command, reason=reason, wait_seconds=20)
            if session.approve_url:
                print(f"A person decides at {session.approve_url}", flush=True)
            return _told(atom.wait(session.id, seconds=PATIENCE_SECONDS))
    except DeniedError as error:
        return f"It did not run: {error}"
    except CallError as error:
        return f"There is no result: {error}"


def _get(session_id: str) -> str:
    try:
        with Atom.from_environment() as atom:
            return _told(atom.session(session_id, wait_seconds=20))
    except CallError as error:
        return str(error)


def _told(session) -> str:
    if not session.is_over:
        return f"It waits at {session.approve_url}. Ask for session {session.id} later with get_command."
    if not session.has_run:
        return f"It did not run ({session.status}): {session.why}"
    return f"exit code {session.exit_code}\n{session.stdout}{session.stderr}"


def make_agent(model) -> Agent:
    """Return an agent that has the tools."""
    text = "Use run_command for every command. A denied or rejected command is not tried in another way."
    return Agent(name="operator", instructions=text, model=model, tools=[run_command, get_command])
