"""Processes killed at any moment: what was acknowledged is there, whole, and the store goes on."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import statecore
from statecore.errors import StatecoreError
from tests.acknowledged import Store, start, the_session_ends, wait_until
from tests.conftest import KEY, Clock
from tests.writer import Writers

SEED = int(os.environ.get("STATECORE_SEED") or random.randrange(1 << 32))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


@pytest.fixture(scope="module")
def writers() -> Iterator[Writers]:
    with Writers() as started:
        yield started


def test_a_store_outlives_a_kill_at_every_step(writers: Writers, tmp_path: Path) -> None:
    """From its creation to its closing, each step being a change of one of its files."""
    harmed = []
    for steps in count(1):
        clock = Clock()
        store = Store(tmp_path / str(steps), clock)
        ended = writers.wait(start(writers, store, "life", "life", steps))
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


def wait_for_more(store: Store, writer: str, more: int) -> None:
    """Wait until a writer has acknowledged so many more."""

    def acknowledged() -> int:
        return sum(actor == writer for _, _, actor, _ in store.told)

    target = acknowledged() + more
    wait_until(lambda: acknowledged() >= target, f"{writer} writes no more")


@pytest.mark.parametrize("seed", [SEED])  # so that the name of a failing test tells it
def test_a_writer_killed_within_a_commit_holds_nobody_up(
    writers: Writers, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    store = Store(tmp_path / "store")
    survivor = start(writers, store, "alone", "survivor")
    wait_for_more(store, "survivor", 10)

    for number in range(12):
        steps = chance.randint(1, 40)
        killed = start(writers, store, "alone", f"killed-{number}", steps)
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
