"""Bytes flipped, rows made up at random: a finding or a typed error, never VALID for a change."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import statecore
from statecore import Depth, Report, verify
from statecore.errors import StatecoreError
from statecore.recorders.sqlite.reading import StoreFile
from tests.attacking import copy_store, head_of, shell, write_store
from tests.conftest import KEY

EVENTS = 24


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("random") / "agents.db"
    write_store(path, EVENTS)
    return path


@pytest.fixture(scope="module")
def outside(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    anchor = tmp_path_factory.mktemp("outside") / "head"
    anchor.write_bytes(head_of(original))
    return anchor


def attempt(path: Path, anchor: Path | None, depth: Depth) -> Report | None:
    """Verify; nothing for a typed error. Whatever else is raised fails the test."""
    try:
        return verify(path, anchors=[anchor] if anchor else [], depth=depth, key=KEY)
    except StatecoreError:
        return None


def sealed_places(path: Path) -> Iterator[int]:
    """Yield where in the file each byte of each stored event is."""
    whole, file = path.read_bytes(), StoreFile(path)
    for _, _, _, stored in file.tree.rows(0, EVENTS):
        begin = whole.index(stored)
        yield from range(begin, begin + len(stored))
    file.close()


def test_every_byte_of_every_event_counts(original: Path, outside: Path, path: Path) -> None:
    copy_store(original, path)
    whole = bytearray(original.read_bytes())

    for at in sealed_places(original):
        whole[at] ^= 1
        path.write_bytes(whole)
        whole[at] ^= 1
        report = attempt(path, None, Depth.DIGESTS)
        assert report is not None
        assert report.verdict == "INVALID", at


@pytest.mark.parametrize("anchored", [False, True])
def test_a_flipped_byte_anywhere_in_the_log_leaves_the_events_as_they_were_or_is_told(
    anchored: bool, original: Path, outside: Path, path: Path
) -> None:
    copy_store(original, path)
    whole, root = bytearray(original.read_bytes()), verify(original).root
    told = 0

    for at in range(0, len(whole), 61):
        whole[at] ^= 0xFF
        path.write_bytes(whole)
        whole[at] ^= 0xFF
        report = attempt(path, outside if anchored else None, Depth.DIGESTS)
        if report is not None and report.verdict.startswith("VALID"):
            assert report.root == root, at
        else:
            told += 1

    assert told > 10


@pytest.mark.parametrize("byte", [0x01, 0xFF])
def test_a_flipped_byte_in_the_write_ahead_log_leaves_a_beginning_that_the_anchor_tells(
    byte: int, path: Path, tmp_path: Path
) -> None:
    flipped, anchor = tmp_path / "flipped.db", tmp_path / "head"
    with statecore.open(path, key=KEY) as store:
        for number in range(EVENTS):
            store.manager("one").set_state("n", number)
        anchor.write_bytes(store.signed_head())
        copy_store(path, flipped)
    wal = flipped.with_name(flipped.name + "-wal")
    main, whole = flipped.read_bytes(), bytearray(wal.read_bytes())
    told = 0

    for at in range(0, len(whole), 997):
        whole[at] ^= byte
        flipped.write_bytes(main)
        wal.write_bytes(whole)
        whole[at] ^= byte
        report = attempt(flipped, anchor, Depth.DIGESTS)
        if report is not None and report.verdict.startswith("VALID"):
            assert report.events == report.anchored == EVENTS
        else:
            told += 1

    assert told > 10


def test_a_flipped_byte_in_the_keys_reads_nothing_wrong(original: Path, path: Path) -> None:
    copy_store(original, path)
    keys = path.with_name(path.name + "-keys")
    whole, root = bytearray(keys.read_bytes()), verify(original).root
    told = 0

    for at in range(0, len(whole), 37):
        whole[at] ^= 0xFF
        keys.write_bytes(whole)
        whole[at] ^= 0xFF
        report = attempt(path, None, Depth.CONTENTS)
        if report is not None and report.verdict.startswith("VALID"):
            assert report.root == root
        else:
            told += 1

    assert told > 5


COLUMNS = {
    "log": ["format", "id"],
    "streams": ["name"],
    "topics": ["topic"],
    "writers": ["prefix"],
    "events": ["position", "stream", "version", "topic", "state"],
    "touches": ["stream", "tag", "first", "count", "distances"],
    "ids": ["stream", "tag", "version"],
    "snapshots": ["stream", "version", "topic", "state"],
    "tree": ["level", "number", "hash", "upto"],
    "links": ["stream", "tile", "hash"],
    "heads": ["size", "note"],
}
PLACES = [(table, column) for table, columns in COLUMNS.items() for column in columns]
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-2, 40),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=40),
    st.just(bytes(16)),
    st.just("\udcff".encode("utf-8", "surrogatepass")),
)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a full tile, ids and a fork."""
    path = tmp_path_factory.mktemp("rich") / "agents.db"
    write_store(path, 300)
    with statecore.open(path, key=KEY) as store:
        store.manager("one").add("n", 1, event_id="an id")
        store.manager("one").branch("idea").set_state("n", 2)
    return path


@given(
    edits=st.lists(st.tuples(st.sampled_from(PLACES), ODD, st.booleans()), min_size=1, max_size=3),
    depth=st.sampled_from(list(Depth)),
)
@settings(max_examples=150)
def test_whatever_stands_in_a_column_is_a_finding_or_a_typed_error(
    edits: list[tuple[tuple[str, str], Any, bool]],
    depth: Depth,
    rich: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = copy_store(rich, tmp_path_factory.mktemp("odd") / "agents.db")
    root = verify(rich).root
    with shell(path) as database:
        for (table, column), value, all_rows in edits:
            where = "" if all_rows else f" WHERE {column} = (SELECT max({column}) FROM {table})"
            try:
                sql = f"UPDATE OR IGNORE {table} SET {column} = ?{where}"
                database.execute(sql, (value,))
            except (apsw.Error, OverflowError):
                continue  # not even SQLite takes it

    report = attempt(path, None, depth)
    shutil.rmtree(path.parent)

    if report is not None and report.verdict.startswith("VALID") and depth != Depth.PROOFS:
        assert report.root == root
