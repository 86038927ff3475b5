"""What a command finds around it: its environment, its working directory and its program. Built, never inherited."""

import os
import re
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from governance.policy.environment import refused_env_names
from shellagent.host.errors import RefusedError
from shellagent.host.tree import MARKER
from shellagent.protocol import Reason

SYSTEM_PATH: Final = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
#: Names that change what a program loads, runs or connects to, besides those that governance refuses; a trailing star
#: stands for any ending.
REFUSED_NAMES: Final = """
LD_* DYLD_* PYTHON* GIT_* PERL* RUBY* NODE_* NPM_* npm_* PIP_* UV_* CARGO* RUST* GOFLAGS GOENV GOPATH GOROOT
JAVA_* _JAVA_OPTIONS JDK_* MAVEN_* GRADLE_* LUA_* PHP* BASH* ENV IFS PATH PS4 SHELL SHELLOPTS PROMPT_COMMAND
CDPATH GLOBIGNORE HOME TMPDIR TMP TEMP USER LOGNAME PWD OLDPWD EDITOR VISUAL PAGER MANPAGER LESS LESSOPEN
LESSCLOSE BROWSER GREP_* TAR_OPTIONS RSYNC_* SSH_* MAKEFLAGS MAKEFILES GNUMAKEFLAGS MFLAGS CC CXX LOCPATH
NLSPATH GCONV_PATH TERMINFO* TERMCAP HOSTALIASES RES_OPTIONS LOCALDOMAIN MALLOC_* GLIBC_TUNABLES DOCKER_* KUBE*
AWS_* AZURE_* GOOGLE_* SSL_* CURL_* WGET* XDG_* ATOM_* http_proxy https_proxy ftp_proxy all_proxy no_proxy
HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY
"""
#: Enough to change to a folder, also to one that may not be listed.
_O_PATH: Final = getattr(os, "O_PATH", os.O_RDONLY)
_REFUSED: Final = re.compile("|".join(re.escape(name).replace(r"\*", ".*") for name in REFUSED_NAMES.split()))


def search_path(extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the folders searched for programs: the system's, those configured, and that of the running Python.

    The last one is why `python3` is found on a machine whose only Python is the one that runs this product.
    """
    interpreter = str(Path(sys.base_prefix) / "bin")
    return tuple(dict.fromkeys((*SYSTEM_PATH, *extra, interpreter)))


def build(
    session_id: str, wanted: Mapping[str, str], *, path: Sequence[str], home: str, temporary: str, user: str
) -> dict[str, str]:
    """Return the environment of a command. Raises RefusedError for a name that is not allowed or a value with a NUL."""
    for name, value in wanted.items():
        if not NAME.match(name) or _REFUSED.fullmatch(name) or refused_env_names({name: value}):
            raise RefusedError(Reason.HOST_CEILING, f"This host does not pass the environment name {name!r}.")
        if "\0" in value:
            raise RefusedError(Reason.HOST_CEILING, f"The value of {name} holds a NUL byte.")
    return {
        **wanted,
        "PATH": ":".join(path),
        "LANG": "C.UTF-8",
        "HOME": home,
        "TMPDIR": temporary,
        "USER": user,
        "LOGNAME": user,
        MARKER: session_id,
    }


def open_directory(path: str) -> tuple[int, str]:
    """Open a working directory and return its descriptor and its real path. Raises RefusedError where it is not one.

    Whoever changes to the descriptor is in the folder that was checked, whatever happens to the path meanwhile.
    """
    if not path.startswith("/") or "\0" in path:
        raise _no_folder(path, "is not an absolute path")
    try:
        descriptor = os.open(path, _O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _no_folder(path, "does not exist on this host") from None
    except NotADirectoryError:
        raise _no_folder(path, "is not a directory") from None
    except OSError as error:
        raise _no_folder(path, f"cannot be entered ({error.strerror})") from error
    return descriptor, real_path(descriptor, path)


def _no_folder(path: str, why: str) -> RefusedError:
    shown = path if path.isprintable() else repr(path)
    return RefusedError(
        Reason.NO_FOLDER, f"The working directory {shown} {why}. Make it there, or ask for another one."
    )


def real_path(descriptor: int, path: str) -> str:
    """Return the path of an open file without links."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return os.path.realpath(path)


def is_within(path: str, root: str) -> bool:
    """Return whether a real path is a root or below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def find_program(name: str, *, path: Sequence[str], directory: str) -> tuple[str, int]:
    """Return a program's absolute path and 0, or what there is and the exit code that says why not: 126 or 127."""
    folders = [directory] if "/" in name else path
    candidates = [os.path.join(folder, name) for folder in folders]
    unusable = ""
    for candidate in candidates:
        try:
            mode = os.stat(candidate).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(mode) and os.access(candidate, os.X_OK):
            return candidate, 0
        unusable = unusable or candidate
    return (unusable, 126) if unusable else (name, 127)
