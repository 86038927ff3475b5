"""A loop around a model, with nothing but `requests`: ask, wait, give the answer back, until the model is done.

Copy it, and put your model's call in place of `next_step`. ATOM_URL and ATOM_KEY say where and who.
"""

import os
import time
import uuid
from collections.abc import Callable

import requests

API = os.environ["ATOM_URL"] + "/api/local-agent"
HTTP = requests.Session()
HTTP.headers["Authorization"] = "Bearer " + os.environ["ATOM_KEY"]


def run(command: str, reason: str) -> str:
    """Run a command under governance, and return what the model is to know of it."""
    # One key for one wish: a request whose answer was lost on the way can be sent again and runs once.
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    question = {"command": command, "reason": reason, "wait_seconds": 20}
    answer = HTTP.post(f"{API}/execute", json=question, headers=headers, timeout=60)
    session = answer.json()
    if answer.status_code >= 400:
        return f"It did not run: {session['detail']} Next: {session['next_action']}."
    while session["next_action"] == "wait":
        if session["approve_url"]:
            print("A person decides at", session["approve_url"], flush=True)
        time.sleep(session["poll_after_seconds"])
        session = HTTP.get(f"{API}/sessions/{session['id']}", params={"wait_seconds": 20}, timeout=60).json()
    if session["exit_code"] is None:
        why = session["approval"]["reason"] or session["decision"]["explanation"]
        return f"It did not run ({session['status']}): {why}"
    return f"exit code {session['exit_code']}\n{session['stdout']}{session['stderr']}"


def loop(next_step: Callable[[list[str]], tuple[str, str] | None], most: int = 20) -> list[str]:
    """Let a model ask for commands until it has no more. `next_step` gets all answers so far."""
    answers: list[str] = []
    for _ in range(most):
        step = next_step(answers)
        if step is None:
            break
        answers.append(run(*step))
    return answers
