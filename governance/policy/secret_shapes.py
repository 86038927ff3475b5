"""Shapes of well-known secrets: formats that their issuers gave a fixed prefix, so that a match is near certain.

A command is stored, shown to approvers and audited; a secret in it would be too.
"""

import re
from typing import Final

_SHAPES: Final = (
    ("an AWS access key id", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
    ("a GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{36,}"),
    ("a GitHub fine-grained token", r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    ("a GitLab token", r"\bgl(?:pat|ptt|dt|rt|cbt|ft|soat)-[A-Za-z0-9_-]{20,}"),
    ("a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("a Slack app token", r"\bxapp-\d-[A-Z0-9]+-\d+-[a-f0-9]{32,}"),
    ("a Slack webhook", r"hooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{20,}"),
    ("a private key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("a JSON Web Token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("a key of this product", r"\bat[ahe]_[A-Za-z0-9_-]{20,}"),
    ("a Stripe key", r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    ("a Google API key", r"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    ("an Anthropic key", r"\bsk-ant-[a-z]+\d{2}-[A-Za-z0-9_-]{40,}"),
    ("an OpenAI key", r"\bsk-(?:proj-[A-Za-z0-9_-]{40,}|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})"),
    ("a PyPI token", r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"),
    ("an npm token", r"\bnpm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    ("a SendGrid key", r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
)
_COMPILED: Final = tuple((name, re.compile(pattern)) for name, pattern in _SHAPES)
#: Every shape is at least this long, and most words of a command are shorter.
SHORTEST: Final = 15


def find_secret(text: str) -> str | None:
    """Return the name of the first shape of a secret found in `text`, such as "a GitHub token", or None."""
    if len(text) < SHORTEST:
        return None
    for name, pattern in _COMPILED:
        if pattern.search(text):
            return name
    return None
