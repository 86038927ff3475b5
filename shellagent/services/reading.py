"""Reading what was sent into a request that can be decided on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from governance.errors import InvalidError
from governance.policy.environment import refused_env_names
from governance.policy.parse import CommandSyntaxError, parse_argv, parse_text
from governance.policy.plan import Plan
from governance.policy.secret_shapes import find_secret
from shellagent import limits
from shellagent.errors import CommandRejectedError, ForbiddenContentError
from shellagent.services.deciding import StoredRequest


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked for. Exactly one of `command` and `argv`; `host` is an id or a name, empty for the default."""

    command: str | None = None
    argv: tuple[str, ...] | None = None
    working_directory: str = ""
    timeout_seconds: int = limits.TIMEOUT_DEFAULT_SECONDS
    host: str = ""
    reason: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    #: Names of secrets; the host knows their values, and gives them as variables of these names.
    secrets: tuple[str, ...] = ()
    #: Where to tell of its end; empty for nowhere.
    callback_url: str = ""


def request_read(ask: Ask) -> StoredRequest:
    """Read what was sent into a plan. Raises InvalidError, CommandRejectedError or ForbiddenContentError."""
    if (ask.command is None) == (ask.argv is None):
        raise InvalidError("Send either `command` (text) or `argv` (a list), and not both.")
    said = (("reason", ask.reason), ("callback_url", ask.callback_url))
    for where, text in (*said, *((f"env.{name}", value) for name, value in ask.env.items())):
        _refuse_secret(where, text)
    plan = _plan_read(ask)
    # Also what is in a comment, and what only words side by side have the shape of.
    _refuse_secret("command", ask.command or " ".join(ask.argv or ()))
    if ask.working_directory and not PurePosixPath(ask.working_directory).is_absolute():
        raise InvalidError(
            f"`working_directory` must be absolute, like /tmp; {ask.working_directory!r} is not.",
            field="working_directory",
        )
    if refused := refused_env_names(ask.env):
        raise ForbiddenContentError(
            "environment", f"These environment names may not be set: {', '.join(refused)}.", field="env"
        )
    if doubled := [name for name in ask.secrets if name in ask.env or ask.secrets.count(name) > 1]:
        raise InvalidError(
            f"{doubled[0]!r} is asked for twice: as a secret, and as another or in `env`.", field="secrets"
        )
    return StoredRequest(
        ask.command or "", ask.argv, plan, dict(ask.env), ask.reason, ask.secrets, (), ask.callback_url
    )


def _refuse_secret(where: str, text: str) -> None:
    if shape := find_secret(text):
        detail = f"`{where}` holds what looks like a secret ({shape}). Do not send secrets: they would be stored."
        raise ForbiddenContentError("secret", detail, field=where)


def _plan_read(ask: Ask) -> Plan:
    try:
        return parse_text(ask.command) if ask.command is not None else parse_argv(ask.argv or ())
    except CommandSyntaxError as error:
        if error.construct == "secret":
            detail = f"{error.message}. {error.hint}"
            raise ForbiddenContentError("secret", detail, field="command", column=error.column) from error
        _refuse_secret("command", ask.command or " ".join(ask.argv or ()))
        raise CommandRejectedError(
            str(error.message), column=error.column, construct=error.construct, hint=error.hint
        ) from error
