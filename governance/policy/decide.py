"""The decision: a question and a policy in, one frozen Decision out. Pure: no ORM, no clock, no I/O.

The strictest part wins: every rule that fires is kept, and none of them can turn a stricter one into an allow.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from audit.canonical import sha256
from governance.policy.classify import add_redirects, classify
from governance.policy.entries import Recursion, Tables
from governance.policy.environment import refused_env_names
from governance.policy.explain import explain, what_would_allow
from governance.policy.globs import has_mark, split_glob
from governance.policy.hosts import judge_host, judge_url
from governance.policy.matrix import SHIPPED_DIRECTORIES, SHIPPED_MATRIX, Matrix, check_monotone
from governance.policy.paths import (
    UNREPORTED,
    Protection,
    covers,
    granted_roots,
    load_protection,
    normalise,
    work_folder,
)
from governance.policy.places import UNKNOWN_FOLDER, Placed, walk
from governance.policy.plan import Command
from governance.policy.reading import HostUse, PathUse, Reading, shown
from governance.policy.rules import OperatorRule, RuledCommand, fire
from governance.policy.tables import load_tables
from governance.policy.types import (
    Access,
    Category,
    Decision,
    DirectoryRule,
    Grant,
    Maturity,
    Outcome,
    Question,
    Rule,
)

__all__ = [
    "SHIPPED_DIRECTORIES",
    "SHIPPED_MATRIX",
    "Policy",
    "build_policy",
    "check_monotone",
    "decide",
    "policy_problems",
    "refused_env_names",
]

#: Raised when the code decides differently for the same tables, so that the policy's version changes with it.
ENGINE: Final = 6


@dataclass(frozen=True, slots=True)
class Policy:
    """All that a decision depends on, besides the question. `version` is a digest of the rest."""

    matrix: Matrix
    directories: tuple[DirectoryRule, ...]
    tables: Tables
    protection: Protection
    version: str
    #: Those that have not expired.
    rules: tuple[OperatorRule, ...] = ()


@lru_cache(maxsize=1)
def _shipped() -> tuple[Tables, Protection]:
    return load_tables(), load_protection()


def build_policy(
    matrix: Mapping[tuple[Category, Maturity], Outcome] = SHIPPED_MATRIX,
    directories: Iterable[DirectoryRule] = SHIPPED_DIRECTORIES,
    rules: Iterable[OperatorRule] = (),
) -> Policy:
    """Return the policy of a matrix and rules over the shipped tables, which are read once a process."""
    tables, protection = _shipped()
    return policy_of(matrix, directories, tables, protection, rules)


def policy_of(
    matrix: Mapping[tuple[Category, Maturity], Outcome],
    directories: Iterable[DirectoryRule],
    tables: Tables,
    protection: Protection,
    rules: Iterable[OperatorRule] = (),
) -> Policy:
    """Return the policy of exactly these parts, with its version."""
    roots, operators = tuple(directories), tuple(rules)
    content = {
        "engine": ENGINE,
        "matrix": sorted([str(category), str(maturity), str(row)] for (category, maturity), row in matrix.items()),
        "directories": sorted([rule.root, str(rule.access), str(rule.least_maturity)] for rule in roots),
        "rules": [rule.to_json() for rule in operators],
        "tables": tables.digest,
        "protected": protection.text,
    }
    return Policy(dict(matrix), roots, tables, protection, sha256(content), operators)


def policy_problems(policy: Policy) -> list[str]:
    """Return what is wrong with a policy, one sentence each, for a system check to show."""
    own = [policy.protection.problem] if policy.protection.problem else []
    return [*policy.tables.problems, *own, *check_monotone(policy.matrix)]


def decide(question: Question, policy: Policy) -> Decision:
    """Return what governance says of a question. Never raises: any exception inside is a deny with `engine-error`."""
    try:
        if policy.protection.problem:
            raise LookupError("the protected paths are not known")
        return _Case(question, policy).decision()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong inside, nothing runs
        reason = f"The command could not be judged ({type(error).__name__})."
        return Decision(
            outcome=Outcome.DENY,
            category=Category.UNKNOWN,
            plan=question.plan,
            tokens=(),
            rules=(Rule("engine-error", Outcome.DENY, reason),),
            explanation=f"This is denied: {reason}",
            would_allow="Nothing: the command could not be judged. Tell an operator.",
            policy_version=policy.version,
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """One command of the plan, or what a wrapper in it runs, and where it may work."""

    command: Command
    reading: Reading
    folders: tuple[str, ...]
    is_wrapped: bool = False


class _Case:
    """One question under one policy, while its rules and grants are collected."""

    def __init__(self, question: Question, policy: Policy) -> None:
        self.question = question
        self.policy = policy
        self.folder = work_folder(question)
        self.roots = granted_roots(question, policy.directories)
        self.rules: dict[tuple[str, str], Rule] = {}
        self.opened: list[Grant] = []
        self.reasons: dict[tuple[str, Access], str | None] = {}
        #: The ids of the rules that object to the part that is judged.
        self.objections: set[str] = set()

    def decision(self) -> Decision:
        """Judge every part and return the strictest answer."""
        parts = [
            part for placed in walk(self.question.plan, self.folder, self.question.facts) for part in self.parts(placed)
        ]
        tokens = tuple(token for part in parts for token in part.reading.told())
        categories = set[Category]().union(*(part.reading.categories for part in parts))
        category = max((token.category for token in tokens), key=lambda one: one.severity)
        self.judge_surroundings()
        ruled = [self.judge_part(part) for part in parts]
        self.judge_categories(categories)
        obligations = self.judge_obligations(parts, categories)
        self.judge_by_operators(ruled)
        rules = tuple(sorted(self.rules.values(), key=lambda rule: -rule.outcome.strictness))
        outcome = rules[0].outcome
        return Decision(
            outcome=outcome,
            category=category,
            plan=self.question.plan,
            tokens=tokens,
            rules=rules,
            explanation=explain(outcome, category, [part.reading for part in parts], rules),
            would_allow=what_would_allow(self.question, rules, self.policy.matrix, categories),
            policy_version=self.policy.version,
            grants=() if outcome is Outcome.DENY else self.grants(category),
            obligations=obligations,
            raised_by=next(index for index, token in enumerate(tokens) if token.category is category),
            scripts=tuple(dict.fromkeys(script for part in parts for script in _scripts(part))),
        )

    def parts(self, placed: Placed) -> list[_Part]:
        """Read one command: its words, its redirects, and the command that it runs where it is a wrapper."""
        reading = classify(placed.argv, self.policy.tables)
        redirects = placed.command.redirects
        inner = reading.inner
        parts = [_Part(placed.command, reading, placed.folders, is_wrapped=inner is not None)]
        if inner is not None:
            words = placed.command.argv[reading.inner_start :]
            parts.append(_Part(Command(words, redirects), inner, placed.folders, is_wrapped=True))
        if redirects:
            # The tokens keep the order of the words: the redirects stand last.
            add_redirects(parts[-1].reading, list(zip(redirects, placed.targets, strict=True)))
        return parts

    def add(self, rule: str, outcome: Outcome, justification: str) -> None:
        """Note a rule that fired, once."""
        if outcome is not Outcome.ALLOW:
            self.objections.add(rule)
        self.rules.setdefault((rule, justification), Rule(rule, outcome, justification))

    def judge_surroundings(self) -> None:
        """Judge what holds for every command: the environment and the working directory."""
        if refused := refused_env_names(self.question.env):
            names = ", ".join(shown(name) for name in refused)
            self.add("environment", Outcome.DENY, f"These variables change what programs do: {names}.")
        if self.question.working_directory and not self.question.working_directory.startswith("/"):
            self.add("relative-directory", Outcome.DENY, "The working directory is not an absolute path.")
        self.judge_path(PathUse(self.folder, Access.READ), f"The working directory {shown(self.folder)}", self.folder)

    def judge_part(self, part: _Part) -> RuledCommand:
        """Judge one command's words, paths, hosts and categories."""
        self.objections = set()
        reading, maturity = part.reading, self.question.maturity
        name = reading.tokens[0].text
        if reading.entry is None:
            outcome = self.policy.matrix[Category.UNKNOWN, maturity]
            by_path = "; a program is named without a path" if "/" in name else ""
            self.add("not-allowlisted", outcome, f"{shown(name)} is not on the allowlist{by_path}.")
        elif Category.BLOCKED in reading.categories:
            self.add("blocked", Outcome.DENY, f"`{reading.title}` is blocked. {reading.entry.justification}")
        for finding in reading.findings:
            self.add(finding.rule, Outcome.ASK, finding.justification)
        for host in reading.hosts:
            self.judge_host(host)
        for use in dict.fromkeys(reading.paths):
            for folder in part.folders if not use.text.startswith("/") else part.folders[:1]:
                self.judge_path(use, shown(use.text), folder)
        self.judge_folders(part)
        rows = [
            f"matrix:{category}:{maturity}"
            for category in reading.categories
            if self.policy.matrix[category, maturity] is not Outcome.ALLOW
        ]
        return RuledCommand(
            part.command,
            () if any(folder.startswith(UNKNOWN_FOLDER) for folder in part.folders) else part.folders,
            frozenset(reading.categories),
            frozenset([*self.objections, *rows]),
            is_wrapped=part.is_wrapped,
        )

    def judge_folders(self, part: _Part) -> None:
        """Judge the folders that a command works in, besides the one where the plan starts."""
        runs_code = Category.BUILD in part.reading.categories
        for folder in part.folders:
            if folder != self.folder:
                # A plain `cd` names no folder, and what comes behind it works there.
                subject = "The folder that `cd` goes to" if folder.startswith(UNKNOWN_FOLDER) else shown(folder)
                self.judge_path(PathUse(folder, Access.READ), subject, folder)
            if runs_code:
                # What a build writes is not known, so it writes where it works.
                self.judge_path(PathUse(folder, Access.WRITE), f"The working directory {shown(folder)}", folder)

    def judge_host(self, use: HostUse) -> None:
        """Judge one machine on the network: protected is deny, unreadable is ask."""
        judge = judge_url if use.is_url else judge_host
        verdict = judge(use.text, self.question.facts.own_hosts)
        if verdict.protected:
            self.add("protected-host", Outcome.DENY, f"{shown(use.text)} is protected. {verdict.protected}")
        elif verdict.unreadable:
            self.add("unreadable-host", Outcome.ASK, f"{shown(use.text)} cannot be read: {verdict.unreadable}.")

    def judge_path(self, use: PathUse, subject: str, folder: str) -> None:
        """Judge one path: protected is deny, outside every root is ask."""
        path = normalise(use.text, folder)
        has_glob = use.has_glob and has_mark(path)
        if reason := self.protection_of(path, use.access, has_glob=has_glob):
            self.add("protected-path", Outcome.DENY, f"{_place(use, subject, path)} is protected. {reason}")
        elif not use.is_guess:
            place = _place(use, subject, path)
            if has_glob:
                if found := self.policy.protection.possible_match(path, use.access):
                    self.add("may-match-protected", Outcome.ASK, found)
                # The pattern's own folder is listed, and the names that match are used.
                path = split_glob(path)[0]
            self.judge_reach(path, use, place)

    def protection_of(self, path: str, access: Access, *, has_glob: bool) -> str | None:
        """Return why a path is protected, or None; a plan often names one path many times."""
        key = path, access
        if key not in self.reasons:
            protection, facts = self.policy.protection, self.question.facts
            reason = protection.reason(path, access, facts)
            self.reasons[key] = protection.certain_match(path, facts) if reason is None and has_glob else reason
        return self.reasons[key]

    def judge_reach(self, path: str, use: PathUse, place: str) -> None:
        """Judge a path that is not protected itself: what is below it, and whether the agent's roots open it."""
        protection, facts = self.policy.protection, self.question.facts
        if use.recursion is Recursion.CONTENTS and (inside := protection.contained(path, facts)):
            self.add("contains-protected", Outcome.DENY, f"{place} holds the protected path {shown(inside)}.")
        if protection.is_open(path, use.access):
            self.opened.append(Grant(path, use.access))
        elif not covers(self.roots, path, use.access):
            kind = "write in" if use.access is Access.WRITE else "read"
            self.add("outside-roots", Outcome.ASK, f"{place} is outside the folders that this agent may {kind}.")
            self.opened.append(Grant(path, use.access))

    def judge_categories(self, categories: Iterable[Category]) -> None:
        """Judge every category that the commands have; a milder row than that of a more severe one adds nothing."""
        maturity = self.question.maturity
        strictest = -1
        for category in sorted(categories, key=lambda one: -one.severity):
            if category in (Category.UNKNOWN, Category.BLOCKED):
                continue  # `not-allowlisted` and `blocked` say it more clearly
            outcome = self.policy.matrix[category, maturity]
            if outcome.strictness > strictest:
                strictest = outcome.strictness
                self.add(f"matrix:{category}:{maturity}", outcome, _MATRIX[outcome].format(maturity, category))

    def judge_by_operators(self, commands: Sequence[RuledCommand]) -> None:
        """Add the operators' rules that fire; where grants cover the plan, its asking rows of the matrix are lifted."""
        if not self.policy.rules:
            return
        fired = fire(self.policy.rules, self.question, commands)
        if fired.is_granted:
            lifted = [
                key for key, rule in self.rules.items() if key[0].startswith("matrix:") and rule.outcome is Outcome.ASK
            ]
            for key in lifted:
                del self.rules[key]
        for rule in fired.rules:
            self.add(rule.id, rule.outcome, rule.justification)

    def judge_obligations(self, parts: Sequence[_Part], categories: Collection[Category]) -> tuple[str, ...]:
        """Return what the host must meet; ask where it has no sandbox, or one that cannot keep secrets from code."""
        obligations = set[str]().union(*(part.reading.obligations for part in parts))
        runs_code = any(Category.BUILD in part.reading.categories for part in parts)
        if runs_code:
            obligations |= {"sandbox"}
        if any(part.reading.has_network or Category.NETWORK in part.reading.categories for part in parts):
            obligations |= {"network"}
        if Category.DEVOPS in categories or any(part.reading.is_daemon for part in parts):
            obligations |= {"daemon"}
        if set(categories) == {Category.READ}:
            obligations |= {"read-only"}
        facts = self.question.facts
        if "sandbox" in obligations and not facts.is_sandboxed:
            self.add("no-sandbox", Outcome.ASK, "It needs a sandbox, and the host reports none.")
        if runs_code:
            # A sandbox that opens a folder opens all that is in it, so code there could read the secrets in it.
            for path in dict.fromkeys([self.folder, *(root.path for root in self.roots)]):
                if inside := self.policy.protection.contained(path, facts, with_own=False):
                    reason = f"It runs code that could reach {shown(inside)}, in the folder {shown(path)}."
                    self.add("contains-protected", Outcome.ASK, reason)
        return tuple(sorted(obligations))

    def grants(self, category: Category) -> tuple[Grant, ...]:
        """Return what the host's sandbox opens: scratch first, the agent's roots, its folder, each path outside."""
        reads_only = category is Category.READ
        # The scratch folder stands last among the roots and first among the grants: the host knows it by that.
        roots = [self.roots[-1], *self.roots[:-1]]
        wanted = [Grant(root.path, Access.READ) if reads_only else root for root in roots]
        wanted += [*self.opened, Grant(self.folder, Access.READ)]
        kept: list[Grant] = []
        for grant in wanted:
            if UNREPORTED not in grant.path and not covers(kept, grant.path, grant.access):
                kept.append(grant)
        return tuple(kept)


def _place(use: PathUse, subject: str, path: str) -> str:
    return subject if use.text == path else f"{subject} ({shown(path)})"


def _scripts(part: _Part) -> list[str]:
    """Return the files of code that a command runs, as seen from each folder that it may work in."""
    return [normalise(script, folder) for script in part.reading.scripts for folder in part.folders]


_MATRIX: Final = {
    Outcome.ALLOW: "{} agents may run {} commands without asking.",
    Outcome.ASK: "{} agents need an approval for {} commands.",
    Outcome.DENY: "{} agents may not run {} commands.",
}
