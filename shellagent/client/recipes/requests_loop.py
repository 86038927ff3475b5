"""A loop around a model, with nothing but `requests`: ask, wait, give the answer back, until the model is done.

Copy it, and put your model's call in place of `next_step`. ATOM_URL and ATOM_KEY say where and who.
"""

import os
import time
import uuid
from collections.abc import Callable

import requests

API = os.environ["ATOM_URL"].rstrip("/") + "/api/local-agent"
HTTP = requests.Session()
HTTP.headers["Authorization"] = "Bearer " + os.environ["ATOM_KEY"]


def call(method: str, path: str, **content) -> requests.Response:
    """Return the server's answer. One that is away for a moment is asked again: what was asked for goes on."""
    give_up_at = time.monotonic() + 30
    while True:
        try:
            answer = HTTP.request(method, API + path, timeout=60, **content)
            if answer.status_code not in (502, 503, 504) or time.monotonic() > give_up_at:
                return answer
        except requests.RequestException:
            if time.monotonic() > give_up_at:
                raise
        time.sleep(2)


def run(command: str, reason: str) -> str:
    """Run a command under governance, and return what the model is to know of it."""
    # One key for one wish: a request whose answer was lost on the way can be sent again and runs once.
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    question = {"command": command, "reason": reason, "wait_seconds": 20}
    answer = call("POST", "/execute", json=question, headers=headers)
    session = answer.json()
    if answer.status_code >= 400:
        return f"It did not run: {session['detail']} Next: {session['next_action']}."
    while session["next_action"] == "wait":
        if session["approve_url"]:
            print("A person decides at", session["approve_url"], flush=True)
        time.sleep(session["poll_after_seconds"])
        answer = call("GET", f"/sessions/{session['id']}", params={"wait_seconds": 20})
        if answer.status_code >= 400:
            return f"Session {session['id']} goes on, and cannot be read: {answer.json()['detail']}"
        session = answer.json()
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
