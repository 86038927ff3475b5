"""Shapes of well-known secrets: formats that their issuers gave a fixed prefix, so that a match is near certain.

A command is stored, shown to approvers and audited; a secret in it would be too. `shellagent.masking` looks for the
same shapes, and for looser ones, in what commands print.
"""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Shape:
    """A format: its `name` with an article, texts of which each match holds one, and its pattern."""

    name: str
    anchors: tuple[str, ...]
    pattern: str

    @property
    def id(self) -> str:
        """Return the name as one word: `github-token` of "a GitHub token"."""
        return self.name.partition(" ")[2].lower().replace(" ", "-")


#: No pattern crosses a blank but the private key's, and none takes more than linear time in what it is given.
SHAPES: Final = (
    Shape("an AWS access key id", ("AKIA", "ASIA"), r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
    Shape("a GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{36,}"),
    Shape("a GitHub fine-grained token", ("github_pat_",), r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"),
    Shape(
        "a GitLab token",
        ("glpat-", "glptt-", "gldt-", "glrt-", "glcbt-", "glft-", "glsoat-"),
        r"\bgl(?:pat|ptt|dt|rt|cbt|ft|soat)-[A-Za-z0-9_-]{20,}",
    ),
    Shape("a Slack token", ("xox",), r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    Shape("a Slack app token", ("xapp-",), r"\bxapp-\d-[A-Z0-9]+-\d+-[a-f0-9]{32,}"),
    Shape(
        "a Slack webhook",
        ("hooks.slack.com",),
        r"hooks\.slack\.com/services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{20,}",
    ),
    Shape("a private key", ("PRIVATE KEY",), r"-----BEGIN (?:[A-Z0-9]{1,32} ){0,4}PRIVATE KEY(?: BLOCK)?-----"),
    Shape(
        "a JSON Web Token",
        ("eyJ",),
        r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}",
    ),
    Shape("a key of this product", ("ata_", "ath_", "ate_"), r"\bat[ahe]_[A-Za-z0-9_-]{20,}"),
    Shape("a Stripe key", ("_live_",), r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    Shape("a Google API key", ("AIza",), r"\bAIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"),
    Shape("a Google OAuth secret", ("GOCSPX-",), r"\bGOCSPX-[A-Za-z0-9_-]{28}(?![A-Za-z0-9_-])"),
    Shape("a Google OAuth token", ("ya29.",), r"\bya29\.[A-Za-z0-9_-]{30,}"),
    Shape("an Anthropic key", ("sk-ant-",), r"\bsk-ant-[a-z]{1,16}\d{2}-[A-Za-z0-9_-]{40,}"),
    Shape(
        "an OpenAI key",
        ("sk-proj-", "T3BlbkFJ"),
        r"\bsk-(?:proj-[A-Za-z0-9_-]{40,}|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})",
    ),
    Shape("a PyPI token", ("pypi-AgEIcHlwaS5vcmc",), r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}"),
    Shape("an npm token", ("npm_",), r"\bnpm_[A-Za-z0-9]{36}(?![A-Za-z0-9])"),
    Shape("a SendGrid key", ("SG.",), r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    Shape("an Azure storage key", ("AccountKey=",), r"\bAccountKey=[A-Za-z0-9+/]{86}=="),
    Shape("a DigitalOcean token", ("_v1_",), r"\bdo[opr]_v1_[a-f0-9]{64}"),
    Shape("a Hugging Face token", ("hf_",), r"\bhf_[A-Za-z0-9]{34}(?![A-Za-z0-9])"),
    Shape("a Docker Hub token", ("dckr_pat_",), r"\bdckr_pat_[A-Za-z0-9_-]{27}"),
    Shape("a Vault token", ("hvs.", "hvb."), r"\bhv[sb]\.[A-Za-z0-9_-]{24,}"),
    Shape("a Databricks token", ("dapi",), r"\bdapi[a-f0-9]{32}(?![a-f0-9])"),
    Shape("an age key", ("AGE-SECRET-KEY-1",), r"\bAGE-SECRET-KEY-1[A-Z0-9]{58}"),
)
_COMPILED: Final = tuple((shape.name, re.compile(shape.pattern)) for shape in SHAPES)
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
