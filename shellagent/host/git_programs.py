"""What git could run: the programs that a configuration names, and which subcommand may come to which of them.

The facts are from git's documentation and source, versions 2.38 to 2.50. What is not listed here may run anything.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from shellagent.host.reach import shown


class Family(Enum):
    """Programs that a configuration names for one purpose: the keys, in small letters as git prints them."""

    FILTER = re.compile(r"filter\..*\.(clean|smudge|process)", re.DOTALL)
    DIFF = re.compile(r"diff\.external|diff\..*\.(command|textconv)", re.DOTALL)
    MERGE = re.compile(r"merge\..*\.driver", re.DOTALL)
    #: Any other key that sounds like a program, so that a newer git's is not missed.
    OTHER = re.compile(r".*\.[^.]*(command|cmd|program|driver|helper|hook|script)", re.DOTALL)


#: Keys that are overruled by our settings and environment, or that only the subcommands in _RUNS_CODE look at.
_OVERRULED: Final = re.compile(
    r"core\.sshcommand|(alias|gpg|credential|remote|sendemail|difftool|mergetool|guitool|browser|man|advice)\..*",
    re.DOTALL,
)
_CREDENTIAL_KEY: Final = re.compile(r".*\.(extraheader|[^.]*(token|password|passwd|secret)[^.]*)", re.DOTALL)
_CREDENTIAL_IN_URL: Final = re.compile(r"://[^/@\s]*:[^/@\s]*@")
#: Subcommands that governance judges as build or network: hooks, filters and transports are what they are for.
_RUNS_CODE: Final = frozenset(
    """add am archimport checkout cherry-pick citool clone commit cvsimport difftool fast-import fetch filter-branch gc
    gui help hook instaweb lfs ls-remote maintenance merge mergetool p4 pull push quiltimport rebase repack request-pull
    reset restore revert send-email send-pack stage submodule svn switch web--browse""".split()  # noqa: SIM905
)
#: The same, except for the first words that are listed here.
_HARDENED_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "bisect": frozenset(["log"]),
    "stash": frozenset(["list", "show", "drop", "clear"]),
    "worktree": frozenset(["list", "remove", "prune"]),
}
_NETWORK_WORDS: Final[Mapping[str, frozenset[str]]] = {"remote": frozenset(["show", "update", "prune"])}
#: Subcommands that print what a configuration holds.
_PRINTS_SETTINGS: Final = frozenset(["config", "remote", "var"])

_LOOKS_INTO: Final = re.compile("--(ig[a-z-]*=(?!all|dirty)|sub[a-z]*=d|recurse-s)")

_NO_PROGRAMS: Final = ("--no-ext-diff", "--no-textconv")
_NO_SUBMODULES: Final = ("--ignore-submodules=dirty",)
#: What is put behind a subcommand, so that less has to be refused.
INSERTED: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(["log", "show", "whatchanged", "diff-tree"], _NO_PROGRAMS),
    **dict.fromkeys(["diff", "diff-files", "diff-index"], (*_NO_PROGRAMS, *_NO_SUBMODULES)),
    **dict.fromkeys(["blame", "annotate", "grep"], ("--no-textconv",)),
    "status": _NO_SUBMODULES,
}
#: Options by which the agent would undo that, or ask for more. They come later, so that they would win.
_UNDOING: Final = ("--ext-diff", "--textconv", "--filters", "--remerge-diff", "--verbose", "--recurse-submodules")
#: The programs that a subcommand may run in spite of all that. Any that is not listed may run each.
_MAY_RUN: Final[Mapping[str, Collection[Family]]] = {
    **dict.fromkeys(["status", "diff", "diff-files", "diff-index", "blame", "annotate", "ls-files"], (Family.FILTER,)),
    **dict.fromkeys(["describe", "rm", "mv", "archive", "worktree"], (Family.FILTER,)),
    **dict.fromkeys(["reflog", "stash"], (Family.DIFF, Family.MERGE)),
    "notes": (Family.MERGE,),
    **dict.fromkeys(
        """branch cat-file check-attr check-ignore check-mailmap check-ref-format cherry clean config count-objects
        diff-tree for-each-ref fsck grep init log ls-tree merge-base name-rev remote rev-list rev-parse shortlog show
        show-branch show-ref symbolic-ref tag var verify-pack version""".split(),  # noqa: SIM905
        (),
    ),
}


@dataclass(frozen=True, slots=True)
class GitCommand:
    """A command line of git: what stands before the subcommand, the subcommand, and what stands behind it."""

    before: tuple[str, ...]
    subcommand: str
    arguments: tuple[str, ...]

    @property
    def runs_code(self) -> bool:
        """Return whether governance judges this subcommand as running code or as reaching the network."""
        words = [word for word in self.arguments if not word.startswith("-")]
        if self.subcommand in _HARDENED_WORDS:
            return not self.arguments or self.arguments[0] not in _HARDENED_WORDS[self.subcommand]
        if self.subcommand in _NETWORK_WORDS:
            return bool(words) and words[0] in _NETWORK_WORDS[self.subcommand]
        return self.subcommand in _RUNS_CODE

    @property
    def families(self) -> Collection[Family]:
        """Return the programs that it may run although it is hardened."""
        if any(self.undoes(word) for word in self.arguments):
            return list(Family)
        return [*_MAY_RUN.get(self.subcommand, Family), Family.OTHER]

    def undoes(self, word: str) -> bool:
        """Return whether an option, shortened or not, would undo what is put behind the subcommand."""
        if self.subcommand not in INSERTED and self.subcommand != "cat-file":
            return False
        name, _, value = word.partition("=")
        if self.subcommand == "status" and re.fullmatch("-[a-z]*v[a-z]*", name):
            return True
        if name.startswith("--diff-m"):
            return value.startswith("r")
        return len(name) > 3 and name != "--text" and any(option.startswith(name) for option in _UNDOING)

    @property
    def looks_into_submodules(self) -> bool:
        """Return whether it may run git inside of a submodule, where another configuration counts."""
        if self.subcommand == "describe":
            return any(word.startswith(("--di", "--b")) for word in self.arguments)
        return self.subcommand == "rm" or any(_LOOKS_INTO.match(word) for word in self.arguments)

    def objection(self, settings: Iterable[tuple[str, str]]) -> str:
        """Return why this git may not run under these settings, as a sentence, or an empty text.

        A setting is in the way where it names a program that this git could run, or is a secret that it would print.
        """
        name, families = f"`git {self.subcommand}`", self.families
        # Git looks at an alias only where it has no subcommand of that name.
        alias = "" if self.subcommand in _MAY_RUN else f"alias.{self.subcommand}".lower()
        for key, value in settings:
            if value and (_family(key) in families or (alias and key in (alias, f"{alias}.command"))):
                return f"The repository's configuration names a program that {name} could run, in {_shown(key)}."
            is_secret = _CREDENTIAL_KEY.fullmatch(key) or _CREDENTIAL_IN_URL.search(f"{key}\n{value}")
            if is_secret and self.subcommand in _PRINTS_SETTINGS:
                return f"The repository's configuration holds a credential that {name} could print, in {_shown(key)}."
        return ""


def _family(key: str) -> Family | None:
    if _OVERRULED.fullmatch(key):
        return None
    return next((family for family in Family if family.value.fullmatch(key)), None)


def _shown(key: str) -> str:
    return shown(_CREDENTIAL_IN_URL.sub("://…@", key))
