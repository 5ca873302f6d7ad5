"""The audit tree: kept in the turns that fill it, signed, proved, and verified without a key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import statecore
from statecore import Depth, Verdict
from statecore.anchoring import anchor, checkpoint_of, last_head
from statecore.codec.leaf import NO_LINK, read_entry
from statecore.projections.audit_tree import TILE_LEAVES, AuditTree, MemoryTree
from statecore.recorders.sqlite.reading import StoreFile
from statecore.transparency.merkle import leaf_hash, root_of
from statecore.transparency.policy import parse_policy
from statecore.transparency.proof import parse_proof, verify_proof

KEY = b"k" * 32
EVENTS = 2 * TILE_LEAVES + 100


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three agents, closed."""
    path = tmp_path_factory.mktemp("audit") / "agents.db"
    with statecore.open(path, key=KEY) as store:
        agents = [store.manager(name) for name in ("one", "two", "three")]
        for number in range(EVENTS):
            agents[number % 3].set_state("n", number)
    return path


@pytest.fixture
def tree(written: Path) -> Iterator[AuditTree]:
    file = StoreFile(written)
    yield AuditTree(file.tree)
    file.close()


def entries_of(tree: AuditTree) -> list[bytes]:
    return [entry for tile in range(3) for entry in tree.entries(tile)]


def test_every_event_is_a_leaf_in_the_order_of_the_log(tree: AuditTree) -> None:
    leaves = [read_entry(entry) for entry in entries_of(tree)]

    assert tree.size() == len(leaves) == EVENTS
    assert [leaf.version for leaf in leaves] == [number // 3 + 1 for number in range(EVENTS)]
    assert len({leaf.stream for leaf in leaves}) == 3


def test_the_root_is_that_of_all_entries(tree: AuditTree) -> None:
    leaves = [leaf_hash(entry) for entry in entries_of(tree)]

    for size in (1, 2, TILE_LEAVES - 1, TILE_LEAVES, TILE_LEAVES + 1, EVENTS):
        assert tree.root(size) == root_of(leaves[:size])


def test_a_leaf_names_the_one_before_in_its_stream(tree: AuditTree) -> None:
    last: dict[bytes, bytes] = {}

    for entry in entries_of(tree):
        leaf = read_entry(entry)
        assert leaf.link == last.get(leaf.stream, NO_LINK)
        last[leaf.stream] = leaf_hash(entry)


def test_what_is_kept_in_turns_is_what_comes_of_the_whole_log(
    written: Path, tree: AuditTree
) -> None:
    with statecore.open(written, key=KEY) as store:
        log = store.store._parts.engine.streams.log
        again = MemoryTree(log)
        again.catch_up()

        assert again.last() == tree.kept.last()
        assert again.hashes(1, 0, 9) == tree.kept.hashes(1, 0, 9)
        for stream in log.streams():
            for tile in range(4):
                assert again.link(stream, tile) == tree.kept.link(stream, tile)


def test_a_head_is_signed_when_the_store_is_closed(written: Path) -> None:
    assert checkpoint_of(last_head(written)).size == EVENTS


def test_heads_are_signed_on_the_way_and_the_last_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agents.db"
    for number in range(3):
        with statecore.open(path, key=KEY) as store:
            with store.manager("one").transaction() as tx:
                tx.set("n", number)
            for _ in range(700):
                store.manager("one").add("count", 1)
    file = StoreFile(path)

    sizes = [size for size, _ in file.tree.heads()]

    assert sizes == [1024, 2048, 2103]
    file.close()


def test_an_event_is_proved_to_whoever_trusts_the_policy(written: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        proof = parse_proof(store.prove("two", 17))
        policy = parse_policy(store.audit_policy())

    verdict = verify_proof(proof, leaf_hash(proof.extra), policy)

    assert read_entry(proof.extra).version == 17
    assert verdict.checkpoint.size == EVENTS
    with pytest.raises(statecore.Unproven):
        verify_proof(proof, leaf_hash(proof.extra[:-1]), policy)


def test_an_event_behind_the_last_head_has_one_signed_for_it(tmp_path: Path) -> None:
    with statecore.open(tmp_path / "agents.db", key=KEY) as store:
        agent = store.manager("one")
        for number in range(3):
            agent.set_state("n", number)
            proof = parse_proof(store.prove("one", number + 1))
            policy = parse_policy(store.audit_policy())
            verdict = verify_proof(proof, leaf_hash(proof.extra), policy)
            assert verdict.checkpoint.size == number + 1

        with pytest.raises(statecore.VersionNotFound):
            store.prove("one", 4)


def test_a_store_in_memory_has_a_tree_too() -> None:
    with statecore.open("memory:") as store:
        for number in range(TILE_LEAVES + 5):
            store.manager("one").set_state("n", number)
        proof = parse_proof(store.prove("one", 200))

        verdict = verify_proof(proof, leaf_hash(proof.extra), parse_policy(store.audit_policy()))

        assert verdict.checkpoint.size == TILE_LEAVES + 5
        assert checkpoint_of(store.signed_head()) == verdict.checkpoint


@pytest.mark.parametrize("depth", Depth)
def test_an_untouched_store_is_valid_and_the_verdict_says_what_that_rests_on(
    written: Path, tmp_path: Path, depth: Depth
) -> None:
    with statecore.open(written, key=KEY) as store:
        policy = store.audit_policy()

    alone = statecore.verify(written, depth=depth, key=KEY)
    first = statecore.verify(written, depth=depth, key=KEY, policy=policy, remember=tmp_path)
    again = statecore.verify(written, depth=depth, key=KEY, policy=policy, remember=tmp_path)

    assert (alone.verdict, alone.findings) == (Verdict.UNANCHORED, [])
    assert (first.verdict, first.findings) == (Verdict.UNANCHORED, [])
    assert (again.verdict, again.findings) == (Verdict.ANCHORED, [])
    assert again.events == again.anchored == again.head_size == EVENTS
    assert again.root == checkpoint_of(last_head(written)).root


def test_an_edited_event_is_told_with_where_it_is_and_nothing_else(
    written: Path, tmp_path: Path
) -> None:
    edited = tmp_path / "agents.db"
    copy(written, edited)
    with sqlite3.connect(edited) as database:
        database.execute(
            "UPDATE events SET state = CAST(state || x'00' AS BLOB) WHERE position = 300"
        )

    report = statecore.verify(edited, remember=tmp_path)

    assert report.verdict == Verdict.INVALID
    assert [finding.kind for finding in report.findings] == ["edited-events"]
    assert "positions 257 to 512" in report.findings[0].text
    assert not list(tmp_path.glob("*.head"))


def test_an_older_copy_is_only_told_by_what_was_kept_outside(tmp_path: Path) -> None:
    path, old, outside = tmp_path / "agents.db", tmp_path / "old.db", tmp_path / "outside"
    with statecore.open(path, key=KEY) as store:
        store.manager("one").set_state("n", 1)
    copy(path, old)
    with statecore.open(path, key=KEY) as store:
        store.manager("one").set_state("n", 2)
        anchor(path, store.signed_head(), outside)

    assert statecore.verify(old).verdict == Verdict.UNANCHORED
    rolled_back = statecore.verify(old, anchors=[outside])
    assert rolled_back.verdict == Verdict.DIVERGED
    assert rolled_back.findings[0].kind == "rolled-back"
    assert statecore.verify(path, anchors=[outside]).verdict == Verdict.ANCHORED


def test_a_log_that_does_not_go_on_from_its_last_head_is_not_signed(tmp_path: Path) -> None:
    path = tmp_path / "agents.db"
    with statecore.open(path, key=KEY) as store:
        for number in range(10):
            store.manager("one").set_state("n", number)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM events WHERE position > 8")

    with statecore.open(path, key=KEY) as store:
        store.manager("two").set_state("n", 1)
        with pytest.raises(statecore.Damage, match="does not go on"):
            store.signed_head()


def test_a_store_made_without_a_tree_is_given_one(tmp_path: Path, written: Path) -> None:
    path = tmp_path / "agents.db"
    copy(written, path)
    with sqlite3.connect(path) as database:
        for table in ("tree", "links", "heads"):
            database.execute(f"DROP TABLE {table}")
    for depth in Depth:
        old = statecore.verify(path, depth=depth, key=KEY)
        assert (old.verdict, old.findings) == (Verdict.UNANCHORED, [])
        assert (old.events, old.heads) == (EVENTS, 0)

    with statecore.open(path, key=KEY) as store:
        proof = parse_proof(store.prove("two", EVENTS // 3))
        assert verify_proof(proof, leaf_hash(proof.extra), parse_policy(store.audit_policy()))
        assert checkpoint_of(store.signed_head()).size == EVENTS
        store.manager("one").set_state("n", 0)

    report = statecore.verify(path)
    assert (report.verdict, report.heads, report.notes[1:]) == (Verdict.UNANCHORED, 1, [])
    assert report.head_size == EVENTS + 1


def copy(source: Path, target: Path) -> None:
    """Copy a closed store, with its keys."""
    for end in ("", "-keys"):
        target.with_name(target.name + end).write_bytes(
            source.with_name(source.name + end).read_bytes()
        )
