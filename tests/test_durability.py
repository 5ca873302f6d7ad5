"""Processes killed at any moment: what was acknowledged is there, whole, and the store goes on."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import statecore
from statecore import EMPTY, Change, Event
from statecore.errors import Erased, StatecoreError
from statecore.log import now
from statecore.values import same
from tests.conftest import KEY, Clock
from tests.strategies import unpack_state
from tests.writer import AGENTS, TOLD, Writers, blob

KILLS = int(os.environ.get("STATECORE_KILLS", "200"))
SEED = int(os.environ.get("STATECORE_SEED") or random.randrange(1 << 32))
ROUNDS_OF_A_STORE = 20
SECONDS_MAX = 0.12  # of a writer's life, opening the store included
PATIENCE_SECONDS = 60

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with Writers() as started:
        yield started


class Model:
    """One agent as its events made it, taken in as they come."""

    def __init__(self) -> None:
        self.state: Any = {}
        self.writes: list[tuple[str, int]] = []  # whose and which, by version
        self._counted = 0

    def take(self, event: Event) -> None:
        """Take in the next event, if it is what its writer meant to write."""
        assert event.version == len(self.writes) + 1
        actor, number = event.actor or "", int(event.reason or -1)
        self._counted += number % 4 == 3
        assert event.change == self._meant(actor, number)
        self.state = event.change.apply(self.state)
        self.writes.append((actor, number))

    def _meant(self, actor: str, number: int) -> Change:
        match number % 4:
            case 0:
                return EMPTY.put("blob", blob(actor, number))
            case 1:
                return EMPTY.put("left", [actor, number]).put("right", [actor, number])
            case 2:
                return EMPTY.extend("items", [[actor, number]])
        return EMPTY.put("count", self._counted)


class Store:
    """A store that goes on living, and what must be in it."""

    def __init__(self, folder: Path, clock: Callable[[], int] = now) -> None:
        folder.mkdir()
        self.path = folder / "agents.db"
        self._clock = clock
        self._models = {f"agent-{number}": Model() for number in range(AGENTS)}

    @property
    def told(self) -> list[tuple[str, int, str, int]]:
        """What was acknowledged: agent, version, writer, number."""
        file = self.path.with_name(TOLD)
        rows = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [(agent, int(at), actor, int(number)) for agent, at, actor, number in rows]

    def open(self) -> statecore.Opening:
        return statecore.open(self.path, key=KEY, clock=self._clock)

    def check(self, chance: random.Random, *, all_of_it: bool = False) -> None:
        """Reopen it, look at all that is new, and write to it at once."""
        with self.open() as store:
            for name in self._models:
                model = self._models[name] = Model() if all_of_it else self._models[name]
                agent = store.manager(name)
                for event in agent.history(since=len(model.writes)):
                    model.take(event)
                assert same(agent.at().data, unpack_state(model.state))
                past = agent.at(chance.randint(0, len(model.writes)))
                assert past.get("left") == past.get("right")
            self._nothing_is_missing_or_made_up()
            self._write_to(store)

    def _nothing_is_missing_or_made_up(self) -> None:
        acknowledged: Counter[str] = Counter()
        for name, version, actor, number in self.told:
            if name in self._models:
                assert self._models[name].writes[version - 1] == (actor, number)
                acknowledged[actor] += 1
        stored: dict[str, list[int]] = {}
        for model in self._models.values():
            for actor, number in model.writes:
                stored.setdefault(actor, []).append(number)
        for actor, numbers in stored.items():
            # A writer writes one thing after the other: none is left out, none is there twice, and
            # only the last can be there without having been acknowledged.
            assert sorted(numbers) == list(range(len(numbers)))
            assert len(numbers) <= acknowledged[actor] + 1

    def _write_to(self, store: statecore.BlockingStore) -> None:
        told = self.told
        actor = f"reader-{len(told)}"
        agent = store.manager("agent-0", actor=actor)
        version = agent.set_state("blob", blob(actor, 0), reason="0")
        assert version == len(self._models["agent-0"].writes) + 1
        with self.path.with_name(TOLD).open("a") as file:
            file.write(f"agent-0 {version} {actor} 0\n")


def kill_some(writers: Writers, store: Store, name: str, chance: random.Random) -> int:
    """Start one writer, or two at once, and kill each at a random moment; return how many."""
    works = [chance.choice(["alone", "tasks"]) for _ in range(chance.choice([1, 1, 2]))]
    running = [writers.start(work, store.path, f"{name}.{at}") for at, work in enumerate(works)]
    for process in running:
        time.sleep(chance.uniform(0, SECONDS_MAX))
        os.kill(process, signal.SIGKILL)
        assert writers.wait(process) == -signal.SIGKILL
    return len(running)


@pytest.mark.parametrize("seed", [SEED])  # so that the name of a failing test tells it
def test_no_acknowledged_write_is_lost_to_a_kill(
    writers: Writers, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    kills = acknowledged = 0

    while kills < KILLS:
        store = Store(tmp_path / f"after-{kills}")
        for number in range(ROUNDS_OF_A_STORE):
            kills += kill_some(writers, store, f"round-{number}", chance)
            store.check(chance)
            if kills >= KILLS:
                break
        store.check(chance, all_of_it=True)
        acknowledged += len(store.told)

    assert acknowledged > kills


def test_a_store_outlives_a_kill_at_every_step(writers: Writers, tmp_path: Path) -> None:
    """From its creation to its closing, each step being a change of one of its files."""
    harmed = []
    for steps in count(1):
        clock = Clock()
        store = Store(tmp_path / str(steps), clock)
        ended = writers.wait(writers.start("life", store.path, "life", steps))
        assert ended in (0, -signal.SIGKILL)
        try:
            store.check(random.Random(steps))
            clock.tick(61)
            the_session_ends(store)
        except (StatecoreError, AssertionError) as error:
            harmed.append(f"step {steps}: {error!r}")
        if ended == 0:
            break

    assert steps > 100
    assert harmed == []


def the_session_ends(store: Store) -> None:
    """An expired state ends after a kill as it does without one, and its key is destroyed."""
    with store.open() as opened:
        ring = opened.store._parts.engine.streams.ring
        wait_until(lambda: ring.next_expiry() is None, "the store ends no session")
    with store.open() as opened:
        session = opened.manager("session", kind="temporary", ttl=60)
        ring = opened.store._parts.engine.streams.ring
        assert not any(ring.keys(session.manager._stream.id).values())
        if any(agent == "session" for agent, *_ in store.told):
            with pytest.raises(Erased):
                session.get_state("secret")
        session.set_state("fresh", 1)
        assert session.at().data == {"fresh": 1}


def wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, otherwise
        time.sleep(0.002)


def wait_for_more(store: Store, writer: str, more: int) -> None:
    """Wait until a writer has acknowledged so many more."""

    def acknowledged() -> int:
        return sum(actor == writer for _, _, actor, _ in store.told)

    target = acknowledged() + more
    wait_until(lambda: acknowledged() >= target, f"{writer} writes no more")


@pytest.mark.parametrize("seed", [SEED])
def test_a_writer_killed_within_a_commit_holds_nobody_up(
    writers: Writers, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    store = Store(tmp_path / "store")
    survivor = writers.start("alone", store.path, "survivor")
    wait_for_more(store, "survivor", 10)

    for number in range(12):
        steps = chance.randint(1, 40)
        killed = writers.start("alone", store.path, f"killed-{number}", steps)
        assert writers.wait(killed) == -signal.SIGKILL
        wait_for_more(store, "survivor", 20)

    os.kill(survivor, signal.SIGKILL)
    assert writers.wait(survivor) == -signal.SIGKILL
    store.check(chance)


def test_writes_go_on_while_states_end(tmp_path: Path) -> None:
    clock = Clock()
    with statecore.open(tmp_path / "a.db", key=KEY, clock=clock, write_seconds=5) as store:
        for number in range(30):
            session = store.manager(f"session-{number}", kind="temporary", ttl=60)
            session.set_state("n", number)
        agent = store.manager("agent")
        clock.tick(61)
        ending = threading.Thread(target=store.clean_up)
        ending.start()
        written = 0
        while ending.is_alive():
            written += 1
            assert agent.set_state("n", written) == written
        ending.join()


@pytest.mark.parametrize("step", ["expired", "destroy"])
def test_a_state_that_began_anew_is_not_ended_for_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Two processes end a state, and the quicker one begins it anew within a step of the other."""
    clock = Clock()
    opening = statecore.open(tmp_path / "a.db", key=KEY, clock=clock)
    quick, slow = opening.blocking(), opening.blocking()
    session = quick.manager("session", kind="temporary", ttl=60)
    session.set_state("n", 1)
    ring = slow.store._parts.engine.streams.ring
    look, act = ring.expired, getattr(ring, step)

    def begin_anew() -> None:
        quick.clean_up()
        session.set_state("n", 2)

    overtaking = threading.Thread(target=begin_anew)

    def be_overtaken(argument: Any) -> Any:
        monkeypatch.setattr(ring, step, act)
        seen = look(argument) if step == "expired" else None
        overtaking.start()
        overtaking.join(1)  # or it has to wait until we are done
        return seen if step == "expired" else act(argument)

    monkeypatch.setattr(ring, step, be_overtaken)
    clock.tick(61)
    slow.clean_up()
    overtaking.join()

    slow.close()
    quick.close()
    with opening as store:  # keys that were destroyed are not in memory any more
        assert store.manager("session").get_state("n") == 2
