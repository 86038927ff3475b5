"""A LangGraph tool that runs commands under governance, and stops the graph while a person has to decide.

Copy it. `pip install langgraph`; the client comes with a checkout of Atom Local Agent, or from its one file:
    PYTHONPATH=/usr/local/bin/atom python3 your_graph.py
ATOM_URL and ATOM_KEY say where and who. The graph needs a checkpointer: an interrupt is kept there, and resumed after a
restart too.
"""

import hashlib
from typing import Annotated

from langchain_core.tools import InjectedToolCallId, tool
from langgraph.types import interrupt

from shellagent.client import Atom, CallError, DeniedError


@tool
def run_command(command: str, reason: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> str:
    """Run a shell command under governance. `reason` is shown to the person who may have to approve it."""
    # A node that was interrupted begins anew when it is resumed: the same key gives the same session, run once.
    key = hashlib.sha256(f"{tool_call_id}\0{command}".encode()).hexdigest()[:48]
    try:
        with Atom.from_environment() as atom:
            session = atom.execute(command, reason=reason, wait_seconds=5, idempotency_key=f"langgraph-{key}")
            if session.status == "pending":
                interrupt({"session_id": session.id, "approve_url": session.approve_url, "command": command})
            session = atom.wait(session.id, seconds=300)
    except DeniedError as error:
        return f"It did not run: {error}"
    except CallError as error:
        return f"There is no result: {error}"
    if not session.has_run:
        return f"It did not run ({session.status}): {session.why}"
    return f"exit code {session.exit_code}\n{session.stdout}{session.stderr}"
