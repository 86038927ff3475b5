"""The MCP server over streamable HTTP: who may call, and under which name. Every caller shows an agent's key."""

import json
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from shellagent.client.credentials import KEY_PREFIX
from shellagent.client.errors import Exit

PATH: Final = "/mcp"
LOCAL_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_REFUSAL: Final = json.dumps(
    {
        "title": "Not authenticated",
        "status": 401,
        "detail": "Send an agent's key with each request: `Authorization: Bearer ata_...`.",
    }
).encode()


def application(server: MCPServer, *, names: Sequence[str], origins: Sequence[str]) -> Any:
    """Return the ASGI application. Requests under other names or from other pages are refused: DNS rebinding.

    It keeps no sessions, so that no caller can take up what another began.
    """
    hosts = [*LOCAL_NAMES, *names]
    security = TransportSecuritySettings(
        allowed_hosts=[*hosts, *(f"{name}:*" for name in hosts)],
        allowed_origins=list(origins),
    )
    return _Keyed(
        server.streamable_http_app(streamable_http_path=PATH, stateless_http=True, transport_security=security)
    )


class _Keyed:
    """Lets through only what shows something that can be an agent's key; whether it is one, the API says."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not _shows_a_key(scope["headers"]):
            headers = [(b"content-type", b"application/problem+json"), (b"www-authenticate", b'Bearer realm="atom"')]
            await send({"type": "http.response.start", "status": 401, "headers": headers})
            await send({"type": "http.response.body", "body": _REFUSAL})
            return
        await self._inner(scope, receive, send)


def _shows_a_key(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    found = [value for name, value in headers if name == b"authorization"]
    return len(found) == 1 and found[0].lower().startswith(b"bearer " + KEY_PREFIX.encode())


def serve(server: MCPServer, *, host: str, port: int, names: Sequence[str], origins: Sequence[str]) -> int:
    """Listen until Ctrl-C. Returns the exit code."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        sys.stderr.write(f"mcp: {host}:{port} cannot be listened at: {error.strerror}. Give another --port.\n")
        return Exit.UNAVAILABLE
    sys.stderr.write(f"mcp: listening at http://{host}:{listener.getsockname()[1]}{PATH}\n")
    sys.stderr.flush()
    app = application(server, names=names, origins=origins)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False)).run(sockets=[listener])
    return Exit.OK
