"""Names of environment variables that change what a program is or does, so that no command may set them."""

from collections.abc import Mapping
from typing import Final

#: Read by the loader, the shells, the interpreters, and the programs of the tables. `zgrep` and its kin run what GREP,
#: DIFF, CMP and ZCAT name, `bzgrep` has the words in `opt` for its own, and a translation that LANGUAGE leads to is a
#: format string.
_REFUSED: Final = frozenset(
    """
    PATH HOME IFS ENV BASH_ENV SHELL SHELLOPTS BASHOPTS PS4 PROMPT_COMMAND CDPATH GLOBIGNORE EXECIGNORE USER LOGNAME
    PAGER MANPAGER EDITOR VISUAL BROWSER TMPDIR TMP TEMP
    GREP EGREP FGREP DIFF CMP ZCAT OPT
    LANGUAGE TEXTDOMAINDIR I18NPATH GETCONF_DIR IP_LIB_DIR TC_LIB_DIR TCPDIAG_FILE WORDLIST JQ_LIBRARY_PATH
    MAKEFLAGS MFLAGS GNUMAKEFLAGS MAKEFILES CC CXX CFLAGS CPPFLAGS CXXFLAGS LDFLAGS
    GREP_OPTIONS GREP_COLORS TAR_OPTIONS TAPE RSH POSIXLY_CORRECT RIPGREP_CONFIG_PATH
    GZIP GZIP_OPT BZIP BZIP2 XZ_OPT XZ_DEFAULTS ZIP ZIPOPT UNZIP UNZIPOPT ZIPINFO ZIPINFOOPT MAGIC MORE BC_ENV_ARGS
    SIMPLE_BACKUP_SUFFIX VERSION_CONTROL CMD_ENV I_WANT_A_BROKEN_PS UNIX95 LOCATE_PATH
    CLASSPATH GOFLAGS GOROOT GOPATH GOENV GOPROXY
    CURL_HOME WGETRC SUDO_ASKPASS
    HTTP_PROXY HTTPS_PROXY ALL_PROXY FTP_PROXY NO_PROXY SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
    LOCPATH NLSPATH GCONV_PATH HOSTALIASES LOCALDOMAIN RES_OPTIONS RESOLV_HOST_CONF
    COMPILER_PATH LIBRARY_PATH CPATH C_INCLUDE_PATH CPLUS_INCLUDE_PATH DEPENDENCIES_OUTPUT SUNPRO_DEPENDENCIES
    GOAUTH GOCACHEPROG GOVCS GOINSECURE
    GO111MODULE GOTOOLCHAIN GOBIN GOCACHE GOMODCACHE GOTMPDIR GOSUMDB GONOSUMDB GOPRIVATE GOEXPERIMENT GOTOOLDIR
    SSLKEYLOGFILE SYSTEM_WGETRC NETRC GNUPGHOME
    TERMINFO TERMINFO_DIRS TERMCAP VIRTUAL_ENV CONDA_PREFIX _JAVA_OPTIONS
    AWKPATH AWKLIBPATH
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
    "LESS",
    "GAWK_",
    "OPENSSL_",
    "PROC_",
    "LIBMOUNT_",
    "BLKID_",
    "MAN",
    "GROFF_",
    "_POSIX2_",
    "PYTEST_",
    # Buses: an address may name a program to start.
    "DBUS_",
    "SYSTEMD_",
    # Settings that name programs, or are code.
    "APT_",
    "DPKG_",
    "RPM_",
    "LUA",
    "R_",
    "TCL",
    "PHP",
    "JULIA_",
    "GROOVY_",
    "GUILE_",
    "JDK_",
    "JAVA_",
    "MAVEN_",
    "GRADLE_",
    "CCC_",
    "GCC_",
    "CGO_",
    "RUST",
    "CMAKE_",
    "CTEST_",
    "PKG_CONFIG",
    "DENO_",
    "BUN_",
    "COREPACK_",
    "POETRY_",
    "PDM_",
    "HATCH_",
    "PIPX_",
    "TOX_",
    "NOX",
    "MYPY",
    "RUFF_",
    "BLACK_",
    "HTTPIE_",
    "MTR_",
    "RSYNC_",
    "SSH_",
    "PG",
    "MYSQL",
    "REDISCLI_",
    "TF_",
    "HELM_",
    "ANSIBLE_",
    "GH_",
    "GITHUB_",
    "GITLAB_",
    "AZURE_",
    "CLOUDSDK_",
    "GOOGLE_",
    "PODMAN_",
    "CONTAINERS_",
    "CONTAINER_",
    "CONTAINERD_",
    "NERDCTL_",
    "XDG_",
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
