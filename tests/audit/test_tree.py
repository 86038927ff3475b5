"""The tree against RFC 6962's own definition and the test vectors of its reference implementation."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import tree

#: The leaves and roots of certificate-transparency's own test of a Merkle tree.
LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243")]
LEAVES += [bytes.fromhex(text) for text in ("5051525354555657", "606162636465666768696a6b6c6d6e6f")]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def by_definition(leaves: list[bytes]) -> bytes:
    """Return the root as section 2.1 says it."""
    if not leaves:
        return tree.EMPTY
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return tree.node_hash(by_definition(leaves[:half]), by_definition(leaves[half:]))


def test_the_vectors() -> None:
    hashes = [tree.leaf_hash(leaf) for leaf in LEAVES]
    assert [tree.root(hashes[: size + 1]).hex() for size in range(8)] == ROOTS
    assert tree.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70), st.integers(0, 70))
def test_a_frontier_and_every_path_lead_to_the_root(leaves: list[bytes], cut: int) -> None:
    expected = by_definition(leaves)
    first = tree.Frontier().extend(leaves[:cut])
    assert tree.Frontier(first.size, first.hashes).extend(leaves[cut:]).root() == expected
    root, paths = tree.root_and_paths(leaves)
    assert root == expected
    for index, siblings in enumerate(paths):
        assert tree.root_from_path(leaves[index], index, len(leaves), siblings) == expected


@given(st.integers(1, 40), st.data())
def test_a_path_that_is_not_the_leafs_leads_elsewhere(size: int, data: st.DataObject) -> None:
    leaves = [tree.leaf_hash(bytes([number])) for number in range(size)]
    root, paths = tree.root_and_paths(leaves)
    index, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    if index != other:
        with suppress(tree.TreeError):
            assert tree.root_from_path(leaves[index], other, size, paths[index]) != root
    with pytest.raises(tree.TreeError):
        tree.root_from_path(leaves[index], index, size, [*paths[index], root])


def test_what_is_no_frontier() -> None:
    for size, hashes in ((1, []), (2, [b"x" * 32] * 2), (1, [b"short"]), (-1, [])):
        with pytest.raises(tree.TreeError):
            tree.Frontier(size, hashes)
