"""Canonical JSON is what RFC 8785 says it is, as another implementation of it says too."""

import hashlib
import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from audit import canonical
from audit.canonical import MAX_INTEGER, CanonicalError

KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LEAVES = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXTS
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


@given(VALUES)
def test_the_text_is_that_of_rfc_8785(value: Any) -> None:
    text = canonical.dumps(value)
    assert text.encode() == rfc8785.dumps(value)
    assert json.loads(text) == value
    assert canonical.sha256(value) == hashlib.sha256(text.encode()).hexdigest()


@given(st.dictionaries(KEYS, LEAVES))
def test_the_order_of_keys_does_not_matter(value: dict[str, Any]) -> None:
    assert canonical.dumps(dict(reversed(value.items()))) == canonical.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        b"bytes",
        {1: "a number"},
        {"é": "not ASCII"},
        "\ud800",
        ["deep", {"er": {"set": {1}}}],
        {"a set"},
    ],
    ids=repr,
)
def test_what_readers_would_spell_differently_is_refused(value: object) -> None:
    with pytest.raises(CanonicalError):
        canonical.dumps(value)
