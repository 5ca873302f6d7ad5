"""The audit tree by its laws: proofs of every event at every size, and one tree however it grew."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import statecore
from statecore.errors import OutcomeUnknown, StoreFull
from statecore.projections import audit_tree, log_check
from statecore.projections.audit_tree import AuditTree, MemoryTree, TreeKeeper
from statecore.projections.findings import Report
from statecore.projections.log_check import LogCheck
from statecore.recorders import MemoryLog
from statecore.recorders.sqlite.reading import StoreFile
from statecore.transparency.merkle import (
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from tests.conftest import KEY, environment

LEVELS = 2  # of a tile, where four leaves make one


@contextmanager
def small_tiles() -> Iterator[None]:
    """Have tiles of four leaves, so that a few dozen events have tiles of three levels."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (audit_tree, log_check):
            patch.setattr(module, "TILE_LEAVES", 1 << LEVELS)
        patch.setattr(audit_tree, "_LEVELS", LEVELS)
        patch.setattr(log_check, "_ROWS", 16 << LEVELS)
        yield


def append(log: MemoryLog, streams: list[int], versions: dict[int, int]) -> None:
    """Append an event to each of these streams in turn, of bytes that look like a stored event."""
    with log.turn() as turn:
        for number in streams:
            version = versions[number] = versions.get(number, 0) + 1
            stored = b"\x10\x01" + version.to_bytes(7, "big") + b"\x01\x01" + b"r" * 6 + b"body"
            turn.append(number.to_bytes(16, "big"), version, stored, (), None)
        turn.commit()


def leaves_of(tree: AuditTree) -> list[bytes]:
    tiles = tree.size() // audit_tree.TILE_LEAVES + 1
    return [leaf_hash(entry) for tile in range(tiles) for entry in tree.entries(tile)]


@small_tiles()
@given(batches=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=30), max_size=6))
@settings(max_examples=40)
def test_every_event_is_proved_at_every_size(batches: list[list[int]]) -> None:
    log, versions = MemoryLog(bytes(16)), dict[int, int]()
    tree, sizes = MemoryTree(log), [0]
    for streams in batches:
        append(log, streams, versions)
        tree.catch_up()
        sizes.append(sum(versions.values()))
    view = AuditTree(tree)
    leaves = leaves_of(view)

    assert view.size() == len(leaves) == sizes[-1]
    for size in sizes:
        root = view.root(size)
        assert root == root_of(leaves[:size])
        for index in range(size):
            proof = prove_inclusion(index, size, view.hash_at)
            assert verify_inclusion(leaves[index], index, size, proof, root)
            assert not verify_inclusion(leaves[index][::-1], index, size, proof, root)
        if size:
            proof = prove_consistency(size, sizes[-1], view.hash_at)
            assert verify_consistency(size, root, sizes[-1], view.root(sizes[-1]), proof)


@small_tiles()
@given(batches=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=30), max_size=6))
@settings(max_examples=40)
def test_a_tree_that_grew_is_the_tree_of_all_and_verifies(
    batches: list[list[int]],
) -> None:
    log, versions, report = MemoryLog(bytes(16)), dict[int, int](), Report(bytes(16), "digests")
    grown = MemoryTree(log)
    for streams in batches:
        append(log, streams, versions)
        grown.catch_up()
    whole = MemoryTree(log)
    whole.catch_up()

    check = LogCheck(grown, [], report)
    check.run(lambda _: None)

    assert grown.last() == whole.last()
    for level in range(1, 5):
        assert grown.hashes(level, 0, 99) == whole.hashes(level, 0, 99)
    assert report.findings == []
    assert report.root == AuditTree(whole).root(sum(versions.values()))


def test_a_log_of_more_than_a_tile_of_tiles() -> None:
    log, versions = MemoryLog(bytes(16)), dict[int, int]()
    tree, size = MemoryTree(log), 256 * 256 + 5000
    for start in range(0, size, 512):
        append(
            log, [number * number % 97 for number in range(start, min(start + 512, size))], versions
        )
    tree.catch_up()
    view, report = AuditTree(tree), Report(bytes(16), "digests")
    leaves = leaves_of(view)

    LogCheck(tree, [65_536, size], report).run(lambda _: None)

    assert report.findings == []
    assert report.root == view.root(size) == root_of(leaves)
    assert tree.hashes(2, 0, 9) == [root_of(leaves[:65_536])]
    for index in (0, 255, 256, 40_000, 65_535, 65_536, size - 1):
        proof = prove_inclusion(index, size, view.hash_at)
        assert verify_inclusion(leaves[index], index, size, proof, report.root)
    proof = prove_consistency(65_537, size, view.hash_at)
    assert verify_consistency(65_537, root_of(leaves[:65_537]), size, report.root, proof)


def test_pymerkle_has_the_same_root_of_a_store(path: Path) -> None:
    pymerkle = pytest.importorskip("pymerkle", reason="needs the extra dev")
    write(path, 300)
    file = StoreFile(path)
    view, theirs = AuditTree(file.tree), pymerkle.InmemoryTree(algorithm="sha256")
    for entry in [*view.entries(0), *view.entries(1)]:
        theirs.append_entry(entry)

    for size in (1, 255, 256, 257, 300):
        root, leaf = view.root(size), leaf_hash(view.entries(0)[0])
        assert theirs.get_root(size) == root
        told = theirs.prove_inclusion(1, size).serialize()
        told["path"] = [each.hex() for each in (leaf, *prove_inclusion(0, size, view.hash_at))]
        proof = pymerkle.InclusionProof.deserialize(told)
        pymerkle.verify_inclusion(leaf, root, proof, index=1, size=size)
    file.close()


def write(path: Path, count: int) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        for number in range(count):
            store.manager(f"agent {number % 3}").set_state("n", number)


def require_tree_from_scratch(path: Path) -> None:
    """Hold a store's tree against one made of its events alone."""
    report = statecore.verify(path)
    assert report.findings == []
    file = StoreFile(path)

    class Log:
        def read_log(self, after: int, limit: int) -> list[Any]:
            return file.tree.rows(after, limit)

        def last_position(self) -> int:
            return 1 << 40

    again = MemoryTree(Log())  # type: ignore[arg-type]
    again.catch_up()
    assert again.last() == file.tree.last()
    assert again.hashes(1, 0, 99) == file.tree.hashes(1, 0, 99)
    assert file.tree.last()[0] == report.events // 256
    file.close()


class Failing:
    """A connection that fails at one statement, as a full or broken disk would make it."""

    def __init__(self, writer: apsw.Connection, start: str, error: apsw.Error) -> None:
        self._writer = writer
        self._start = start
        self._error = error

    def execute(self, sql: str, *bindings: Any) -> Any:
        if sql.startswith(self._start):
            raise self._error
        return self._writer.execute(sql, *bindings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


@pytest.mark.parametrize("broken_at", [250, 255, 256, 511])
def test_a_turn_that_failed_leaves_no_trace_in_the_tree(path: Path, broken_at: int) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        datastore: Any = store.store._parts._log._datastore  # type: ignore[attr-defined]
        writer, agent = datastore._writer, store.manager("one")
        for number in range(600):
            if number == broken_at:
                datastore._writer = Failing(writer, "COMMIT", apsw.FullError("disk full"))
                with pytest.raises(StoreFull):
                    agent.set_state("n", "never written")
                datastore._writer = writer
            agent.set_state("n", number)

    require_tree_from_scratch(path)


def test_a_commit_of_unknown_outcome_leaves_a_tree_that_fits(path: Path) -> None:
    write(path, 255)
    with statecore.open(path, key=KEY) as store:
        datastore: Any = store.store._parts._log._datastore  # type: ignore[attr-defined]
        writer = datastore._writer
        datastore._writer = Failing(writer, "COMMIT", apsw.IOError("disk broken"))
        with pytest.raises(OutcomeUnknown):
            store.manager("one").set_state("n", 1)
        datastore._writer = writer

    write(path, 300)

    require_tree_from_scratch(path)


WRITER = """
import sys
import statecore
with statecore.open(sys.argv[1], key=bytes(range(32)), durability="relaxed") as store:
    for number in range(int(sys.argv[3])):
        store.manager(sys.argv[2]).set_state("n", number)
        if number % 50 == 0:
            store.signed_head()
"""


def test_processes_in_turns_keep_one_tree(path: Path) -> None:
    write(path, 100)
    started = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, "500"], env=environment())
        for name in ("agent 0", "other")
    ]
    assert [process.wait() for process in started] == [0, 0]
    write(path, 100)

    require_tree_from_scratch(path)
    assert statecore.verify(path).head_size == 1200


@small_tiles()
def test_a_keeper_whose_turn_was_rolled_back_begins_where_the_tree_is() -> None:
    log, keeper = MemoryLog(bytes(16)), TreeKeeper()
    append(log, [1, 2] * 6, {})
    lost, kept, whole = MemoryTree(log), MemoryTree(log), MemoryTree(log)

    keeper.extend(lost, log.last_position())  # what it kept here is not there any more
    keeper.extend(kept, log.last_position())
    whole.catch_up()

    assert kept.hashes(1, 0, 9) == whole.hashes(1, 0, 9)
    assert kept.links(bytes(15) + b"\x01") == whole.links(bytes(15) + b"\x01")
