#!/usr/bin/env python
"""The command line. The local agent's commands start before Django: they need neither it nor a database."""

import os
import sys

from shellagent.client.arguments import piped


def main() -> int:
    """Run the command that the first argument names, and return its exit code."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["runlocalagent"]:
        from shellagent.host.runlocalagent import main as runlocalagent  # noqa: PLC0415

        return runlocalagent(arguments[1:], is_own_process=True)
    if arguments[:1] == ["localagent"]:
        from shellagent.host.localagent import main as localagent  # noqa: PLC0415

        return localagent(arguments[1:])
    if arguments[:1] == ["mcp"]:
        from shellagent.mcp_server.command import main as mcp  # noqa: PLC0415

        return mcp(arguments[1:])
    if arguments[:1] == ["connect"]:
        from shellagent.client.cli import main as atom  # noqa: PLC0415

        return atom(arguments)
    if arguments[:1] in (["up"], ["qcluster"]):
        from atomsite.leash import hide_memory  # noqa: PLC0415

        hide_memory()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "atomsite.settings")
    from atomsite.commands import guarded  # noqa: PLC0415

    return guarded(sys.argv)


if __name__ == "__main__":
    sys.exit(piped(main))
