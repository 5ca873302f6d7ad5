"""A machine that forks branches, writes to them and asks about them, beside a model.

The model keeps every version of every branch in full. Whatever happens later, each must stay as it
was, whichever way one asks for it.
"""

from __future__ import annotations

import sys
from collections import Counter
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import statecore
from statecore import Change, Moment
from statecore.errors import OperationMismatch, WrongExpectedVersion
from statecore.events import to_microseconds, to_time
from statecore.values import same
from tests.branch_model import (
    COUNTER,
    MISSING,
    Model,
    State,
    Version,
    built_on,
    find_conflicts,
    get,
    put_at,
)
from tests.conftest import Clock
from tests.strategies import KEYS, SHAPES, VALUES, changes, pack_exposed_state, unpack_state

WHICH = st.integers(0, 4)  # a branch, counted round
BACK = st.integers(0, 9)  # so many versions before the last one
ACTORS = st.sampled_from(["ann", "bob"])
NAMES = st.sampled_from(["one", "two", "three", "four"])


class BranchMachine(RuleBasedStateMachine):
    """Random programs on the branches of one agent, in memory."""

    snapshots = False
    reached: ClassVar[Counter[str]]  # what programs came to, which a law says something about

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.latest = self.clock.now
        self.time = 0  # of the last event: times never go back
        self.model = Model()
        self.store = self.open()
        self.set_state(0, "ann", "a", ["beginning"])
        self.set_state(0, "ann", "b", {"a": 1})
        for parent, name in (("main", "one"), ("one", "two"), ("two", "three")):
            self.fork_at(parent, self.model.head(parent), name)
            self.build(name, self.on(name).add, COUNTER, 1)

    def open(self) -> statecore.BlockingStore:
        return statecore.open(clock=self.clock).blocking()

    # What there is, and what just happened

    def name(self, which: int) -> str:
        names = sorted(self.model.branches, key=lambda name: (name != "main", name))
        return names[which % len(names)]

    def pair(self, which: int, further: int) -> tuple[str, str]:
        """A branch, and another one where there are several."""
        return self.name(which), self.name(which + further)

    def version(self, name: str, back: int) -> Version:
        versions = self.model.branches[name]
        return versions[max(0, len(versions) - 1 - back)]

    def on(self, name: str, actor: str = "ann") -> statecore.BlockingManager:
        return self.store.manager("agent", actor=actor).branch(name, create=False)

    def note(
        self,
        name: str,
        version: int | None,
        state: State | None = None,
        *,
        source: Version | None = None,
    ) -> Version:
        """Take in the event that was just made; ``state`` is what it has to lead to, if known."""
        before, now = self.model.head(name), self.on(name).at()
        event, after = now.event, exposed(now)
        assert event is not None
        assert event.version == version == before.number + 1
        assert to_time(max(self.time, self.clock.now)) <= event.time <= to_time(self.latest)
        assert same(after, done(before.state, event.change))
        assert state is None or same(after, state)

        self.reached[event.type.name.lower()] += 1
        self.reached["written under a clock set back"] += self.clock.now < self.time
        self.time = to_microseconds(event.time)
        moment = Moment(*self.on(name).manager._stream.name[1:], event.version)
        touched = {*event.change.operations, *(before.state if event.change.cleared else ())}
        tags = {**before.tags, event.tag[0]: event.tag[1]} if event.tag else before.tags
        seen = before.seen | {moment} | (source.seen if source else set())
        noted = Version(moment, event, after, tags, frozenset(touched), frozenset(seen))
        self.model.take_in(name, noted, is_merge=source is not None)
        count = self.model.count(noted)
        assert count is None or same(after.get(COUNTER, 0), count)
        return noted

    # Writing

    @rule(which=WHICH, actor=ACTORS, data=st.data())
    def apply(self, which: int, actor: str, data: st.DataObject) -> None:
        name = self.name(which)
        state = self.model.head(name).state
        change = data.draw(changes(state, clears=False))
        version = self.on(name).apply(change, actor=actor)
        self.note(name, version, done(state, change))

    @rule(which=WHICH, actor=ACTORS, key=KEYS, value=SHAPES | VALUES)
    def set_state(self, which: int, actor: str, key: str, value: Any) -> None:
        name = self.name(which)
        version = self.on(name, actor).set_state(key, value)
        self.note(name, version, {**self.model.head(name).state, key: value})

    @rule(which=WHICH, back=BACK, key=KEYS, value=SHAPES)
    def set_if_nobody_did(self, which: int, back: int, key: str, value: Any) -> None:
        """Set a key on the condition that nobody touched it since a version."""
        name, version = self.name(which), self.version(self.name(which), back)
        branch, since = self.on(name), self.model.branches[name][version.number + 1 :]
        if any(key in each.touched or each.cleared for each in since):
            self.reached["refused what was overtaken"] += 1
            with pytest.raises(WrongExpectedVersion):
                branch.set_state(key, value, expected_version=version.number)
        else:
            made = branch.set_state(key, value, expected_version=version.number)
            self.note(name, made, {**self.model.head(name).state, key: value})

    @rule(which=WHICH, actor=ACTORS, key=KEYS)
    def delete_state(self, which: int, actor: str, key: str) -> None:
        name = self.name(which)
        version = self.on(name, actor).delete_state(key)
        self.note(name, version, put_at(self.model.head(name).state, (key,), MISSING))

    @rule(
        which=WHICH, actor=ACTORS, key=KEYS, value=SHAPES.filter(lambda x: type(x) is not Decimal)
    )
    def build_on(self, which: int, actor: str, key: str, value: Any) -> None:
        """Extend, patch or add to whatever is there; what does not fit is refused."""
        branch = self.on(self.name(which), actor)
        acts = {list: branch.extend, dict: branch.patch}
        self.build(self.name(which), acts.get(type(value), branch.add), key, value)

    @rule(which=WHICH, actor=ACTORS, amount=st.integers(-3, 3))
    def count(self, which: int, actor: str, amount: int) -> None:
        self.build(self.name(which), self.on(self.name(which), actor).add, COUNTER, amount)

    def build(self, name: str, act: Any, key: str, more: Any) -> None:
        state = self.model.head(name).state
        try:
            value = built_on(get(state, key), more)
        except TypeError:
            self.reached["refused to build on another type"] += 1
            with pytest.raises(OperationMismatch):
                act(key, more)
        else:
            self.note(name, act(key, more), put_at(state, (key,), value))

    @rule(which=WHICH, actor=ACTORS, amount=st.integers(-3, 3), value=VALUES)
    def transaction(self, which: int, actor: str, amount: int, value: Any) -> None:
        name = self.name(which)
        if type(self.model.head(name).state.get(COUNTER, 0)) is int:
            with self.on(name).transaction(actor=actor) as tx:
                tx.set("a", value)
                tx.delete("b")
                tx.set("c", tx.get("a"))
                tx.add(COUNTER, amount)
            self.note(name, tx.version)

    @rule(which=WHICH, actor=ACTORS)
    def clear(self, which: int, actor: str) -> None:
        name = self.name(which)
        self.note(name, self.on(name, actor).clear_state(), {})

    @rule(which=WHICH, back=BACK, tag=st.sampled_from(["t", "u"]))
    def tag(self, which: int, back: int, tag: str) -> None:
        name = self.name(which)
        head, version = self.model.head(name), self.version(name, back)
        self.on(name).tag(tag, version.number, replace=True)
        self.note(name, head.number + 1, head.state)

    # Forking

    @rule(which=WHICH, back=BACK, name=NAMES)
    def fork(self, which: int, back: int, name: str) -> None:
        if name in self.model.branches:
            return
        self.fork_at(self.name(which), self.version(self.name(which), back), name)

    def fork_at(self, parent: str, version: Version, name: str) -> None:
        self.on(parent).branch(name, at=version.number)
        self.model.branches[name] = self.model.branches[parent][: version.number + 1]

    @rule(name=NAMES)
    def delete_branch(self, name: str) -> None:
        if name in self.model.branches:
            self.on("main").delete_branch(name)
            del self.model.branches[name]

    # The world outside

    @rule(seconds=st.integers(-100, 100))
    def set_the_clock(self, seconds: int) -> None:
        self.clock.tick(seconds)
        self.latest = max(self.latest, self.clock.now)

    @rule()
    def forget_what_is_warm(self) -> None:
        streams = self.store.store._engine.streams
        for stream in list(streams._held.values()):
            streams.aids.roots.forget(stream.id)
            streams.aids.values.forget(stream.id)

    # Asking

    @rule(which=WHICH, back=BACK)
    def look_back(self, which: int, back: int) -> None:
        name, version = self.name(which), self.version(self.name(which), back)
        self.is_as_it_was(name, version)

    def is_as_it_was(self, name: str, version: Version) -> None:
        branch = self.on(name)
        engine, stream = branch.manager._engine, branch.manager._stream
        found = branch.at(version.number)
        assert same(exposed(found), version.state)
        assert same({**found.conflicts}, find_conflicts(version.state))
        for key in (*version.state, "a", "never"):
            packed = engine.timeline.value_at(stream, key, version.number)
            assert same(unpack_state({key: packed} if packed else {}), only(version.state, key))

    @rule(which=WHICH, back=BACK, steps=st.lists(st.integers(-3, 3), max_size=6))
    def walk(self, which: int, back: int, steps: list[int]) -> None:
        """A cursor, which finds the state before in the state after, and the other way round."""
        versions = self.model.branches[self.name(which)]
        at = self.version(self.name(which), back).number
        cursor = self.on(self.name(which)).cursor(at)
        for step in steps:
            if 0 <= at + step < len(versions):
                at += step
                state = cursor.forward(step) if step > 0 else cursor.back(-step)
                assert same(exposed(state), versions[at].state)

    @rule(which=WHICH, one=BACK, other=BACK)
    def compare(self, which: int, one: int, other: int) -> None:
        name = self.name(which)
        before, after = self.version(name, one), self.version(name, other)
        change = self.on(name).diff(before.number, after.number)
        assert same(done(before.state, change), after.state)

    @rule(
        which=WHICH, back=BACK, key=KEYS | st.just(COUNTER), by=ACTORS, newest_first=st.booleans()
    )
    def ask_for_history(self, which: int, back: int, key: str, by: str, newest_first: bool) -> None:
        name, since = self.name(which), self.version(self.name(which), back).number
        told = self.on(name).history(key, actor=by, since=since, newest_first=newest_first)
        numbers = [
            version.number
            for version in self.model.branches[name][since + 1 :]
            if (key in version.touched or version.cleared) and version.by == by
        ]
        assert [event.version for event in told] == (numbers[::-1] if newest_first else numbers)

    @rule(which=WHICH, back=BACK)
    def read_at_a_time(self, which: int, back: int) -> None:
        name, version = self.name(which), self.version(self.name(which), back)
        if version.event is not None:
            time = version.event.time
            events = [version.event for version in self.model.branches[name]]
            numbers = [event.version for event in events if event and event.time <= time]
            assert self.on(name).at(time).version == numbers[-1]

    @invariant()
    def the_present_is_as_it_should_be(self) -> None:
        for name, versions in self.model.branches.items():
            lines = {version.moment.line for version in versions}
            self.reached["written to three forks deep"] += len(lines) > 3
            assert self.on(name).version() == versions[-1].number
            assert self.on(name).tags() == versions[-1].tags
            assert same(exposed(self.on(name).at()), versions[-1].state)
        known = sorted(branch.name for branch in self.on("main").branches())
        assert known == sorted(self.model.branches.keys() - {"main"})

    def is_all_as_it_was(self) -> None:
        for name, versions in self.model.branches.items():
            state: State = {}
            for event, version in zip(self.on(name).history(), versions[1:], strict=True):
                state = done(state, event.change)
                assert same(state, version.state)
                assert version.event is not None
                assert (event.id, event.time) == (version.event.id, version.event.time)
            for version in versions:
                self.is_as_it_was(name, version)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            if sys.exc_info()[0] is None:  # what failed already is told, not what follows from it
                self.is_all_as_it_was()
            self.store.close()


def done(state: State, change: Change) -> State:
    return unpack_state(change.apply(pack_exposed_state(state)))


def exposed(state: statecore.AgentState) -> State:
    return unpack_state({key: cell[1] for key, cell in state._root.cells.items()})


def only(state: State, key: str) -> State:
    return {key: state[key]} if key in state else {}
