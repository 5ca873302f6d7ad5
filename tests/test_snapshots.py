"""Snapshots: the same answers with and without them, whatever becomes of them, and light enough."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import statecore
from statecore import CLEAR, EMPTY, Change
from statecore.change import pack_state
from statecore.errors import Damage
from tests.conftest import KEY, Clock
from tests.strategies import unpack_state

VERSIONS = 1_400
KEYS = 20
BATCH = 50  # a snapshot is kept after a batch, never within one
LOADED_MAX = 600  # rows; what is warm or near the beginning is replayed without a snapshot
EVENT_WEIGHT = 128  # what replaying an event costs beside its bytes, as a snapshot weighs it


def noise(seed: object, size: int) -> bytes:
    """Bytes that don't compress, always the same ones."""
    return random.Random(str(seed)).randbytes(size)


def write(path: Path, changes: Sequence[Change]) -> None:
    """Write each of these changes as an event, some to a sync."""

    async def work() -> None:
        async with statecore.open(path, key=KEY) as store:
            agent = store.manager("agent")
            for start in range(0, len(changes), BATCH):
                before = await agent.version()
                batch = changes[start : start + BATCH]
                versions = await asyncio.gather(*map(agent.apply, batch))
                assert versions == list(range(before + 1, before + len(batch) + 1))

    asyncio.run(work())


def sql(path: Path, *statements: str) -> list[Any]:
    """Run statements on a store's file, as anybody could; return the rows of the last."""
    database = apsw.Connection(str(path))
    database.set_busy_timeout(10_000)
    try:
        return [database.execute(statement).fetchall() for statement in statements][-1]
    finally:
        database.close()


def snapshots_of(path: Path) -> list[int]:
    return [version for (version,) in sql(path, "SELECT version FROM snapshots ORDER BY version")]


def expected(version: int) -> dict[str, bytes]:
    """What the state of the written store is at a version."""
    return {
        f"key-{number % KEYS}": noise(number, 1_500)
        for number in range(max(0, version - KEYS), version)
    }


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("snapshots") / "agents.db"
    write(path, [EMPTY.put(f"key-{n % KEYS}", noise(n, 1_500)) for n in range(VERSIONS)])
    assert len(snapshots_of(path)) >= 3
    return path


@pytest.fixture
def written(original: Path, path: Path) -> Path:
    """A closed store with some snapshots."""
    for end in ("", "-keys"):
        shutil.copy(f"{original}{end}", f"{path}{end}")
    return path


SAMPLES = [0, 1, 19, 20, 21, 300, 513, 514, 626, 627, 800, 1_100, 1_279, 1_281, 1_399, 1_400]


def check(store: statecore.BlockingStore) -> None:
    """All answers are right."""
    agent = store.manager("agent")
    assert agent.version() == VERSIONS
    for version in reversed(SAMPLES):
        assert agent.at(version).data == expected(version)
        assert agent.value_at("key-7", version) == expected(version).get("key-7")
    for start, end in ((627, 1_100), (1_100, 627), (0, 1_400), (1_400, 1_399)):
        change = agent.diff(start, end)
        after = change.apply(pack_state(expected(start)))
        assert unpack_state(after) == expected(end)
    assert [event.version for event in agent.history("key-7")] == list(range(8, 1_401, KEYS))


# The same answers


def puts(count: int, size: int, seed: int) -> list[Change]:
    return [EMPTY.put(f"key-{n % 9}", noise((seed, n), size)) for n in range(count)]


def small(count: int, seed: int) -> list[Change]:
    kinds: list[Callable[[int], Change]] = [
        lambda n: EMPTY.put(f"small-{(n * seed) % 13}", n),
        lambda n: EMPTY.extend("list", [n, str(seed)]),
        lambda n: EMPTY.add("sum", n),
        lambda n: EMPTY.patch("map", {f"field-{n % 5}": seed}).remove(f"small-{n % 13}"),
    ]
    return [kinds[(n + seed) % 4](n) for n in range(count)]


SEEDS = st.integers(1, 1_000)
BLOCKS = st.one_of(
    st.builds(partial, st.just(puts), st.integers(1, 12), st.just(90_000), SEEDS),
    st.builds(partial, st.just(small), st.integers(1, 400), SEEDS),
    st.just(partial(list, [EMPTY.remove("key-3")])),
    st.just(partial(list, [CLEAR.put("list", [])])),
)


# Without shrinking, which would take minutes: what it says is short as it is.
@settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(blocks=st.lists(BLOCKS, max_size=8), seed=SEEDS, data=st.data())
def test_answers_are_the_same_with_and_without(
    blocks: list[partial[list[Change]]], seed: int, data: st.DataObject
) -> None:
    later = (change for block in blocks for change in block())
    changes = [*puts(7, 80_000, seed), *small(600, seed), *later]
    states: list[Any] = [{}]
    for change in changes:
        states.append(change.apply(states[-1]))
    versions = st.integers(0, len(changes))
    asked = data.draw(st.lists(st.tuples(versions, versions), min_size=3, max_size=6))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agents.db"
        write(path, changes)
        assert snapshots_of(path)
        answers = []
        for snapshots in (True, False):
            with statecore.open(path, key=KEY, snapshots=snapshots) as store:
                agent = store.manager("agent")
                for one, other in asked:
                    assert agent.at(one).data == unpack_state(states[one])
                    after = agent.diff(one, other).apply(states[one])
                    assert unpack_state(after) == unpack_state(states[other])
                    for key in ("key-0", "small-1", "list", "map", "sum"):
                        value = states[other].get(key)
                        there = None if value is None else unpack_state({key: value})[key]
                        assert agent.value_at(key, other) == there
                for version in range(len(changes) + 1):
                    assert agent.at(version).data == unpack_state(states[version])
                told = [*agent.history(), *(agent.diff(*pair) for pair in asked)]
                answers.append(list(map(str, told)))
        assert answers[0] == answers[1]


LATEST = "(SELECT max(version) FROM snapshots)"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE snapshots SET state = x'ff' || substr(state, 2)",  # a newer format
        "UPDATE snapshots SET state = substr(state, 1, 500) || x'00ff00' || substr(state, 504)",
        "UPDATE snapshots SET state = substr(state, 1, length(state) - 1)",
        "UPDATE snapshots SET state = state || x'00'",
        "UPDATE snapshots SET state = substr(state, 1, 7)",
        "UPDATE snapshots SET state = x''",
        "UPDATE snapshots SET state = 'text'",
        "UPDATE snapshots SET state = 5",
        "UPDATE snapshots SET state = (SELECT state FROM events WHERE events.version = 626)",
        f"UPDATE snapshots SET state = (SELECT state FROM snapshots WHERE version < {LATEST})",
        "UPDATE snapshots SET version = version + 1",
        "UPDATE snapshots SET version = 'text ' || id",
        "UPDATE snapshots SET stream = stream + 1",
    ],
)
@pytest.mark.parametrize("which", ["all", "the latest"])
def test_a_damaged_snapshot_is_passed_over(written: Path, statement: str, which: str) -> None:
    sql(written, statement + ("" if which == "all" else f" WHERE version = {LATEST}"))

    with statecore.open(written, key=KEY) as store:
        check(store)
        assert store.manager("agent").set_state("new", 1) == VERSIONS + 1


Ask = Callable[[statecore.BlockingManager], object]
BEHIND_A_SNAPSHOT: dict[str, Ask] = {
    "at it": lambda agent: agent.at(100),
    "at the next": lambda agent: agent.at(101),
    "its value": lambda agent: agent.value_at("key-19", 100),
    "its value later": lambda agent: agent.value_at("key-19", 105),
    "diff": lambda agent: agent.diff(98, 102),
    "diff of one": lambda agent: agent.diff(99, 100),
    "diff back": lambda agent: agent.diff(102, 98),
    "history": lambda agent: list(agent.history()),
    "history back": lambda agent: list(agent.history(newest_first=True)),
    "history of its key": lambda agent: list(agent.history("key-19")),
    "a decision": lambda agent: agent.set_state("key-19", b"", expected_version=99),
}


@pytest.mark.parametrize("ask", BEHIND_A_SNAPSHOT)
@pytest.mark.usefixtures("patience")
def test_a_snapshot_hides_no_missing_event(written: Path, ask: str) -> None:
    sql(written, "DELETE FROM events WHERE version = 100")

    with statecore.open(written, key=KEY) as store:
        agent = store.manager("agent")
        with pytest.raises(Damage, match="version 100"):
            BEHIND_A_SNAPSHOT[ask](agent)
        assert agent.at().data == expected(VERSIONS)  # what is readable stays readable


BEFORE_A_SNAPSHOT: dict[str, Ask] = {
    "version": lambda agent: agent.version(),
    "now": lambda agent: agent.at(),
    "then": lambda agent: agent.at(VERSIONS - 5),
    "set": lambda agent: agent.set_state("new", 1),
}


@pytest.mark.parametrize("ask", BEFORE_A_SNAPSHOT)
@pytest.mark.usefixtures("patience")
def test_a_snapshot_of_events_that_are_gone_is_damage(written: Path, ask: str) -> None:
    assert snapshots_of(written)[-1] == VERSIONS
    sql(written, f"DELETE FROM events WHERE version > {VERSIONS - 10}")

    with statecore.open(written, key=KEY) as store, pytest.raises(Damage):
        BEFORE_A_SNAPSHOT[ask](store.manager("agent"))


def test_no_bit_of_a_snapshot_can_be_changed_unseen(written: Path) -> None:
    version, stored = sql(written, "SELECT version, state FROM snapshots ORDER BY version")[-1]
    with statecore.open(written, key=KEY) as store:
        stream = store.manager("agent").manager._stream
        streams = store.store._engine.streams
        streams.refresh(stream)
        assert stream.sealer.open_snapshot(version, stored)

        for bit in [*range(40 * 8), *range(40 * 8, len(stored) * 8, 997)]:
            changed = bytearray(stored)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(Damage):
                stream.sealer.open_snapshot(version, bytes(changed))


def test_snapshots_may_be_deleted_at_any_time(written: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        agent = store.manager("agent")
        assert agent.at(1_100).data == expected(1_100)
        sql(written, f"DELETE FROM snapshots WHERE version < {LATEST}")
        check(store)
    with statecore.open(written, key=KEY) as store:
        sql(written, "DELETE FROM snapshots")
        check(store)
    with statecore.open(written, key=KEY) as store:
        check(store)
        for number in range(400):
            store.manager("agent").set_state("more", noise(number, 1_500))

    assert snapshots_of(written) != []  # and new ones are kept


def test_an_erased_state_leaves_no_snapshot(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        session = store.manager("session", kind="temporary", ttl=60)
        for number in range(8):
            session.set_state(f"key-{number}", noise(number, 100_000))
    assert snapshots_of(path) != []

    with statecore.open(path, key=KEY, clock=clock) as store:
        clock.tick(61)
        store.clean_up()

    assert snapshots_of(path) == []


# What they cost and what they save


def loaded(path: Path, ask: Callable[[statecore.BlockingManager], object], **options: Any) -> int:
    """Return how many stored events a question makes a store load that was just opened."""
    count = 0
    with statecore.open(path, key=KEY, **options) as store:
        log: Any = store.store._engine.streams.log
        read = log.read

        def counting(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            rows = read(*arguments, **more)
            count += len(rows)
            return rows

        log.read = counting
        ask(store.manager("agent"))
    return count


def test_a_cold_read_loads_a_snapshot_and_few_events(written: Path) -> None:
    last = snapshots_of(written)[-1]

    assert loaded(written, lambda agent: agent.get_state("key-1")) <= VERSIONS - last + 2
    assert loaded(written, lambda agent: agent.get_state("key-1"), snapshots=False) >= VERSIONS
    for version in SAMPLES:
        rows = loaded(written, methodcaller("at", version))
        assert rows <= LOADED_MAX + VERSIONS - last
    assert loaded(written, lambda agent: agent.at(1_100), snapshots=False) >= VERSIONS


def growing(number: int) -> Change:
    return EMPTY.put(f"key-{number}", noise(number, 6_000))


def turning_over(number: int) -> Change:
    return EMPTY.put(f"key-{number % 30}", noise(number, 6_000))


def appending(number: int) -> Change:
    return EMPTY.extend("items", [noise(number, 3_000), number])


def coming_and_going(number: int) -> Change:
    return CLEAR if number % 150 == 149 else growing(number)


SHAPES = [growing, turning_over, appending, coming_and_going]


def weights(path: Path) -> tuple[int, int]:
    """Return what all snapshots weigh, and what the log does."""
    ((kept,),) = sql(path, "SELECT coalesce(sum(length(state)), 0) FROM snapshots")
    ((events, size),) = sql(path, "SELECT count(*), sum(length(state)) FROM events")
    return kept, size + EVENT_WEIGHT * events


@pytest.mark.parametrize("shape", SHAPES)
def test_all_snapshots_together_weigh_no_more_than_the_log(
    path: Path, shape: Callable[[int], Change]
) -> None:
    for start in range(0, 900, 100):  # opened anew now and then
        write(path, [shape(number) for number in range(start, start + 100)])

    kept, log = weights(path)
    assert 0 < kept <= log


def test_several_writers_keep_no_more_snapshots_than_one(path: Path) -> None:
    stores = [statecore.open(path, key=KEY).blocking() for _ in range(4)]
    for number in range(600):
        stores[number % 4].manager("agent").set_state(f"key-{number % 100}", noise(number, 5_000))
    for store in stores:
        store.close()

    kept, log = weights(path)
    assert 0 < kept <= log


def test_the_events_since_a_snapshot_weigh_as_much_as_the_state(written: Path) -> None:
    versions = snapshots_of(written)
    for before, version in zip([0, *versions], versions, strict=False):
        ((events, size),) = sql(
            written,
            "SELECT count(*), sum(length(state)) FROM events"
            f" WHERE version > {before} AND version <= {version}",
        )
        weight = size + EVENT_WEIGHT * events
        assert 512 * 1024 <= weight < 600 * 1024
    assert versions[-1] > VERSIONS - versions[0]
