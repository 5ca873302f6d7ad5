"""A store that is killed again and again, and what must be in it whatever happens."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import statecore
from statecore import EMPTY, Change, Event
from statecore.errors import Erased
from statecore.log import now
from statecore.values import same
from tests.conftest import KEY
from tests.strategies import unpack_state
from tests.writer import AGENTS, Writers, blob

SECONDS_MAX = 0.12  # of a writer's life, opening the store included
PATIENCE_SECONDS = 60


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

    def __init__(
        self, folder: Path, clock: Callable[[], int] = now, told: Path | None = None
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / "agents.db"
        self.told_path = told or folder / "told"
        self.unacknowledged = 0  # events that are there, though their writers were not told so
        self._clock = clock
        self._models = {f"agent-{number}": Model() for number in range(AGENTS)}

    @property
    def told(self) -> list[tuple[str, int, str, int]]:
        """What was acknowledged: agent, version, writer, number."""
        file = self.told_path
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
        self.unacknowledged = sum(map(len, stored.values())) - acknowledged.total()

    def _write_to(self, store: statecore.BlockingStore) -> None:
        told = self.told
        actor = f"reader-{len(told)}"
        agent = store.manager("agent-0", actor=actor)
        version = agent.set_state("blob", blob(actor, 0), reason="0")
        assert version == len(self._models["agent-0"].writes) + 1
        with self.told_path.open("a") as file:
            file.write(f"agent-0 {version} {actor} 0\n")


def start(writers: Writers, store: Store, work: str, actor: str, steps: int = 0) -> int:
    """Start a writer on a store, and return the number of its process."""
    return writers.start(work, store.path, actor, steps, store.told_path)


def kill_some(writers: Writers, store: Store, name: str, chance: random.Random) -> int:
    """Start one writer, or two at once, and kill each at a random moment; return how many."""
    works = [chance.choice(["alone", "tasks"]) for _ in range(chance.choice([1, 1, 2]))]
    running = [start(writers, store, work, f"{name}.{at}") for at, work in enumerate(works)]
    for process in running:
        time.sleep(chance.uniform(0, SECONDS_MAX))
        os.kill(process, signal.SIGKILL)
        assert writers.wait(process) == -signal.SIGKILL
    return len(running)


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
