"""Program tables: TOML files, one a family, read at start, checked strictly, and proved by their own examples.

A table that is wrong never allows anything: an entry with an unknown key, a wrong type or a failing example is left
out, its programs become unknown, and `Tables.problems` says why, for a system check to show.
"""

import hashlib
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from governance.policy.classify import ASK_RULES, classify
from governance.policy.entries import (
    Entry,
    Handling,
    Operand,
    Option,
    Recursion,
    Style,
    Tables,
    ValueType,
    value_type,
)
from governance.policy.hosts import judge_host, judge_url
from governance.policy.reading import Arg, Reading
from governance.policy.types import Access, Category

SHIPPED: Final = Path(__file__).with_name("programs")

#: What an entry and an option may both say.
_SHARED_KEYS: Final = frozenset(
    ["names", "category", "operands", "recurses", "here", "network", "sandbox", "obligations"]
)
_ENTRY_KEYS: Final = _SHARED_KEYS.union(
    [
        "justification",
        "style",
        "flags",
        "options",
        "numeric",
        "dashless",
        "daemon",
        "needs",
        "ask",
        "scripts",
        "subcommand",
    ]
)
_PROGRAM_KEYS: Final = _ENTRY_KEYS | {"examples", "refuses"}
_OPTION_KEYS: Final = _SHARED_KEYS | {
    "value",
    "optional",
    "mode",
    "effect",
    "everywhere",
    "in_place",
    "last",
    "enters",
    "alone",
}
OBLIGATIONS: Final = ("sandbox", "git-hardened")
_STARTS_ENTRY: Final = re.compile(rb"\s*\[\[\s*program\s*\]\]")
_T = TypeVar("_T")


class TableError(ValueError):
    """An entry of a table is wrong; the message says what."""


def load_tables(folder: Path = SHIPPED) -> Tables:
    """Return the tables of every `*.toml` file in a folder; what is wrong with them is in `problems`, never raised."""
    files: dict[str, bytes] = {}
    unread: list[str] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            files[path.name] = path.read_bytes()
        except OSError as error:
            unread.append(f"{path.name}: it cannot be read ({error.strerror})")
    tables = read_tables(files)
    return replace(tables, problems=(*unread, *tables.problems)) if unread else tables


def read_tables(files: Mapping[str, bytes]) -> Tables:
    """Return the tables of files given as name and bytes. A program that is listed twice becomes unknown."""
    read: list[_Program] = []
    problems: list[str] = []
    digest = hashlib.sha256()
    for file, content in files.items():
        digest.update(f"{len(file)}:{file}:{len(content)}:".encode() + content)
        read += _read_file(file, content, problems)
    found = _proved(read, problems)
    return Tables(
        programs={name: entry for name, entry in found.items() if not name.endswith("*")},
        prefixes=tuple((name[:-1], entry) for name, entry in found.items() if name.endswith("*")),
        problems=tuple(problems),
        digest=digest.hexdigest(),
    )


@dataclass(frozen=True, slots=True)
class _Program:
    """One `[[program]]` of a file under all its names, and the examples that are to prove it."""

    #: The file, the line where it starts, and its names.
    label: str
    entries: Mapping[str, Entry]
    raw: Mapping[str, object]


def _proved(programs: Iterable[_Program], problems: list[str]) -> dict[str, Entry]:
    """Return the programs whose examples hold and that are listed once; a blocked one stays blocked."""
    found: dict[str, Entry] = {}
    doubled: set[str] = set()
    everything = {name: entry for program in programs for name, entry in program.entries.items()}
    for program in programs:
        try:
            # An example of a program that runs another one names that one too.
            _prove(Tables(programs={**everything, **program.entries}), program)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one entry is its problem alone
            problems.append(f"{program.label}: {_told(error)}")
            continue
        for name, entry in program.entries.items():
            if name in found:
                problems.append(f"{program.label}: `{name}` is listed twice")
                doubled.add(name)
                if found[name].category is Category.BLOCKED:
                    continue
            found[name] = entry
    return {name: entry for name, entry in found.items() if name not in doubled or entry.category is Category.BLOCKED}


def _read_file(file: str, content: bytes, problems: list[str]) -> list[_Program]:
    """Return the file's programs without those that are wrong."""
    try:
        data = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problems.append(f"{file}, line {line}: it is not UTF-8")
        return []
    except (ValueError, RecursionError) as error:  # not TOML, which names the line, or too deep
        problems.append(f"{file}: {_told(error)}")
        return []
    programs = data.pop("program", [])
    if data or not isinstance(programs, list):
        problems.append(f"{file}: a table holds [[program]] entries only, not {sorted(data) or type(programs)}")
        return []
    found: list[_Program] = []
    lines = [number for number, line in enumerate(content.splitlines(), start=1) if _STARTS_ENTRY.match(line)]
    for raw, line in zip(programs, [*lines, *[0] * len(programs)], strict=False):
        label = f"{file}, line {line}"
        try:
            _require(isinstance(raw, dict), "an entry is a table")
            names = _words(raw, "names")
            label += f": {' '.join(names)}"
            _require(bool(names), "`names` is missing")
            found.append(_Program(label, dict.fromkeys(names, _entry(names, raw, _PROGRAM_KEYS)), raw))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one entry is its problem alone
            problems.append(f"{label}: {_told(error)}")
    return found


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"it cannot be read ({type(error).__name__}: {error})"


def _entry(
    names: Sequence[str],
    raw: Mapping[str, object],
    known: frozenset[str] = _ENTRY_KEYS,
    everywhere: Iterable[Option] = (),
) -> Entry:
    _check_keys(raw, known)
    style = _enum(Style, raw, "style", Style.GNU)
    category = _enum(Category, raw, "category", None)
    justification = _get(raw, "justification", str, "")
    ask = _get(raw, "ask", str, "")
    _require(category is not Category.UNKNOWN, "a listed program is not `unknown`")
    _require(justification.endswith("."), "`justification` is a sentence")
    _require(not ask or ask in ASK_RULES, f"`ask` is one of {sorted(ASK_RULES)}")
    for name in names:
        _require(not name.endswith("*") or category is Category.BLOCKED, "only a blocked name may end in `*`")
        _require(not name.startswith("-") and "/" not in name, f"{name!r} is not a program's name")
    options = _options(raw, everywhere)
    needs = frozenset(_words(raw, "needs"))
    _require(needs <= set(options), "`needs` lists options of the entry")
    for option in options.values():
        _require(needs.issuperset(option.names) or needs.isdisjoint(option.names), "`needs` parts names of one option")
    inherited = [option for option in dict.fromkeys(options.values()) if option.is_everywhere]
    subcommands: dict[str, Entry] = {}
    for sub in _get(raw, "subcommand", list, []):
        _require(isinstance(sub, dict), "a subcommand is a table")
        sub_names = _words(sub, "names")
        _require(bool(sub_names), "a subcommand has no `names`")
        for name in sub_names:
            _require(name not in subcommands, f"the subcommand `{name}` is listed twice")
        subcommands |= dict.fromkeys(sub_names, _entry(sub_names, sub, everywhere=inherited))
    return Entry(
        name=names[0],
        category=category,
        justification=justification,
        style=style,
        options=options,
        operands=_row(_get(raw, "operands", str, "")),
        recursion=_recursion(raw),
        is_numeric=_flag(raw, "numeric"),
        is_dashless=_flag(raw, "dashless"),
        is_daemon=_flag(raw, "daemon"),
        has_network=_flag(raw, "network"),
        here=_here(raw),
        needs=needs,
        obligations=_obligations(raw),
        ask=ask,
        subcommands=subcommands,
        has_plus=any(name.startswith("+") for name in options),
        scripts=tuple(_words(raw, "scripts")),
    )


def _options(raw: Mapping[str, object], everywhere: Iterable[Option]) -> dict[str, Option]:
    listed = [Option((name,)) for name in _words(raw, "flags")]
    listed += [_option(option) for option in _get(raw, "options", list, [])]
    options: dict[str, Option] = {}
    for option in listed:
        _require(bool(option.names), "an option has no name")
        for name in option.names:
            _require(name not in options, f"the option `{name}` is listed twice")
            options[name] = option
    # A subcommand's own option of the same name stands before the program's.
    return {**{name: option for option in everywhere for name in option.names}, **options}


def _option(raw: object) -> Option:
    if not isinstance(raw, dict):
        raise TableError("an option is a table")
    _check_keys(raw, _OPTION_KEYS)
    values = tuple(_type(word) for word in _get(raw, "value", str, "").split())
    is_optional = _flag(raw, "optional")
    _require(len(values) == 1 or not is_optional, "`optional` needs one `value`")
    _require(all(kind.handling is not Handling.COMMAND for kind in values), "only an operand is a `command`")
    return Option(
        names=tuple(_words(raw, "names")),
        values=values,
        is_optional=is_optional,
        category=_category(raw, "category"),
        mode=_category(raw, "mode"),
        effect=_get(raw, "effect", str, ""),
        recursion=_recursion(raw),
        operands=_row(_get(raw, "operands", str, "")) if "operands" in raw else None,
        here=_here(raw),
        has_network=_flag(raw, "network"),
        obligations=_obligations(raw),
        is_everywhere=_flag(raw, "everywhere"),
        is_in_place=_flag(raw, "in_place"),
        is_last=_flag(raw, "last"),
        is_entered=_flag(raw, "enters"),
        alone=_category(raw, "alone"),
    )


def _category(raw: Mapping[str, object], key: str) -> Category | None:
    return _enum(Category, raw, key, None) if key in raw else None


def _here(raw: Mapping[str, object]) -> Access | None:
    return _enum(Access, raw, "here", None) if "here" in raw else None


def _obligations(raw: Mapping[str, object]) -> tuple[str, ...]:
    names = _get(raw, "obligations", list, [])
    _require(all(name in OBLIGATIONS for name in names), f"`obligations` lists some of {', '.join(OBLIGATIONS)}")
    return tuple(dict.fromkeys([*(["sandbox"] if _flag(raw, "sandbox") else []), *names]))


def _type(text: str) -> ValueType:
    try:
        return value_type(text)
    except ValueError as error:
        raise TableError(str(error)) from error


def _row(text: str) -> tuple[Operand, ...]:
    """Read a row of operands: type names, each with `?` (may be missing), `*` (any number) or `+` (one or more)."""
    row = []
    for word in text.split():
        suffix = word[-1] if word[-1] in "?*+" else ""
        kind = _type(word.removesuffix(suffix))
        row.append(Operand(kind, least=0 if suffix in ("?", "*") else 1, is_repeated=suffix in ("*", "+")))
    _require(sum(operand.is_repeated for operand in row) <= 1, "only one operand of a row may repeat")
    commands = [operand for operand in row if operand.kind.handling is Handling.COMMAND]
    _require(all(operand is row[-1] and not operand.is_repeated for operand in commands), "a `command` stands last")
    return tuple(row)


def _recursion(raw: Mapping[str, object]) -> Recursion:
    text = _get(raw, "recurses", str, "none")
    _require(text.upper() in Recursion.__members__, "`recurses` is names or contents")
    return Recursion[text.upper()]


def _prove(tables: Tables, program: _Program) -> None:
    """Raise TableError where an example does not come out as the entry says."""
    raw, entries = program.raw, program.entries.values()
    examples = _get(raw, "examples", dict, {})
    _require(bool(examples) or all(entry.category is Category.BLOCKED for entry in entries), "no `examples`")
    for text, expected in examples.items():
        reading = classify(_split(text), tables)
        is_known = not _is_unknown(reading)
        _require(is_known and reading.category == expected, f"example {text!r} is {reading.category}, not {expected}")
    for text in _get(raw, "refuses", list, []):
        _require(isinstance(text, str) and bool(text.split()), "`refuses` lists commands")
        reading = classify(_split(text), tables)
        _require(
            reading.entry is not None and (_is_unknown(reading) or _is_closed(reading)),
            f"{text!r} must not be understood, and is {reading.category}",
        )


def _is_unknown(reading: Reading) -> bool:
    """Return whether something in a command is not understood."""
    if reading.entry is None or any(finding.rule not in ASK_RULES for finding in reading.findings):
        return True
    return reading.inner is not None and _is_unknown(reading.inner)


def _is_closed(reading: Reading) -> bool:
    """Return whether a command is blocked, or names a host that is protected or cannot be read."""
    verdicts = [judge_url(host.text) if host.is_url else judge_host(host.text) for host in reading.hosts]
    is_closed = any(verdict.protected or verdict.unreadable for verdict in verdicts)
    return is_closed or reading.category is Category.BLOCKED


def _split(text: str) -> list[Arg]:
    """Return the words of an example, with quotes and backslashes as a shell reads them."""
    if "'" not in text and '"' not in text and "\\" not in text:
        return [Arg.literal(word) for word in text.split()]
    try:
        return [Arg.literal(word) for word in shlex.split(text)]
    except ValueError as error:
        raise TableError(f"example {text!r}: {error}") from error


def _check_keys(raw: Mapping[str, object], known: Iterable[str]) -> None:
    unknown = sorted(set(raw) - set(known))
    _require(not unknown, f"unknown key {', '.join(unknown)}")


def _get(raw: Mapping[str, object], key: str, kind: type[_T], default: _T) -> _T:
    value = raw.get(key, default)
    if not isinstance(value, kind):
        raise TableError(f"`{key}` is a {kind.__name__}, not {value!r}")
    return value


def _flag(raw: Mapping[str, object], key: str) -> bool:
    value = raw.get(key, False)
    if not isinstance(value, bool):
        raise TableError(f"`{key}` is true or false, not {value!r}")
    return value


def _words(raw: Mapping[str, object], key: str) -> list[str]:
    return _get(raw, key, str, "").split()


def _enum(kind: type[_T], raw: Mapping[str, object], key: str, default: _T | None) -> _T:
    value = raw.get(key, default)
    try:
        return kind(value)  # type: ignore[call-arg]
    except ValueError:
        raise TableError(f"`{key}` is not {value!r}") from None


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise TableError(message)
