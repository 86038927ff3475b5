"""What a host says of itself, and which paths no command on it may reach."""

import getpass
import os
import platform
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from shellagent import protocol
from shellagent.host.ceiling import NO_CEILING, Ceiling
from shellagent.host.state import PRODUCT, StateFolder, atom_home, cache_folder


def scratch_folder(chosen: str | None = None) -> Path:
    """Return the folder where sessions without a working directory run: the option, ATOM_SCRATCH, or the cache's."""
    wanted = chosen or os.environ.get("ATOM_SCRATCH")
    return Path(wanted).expanduser().absolute() if wanted else cache_folder() / "scratch"


def protected_paths(state: StateFolder, others: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the absolute paths that every command is kept from: state, keys, the product's files, and `others`."""
    paths = [state.path, atom_home(), PRODUCT, *map(Path, others)]
    if sys.prefix != sys.base_prefix:
        paths.append(Path(sys.prefix))
    return tuple(dict.fromkeys(os.path.realpath(path) for path in paths))


def host_facts(state: StateFolder, scratch: Path, of_host: Ceiling = NO_CEILING) -> protocol.HostFacts:
    """Return the facts that the server decides with, and shows; `of_host` is this host's own ceiling."""
    return protocol.HostFacts(
        home=os.path.expanduser("~"),
        user=user_name(),
        scratch=str(scratch),
        hostname=socket.gethostname(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        protected=protected_paths(state, of_host.files),
        is_root=os.geteuid() == 0,
        limits=of_host.shown_limits(),
    )


def user_name() -> str:
    """Return the name of the user that commands run as, or its number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())
