"""Names of environment variables that change what a program is or does, so that no command may set them."""

from collections.abc import Mapping
from typing import Final

#: Read by the loader, the shells, the interpreters, and the programs of the tables.
_REFUSED: Final = frozenset(
    """
    PATH HOME IFS ENV BASH_ENV SHELL SHELLOPTS BASHOPTS PS4 PROMPT_COMMAND CDPATH GLOBIGNORE EXECIGNORE USER LOGNAME
    PAGER MANPAGER LESSOPEN LESSCLOSE LESS LESSKEY EDITOR VISUAL BROWSER TMPDIR TMP TEMP
    MAKEFLAGS MFLAGS GNUMAKEFLAGS MAKEFILES CC CXX CFLAGS CPPFLAGS CXXFLAGS LDFLAGS
    GREP_OPTIONS GREP_COLORS TAR_OPTIONS POSIXLY_CORRECT GZIP ZIPOPT UNZIP RIPGREP_CONFIG_PATH
    CLASSPATH GOFLAGS GOROOT GOPATH GOENV GOPROXY RUSTC RUSTC_WRAPPER RUSTFLAGS RUSTDOCFLAGS
    CURL_HOME WGETRC SSH_ASKPASS SSH_AUTH_SOCK SUDO_ASKPASS KUBECONFIG
    HTTP_PROXY HTTPS_PROXY ALL_PROXY FTP_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
    OPENSSL_CONF OPENSSL_ENGINES LOCPATH NLSPATH GCONV_PATH HOSTALIASES LOCALDOMAIN RES_OPTIONS RESOLV_HOST_CONF
    TERMINFO TERMINFO_DIRS TERMCAP VIRTUAL_ENV CONDA_PREFIX JAVA_TOOL_OPTIONS _JAVA_OPTIONS JDK_JAVA_OPTIONS
    AWKPATH AWKLIBPATH LUA_PATH LUA_CPATH LUA_INIT TCLLIBPATH PHPRC PHP_INI_SCAN_DIR R_HOME R_PROFILE XDG_CONFIG_HOME
    XDG_CONFIG_DIRS XDG_DATA_DIRS XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS
    """.split()  # noqa: SIM905 - one name a line would hide how the names belong together
)
_REFUSED_PREFIXES: Final = (
    "LD_",
    "DYLD_",
    "GLIBC_",
    "MALLOC_",
    "PYTHON",
    "PIP_",
    "UV_",
    "VIRTUALENV_",
    "GIT_",
    "NODE_",
    "NPM_",
    "YARN_",
    "PNPM_",
    "PERL",
    "RUBY",
    "GEM_",
    "BUNDLE_",
    "CARGO_",
    "DOCKER_",
    "KUBE",
    "COMPOSE_",
    "AWS_",
    "ATOM_",
    "BASH_FUNC_",
    "PS_",
    "LESS_",
    "PYTEST_",
)


def refused_env_names(env: Mapping[str, str]) -> list[str]:
    """Return the names in `env` that a command may not set, sorted: those that change programs, or are no names.

    Names are compared without case, because some programs read them so.
    """
    return sorted(name for name in env if _is_refused(name))


def _is_refused(name: str) -> bool:
    upper = name.upper()
    is_name = name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit()
    return not is_name or upper in _REFUSED or upper.startswith(_REFUSED_PREFIXES)
