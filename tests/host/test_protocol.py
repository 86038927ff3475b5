"""The wire: every message survives the way there and back, and nothing else is taken for one."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shellagent import protocol

MESSAGES = (
    protocol.PollRequest,
    protocol.PollAnswer,
    protocol.StartRequest,
    protocol.StartAnswer,
    protocol.OutputRequest,
    protocol.RecordRequest,
    protocol.RecordAnswer,
    protocol.EnrolRequest,
    protocol.EnrolAnswer,
    protocol.Assignment,
)


def any_message() -> st.SearchStrategy[Any]:
    """Return messages of all kinds with any content."""
    plan = st.dictionaries(st.text(max_size=9), st.integers(-(2**53), 2**53) | st.text(max_size=9), max_size=3)
    sessions = st.builds(protocol.Assignment, plan=plan)
    answers = st.builds(protocol.PollAnswer, sessions=st.lists(sessions, max_size=3).map(tuple))
    others = [kind for kind in MESSAGES if kind not in (protocol.PollAnswer, protocol.Assignment)]
    return st.one_of(sessions, answers, *[st.from_type(kind) for kind in others])


@given(any_message())
def test_a_message_survives_the_way_over_the_wire(message: Any) -> None:
    over_the_wire = json.loads(json.dumps(protocol.encode(message)))
    assert protocol.decode(type(message), over_the_wire) == message


@given(any_message(), st.data())
def test_a_message_of_another_shape_is_refused(message: Any, data: st.DataObject) -> None:
    encoded = json.loads(json.dumps(protocol.encode(message)))
    required = [
        item.name
        for item in dataclasses.fields(message)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    name = data.draw(st.sampled_from(required))
    broken = dict(encoded)
    # A float is of no field's type.
    broken[name] = 0.5
    with pytest.raises(protocol.ProtocolError):
        protocol.decode(type(message), broken)
    del broken[name]
    with pytest.raises(protocol.ProtocolError, match=name):
        protocol.decode(type(message), broken)


def test_what_a_newer_peer_says_more_is_passed_over() -> None:
    answer = protocol.EnrolAnswer(1, "3", "web-1", "ath_x")
    assert protocol.decode(protocol.EnrolAnswer, {**protocol.encode(answer), "colour": "red"}) == answer


@pytest.mark.parametrize("bad", [None, [], "text", 3, {"v": True, "statuses": {}}, {"v": 1, "statuses": {"a": 2}}])
def test_decode_refuses(bad: object) -> None:
    with pytest.raises(protocol.ProtocolError):
        protocol.decode(protocol.RecordAnswer, bad)
