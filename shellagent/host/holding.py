"""Holding a session against the host's ceiling, before anything of it is prepared.

The plan is read by the same tables as on the server, here on the host: what the server says it would be is not asked.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Final

from governance.policy.decide import Policy, decide, policy_of
from governance.policy.matrix import SHIPPED_MATRIX
from governance.policy.paths import load_protection
from governance.policy.plan import Plan
from governance.policy.tables import load_tables
from governance.policy.types import Access, Decision, DirectoryRule, Facts, Maturity, Question
from shellagent.host.ceiling import NO_CEILING, Ceiling
from shellagent.host.environment import find_program
from shellagent.host.errors import RefusedError
from shellagent.host.reach import shown
from shellagent.host.sandbox import OBLIGATION_DAEMON, OBLIGATION_NETWORK
from shellagent.protections import FILE_PROTECTION
from shellagent.protocol import Assignment, Reason

_ANYWHERE: Final = (DirectoryRule("/", Access.WRITE, Maturity.STUDENT),)


class Holding:
    """A ceiling on one host. Answers for each assignment: nothing of it is prepared where it is refused."""

    def __init__(
        self,
        ceiling: Ceiling = NO_CEILING,
        *,
        facts: Facts = Facts(),  # noqa: B008 - it is frozen
        path: Sequence[str] = (),
        protections: Sequence[str] = (),
    ) -> None:
        self.ceiling = ceiling
        self.facts = facts
        self.path = path
        self._is_confined = any(name.startswith(FILE_PROTECTION) for name in protections)

    def secrets_of(self, assignment: Assignment) -> dict[str, str]:
        """Return the values of the secrets that a session names. Raises RefusedError where the ceiling is too low."""
        if self.ceiling is not NO_CEILING:
            self._hold(assignment)
        return self.ceiling.values_of(assignment.secrets) if assignment.secrets else {}

    def load(self) -> None:
        """Read what plans are judged by now, so that no session waits for it."""
        if self.ceiling.judges_plans:
            _ = self._policy

    def _hold(self, assignment: Assignment) -> None:
        ceiling = self.ceiling
        longest = ceiling.longest_timeout_seconds
        if longest is not None and assignment.timeout_seconds > longest:
            _refuse(f"a session may take {longest} s here at most. Ask for no more with timeout_seconds")
        if names := [name for name in assignment.env if not ceiling.may_set(name)]:
            _refuse(f"the environment name {shown(names[0])} may not be set here")
        if not ceiling.network:
            for obligation in (OBLIGATION_NETWORK, OBLIGATION_DAEMON):
                if obligation in assignment.obligations:
                    _refuse(f"no session reaches the network here, and this one may ({obligation})")
        if not ceiling.judges_plans:
            return
        if ceiling.roots is not None and not self._is_confined:
            _refuse("it names roots, and this machine has no sandbox that could hold a command to them")
        try:
            plan = Plan.from_json(assignment.plan)
        except ValueError as error:
            raise RefusedError(Reason.SPEC_MISMATCH, f"The plan cannot be read: {error}.") from error
        self._hold_plan(self._judged(plan, assignment))

    def _hold_plan(self, decision: Decision) -> None:
        for rule in decision.rules:
            if rule.id == "engine-error" or (rule.id == "outside-roots" and self.ceiling.roots is not None):
                _refuse(rule.justification.replace("this agent", "a session here").rstrip("."))
        highest = self.ceiling.highest_category
        if highest is not None and decision.category.severity > highest.severity:
            _refuse(f"a session is {highest} here at most, and this one is {decision.category}")
        for token in decision.tokens:
            if token.role == "program" and (blocked := self._blocked(token.text)):
                _refuse(f"the program {shown(blocked)} is blocked here")

    def _blocked(self, name: str) -> str:
        """Return the entry that blocks a program, by the name typed and by every name its links lead over."""
        if not self.ceiling.blocked_programs:
            return ""
        found, status = find_program(name, path=self.path, directory="/")
        paths = [name, found, os.path.realpath(found)] if not status else [name]
        known = {*paths, *(os.path.basename(path) for path in paths)}
        return next((entry for entry in self.ceiling.blocked_programs if entry in known), "")

    def _judged(self, plan: Plan, assignment: Assignment) -> Decision:
        question = Question(
            plan=plan,
            maturity=Maturity.AUTONOMOUS,
            facts=self.facts,
            working_directory=assignment.working_directory,
        )
        return decide(question, self._policy)

    @cached_property
    def _policy(self) -> Policy:
        """Return rules of which only the roots matter here."""
        roots = self.ceiling.roots
        directories = (
            _ANYWHERE
            if roots is None
            else tuple(DirectoryRule(root.path, Access(root.access), Maturity.STUDENT) for root in roots)
        )
        return policy_of(SHIPPED_MATRIX, directories, load_tables(), load_protection())


def _refuse(why: str) -> None:
    raise RefusedError(Reason.HOST_CEILING, f"This host's own ceiling does not let it run: {why}.")
