"""What Codex is told in its config.toml about hooks: whether it calls any, and which of them a person has trusted."""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from shellagent.client.errors import StateError

FILE = os.path.join(".codex", "config.toml")


def read_config(folder: str) -> Mapping[str, Any]:
    """Return Codex's configuration below a home or project folder, empty where there is none. Raises StateError."""
    path = os.path.join(folder, FILE)
    try:
        with open(path, "rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StateError(f"{path} cannot be read: {error}") from error


def calls_hooks(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration leaves the hooks on; `codex_hooks` is the older name."""
    features = _table(config, "features")
    return False not in (features.get("hooks"), features.get("codex_hooks"))


def untrusted(config: Mapping[str, Any], path: str, own: Mapping[str, list[int]]) -> Iterator[str]:
    """Yield the events whose hook in the file at `path` is not trusted, or is switched off.

    `own` has the places of the hooks in the lists of their events. Codex keeps trust in the user's own configuration,
    beside a digest of the hook that only Codex can make: a hook that was changed since is told by Codex alone.
    """
    states = _table(_table(config, "hooks"), "state")
    for event, places in own.items():
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", event).lower()
        for place in places:
            keys = (f"{found}:{name}:{place}:0" for found in (path, os.path.realpath(path)))
            state: Mapping[str, Any] = next((states[key] for key in keys if isinstance(states.get(key), dict)), {})
            if not state.get("trusted_hash") or state.get("enabled") is False:
                yield event


def _table(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = found.get(name)
    return inner if isinstance(inner, dict) else {}
