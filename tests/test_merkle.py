"""Merkle trees against RFC 6962's definition, published roots and proofs, and another verifier."""

from __future__ import annotations

import base64
import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecore.errors import InputError
from statecore.transparency.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_plan,
    covering,
    inclusion_plan,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    root_of,
    verify_consistency,
    verify_inclusion,
)

VECTORS = Path(os.environ.get("STATECORE_VECTORS", "../shared/vectors")) / "merkle"

# The leaves and roots that the tests of Certificate Transparency's implementations share
# (github.com/google/certificate-transparency, cpp/merkletree/merkle_tree_test.cc).
ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

sizes = st.integers(1, 300)


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(number.to_bytes(4)) for number in range(size)]


def split(leaves: list[bytes]) -> int:
    """The largest power of two smaller than the number of leaves."""
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    """The root as RFC 6962, section 2.1, defines it, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(leaves)
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """The proof of inclusion as RFC 6962, section 2.1.1, defines it."""
    if len(leaves) == 1:
        return []
    k = split(leaves)
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], is_known: bool) -> list[bytes]:
    """The proof of consistency as RFC 6962, section 2.1.2, defines it."""
    if m == len(leaves):
        return [] if is_known else [mth(leaves)]
    k = split(leaves)
    if m <= k:
        return [*subproof(m, leaves[:k], is_known), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


class Tree:
    """The hashes of all full subtrees, as a store would keep them."""

    def __init__(self, size: int) -> None:
        self.leaves = leaves_of(size)
        self.rows = Frontier().extend(self.leaves)

    def at(self, level: int, index: int) -> bytes:
        return self.rows[level][index]

    def root(self, size: int) -> bytes:
        return mth(self.leaves[:size])


def changed(proof: list[bytes]) -> list[list[bytes]]:
    """Proofs that are like one, but not it."""
    flipped = [
        [*proof[:at], bytes([proof[at][0] ^ 1]) + proof[at][1:], *proof[at + 1 :]]
        for at in range(len(proof))
    ]
    dropped = [[*proof[:at], *proof[at + 1 :]] for at in range(len(proof))]
    return [
        *flipped,
        *dropped,
        [*proof, EMPTY_ROOT],
        [EMPTY_ROOT, *proof],
        [*proof, b""],
        *([[*proof[:-1], proof[-1] + b"\0"], [*proof[:-1], proof[-1][:-1]]] if proof else []),
    ]


@pytest.mark.parametrize("size", range(9))
def test_the_published_roots_are_found(size: int) -> None:
    leaves = [leaf_hash(entry) for entry in ENTRIES[:size]]

    assert root_of(leaves).hex() == ROOTS[size]
    assert mth(leaves).hex() == ROOTS[size]


@given(st.lists(st.integers(0, 40), max_size=12))
def test_growing_leaf_by_leaf_or_many_at_once_gives_the_same_tree(batches: list[int]) -> None:
    leaves = iter(leaves_of(sum(batches)))
    single, many = Frontier(), Frontier()
    taken: list[bytes] = []

    for batch in batches:
        added = [next(leaves) for _ in range(batch)]
        taken += added
        for leaf in added:
            single.append(leaf)
        many.extend(added)
        many = Frontier(many.size, many.hashes)  # kept, and taken up again

        assert single.hashes == many.hashes
        assert single.size == many.size == len(taken)
        assert single.root() == many.root() == mth(taken)


@given(sizes, sizes)
def test_what_became_full_is_given_once_and_in_its_place(before: int, added: int) -> None:
    leaves = leaves_of(before + added)
    frontier = Frontier()
    frontier.extend(leaves[:before])

    rows = frontier.extend(leaves[before:])

    for level, row in enumerate(rows):
        first = before >> level
        assert len(row) == (before + added >> level) - first
        for index, found in enumerate(row, first):
            assert found == mth(leaves[index << level : index + 1 << level])
    assert before + added >> len(rows) == before >> len(rows)


@pytest.mark.parametrize(
    ("size", "hashes"), [(-1, []), (1, []), (0, [EMPTY_ROOT]), (4, [EMPTY_ROOT] * 2), (1, [b"x"])]
)
def test_a_frontier_that_fits_no_tree_is_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(InputError):
        Frontier(size, hashes)


@given(st.data(), sizes)
def test_every_proof_of_inclusion_verifies_and_no_changed_one(data: st.DataObject, n: int) -> None:
    tree = Tree(n)
    size = data.draw(st.integers(1, n))
    index = data.draw(st.integers(0, size - 1))
    leaf, root = tree.leaves[index], tree.root(size)

    proof = prove_inclusion(index, size, tree.at)

    assert proof == path(index, tree.leaves[:size])
    assert verify_inclusion(leaf, index, size, proof, root)
    assert not any(verify_inclusion(leaf, index, size, each, root) for each in changed(proof))
    assert not verify_inclusion(sha256(leaf).digest(), index, size, proof, root)
    assert not verify_inclusion(leaf, index, size, proof, sha256(root).digest())
    others = {*range(-1, size + 2)} - {index}
    assert not any(verify_inclusion(leaf, other, size, proof, root) for other in others)


@given(st.data(), sizes)
def test_every_proof_of_consistency_verifies_and_no_changed_one(
    data: st.DataObject, new_size: int
) -> None:
    tree = Tree(new_size)
    old_size = data.draw(st.integers(1, new_size))
    old, new = tree.root(old_size), tree.root(new_size)

    proof = prove_consistency(old_size, new_size, tree.at)

    assert proof == subproof(old_size, tree.leaves, True)
    assert verify_consistency(old_size, old, new_size, new, proof)
    for each in changed(proof):
        assert not verify_consistency(old_size, old, new_size, new, each)
    assert not verify_consistency(old_size, sha256(old).digest(), new_size, new, proof)
    assert not verify_consistency(old_size, old, new_size, sha256(new).digest(), proof)
    if old_size < new_size:
        assert not verify_consistency(old_size, new, new_size, old, proof)
        assert not verify_consistency(new_size, new, old_size, old, proof)
        assert not verify_consistency(0, EMPTY_ROOT, new_size, new, proof)


@given(st.data(), sizes)
def test_a_proof_that_goes_on_above_the_root_is_refused(data: st.DataObject, size: int) -> None:
    tree = Tree(size)
    index, old_size = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    above = sha256(b"above").digest()
    inclusion = [*prove_inclusion(index, size, tree.at), above]
    consistency = [*prove_consistency(old_size, size, tree.at), above]

    for higher in (node_hash(above, tree.root(size)), node_hash(tree.root(size), above)):
        assert not verify_inclusion(tree.leaves[index], index, size, inclusion, higher)
        for old in (tree.root(old_size), node_hash(above, tree.root(old_size))):
            assert not verify_consistency(old_size, old, size, higher, consistency)


@given(st.integers(1, 2**64 - 1), st.data())
def test_a_proof_of_the_largest_trees_needs_few_nodes(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    old_size = data.draw(st.integers(1, size))

    plans = [inclusion_plan(index, size), consistency_plan(old_size, size)]

    for plan in plans:
        assert len(plan) <= 65
        for level, at in {node for nodes in plan for node in nodes}:
            assert at + 1 << level <= size, "only what is full"
        assert sum(len(nodes) for nodes in plan) <= 128


def test_the_nodes_of_a_tree_cover_its_leaves_once() -> None:
    for size in range(200):
        covered = [
            leaf
            for level, index in covering(0, size)
            for leaf in range(index << level, index + 1 << level)
        ]

        assert covered == list(range(size))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 5), (5, 5)])
def test_no_proof_is_made_for_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(InputError):
        inclusion_plan(index, size)


@pytest.mark.parametrize(("old", "new"), [(0, 0), (0, 5), (6, 5), (-1, 5)])
def test_no_proof_leads_from_an_empty_or_a_larger_tree(old: int, new: int) -> None:
    with pytest.raises(InputError):
        consistency_plan(old, new)


def published(kind: str) -> list[Any]:
    return [json.loads(file.read_text()) for file in sorted(VECTORS.glob(f"{kind}/**/*.json"))]


def decoded(test: Any, *fields: str) -> list[bytes]:
    return [base64.b64decode(test[field] or "") for field in fields]


needs_vectors = pytest.mark.skipif(
    not VECTORS.exists(), reason="the Merkle vectors are not beside the project"
)


@needs_vectors
def test_published_proofs_of_inclusion_are_judged_as_published() -> None:
    tests = published("inclusion")
    assert {test["wantErr"] for test in tests} == {True, False}

    for test in tests:
        leaf, root = decoded(test, "leafHash", "root")
        proof = [base64.b64decode(each) for each in test["proof"] or []]

        held = verify_inclusion(leaf, test["leafIdx"], test["treeSize"], proof, root)

        assert held is not test["wantErr"], test["desc"]


@needs_vectors
def test_published_proofs_of_consistency_are_judged_as_published() -> None:
    tests = published("consistency")
    assert {test["wantErr"] for test in tests} == {True, False}

    for test in tests:
        old_root, new_root = decoded(test, "root1", "root2")
        proof = [base64.b64decode(each) for each in test["proof"] or []]

        held = verify_consistency(test["size1"], old_root, test["size2"], new_root, proof)

        if len(old_root) != 32:  # some are of any bytes, which we never take for a hash
            assert not held, test["desc"]
        else:
            assert held is not test["wantErr"], test["desc"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13, 64, 100])
def test_pymerkle_accepts_the_proofs(size: int) -> None:
    pymerkle = pytest.importorskip("pymerkle", reason="needs the extra dev")
    theirs = pymerkle.InmemoryTree(algorithm="sha256")
    for number in range(size):
        theirs.append_entry(number.to_bytes(4))
    tree = Tree(size)
    root = tree.root(size)
    assert theirs.get_root() == root

    for index in range(size):
        leaf = tree.leaves[index]
        told = theirs.prove_inclusion(index + 1, size).serialize()
        told["path"] = [each.hex() for each in (leaf, *prove_inclusion(index, size, tree.at))]
        proof = pymerkle.InclusionProof.deserialize(told)
        pymerkle.verify_inclusion(leaf, root, proof, index=index + 1, size=size)

    # It has proofs of its own form; where the older tree ends in a single leaf, they have the same
    # hashes: with the older tree's root, which the RFC leaves out, and the first two exchanged.
    for old_size in range(1, size, 2):
        old_root = tree.root(old_size)
        told = theirs.prove_consistency(old_size, size).serialize()
        ours = prove_consistency(old_size, size, tree.at)
        last, beside, *rest = [old_root, *ours] if old_size == 1 else ours
        told["path"] = [each.hex() for each in (beside, last, *rest)]
        proof = pymerkle.ConsistencyProof.deserialize(told)
        pymerkle.verify_consistency(old_root, root, proof, prior_size=old_size, later_size=size)


def test_a_node_is_not_a_leaf() -> None:
    left, right = leaves_of(2)

    assert node_hash(left, right) != leaf_hash(left + right)
