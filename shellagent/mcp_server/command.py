"""`manage.py mcp`: the MCP server over the standard streams, or over HTTP as a process of its own."""

import argparse
import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from shellagent.client.arguments import Parser, ended
from shellagent.client.atom import Atom
from shellagent.client.credentials import checked_url, find_access, is_exposed
from shellagent.client.errors import Exit, StateError

PROGRAM: Final = "manage.py mcp"
PORT: Final = 8765
LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
EXAMPLES: Final = """\
  ATOM_URL=https://atom.example.com ATOM_KEY=ata_... manage.py mcp
  ATOM_URL=https://atom.example.com manage.py mcp --http --port 8765
  ATOM_URL=http://localhost:8000 manage.py mcp --http --host 0.0.0.0 --allow-host mcp.example.com

Over the standard streams the key is ATOM_KEY's or the credentials file's, as for `atom`. Over HTTP each caller shows
its own agent's key (Authorization: Bearer ata_...), which is passed on; this process has none.

exit codes: 0 the client went; 64 usage, no key, or not installed; 69 the port is taken; 70 internal; 130 Ctrl-C"""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = parser().parse_args(arguments)
    return ended(lambda: _serve(options), lambda _error, message: _note(message))


def parser() -> Parser:
    """Return the command's parser."""
    made = Parser(prog=PROGRAM, description="Serve the tools of this product to an MCP client.", examples=EXAMPLES)
    made.add_argument("--http", action="store_true", help="over streamable HTTP at /mcp, not the standard streams")
    made.add_argument("--host", default=LOOPBACK[0], metavar="ADDRESS", help="where to listen; 127.0.0.1")
    made.add_argument("--port", type=int, default=PORT, metavar="N", help=f"where to listen; {PORT}")
    made.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="another name by which clients may call it"
    )
    made.add_argument(
        "--allow-origin", action="append", default=[], metavar="URL", help="a page that may call it from a browser"
    )
    return made


def _serve(options: argparse.Namespace) -> int:
    try:
        with _quick_import():
            from shellagent.mcp_server import tools  # noqa: PLC0415 - optional, and slow to import
    except ImportError as error:
        raise StateError(
            f"The MCP SDK is not installed ({error}). Install it: .venv/bin/pip install -r requirements-mcp.txt"
        ) from error
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    if options.http:
        return _serve_http(options, tools)
    access = find_access()
    _warn(access.url)
    tools.make_server(lambda _context: Atom(*access)).run("stdio")
    return Exit.OK


def _serve_http(options: argparse.Namespace, tools: Any) -> int:
    url = checked_url(os.environ.get("ATOM_URL", "") or find_access().url)
    # One that is shared by strangers would make them one agent.
    os.environ.pop("ATOM_KEY", None)
    _warn(url)
    from shellagent.mcp_server.over_http import serve  # noqa: PLC0415

    if options.host not in LOOPBACK:
        _note("warning: this listens beyond this machine without TLS. Put it behind a proxy that has it.")
    server = tools.make_server(lambda context: Atom(url, tools.headers_key(context)))
    return serve(server, host=options.host, port=options.port, names=options.allow_host, origins=options.allow_origin)


@contextmanager
def _quick_import() -> Iterator[None]:
    """Import the SDK in less time, because clients wait for it: its 550 types are built when they are first used, and
    what is made stays, so that looking for garbage in between finds none.
    """
    gc.disable()
    try:
        with suppress(ImportError):
            import pydantic  # noqa: PLC0415 - comes with the SDK

            pydantic.BaseModel.model_config["defer_build"] = True
        yield
    finally:
        gc.freeze()
        gc.enable()


def _warn(url: str) -> None:
    if is_exposed(url):
        _note(f"warning: {url} is public and without TLS: the key travels for all to read. Use https://.")


def _note(message: str) -> None:
    sys.stderr.write(f"mcp: {message}\n")
    sys.stderr.flush()
