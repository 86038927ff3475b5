"""Signatures of starts and of new keys, and the keys that a host pins."""

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shellagent import signing
from shellagent.host.errors import StateError
from shellagent.host.pinned import KEY_VARIABLE, PinnedKeys
from shellagent.protocol import GrantStatus, ServerKey, StartGrant
from shellagent.signing import Signer, Start, new_private_key
from tests.host.server import HOST_ID, assignment

FIRST, SECOND, THIRD = (Signer(new_private_key()) for _ in range(3))

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def grant_of(signer: Signer, session_id: str, start_key: str, digest: str, deadline: int = 310) -> StartGrant:
    signature = signer.granted(Start(session_id, start_key, digest, deadline), host_id=HOST_ID)
    return StartGrant(session_id, GrantStatus.GRANTED, deadline, key=signer.public_key, signature=signature)


def is_signed(grant: StartGrant, *, start_key: str, digest: str, host_id: str = HOST_ID) -> bool:
    granted = signing.Granted(host_id, [(grant, start_key, digest)])
    return granted.is_signed(grant, start_key=start_key, digest=digest)


@pytest.fixture
def pinned(tmp_path: Path) -> PinnedKeys:
    made = PinnedKeys(tmp_path / "server-keys.json", clock=lambda: 1000.0)
    made.pin(FIRST.public_key)
    return made


@given(st.tuples(texts, texts, texts, texts, st.integers(0, 10**9)), st.integers(0, 4), st.data())
def test_a_signature_is_over_every_field(fields: tuple[str, str, str, str, int], at: int, data: st.DataObject) -> None:
    def holds(session_id: str, host_id: str, start_key: str, digest: str, deadline: int) -> bool:
        grant = StartGrant(session_id, GrantStatus.GRANTED, deadline, key=FIRST.public_key, signature=signature)
        return is_signed(grant, host_id=host_id, start_key=start_key, digest=digest)

    session_id, host_id, start_key, digest, deadline = fields
    signature = FIRST.granted(Start(session_id, start_key, digest, deadline), host_id=host_id)
    assert holds(*fields)
    other = data.draw(st.integers(0, 10**9) if at == 4 else texts)
    changed = [*fields]
    changed[at] = other
    assert holds(*changed) is (other == fields[at])  # type: ignore[arg-type]


@given(st.binary(max_size=70) | st.text(max_size=140))
def test_what_is_no_signature_is_no_error(signature: bytes | str) -> None:
    text = signature.hex() if isinstance(signature, bytes) else signature
    grant = replace(grant_of(FIRST, "1", "k", "d"), signature=text)
    assert not is_signed(grant, start_key="k", digest="d")
    assert not is_signed(replace(grant, key=text), start_key="k", digest="d")


def test_one_signature_is_over_all_that_are_granted_together_and_over_nothing_less() -> None:
    starts = [Start(str(number), "k", f"d{number}", 310) for number in range(3)]
    signature = FIRST.granted(*starts, host_id=HOST_ID)
    given = [
        (StartGrant(start.session_id, GrantStatus.GRANTED, 310, "", FIRST.public_key, signature), "k", start.digest)
        for start in starts
    ]
    alone = grant_of(FIRST, "7", "k", "d7")

    def signed(*grants: tuple[StartGrant, str, str]) -> list[bool]:
        granted = signing.Granted(HOST_ID, grants)
        return [granted.is_signed(grant, start_key=start_key, digest=digest) for grant, start_key, digest in grants]

    # What else is granted in the same answer changes nothing.
    assert signed(given[0], (alone, "k", "d7"), *given[1:]) == [True] * 4
    assert signed(*reversed(given)) == [False] * 3
    assert signed(*given[:2]) == [False] * 2
    assert signed(*given, given[0]) == [False] * 4
    assert signed(*given[:2], (given[2][0], "k", "another")) == [False] * 3
    # It holds for what was signed alone, whatever else may be called the same.
    granted, (grant, start_key, digest) = signing.Granted(HOST_ID, given), given[0]
    assert granted.is_signed(grant, start_key=start_key, digest=digest)
    assert not granted.is_signed(replace(grant, id="7"), start_key=start_key, digest=digest)
    assert not granted.is_signed(grant, start_key="another", digest=digest)
    assert not granted.is_signed(grant, start_key=start_key, digest="another")


def test_a_word_for_a_key_is_not_a_start() -> None:
    word = FIRST.endorse(SECOND.public_key, 2000)
    assert signing.is_endorsed(word)
    assert not signing.is_endorsed(replace(word, until=2001))
    assert not signing.is_endorsed(replace(word, key=THIRD.public_key))
    grant = StartGrant(SECOND.public_key, GrantStatus.GRANTED, 2000, key=FIRST.public_key, signature=word.endorsement)
    assert not is_signed(grant, start_key="", digest="")


def test_a_grant_holds_only_for_what_would_run(pinned: PinnedKeys) -> None:
    session, start_key = assignment("true"), str(uuid4())
    grant = grant_of(FIRST, session.id, start_key, session.digest)

    def refusal(changed: StartGrant, *, host_id: str = HOST_ID, key: str = start_key) -> str:
        return pinned.judge(host_id, [(changed, key, session.digest)])(session, changed, key)

    assert not refusal(grant)
    assert "without a signature" in refusal(replace(grant, signature=""))
    assert "not pinned" in refusal(grant_of(SECOND, session.id, start_key, session.digest))
    not_ours = "not over what this host would run"
    assert not_ours in refusal(replace(grant, deadline_seconds=311))
    assert not_ours in refusal(grant, key="another start")
    assert not_ours in refusal(grant, host_id="8")
    assert not_ours in refusal(grant_of(FIRST, session.id, start_key, "0" * 64))
    assert not_ours in refusal(grant_of(FIRST, str(uuid4()), start_key, session.digest))
    assert "less time" in refusal(grant_of(FIRST, session.id, start_key, session.digest, deadline=5))


def test_a_new_key_counts_by_the_word_of_the_one_before(pinned: PinnedKeys) -> None:
    session = assignment("true")
    words = FIRST.endorse(SECOND.public_key, 2000), SECOND.endorse(THIRD.public_key, 3000)
    chain = (ServerKey(FIRST.public_key), *words)
    # A host that was away for one rotation learns of both.
    assert THIRD.public_key in pinned.learn(chain)
    assert not pinned.learn(chain)
    again = PinnedKeys(pinned.path, clock=lambda: 2500.0)
    again.load()

    def refusal(signer: Signer) -> str:
        grant = grant_of(signer, session.id, "k", session.digest)
        return again.judge(HOST_ID, [(grant, "k", session.digest)])(session, grant, "k")

    assert "whose time is over" in refusal(FIRST)
    assert not refusal(SECOND)
    assert not refusal(THIRD)


@pytest.mark.parametrize(
    "offered",
    [
        ServerKey(SECOND.public_key),
        ServerKey(SECOND.public_key, FIRST.public_key, 2000, "00" * 64),
        replace(FIRST.endorse(SECOND.public_key, 2000), until=9000),
        THIRD.endorse(SECOND.public_key, 2000),
        FIRST.endorse("not a key", 2000),
    ],
    ids=["alone", "forged", "longer", "by a stranger", "no key"],
)
def test_a_key_that_no_pinned_one_endorsed_is_not_taken(pinned: PinnedKeys, offered: ServerKey) -> None:
    assert "no pinned key endorsed" in pinned.learn((ServerKey(FIRST.public_key), offered))
    assert pinned.newest == FIRST.public_key


def test_the_first_key_is_pinned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = PinnedKeys(tmp_path / "server-keys.json")
    fresh.load()
    assert not fresh.learn(())
    assert FIRST.public_key in fresh.learn((ServerKey(FIRST.public_key),))
    assert "no pinned key endorsed" in fresh.learn((ServerKey(SECOND.public_key),))
    assert fresh.path.stat().st_mode & 0o077 == 0
    monkeypatch.setenv(KEY_VARIABLE, SECOND.public_key)
    with pytest.raises(StateError, match="names another key"):
        PinnedKeys(fresh.path).load()
    told = PinnedKeys(tmp_path / "another.json")
    told.load()
    assert told.newest == SECOND.public_key


@pytest.mark.parametrize("content", ["", "[]", '{"keys": []}', '{"keys": {"00": null}}', '{"keys": {"00": "x"}}'])
def test_a_damaged_file_of_pins_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "server-keys.json").write_text(content)
    with pytest.raises(StateError, match="Enrol this host again"):
        PinnedKeys(tmp_path / "server-keys.json").load()
