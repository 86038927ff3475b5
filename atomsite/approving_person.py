"""A person who acts from a terminal on the server: who they are is shown by their password, as at the login page.

Whoever can run `manage.py` can write the database anyway. The password keeps the trail honest all the same: an event
names a person only where that person was there, and no program that runs beside the server approves in passing.
"""

import getpass
import os
import pwd
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.http import HttpRequest

from audit.origin import Origin, coming_from


class NotThatPersonError(Exception):
    """The name or the password is wrong, or the login is locked. The text says what to do."""


def person_by_password(username: str, password: str) -> User:
    """Return the active user of this name and password. Failures count as at the login page, and lock it.

    Raises NotThatPersonError.
    """
    user = authenticate(_request(), username=username, password=password)
    if not isinstance(user, User):
        raise NotThatPersonError(
            f"{username} cannot act here: the name or the password is wrong, the account is not active, or its login "
            "is locked for a while."
        )
    return user


def password_asked(username: str) -> str:
    """Ask for a password at the terminal, whatever the standard input is. Raises NotThatPersonError without one."""
    try:
        return getpass.getpass(f"Password of {username}: ")
    except (EOFError, OSError) as error:
        raise NotThatPersonError("There is no terminal to ask for the password. Use --password-stdin.") from error


def code_asked() -> str:
    """Ask for a one-time code at the terminal. Raises NotThatPersonError without one."""
    try:
        return getpass.getpass("One-time code: ")
    except (EOFError, OSError) as error:
        raise NotThatPersonError("There is no terminal to ask for the one-time code. Use --code.") from error


@contextmanager
def from_the_command_line(user: User) -> Iterator[None]:
    """Let events that are recorded inside say that they came from the command line, and as which account of it."""
    request = _request()
    request.user = user
    with coming_from(Origin.of(request)):
        yield


def _request() -> HttpRequest:
    """Return what stands for a request: the login's guards and the trail want to know from where somebody comes."""
    request = HttpRequest()
    try:
        account = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        account = str(os.geteuid())
    # No address: it would be that of this machine, whoever sits in front of which one.
    request.META |= {"REMOTE_ADDR": "", "HTTP_USER_AGENT": f"the command line, as {account} on {socket.gethostname()}"}
    return request
