"""Whether the client of a held request is still there."""

import socket
from collections.abc import Callable

from rest_framework.request import Request


def peer_check(request: Request) -> Callable[[], bool]:
    """Return a function that says whether the client still keeps its connection open.

    gunicorn hands its socket to the application; behind another server the answer is always yes. A client that waits
    for its answer sends nothing, so that end of file is all that a look at the socket can find when it has gone.
    """
    connection = request.META.get("gunicorn.socket")
    if not isinstance(connection, socket.socket):
        return lambda: True

    def is_there() -> bool:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    return is_there
