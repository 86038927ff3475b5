"""Events are signed together and verified alone; what this process signed lately it knows, and nothing beside it."""

import os

from audit import event_signatures
from audit.event_signatures import event_signature_read, events_sign, signed_here
from audit.sealing import KnownRoots
from audit.trail_keys import PublicKeys, trail_keys


def test_each_of_many_is_verified_alone_and_no_other() -> None:
    keys, hashes = trail_keys(), [os.urandom(32) for _ in range(5)]
    signatures = [event_signature_read(text) for text in events_sign(hashes, keys)]
    for signature, digest in zip(signatures, hashes, strict=True):
        assert signature.is_of(digest, keys.public)
        assert KnownRoots(takes_unsigned=False).holds(signature, digest, keys.public)
        for wrong in (hashes[0] if digest != hashes[0] else hashes[1], os.urandom(32)):
            assert not signature.is_of(wrong, keys.public)
            assert not KnownRoots(takes_unsigned=False).holds(signature, wrong, keys.public)
    # A key that was taken out of the file signed nothing, here or elsewhere.
    assert not KnownRoots(takes_unsigned=False).holds(signatures[0], hashes[0], PublicKeys(keys.log, {}))


def test_what_was_signed_long_ago_is_verified_like_any() -> None:
    keys, digest = trail_keys(), os.urandom(32)
    (text,) = events_sign([digest], keys)
    signature = event_signature_read(text)
    place = signature.key_id, signature.signature, signature.message(digest)
    assert signed_here.has(*place)
    for number in range(2 * event_signatures._MOST_KEPT):
        signed_here.add(b"key", b"signature", number.to_bytes(4))
    assert not signed_here.has(*place)
    assert KnownRoots(takes_unsigned=False).holds(signature, digest, keys.public)
