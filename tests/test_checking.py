"""Checks of a store that others go on using: what ends meanwhile is not taken for damage."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import apsw
import pytest

import statecore
from statecore import BlockingStore
from statecore.projections.audit_tree import TILE_LEAVES
from tests.conftest import KEY, Clock
from tests.test_erasure import copy_of
from tests.test_rebuild import edit

LIFE = 600.0


@pytest.fixture
def written(path: Path, clock: Clock) -> Path:
    """A closed store: an agent that will expire, with a branch, rules, two data keys, snapshots.

    With one event more, a tile of the audit tree is full.
    """
    with statecore.open(path, key=KEY, clock=clock, durability="relaxed") as store:
        agent = store.manager("agent", kind="temporary", ttl=LIFE)
        agent.set_state("n", 0, event_id="first")
        agent.set_schema("n", {"type": "integer"})
        store.keys.rotate_data("agent")
        for large in (os.urandom(300_000), os.urandom(300_000), b""):
            agent.set_state("large", large)
        agent.branch("idea").set_state("n", 1)
        for number in range(store.statistics().events, TILE_LEAVES - 1):
            agent.set_state("n", number)
    with statecore.open(path, key=KEY, clock=clock) as store:
        report = store.check()
        assert report.complaints == []
        assert report.proved["snapshots"] > 0
        assert "tree nodes and links" in report.proved
    return path


def erase(store: BlockingStore, clock: Clock) -> None:
    store.erase("agent")


def begin_anew(store: BlockingStore, clock: Clock) -> None:
    store.erase("agent")
    store.manager("agent").set_state("n", 7)


def expire(store: BlockingStore, clock: Clock) -> None:
    clock.tick(LIFE + 1)
    store.clean_up()


def write(store: BlockingStore, clock: Clock) -> None:
    for large in (os.urandom(300_000), os.urandom(300_000), b""):
        store.manager("agent").set_state("large", large)


def rule(store: BlockingStore, clock: Clock) -> None:
    store.manager("agent").set_schema("n", {"type": "string"})
    for agent in (store.manager("agent"), store.manager("agent").branch("idea")):
        agent.migrate("n", str)


def archive(store: BlockingStore, clock: Clock) -> None:
    agent = store.manager("agent")
    place = Path(store.store._engine.streams.log._datastore.path)  # type: ignore[attr-defined]
    store.archive("agent", before=agent.version() - 5, to=place.with_name("old.archive"))


@contextmanager
def interrupted(act: Callable[[], object]) -> Iterator[list[int]]:
    """Have this thread do something before it executes a statement on a database opened meanwhile.

    Yields how many statements are left until then, to be set; 0 is never, or done.
    """
    left, thread = [0], threading.get_ident()

    def trace(*_: object) -> bool:
        if left[0] > 0 and threading.get_ident() == thread:
            left[0] -= 1
            if left[0] == 0:
                act()
        return True

    def watch(connection: apsw.Connection) -> None:
        connection.exec_trace = trace

    apsw.connection_hooks.append(watch)
    try:
        yield left
    finally:
        apsw.connection_hooks.remove(watch)


@pytest.mark.parametrize("act", [erase, begin_anew, expire, write, rule, archive])
def test_what_another_does_between_any_two_looks_is_no_complaint(
    written: Path, tmp_path: Path, clock: Clock, act: Callable[..., object]
) -> None:
    wrong = {}
    for step in count(1):
        path, its_clock = copy_of(written, tmp_path / str(step)), Clock(clock.now)
        with statecore.open(path, key=KEY, clock=its_clock, durability="relaxed") as other:
            other.manager("agent").at()
            with (
                interrupted(partial(act, other, its_clock)) as left,
                # By its own clock nothing ends: in here it would wait for what it is to wait for.
                statecore.open(path, key=KEY, clock=clock) as store,
            ):
                left[0] = step
                complaints = store.check().complaints
                is_done, left[0] = left[0] == 0, 0
        if complaints:
            wrong[step] = complaints
        shutil.rmtree(path.parent)
        if not is_done:
            break

    assert wrong == {}
    assert step > 40


def test_what_has_expired_and_was_not_ended_yet_is_no_complaint(
    written: Path, clock: Clock
) -> None:
    with statecore.open(written, key=KEY, clock=clock) as store:
        store.manager("agent").at()
        clock.tick(LIFE + 1)

        assert store.check().complaints == []


@contextmanager
def busy(store: BlockingStore) -> Iterator[None]:
    """Have a thread write to agents, erase them and begin them anew all the time."""
    is_over, failed = threading.Event(), []

    def work() -> None:
        try:
            for number in count():
                agent = store.manager(f"busy {number % 3}")
                for other in range(4):
                    agent.set_state(f"k{other}", number)
                if number % 5 == 0:
                    store.erase(agent.agent_id)
                if is_over.is_set():
                    return
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    assert failed == []


def test_a_store_that_is_never_still_is_found_sound(path: Path) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store, busy(store):
        while store.statistics().events < 1_000:
            assert store.check().complaints == []


def test_what_is_really_wrong_is_found_while_others_write(path: Path) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        store.manager("agent").set_state("n", 1)
        edit(path, "DELETE FROM touches")
        with busy(store):
            while store.statistics().events < 500:
                assert {each.where for each in store.check().complaints} == {"agent"}


def test_a_key_that_is_gone_without_an_event_is_none_of_an_erasure(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        for number in range(3):
            store.manager("agent").set_state("n", number)
            store.keys.rotate_data("agent")
        store.manager("agent").set_state("n", 3)
    edit(Path(f"{path}-keys"), "UPDATE keys SET wrapped = NULL WHERE epoch = 2")

    with statecore.open(path, key=KEY) as store:
        for checks in ((), ("state",), ("history",)):
            assert {each.where for each in store.check(*checks).complaints} == {"agent"}
