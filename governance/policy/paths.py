"""Where a path leads and whether it may be reached. Lexical only: the host repeats every check on real paths."""

import fnmatch
import posixpath
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Final

from governance.policy.globs import ANY, STAR, has_mark, marked, may_match, typed
from governance.policy.types import Access, DirectoryRule, Facts, Grant, Maturity, Question

SHIPPED_PROTECTED: Final = Path(__file__).with_name("protected.toml")
#: Begins a name that stands for something which is not known. No real path can hold it.
UNREPORTED: Final = "\0"
#: Stands for the scratch folder of a host that has not reported one yet.
UNREPORTED_SCRATCH: Final = f"/{UNREPORTED}scratch"
_OWN: Final = "It belongs to the product on this host."
_PERSON_HOME: Final = re.compile(r"(/root|/(?:home|[Uu]sers)/[^/]+)(?:/|$)")
_ABOVE_HOMES: Final = frozenset(["/", "/home", "/Users"])
_KEYS: Final = frozenset(["why", "access", "names", "except", "paths", "below_home"])


def normalise(text: str, base: str) -> str:
    """Return the absolute path that `text` names from the absolute folder `base`, without `.`, `..` and `//`."""
    path = posixpath.normpath(posixpath.join(base, text))
    # POSIX lets two leading slashes mean something else, and Linux does not.
    return "/" + path.lstrip("/") if path.startswith("//") else path


def is_within(path: str, root: str) -> bool:
    """Return whether `path` is `root` or below it: `/data-evil` is not within `/data`."""
    return path == root or path.startswith(root if root.endswith("/") else root + "/")


def expand_home(root: str, home: str) -> str | None:
    """Return a root with its leading `~` replaced by `home`, or None where the host has not reported a home."""
    if root != "~" and not root.startswith("~/"):
        return normalise(root, "/")
    return normalise(root[2:], home) if home.startswith("/") else None


def work_folder(question: Question) -> str:
    """Return the folder that relative operands start from: the working directory, else the host's scratch folder."""
    if question.working_directory:
        return normalise(question.working_directory, "/")
    return normalise(question.facts.scratch, "/") if question.facts.scratch else UNREPORTED_SCRATCH


def granted_roots(question: Question, directories: Iterable[DirectoryRule]) -> list[Grant]:
    """Return the roots where this agent may work on this host: by maturity, by an operator's gift, and scratch."""
    facts = question.facts
    return list(_roots(question.maturity, facts.home, facts.scratch, question.agent_roots, tuple(directories)))


@lru_cache(maxsize=512)
def _roots(
    maturity: Maturity, home: str, scratch: str, agent_roots: tuple[str, ...], directories: tuple[DirectoryRule, ...]
) -> tuple[Grant, ...]:
    roots = [
        Grant(root, rule.access)
        for rule in directories
        if _reaches(maturity, rule.least_maturity) and (root := expand_home(rule.root, home)) is not None
    ]
    given = (expand_home(root, home) for root in agent_roots)
    roots += [Grant(root, Access.WRITE) for root in given if root is not None]
    return (*roots, Grant(normalise(scratch, "/") if scratch else UNREPORTED_SCRATCH, Access.WRITE))


def _reaches(maturity: Maturity, least: Maturity) -> bool:
    return maturity.rank >= least.rank


def covers(roots: Iterable[Grant], path: str, access: Access) -> bool:
    """Return whether one of the roots opens `path` for `access`; write includes read."""
    return any(is_within(path, root.path) and access in (Access.READ, root.access) for root in roots)


@dataclass(frozen=True, slots=True)
class _Names:
    why: str
    access: Access
    pattern: re.Pattern[str]
    exceptions: frozenset[str]
    #: The same names, as `governance.policy.globs` compares them.
    marked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Protection:
    """The paths that no command may reach, from `protected.toml`; `problem` is what is wrong with that file."""

    names: tuple[_Names, ...] = ()
    paths: tuple[tuple[str, str], ...] = ()
    prefixes: tuple[str, ...] = ()
    below_home: tuple[tuple[str, str], ...] = ()
    home_prefixes: tuple[str, ...] = ()
    #: Whether any of the names stands in a lower-case path that has a slash behind it.
    any_name: re.Pattern[str] | None = None
    readable: frozenset[str] = frozenset()
    writable: frozenset[str] = frozenset()
    #: Patterns that stand for whatever is there, so that nobody aims at a protected name with them.
    everyday: frozenset[str] = frozenset()
    problem: str = ""
    text: str = ""

    def is_open(self, path: str, access: Access) -> bool:
        """Return whether the path is a harmless fact of the system, open although it is outside every root."""
        return path in self.writable or (access is Access.READ and path in self.readable)

    def reason(self, path: str, access: Access, facts: Facts) -> str | None:
        """Return why `path` is protected from `access`, as a sentence, or None. `path` is normalised."""
        if self.is_open(path, access):
            return None
        lowered = path.casefold()
        return self._reason_of_place(lowered, facts) or self._reason_of_name(lowered, access)

    def _reason_of_place(self, lowered: str, facts: Facts) -> str | None:
        closed = f"{lowered}/"
        if closed.startswith(_closed(facts.protected)):
            return _OWN
        # One call over all prefixes: this runs for every path of every decision.
        if closed.startswith(self.prefixes):
            return next(why for protected, why in self.paths if is_within(lowered, protected.casefold()))
        for home in _homes_of(closed, facts):
            if closed.startswith(self.home_prefixes, len(home) + 1):
                below = lowered[len(home) + 1 :]
                return next(why for protected, why in self.below_home if is_within(below, protected.casefold()))
        return None

    def _reason_of_name(self, lowered: str, access: Access) -> str | None:
        if self.any_name is None or not self.any_name.search(f"{lowered}/"):
            return None
        parts = lowered.split("/")
        for names in self.names:
            if names.access is Access.WRITE and access is Access.READ:
                continue
            if any(names.pattern.fullmatch(part) and part not in names.exceptions for part in parts):
                return names.why
        return None

    def certain_match(self, path: str, facts: Facts) -> str | None:
        """Return why a path with globs may stand for a protected path that is known by its place, or None."""
        lowered = path.casefold()
        parts = lowered.split("/")
        literal = "".join(takewhile(lambda sign: not has_mark(sign), lowered))
        known = [*self.paths, *((own, _OWN) for own in facts.protected)]
        known = [(protected, why) for protected, why in known if protected.casefold().startswith(literal)]
        folder = literal[: literal.rfind("/") + 1]
        for home in _homes_of(folder, facts) or _homes_that_match(parts, facts):
            known += [(f"{home}/{below}", why) for below, why in self.below_home]
        for protected, why in known:
            wanted = protected.casefold().split("/")
            if len(parts) >= len(wanted) and all(map(may_match, parts, wanted)):
                return why
        return None

    def possible_match(self, path: str, access: Access) -> str | None:
        """Return a sentence on the protected name that a glob of the path may stand for, or None.

        The host leaves every protected name out, so a pattern that people use for whatever is there passes.
        """
        for part in path.split("/"):
            if not has_mark(part) or typed(part).casefold() in self.everyday:
                continue
            for names in self.names:
                if names.access is Access.WRITE and access is Access.READ:
                    continue
                found = next((name for name in names.marked if may_match(part, name)), None)
                if found is not None:
                    return f"`{typed(part)}` may stand for {typed(found)}. {names.why}"
        return None

    def contained(self, path: str, facts: Facts, *, with_own: bool = True) -> str | None:
        """Return a protected path below `path`, or None. `with_own` counts the product's own files too."""
        below = path.casefold() if path.endswith("/") else path.casefold() + "/"
        candidates = [own for own in facts.protected if with_own]
        candidates += [protected for protected, _ in self.paths]
        homes = {facts.home.rstrip("/")} if facts.home.startswith("/") else set()
        if person := _PERSON_HOME.match(path):
            homes.add(person[1])
        elif path in _ABOVE_HOMES:
            homes.add("/root" if path == "/" else f"{path}/*")
        for home in homes:
            if is_within(path, home) or is_within(home, path):
                candidates += [f"{home}/{protected}" for protected, _ in self.below_home]
        return next((protected for protected in candidates if protected.casefold().startswith(below)), None)


@lru_cache(maxsize=256)
def _closed(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{path.casefold().rstrip('/')}/" for path in paths)


def _homes_of(closed: str, facts: Facts) -> list[str]:
    """Return the homes that a lower-case path, with a slash behind it, is in: a person's, and the host's own."""
    person = _PERSON_HOME.match(closed)
    homes = [person[1]] if person else []
    own = facts.home.casefold().rstrip("/")
    if own.startswith("/") and own not in homes and closed.startswith(f"{own}/"):
        homes.append(own)
    return homes


def _homes_that_match(parts: Sequence[str], facts: Facts) -> list[str]:
    """Return the homes, each as a pattern, that the names of a path with globs may lead to."""
    homes = [f"/home/{STAR}", f"/users/{STAR}", "/root", *([facts.home.casefold()] if facts.home else [])]
    return [home for home in homes if all(map(may_match, parts, home.split("/")))]


def load_protection(path: Path = SHIPPED_PROTECTED) -> Protection:
    """Return the protected paths of a file. A file that is wrong gives a Protection with a `problem`, never raises."""
    try:
        return read_protection(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return Protection(problem=f"{path.name}: {error}")


def read_protection(text: str) -> Protection:
    """Return the protected paths that a file's text lists. Raises ValueError for one that is wrong."""
    data = tomllib.loads(text)
    if set(data) != {"protected", "readable", "writable"} | ({"everyday"} & set(data)):
        raise ValueError("a file of protected paths holds [[protected]], [readable], [writable] and [everyday]")
    names: list[_Names] = []
    paths: list[tuple[str, str]] = []
    below_home: list[tuple[str, str]] = []
    for entry in data["protected"]:
        if unknown := set(entry) - _KEYS:
            raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
        why, access = entry["why"], Access(entry.get("access", Access.READ))
        if patterns := _texts(entry, "names"):
            joined = "|".join(fnmatch.translate(name.casefold()) for name in patterns)
            marks = tuple(marked(name.casefold()) for name in patterns)
            names.append(_Names(why, access, re.compile(joined), frozenset(_texts(entry, "except")), marks))
        paths += [(protected, why) for protected in _texts(entry, "paths")]
        below_home += [(protected, why) for protected in _texts(entry, "below_home")]
    return Protection(
        names=tuple(names),
        paths=tuple(paths),
        prefixes=tuple(f"{protected.casefold()}/" for protected, _ in paths),
        below_home=tuple(below_home),
        home_prefixes=tuple(f"{below.casefold()}/" for below, _ in below_home),
        any_name=_any_of(name for group in names for name in group.marked),
        readable=frozenset(_texts(data["readable"], "paths")),
        writable=frozenset(_texts(data["writable"], "paths")),
        everyday=frozenset(_texts(data.get("everyday", {}), "globs")),
        text=text,
    )


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    patterns = [re.escape(name).replace(re.escape(STAR), "[^/]*").replace(re.escape(ANY), "[^/]") for name in names]
    return re.compile(f"/(?:{'|'.join(patterns)})(?=/)")


def _texts(data: Mapping[str, object], key: str) -> list[str]:
    value = data.get(key, [])
    if not isinstance(value, list):
        raise ValueError(f"`{key}` is a list of texts")
    texts = [text for text in value if isinstance(text, str) and text]
    if len(texts) != len(value):
        raise ValueError(f"`{key}` is a list of texts")
    return texts
