"""`manage.py policy`: what governance says of a command, of a file of expectations, and of the last sessions."""

import getpass
import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management.base import CommandParser

from atomsite.commands import EXIT_USAGE, AtomCommand, UnavailableError, UsageError, check_set_up
from atomsite.policy_output import decision_lines, replay_json, replay_lines, report_json, report_lines
from atomsite.terminal import is_coloured
from governance.errors import ProblemError
from governance.models import Agent, PolicyVersion
from governance.policies import stored_policy
from governance.policy.content import policy_from
from governance.policy.decide import Policy, build_policy, decide
from governance.policy.expectations import ExpectationError, judge, read_expectations
from governance.policy.parse import CommandSyntaxError, parse_argv, parse_text
from governance.policy.rules import OperatorRule
from governance.policy.types import Decision, Facts, Maturity, Outcome, Question
from shellagent.errors import CommandRejectedError
from shellagent.replaying import sessions_replay
from shellagent.services import Ask, dry_run

EXITS: Final = {Outcome.ALLOW: 0, Outcome.ASK: 3, Outcome.DENY: 4}
_LEVELS: Final = [level.value for level in Maturity]

_CHECK_HELP: Final = """\
Say what governance would answer to one command, and why. Nothing is created and nothing runs.

Without --agent it is an agent whose own folder is DIR, on a host like this machine whose sandbox works."""
_CHECK_EXAMPLES: Final = """\
examples:
  manage.py policy check --maturity SUPERVISED -- 'git log -p | head'
  manage.py policy check --maturity INTERN --directory /srv/project --json -- 'rm -r build'
  manage.py policy check --agent builder -- cp 'a file' backup

exit codes: 0 allow, 3 ask, 4 deny; 64 usage, or the command cannot be read; 70 internal error
"""
_TEST_HELP: Final = """\
Hold files of expectations against the rules. Each line is an object: `command` or `argv`, `maturity` (or a list of
them; SUPERVISED), `working_directory` and `roots` (the folder is the agent's own unless `roots` says otherwise),
`expect` (allow, ask, deny or 400), `label` (read, escape or oneliner), `note`.

What does not hold is printed with why, and then all figures: how much reading is allowed without a person, how many
escapes are, and how many one-liners can be read."""
_TEST_EXAMPLES: Final = """\
examples:
  manage.py policy test expectations.jsonl
  manage.py policy test --shipped --json reading.jsonl escapes.jsonl

exit codes: 0 all hold, 1 some do not; 64 usage, or a line is no expectation; 70 internal error
"""
_DIFF_HELP: Final = """\
Decide the last sessions again, and show each whose decision would be another: against what was decided then,
against an earlier policy, or with rules that are not saved yet. The maturity is that of the request; what a host
reports of itself is that of now. Nothing is written. Sessions whose request was erased are counted apart."""
_DIFF_EXAMPLES: Final = """\
examples:
  manage.py policy diff --last 1000
  manage.py policy diff --against 3f9a0c12                 an earlier policy, by the first digits of its version
  manage.py policy diff --rules grants.jsonl --json        with these rules besides, one object a line:
      {"tokens": "git push origin", "outcome": "allow", "justification": "Deploys.", "scope": {"agents": ["builder"]}}

exit codes: 0 done, 64 usage, 69 no database, 70 internal error
"""


class Command(AtomCommand):
    help = "Ask governance: about one command, about a file of expectations, or about the last sessions."
    examples = (
        "  manage.py policy check --maturity SUPERVISED -- 'git log -p | head'\n"
        "  manage.py policy test expectations.jsonl\n"
        "  manage.py policy diff --last 200\n"
    )
    # It works in a fresh checkout, by the shipped rules.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="{check,test,diff}")

        def action(name: str, told: str, examples: str) -> ArgumentParser:
            one: ArgumentParser = actions.add_parser(
                name,
                help=told.partition("\n")[0].partition(":")[0].partition(",")[0].removesuffix("."),
                description=told,
                epilog=examples,
                formatter_class=parser.formatter_class,
            )
            one.add_argument("--json", action="store_true", help="print one JSON object")
            return one

        check = action("check", _CHECK_HELP, _CHECK_EXAMPLES)
        check.add_argument(
            "--maturity", choices=_LEVELS, help="the agent's maturity; with --agent, in place of its own"
        )
        check.add_argument("--agent", metavar="NAME", help="decide for this agent, on the host that it would get")
        check.add_argument(
            "--host", metavar="NAME", default="", help="with --agent: the host, where it may use several"
        )
        check.add_argument("--directory", metavar="DIR", default="", help="the working directory, absolute")
        check.add_argument("--shipped", action="store_true", help="by the shipped rules, not by the database's")
        check.add_argument("command", nargs="+", help="one line of text; several words are taken as they are")
        test = action("test", _TEST_HELP, _TEST_EXAMPLES)
        test.add_argument("--shipped", action="store_true", help="by the shipped rules, not by the database's")
        test.add_argument("files", nargs="+", metavar="FILE", help="a JSONL file; - is the standard input")
        diff = action("diff", _DIFF_HELP, _DIFF_EXAMPLES)
        diff.add_argument("--last", type=int, default=200, metavar="N", help="how many sessions; 200")
        other = diff.add_mutually_exclusive_group()
        other.add_argument("--against", metavar="VERSION", help="compare with this earlier policy")
        other.add_argument("--rules", metavar="FILE", help="compare with the rules of now and these besides")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked; the exit code is the answer."""
        code = {"check": self._check, "test": self._test, "diff": self._diff}[options["action"]](options)
        if code:
            sys.exit(code)

    def _check(self, options: dict[str, Any]) -> int:
        words: list[str] = options["command"]
        directory: str = options["directory"]
        if directory and not directory.startswith("/"):
            raise UsageError(f"--directory is an absolute path, and {directory!r} is not.")
        maturity = Maturity(options["maturity"]) if options["maturity"] else None
        try:
            if options["agent"]:
                decision, source = _for_agent(options, maturity, words, directory), "the database"
            else:
                if maturity is None:
                    raise UsageError("Give --maturity, --agent or both.")
                policy, source = _policy(is_shipped=options["shipped"])
                decision = _for_anybody(policy, maturity, words, directory)
        except (CommandSyntaxError, CommandRejectedError) as error:
            return self._unreadable(error, as_json=options["json"])
        except ProblemError as error:
            raise UsageError(error.detail) from error
        if options["json"]:
            self.stdout.write(json.dumps(decision.to_json()))
        else:
            for line in decision_lines(decision, is_coloured=is_coloured(self.stdout)):
                self.stdout.write(line)
            self.stdout.write(f"\nPolicy {decision.policy_version[:12]}, from {source}.")
        return EXITS[decision.outcome]

    def _unreadable(self, error: CommandSyntaxError | CommandRejectedError, *, as_json: bool) -> int:
        if isinstance(error, CommandRejectedError):
            told = {"message": error.detail, **error.extra}
        else:
            told = {
                "message": error.message,
                "column": error.column,
                "construct": error.construct,
                "hint": error.hint,
            }
        if as_json:
            self.stdout.write(json.dumps({"outcome": None, "error": told}))
        else:
            self.stderr.write(f"This cannot be read: {told['message']}. {told['hint']}")
        return EXIT_USAGE

    def _test(self, options: dict[str, Any]) -> int:
        policy, source = _policy(is_shipped=options["shipped"])
        try:
            rows = [row for name in options["files"] for row in read_expectations(name, _lines(name))]
        except ExpectationError as error:
            raise UsageError(str(error)) from error
        report = judge(rows, policy)
        if options["json"]:
            self.stdout.write(json.dumps({"policy_source": source, **report_json(report)}))
        else:
            for line in report_lines(report):
                self.stdout.write(line)
            self.stdout.write(f"Policy {report.policy_version[:12]}, from {source}.")
        return 1 if report.failures else 0

    def _diff(self, options: dict[str, Any]) -> int:
        check_set_up()
        if options["last"] < 1:
            raise UsageError("--last is 1 or more.")
        after = now = stored_policy()
        before: Policy | None = None
        compared = "what was decided then"
        if options["against"] is not None:
            row = _version(options["against"])
            before, compared = policy_from(row.unpacked()), f"policy {row}"
            if before.version != row.version:
                self.stderr.write(f"Policy {row} was made for another engine, and is judged by the engine of now.")
        elif options["rules"] is not None:
            added = _rules(options["rules"])
            before, compared = now, "the rules of now"
            after = build_policy(now.matrix, now.directories, [*now.rules, *added])
        replay = sessions_replay(after, last=options["last"], before=before)
        if options["json"]:
            versions = {"before": before.version if before else None, "after": after.version}
            self.stdout.write(json.dumps({**versions, **replay_json(replay)}))
            return 0
        for line in replay_lines(replay, is_coloured=is_coloured(self.stdout)):
            self.stdout.write(line)
        self.stdout.write(f"Compared {compared} with policy {after.version[:12]}.")
        return 0


def _policy(*, is_shipped: bool) -> tuple[Policy, str]:
    """Return the policy, and where its rows are from."""
    if not is_shipped:
        try:
            check_set_up()
            return stored_policy(), "the database"
        except UnavailableError as error:
            return build_policy(), f"the shipped rules, because there is no database: {error}"
    return build_policy(), "the shipped rules"


def _for_agent(options: dict[str, Any], maturity: Maturity | None, words: list[str], directory: str) -> Decision:
    check_set_up()
    if options["shipped"]:
        raise UsageError("--agent is decided by the database's rules; leave --shipped out.")
    agent = Agent.objects.filter(name=options["agent"]).first()
    if agent is None:
        raise UsageError(f"There is no agent {options['agent']!r}.")
    command, argv = (words[0], None) if len(words) == 1 else (None, tuple(words))
    ask = Ask(command=command, argv=argv, working_directory=directory, host=options["host"])
    return dry_run(agent=agent, ask=ask, maturity=maturity)


def _for_anybody(policy: Policy, maturity: Maturity, words: list[str], directory: str) -> Decision:
    """Decide for an agent whose folder is the directory, on a host like this machine."""
    plan = parse_text(words[0]) if len(words) == 1 else parse_argv(words)
    home = str(Path.home())
    facts = Facts(
        home=home,
        user=getpass.getuser(),
        scratch=f"{home}/.cache/atom-local-agent/scratch",
        is_sandboxed=True,
        protected=(str(settings.HOME.path), str(settings.BASE_DIR)),
    )
    roots = (directory,) if directory else ()
    return decide(Question(plan, maturity, facts, directory, agent_roots=roots), policy)


def _lines(name: str) -> list[str]:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} cannot be read: {error}") from error
    return text.split("\n")


def _rules(name: str) -> list[OperatorRule]:
    rules = []
    for number, line in enumerate(_lines(name), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            data = json.loads(line)
            if not isinstance(data, dict):
                raise ValueError("a rule is an object")
            rules.append(OperatorRule.from_json({"id": f"{name}:{number}", **data}))
        except ValueError as error:
            raise UsageError(f"{name}:{number}: {error}") from error
    return rules


def _version(digits: str) -> PolicyVersion:
    found = list(PolicyVersion.objects.filter(version__startswith=digits.lower())[:2]) if digits else []
    if not found or (len(found) > 1 and found[0].version != digits):
        raise UsageError(
            f"{'More than one policy starts' if found else 'No policy is kept that starts'} with {digits!r}."
        )
    return found[0]
