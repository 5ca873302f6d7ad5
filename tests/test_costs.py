"""What questions and branches cost, counted: events opened, look-ups, events appended.

Each cost must depend on what is asked for, and not on how long the log is.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import statecore
from statecore import BlockingManager, BlockingStore
from statecore.codec import Sealer
from statecore.replay import FAR, WARM_DISTANCE
from tests.conftest import KEY

LENGTHS = (300, 3000)
KEYS = 50
CHAIN_MAX = 32  # operations that build on each other, before a whole state is asked for


@dataclass
class Cost:
    """What something cost."""

    opened: list[int] = field(default_factory=list)  # the versions of the events, in order
    read: int = 0  # rows of the log
    lookups: int = 0  # in the key history
    appended: int = 0  # events


FREE = Cost()


class Meter:
    """Counts what a store asks of its real log, and what it opens of it."""

    def __init__(self, store: BlockingStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: Any = store.store._engine.streams.log
        self._cost = Cost()
        read, open_record = self.log.read, Sealer.open

        def counted_read(*args: Any, **options: Any) -> list[Any]:
            rows: list[Any] = read(*args, **options)
            self._cost.read += len(rows)
            return rows

        def counted_open(sealer: Sealer, version: int, stored: bytes) -> Any:
            self._cost.opened.append(version)
            return open_record(sealer, version, stored)

        monkeypatch.setattr(self.log, "read", counted_read)
        monkeypatch.setattr(Sealer, "open", counted_open)
        for name in ("touched", "last_touched"):
            monkeypatch.setattr(self.log, name, self._lookup(getattr(self.log, name)))

    def _lookup(self, ask: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any) -> Any:
            self._cost.lookups += 1
            return ask(*args)

        return counted

    def cost(self, work: Callable[..., object], *args: Any, **options: Any) -> Cost:
        """Return what some work costs."""
        self._cost, before = Cost(), self.log.last_position()
        work(*args, **options)
        self._cost.appended = self.log.last_position() - before
        return self._cost


@pytest.fixture(scope="module", params=LENGTHS, ids=lambda length: f"{length} events")
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of so many events, each on the next of 50 keys."""
    folder = tmp_path_factory.mktemp("kept")
    with statecore.open(folder / "agents.db", key=KEY, durability="relaxed") as store:
        agent = store.manager("a")
        for number in range(request.param):
            agent.set_state(f"k{number % KEYS}", {"n": number, "note": "x" * 150})
    return folder


@pytest.fixture
def store(kept: Path, tmp_path: Path) -> Iterator[BlockingStore]:
    shutil.copytree(kept, tmp_path / "store")
    with statecore.open(tmp_path / "store/agents.db", key=KEY, durability="relaxed") as store:
        yield store


@pytest.fixture
def meter(store: BlockingStore, monkeypatch: pytest.MonkeyPatch) -> Meter:
    return Meter(store, monkeypatch)


@pytest.fixture
def agent(store: BlockingStore) -> BlockingManager:
    """A state that was just opened: nothing but its head is warm."""
    agent = store.manager("a")
    agent.version()
    agent.branches()
    return agent


def since_snapshot(meter: Meter, agent: BlockingManager, version: int) -> int:
    """How many events lie between a version and the last snapshot before it."""
    kept = meter.log.snapshot(agent.manager._stream.id, version)
    return version - (kept[0] if kept else 0)


def fork_and_set(agent: BlockingManager, ours: int, theirs: int) -> BlockingManager:
    """Fork, and set so many keys on both sides, five of them the same."""
    idea = agent.branch("idea")
    for number in range(ours):
        agent.set_state(f"k{number}", {"n": -number})
    for number in range(ours - 5, ours - 5 + theirs):
        idea.set_state(f"k{number}", {"n": -number})
    return idea


def after(version: int, count: int) -> list[int]:
    """So many versions after one."""
    return list(range(version + 1, version + count + 1))


# The past


def test_opening_a_state_opens_what_came_after_its_last_snapshot(
    store: BlockingStore, meter: Meter
) -> None:
    agent = store.manager("a")

    cost = meter.cost(agent.version)

    assert 0 < len(cost.opened) <= since_snapshot(meter, agent, agent.version()) + 1


def test_a_key_as_of_a_version_opens_the_event_that_set_it_and_then_nothing(
    agent: BlockingManager, meter: Meter
) -> None:
    touches = [event.version for event in agent.history("k7")]

    assert meter.cost(agent.value_at, "k7", touches[-1]) == FREE  # it stands since
    for touched in (touches[0], touches[3], touches[-2]):
        first = meter.cost(agent.value_at, "k7", touched + 2)
        again = meter.cost(agent.value_at, "k7", touched + 2)

        assert (first.opened, first.read) == ([touched], 1)
        assert first.lookups <= 3
        assert again == FREE


def test_a_counter_as_of_a_version_opens_one_event(agent: BlockingManager, meter: Meter) -> None:
    for _ in range(CHAIN_MAX * 2):
        agent.add("tokens", 512)

    version = agent.version() - 3
    assert meter.cost(agent.value_at, "tokens", version).opened == [version]


def test_a_list_as_of_a_version_opens_a_chain_or_replays_from_the_nearest_state(
    agent: BlockingManager, meter: Meter
) -> None:
    before = agent.version()
    for number in range(CHAIN_MAX * 2):
        agent.extend("messages", [f"{number} " + "x" * 50])
    last = agent.version() - 1

    short = meter.cost(agent.value_at, "messages", before + CHAIN_MAX)
    long = meter.cost(agent.value_at, "messages", last)

    assert sorted(short.opened) == after(before, CHAIN_MAX)
    assert len(long.opened) <= CHAIN_MAX + 1 + since_snapshot(meter, agent, last)


def test_a_state_near_a_warm_one_opens_what_lies_between(
    agent: BlockingManager, meter: Meter
) -> None:
    version = agent.version() // 2
    agent.at(version)

    near = meter.cost(agent.at, version + 10)
    far = meter.cost(agent.at, version + 10 + WARM_DISTANCE // 2)

    assert near == Cost(opened=after(version, 10), read=10)
    assert len(far.opened) <= WARM_DISTANCE // 2
    assert meter.cost(agent.at, version) == FREE


def test_a_diff_opens_the_events_in_between(agent: BlockingManager, meter: Meter) -> None:
    head = agent.version()

    for start in (0, head // 2, head - 100):
        cost = meter.cost(agent.diff, start, start + 100)

        assert cost == Cost(opened=after(start, 100), read=100)


def test_a_diff_backwards_opens_the_events_in_between_once_both_states_are_warm(
    agent: BlockingManager, meter: Meter
) -> None:
    agent.at(150)
    agent.at(50)

    assert meter.cost(agent.diff, 150, 50) == Cost(opened=after(50, 100), read=100)


def test_the_history_of_a_key_opens_the_events_that_touched_it(
    agent: BlockingManager, meter: Meter
) -> None:
    touches = list(range(8, agent.version() + 1, KEYS))

    cost = meter.cost(lambda: list(agent.history("k7")))

    assert (cost.opened, cost.read) == (touches, len(touches))


def test_a_bisection_opens_one_event_a_look(agent: BlockingManager, meter: Meter) -> None:
    head = agent.version()

    cost = meter.cost(agent.bisect, 1, head, lambda state: state["k0"]["n"] < head // 3)

    assert 0 < len(cost.opened) <= math.log2(head) + 2


# Forks


def test_a_fork_opens_nothing_and_appends_one_event(agent: BlockingManager, meter: Meter) -> None:
    at_the_head = meter.cost(agent.branch, "at the head")
    in_the_past = meter.cost(agent.branch, "in the past", agent.version() // 2)

    assert (at_the_head.opened, at_the_head.appended) == ([], 1)
    assert (in_the_past.opened, in_the_past.appended) == ([], 1)


def test_a_fork_asked_for_again_costs_nothing(agent: BlockingManager, meter: Meter) -> None:
    agent.branch("idea").get_state("k1")

    assert meter.cost(lambda: agent.branch("idea").get_state("k1")) == FREE


def test_the_first_reading_on_a_fork_opens_nothing_where_the_state_is_warm(
    agent: BlockingManager, meter: Meter
) -> None:
    version = agent.version() // 2
    agent.at(version)
    at_the_head, in_the_past = agent.branch("at the head"), agent.branch("in the past", version)

    assert meter.cost(at_the_head.get_state, "k1").opened == []
    assert meter.cost(in_the_past.get_state, "k1").opened == []


def test_the_first_reading_on_a_fork_replays_a_few_hundred_events_at_most(
    agent: BlockingManager, meter: Meter
) -> None:
    fork = agent.branch("a little before", agent.version() - 5)

    assert len(meter.cost(fork.get_state, "k1").opened) <= FAR


def test_listing_branches_opens_an_event_each(agent: BlockingManager, meter: Meter) -> None:
    for number in range(5):
        agent.branch(f"b{number}")

    assert len(meter.cost(agent.branches).opened) == 5


# Merging


def test_a_merge_opens_what_both_sides_did_since_the_fork(
    agent: BlockingManager, meter: Meter
) -> None:
    fork = agent.version()
    idea = fork_and_set(agent, 30, 20)

    cost = meter.cost(agent.merge, idea)

    assert sorted(cost.opened) == sorted(after(fork, 30) + after(fork, 20))
    assert cost.appended == 1


def test_a_merge_with_strategies_looks_further_only_at_what_both_sides_changed(
    agent: BlockingManager, meter: Meter
) -> None:
    agent.set_strategy("*", "latest")
    idea = fork_and_set(agent, 30, 20)

    cost = meter.cost(agent.merge, idea)

    assert len(cost.opened) == 50 + 2 * 5


def test_a_rehearsed_merge_appends_nothing(agent: BlockingManager, meter: Meter) -> None:
    idea = fork_and_set(agent, 10, 10)

    assert meter.cost(agent.merge, idea, dry_run=True).appended == 0


def test_merging_again_right_after_costs_nothing(agent: BlockingManager, meter: Meter) -> None:
    idea = fork_and_set(agent, 30, 20)
    agent.merge(idea)

    assert meter.cost(agent.merge, idea) == FREE


def test_a_merge_after_a_merge_opens_no_more_than_was_done_since_the_fork(
    agent: BlockingManager, meter: Meter
) -> None:
    fork = agent.version()
    idea = fork_and_set(agent, 30, 20)
    agent.merge(idea)
    idea.set_state("k49", {"n": -49})

    cost = meter.cost(agent.merge, idea)

    assert 0 < len(cost.opened) <= (agent.version() - fork) + (idea.version() - fork)


# Taking back


def test_a_revert_opens_only_events_that_touched_its_keys(
    agent: BlockingManager, meter: Meter
) -> None:
    for number in range(4):
        agent.set_state("rare", number)
        agent.set_state("k1", number)
    touches = [event.version for event in agent.history("rare")]

    cost = meter.cost(agent.revert, touches[1])

    assert {*cost.opened} == {*touches}
    assert len(cost.opened) <= 2 * len(touches)
    assert cost.appended == 1


def test_a_pick_opens_the_picked_event_and_the_values_of_its_keys(
    agent: BlockingManager, meter: Meter
) -> None:
    idea = fork_and_set(agent, 10, 10)

    cost = meter.cost(agent.cherry_pick, idea, idea.version())

    assert 0 < len(cost.opened) <= 4
    assert cost.appended == 1


def test_undoing_the_last_act_opens_it_and_what_its_keys_were(
    agent: BlockingManager, meter: Meter
) -> None:
    agent.set_state("k1", "last")

    cost = meter.cost(agent.undo)

    assert 0 < len(cost.opened) <= 4
    assert cost.appended == 1


def test_a_restore_opens_the_events_it_takes_back_once_the_state_is_warm(
    agent: BlockingManager, meter: Meter
) -> None:
    version = agent.version() - 40
    agent.at(version)

    cost = meter.cost(agent.restore, version)

    assert (cost.opened, cost.appended) == (after(version, 40), 1)


def test_many_small_agents_are_not_all_kept_open(path: Path) -> None:
    with statecore.open(path, key=KEY, durability="relaxed", cache_mib=1) as store:
        for number in range(600):
            store.manager(f"agent-{number}").set_state("n", number)

        assert len(store.store._engine.streams._recent) < 450  # of 1,200: each has a register
        assert store.manager("agent-3").get_state("n") == 3
