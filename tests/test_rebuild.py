"""Checks and rebuilding: what is derived, made again from the events and held against them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

import statecore
from statecore.checking import Check
from statecore.errors import Damage, InputError
from statecore.projections.audit_tree import TILE_LEAVES
from statecore.transparency.merkle import leaf_hash
from statecore.transparency.policy import parse_policy
from statecore.transparency.proof import parse_proof, verify_proof
from tests.conftest import KEY, opening


@pytest.fixture
def written(path: Path) -> Path:
    """A closed store of several agents, with branches, a merge, tags, ids and snapshots."""
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent", actor="ada")
        for number in range(300):
            agent.set_state(f"k{number % 9}", number)
        agent.set_state("paid", 1, event_id="the payment")
        agent.tag("paid")
        idea = agent.branch("idea")
        idea.set_state("k1", "otherwise")
        idea.delete_state("k2")
        agent.merge(idea)
        agent.revert(5)
        agent.clear_state()
        agent.set_state("k2", "again")
        large = store.manager("large")
        for number in range(30):
            large.set_state(f"page {number % 3}", os.urandom(60_000))
        store.manager("gone").set_state("secret", 1)
        store.erase("gone")
        store.manager("gone").set_state("new", 1)
    return path


def edit(path: Path, *statements: str) -> None:
    database = apsw.Connection(str(path))
    database.set_busy_timeout(10_000)
    for statement in statements:
        database.execute(statement)
    database.close()


def table(path: Path, name: str) -> set[tuple[object, ...]]:
    """The rows of a table, but what stands for nothing any more: it was erased."""
    database = apsw.Connection(str(path))
    erased = "first > 2 OR stream != (SELECT max(id) FROM streams)"
    where = f" WHERE {erased}" if name == "touches" else ""
    try:
        return set(database.execute(f"SELECT * FROM {name}{where}").fetchall())
    finally:
        database.close()


DERIVED = ("touches", "ids", "tree", "links")


def test_a_sound_store_is_found_sound_and_says_what_was_proved(written: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        report = store.check()

    assert report.complaints == []
    proved = report.proved
    assert proved["states"] == proved["histories"] == 5  # with the register and the branch
    assert proved["events"] >= 335
    assert proved["snapshots"] >= 1
    assert proved["references"] >= 5
    assert proved["rows"] >= 15
    assert proved["tree nodes and links"] >= 2
    assert proved["states held to rules"] == 4


def test_checks_are_done_that_are_asked_for(written: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        assert "rows" not in store.check("state").proved
        assert set(store.check(Check.INDEX).proved) == {"rows", "tree nodes and links"}
        with pytest.raises(ValueError, match="nonsense"):
            store.check("nonsense")


def test_a_store_of_any_kind_is_checked(backend: str, tmp_path: Path) -> None:
    with opening(backend, tmp_path) as store:
        agent = store.manager("agent")
        agent.set_state("n", 1)
        agent.branch("idea").set_state("n", 2)

        report = store.check()

        assert report.is_sound
        assert report.proved["states"] == 3
        assert store.last_check is report


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("DELETE FROM touches WHERE rowid_of_first", "index"),
        ("UPDATE touches SET count = count - 1 WHERE count > 5", "index"),
        ("UPDATE touches SET first = 'text'", "index"),
        ("DELETE FROM ids", "index"),
        ("UPDATE ids SET version = 3", "index"),
        ("UPDATE tree SET hash = zeroblob(32)", "index"),
        ("DELETE FROM links", "index"),
        ("UPDATE snapshots SET version = version - 1", "state"),
        ("UPDATE events SET state = zeroblob(40) WHERE position = 20", "history"),
        ("DELETE FROM events WHERE position = 20", "history"),
        ("DELETE FROM events WHERE position = 1", "history"),
    ],
)
def test_what_was_edited_is_found(written: Path, statement: str, kind: str) -> None:
    first = "(stream, tag, first) IN (SELECT stream, tag, first FROM touches LIMIT 1)"
    edit(written, statement.replace("rowid_of_first", first))

    with statecore.open(written, key=KEY) as store:
        report = store.check()

    assert kind in {complaint.check for complaint in report.complaints}


def test_violations_of_rules_are_found(written: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        agent = store.manager("large")
        agent.set_schema("page 1", {"type": "integer"})

        (complaint,) = store.check(Check.REFERENCE).complaints

    assert complaint.where == "large"
    assert "page 1" in complaint.text


def test_a_store_is_checked_every_so_often_while_it_is_open(
    written: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(written, "DELETE FROM ids")
    told = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.set()

    listener = Listener()
    logging.getLogger("statecore").addHandler(listener)
    try:
        with statecore.open(written, key=KEY, check_seconds=0.01) as store:
            store.manager("agent").set_state("still", "writing")
            assert told.wait(60)
            report = store.last_check
            assert report is not None
            assert not report.is_sound
    finally:
        logging.getLogger("statecore").removeHandler(listener)
    assert "the ids are missing or wrong" in caplog.text
    with pytest.raises(InputError, match="more than nothing"):
        statecore.open(written, key=KEY, check_seconds=0).blocking()


def test_a_sound_store_is_rebuilt_to_the_same(written: Path) -> None:
    before = {name: table(written, name) for name in DERIVED}

    with statecore.open(written, key=KEY) as store:
        done = store.rebuild()

    assert done.differences == done.left_alone == []
    assert done.rows >= 15
    assert done.snapshots >= 1
    assert not done.is_replaced
    assert {name: table(written, name) for name in DERIVED} == before


@pytest.mark.parametrize(
    "damage",
    [
        ["DELETE FROM touches"],
        ["DELETE FROM ids", "UPDATE touches SET first = first + 1"],
        ["DELETE FROM tree", "DELETE FROM links"],
        ["INSERT INTO touches VALUES (1, zeroblob(16), 7, 1, x'')"],
        [f"DELETE FROM {name}" for name in DERIVED],
    ],
)
def test_what_is_derived_is_made_again_as_it_was(written: Path, damage: list[str]) -> None:
    before = {name: table(written, name) for name in DERIVED}
    edit(written, *damage)

    with statecore.open(written, key=KEY) as store:
        looked = store.rebuild(only_check=True)
        still = {name: table(written, name) for name in DERIVED}
        done = store.rebuild()

        assert looked.differences == done.differences != []
        assert still != before
        assert {name: table(written, name) for name in DERIVED} == before
        assert store.check().is_sound
        assert store.manager("agent").value_at("k1", 290) == 289
        assert store.manager("agent").set_state("paid", 2, event_id="the payment") == 301


def test_a_wrong_snapshot_is_dropped(written: Path) -> None:
    edit(written, "UPDATE snapshots SET state = zeroblob(100)")

    with statecore.open(written, key=KEY) as store:
        done = store.rebuild()

        assert any("does not hold" in difference for difference in done.differences)
        assert table(written, "snapshots") == set()
        assert store.manager("large").version() == 30


def test_a_damaged_state_is_left_alone_and_the_others_are_made_again(written: Path) -> None:
    before = table(written, "touches")
    of_agent = {row for row in before if row[0] == 1}
    edit(
        written,
        "DELETE FROM touches WHERE stream != 1",
        "UPDATE events SET state = zeroblob(40) WHERE stream = 1 AND version = 20",
    )

    with statecore.open(written, key=KEY) as store:
        done = store.rebuild()

    assert any(text.startswith("agent: ") for text in done.left_alone)
    assert table(written, "touches") >= of_agent
    assert len(table(written, "touches")) > len(of_agent)


@pytest.mark.parametrize("lost", ["version = 5", "version >= 4"])
def test_what_is_missing_of_a_state_that_began_anew_is_found(path: Path, lost: str) -> None:
    """Its first event; or all of them, and the one that says that it was erased before."""
    with statecore.open(path, key=KEY) as store:
        for number in range(3):
            store.manager("agent").set_state("n", number)
        store.erase("agent")
        for number in range(3):
            store.manager("agent").set_state("n", number)
    edit(path, f"DELETE FROM events WHERE {lost}")

    with statecore.open(path, key=KEY) as store:
        assert "history" in {complaint.check for complaint in store.check().complaints}
        assert len(store.rebuild(only_check=True).left_alone) == 1


def prove(store: statecore.BlockingStore, agent_id: str, version: int) -> None:
    """Have an event proved, and believe it only then."""
    proof = parse_proof(store.prove(agent_id, version))
    verify_proof(proof, leaf_hash(proof.extra), parse_policy(store.audit_policy()))


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_what_is_proved_after_rebuilding_is_of_the_tree_made_again(
    path: Path, is_elsewhere: bool
) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        agents = [store.manager(name) for name in ("one", "two")]
        for number in range(TILE_LEAVES * 5):
            agents[number % 2].set_state("n", number)
    edit(path, "UPDATE tree SET hash = zeroblob(32)", "UPDATE links SET hash = zeroblob(32)")

    with statecore.open(path, key=KEY) as store:
        for version in (3, 200, 500):
            with pytest.raises(Damage, match="rebuild"):
                store.prove("one", version)
        if is_elsewhere:
            with statecore.open(path, key=KEY) as other:
                other.rebuild()
        else:
            store.rebuild()

        for version in (3, 200, 500, 640):
            prove(store, "one", version)


def test_what_is_written_after_rebuilding_goes_on_from_the_tree_made_again(path: Path) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        rare, often = store.manager("rare"), store.manager("often")

        def write(events: int) -> None:
            for number in range(events):
                often.set_state("n", number)

        rare.set_state("n", 0)
        write(TILE_LEAVES)
    of_rare = "stream = (SELECT stream FROM events WHERE position = 1)"
    edit(path, f"UPDATE links SET hash = zeroblob(32) WHERE {of_rare}")
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        rare, often = store.manager("rare"), store.manager("often")
        rare.set_state("n", 1)
        write(2 * TILE_LEAVES)  # the first of these tiles is linked wrongly, the second is right

        assert store.rebuild().is_replaced
        rare.set_state("n", 2)
        write(TILE_LEAVES)

        prove(store, "rare", 3)
    assert statecore.verify(path).findings == []


def test_what_was_known_of_an_index_is_forgotten_with_its_rebuilding(written: Path) -> None:
    edit(written, "DELETE FROM touches")
    with statecore.open(written, key=KEY) as store:
        agent = store.manager("agent")
        for number in range(9):
            agent.set_state(f"k{number}", "known")

        assert store.rebuild().is_replaced
        for number in range(9):
            agent.set_state(f"k{number}", "touched again")

        assert store.check(Check.INDEX).complaints == []


def test_rebuilding_needs_something_kept(tmp_path: Path) -> None:
    with opening("memory", tmp_path) as store, pytest.raises(InputError, match="keeps nothing"):
        store.rebuild()


async def use(make: Callable[[], statecore.Opening]) -> int:
    async with make() as store:
        await store.manager("agent").set_state("n", 1)
        report = await store.check()
        done = await store.rebuild()
        sizes = await store.sizes()
        await store.compact()
        keys = await store.key_sizes("agent")
        assert report.is_sound
        assert done.differences == []
        assert [size.key for size in keys] == ["n"]
        return sizes.states[0].events


def test_tasks_can_do_it_all(path: Path) -> None:
    import asyncio

    assert asyncio.run(use(lambda: statecore.open(path, key=KEY))) == 1


def told(agent: statecore.BlockingManager, key: str) -> list[int]:
    """The history of a key, which is the same in both orders."""
    forwards = [event.version for event in agent.history(key)]
    backwards = [event.version for event in agent.history(key, newest_first=True)]
    assert forwards == backwards[::-1]
    return forwards


def flipped(stored: int | bytes) -> list[int | bytes]:
    """What is stored with each of its bits flipped in turn, and nothing at all."""
    if isinstance(stored, int):
        return [stored ^ 1 << bit for bit in range(8)]
    changed: list[int | bytes] = [b""] if stored else []
    for bit in range(8 * len(stored)):
        each = bytearray(stored)
        each[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(each))
    return changed


@pytest.mark.parametrize("column", ["first", "count", "distances"])
def test_no_flipped_bit_of_the_index_hides_an_event_from_the_history_of_a_key(
    path: Path, column: str
) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for number in range(24):
            agent.set_state(f"k{number % 3 + number // 20}", number)
        idea = agent.branch("idea", 14)
        idea.set_state("k1", "otherwise")
        asked = [(each, key) for each in (agent, idea) for key in ("k0", "k1", "k2", "k3")]
        whole = [told(*question) for question in asked]
        database = apsw.Connection(str(path))
        database.set_busy_timeout(10_000)  # a head is signed meanwhile
        noticed = 0
        for *row, stored in database.execute(
            f"SELECT stream, tag, first, {column} FROM touches"
        ).fetchall():
            for changed in flipped(stored):
                where = "stream = ? AND tag = ? AND first = ?"
                database.execute(f"UPDATE touches SET {column} = ? WHERE {where}", (changed, *row))
                now = [*row[:2], changed if column == "first" else row[2]]
                for question, right in zip(asked, whole, strict=True):
                    try:
                        assert told(*question) == right
                    except statecore.Damage:
                        noticed += 1
                back = f"UPDATE touches SET {column} = ? WHERE {where}"
                database.execute(back, (stored, *now))
        database.close()

        assert noticed
        assert [told(*question) for question in asked] == whole


def test_a_key_whose_index_is_gone_is_not_taken_for_one_that_was_never_there(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for number in range(5):
            agent.set_state("n", number)
        edit(path, "DELETE FROM touches")

        for newest_first in (False, True):
            with pytest.raises(statecore.Damage, match=r"leaves out version 5.*rebuild"):
                list(agent.history("n", newest_first=newest_first))
        assert agent.value_at("n", 5) == 4

        store.rebuild()
        assert told(agent, "n") == [1, 2, 3, 4, 5]
