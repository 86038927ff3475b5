"""The Merkle tree of RFC 6962, section 2.1: hashes of leaves and nodes, roots, paths, and a log's frontier. Pure.

Hashes are 32 bytes. A frontier is all that has to be kept of a log to go on appending to it: the roots of the full
subtrees that its size is made of, the largest first, one for each 1 in the size's binary form.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

HASH_BYTES: Final = 32
_sha256 = hashlib.sha256
#: The root of a tree without leaves.
EMPTY: Final = _sha256().digest()


class TreeError(ValueError):
    """The hashes do not make a tree of that size."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf that holds these bytes."""
    return _sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two others."""
    return _sha256(b"\1" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves, in their order."""
    return Frontier().extend(leaves).root()


class Frontier:
    """A log's size and the roots of its full subtrees; grows leaf by leaf."""

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """Take up a log. Raises TreeError where the hashes are not those of a log of that size."""
        self.size = size
        self.hashes = list(hashes)
        if size < 0 or len(self.hashes) != size.bit_count() or any(len(one) != HASH_BYTES for one in self.hashes):
            raise TreeError(TreeError.__doc__)

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        size = self.size
        # Each full subtree on the right that is as large as what is added makes one twice as large with it.
        while size & 1:
            leaf = _sha256(b"\1" + self.hashes.pop() + leaf).digest()
            size >>= 1
        self.hashes.append(leaf)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> "Frontier":
        """Add hashes of leaves, and return itself."""
        for leaf in leaves:
            self.append(leaf)
        return self

    def root(self) -> bytes:
        """Return the root of the whole log."""
        if not self.hashes:
            return EMPTY
        found = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            found = node_hash(left, found)
        return found


def root_and_paths(leaves: Sequence[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """Return the root over some leaves, and the audit path of each of them."""
    if not leaves:
        return EMPTY, []
    paths: list[list[bytes]] = [[] for _ in leaves]

    def climb(begin: int, end: int) -> bytes:
        if end - begin == 1:
            return leaves[begin]
        middle = begin + (1 << (end - begin - 1).bit_length() - 1)
        left, right = climb(begin, middle), climb(middle, end)
        for found in paths[begin:middle]:
            found.append(right)
        for found in paths[middle:end]:
            found.append(left)
        return node_hash(left, right)

    return climb(0, len(leaves)), paths


def root_from_path(leaf: bytes, index: int, size: int, siblings: Sequence[bytes]) -> bytes:
    """Return the root that a leaf's path leads to (RFC 9162, section 2.1.3.2). Raises TreeError for a wrong length."""
    if not 0 <= index < size:
        raise TreeError(f"there is no leaf {index} among {size}")
    node, last, found = index, size - 1, leaf
    for sibling in siblings:
        if last == 0:
            raise TreeError("the path is too long")
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            found = node_hash(found, sibling)
        node >>= 1
        last >>= 1
    if last:
        raise TreeError("the path is too short")
    return found
