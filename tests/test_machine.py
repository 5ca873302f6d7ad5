"""A store against a plain model that keeps a full copy of every version, snapshots on and off."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import statecore
from statecore import CLEAR, EMPTY
from statecore.change import pack_state
from statecore.errors import WrongExpectedVersion
from statecore.snapshots import keeper
from statecore.values import same
from tests.conftest import KEY, Clock
from tests.strategies import KEYS, SHAPES, VALUES, changes, unpack_state

AGENTS = st.sampled_from(["one", "two"])
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Model:
    """One agent as it should be: every version in full."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = [{}]
        self.touched: list[set[str]] = [set()]
        self.times: list[int] = [0]
        self.tags: dict[str, int] = {}

    @property
    def now(self) -> dict[str, Any]:
        return self.states[-1]

    @property
    def version(self) -> int:
        return len(self.states) - 1


class StoreMachine(RuleBasedStateMachine):
    """Random programs on a real file, opened anew now and then."""

    snapshots = True

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.models = {"one": Model(), "two": Model()}
        self.open()

    def open(self) -> None:
        self.store = statecore.open(
            self.folder / "agents.db", key=KEY, clock=self.clock, snapshots=self.snapshots
        ).blocking()

    def agent(self, name: str) -> statecore.BlockingManager:
        return self.store.manager(name, actor="machine")

    def record(self, name: str, state: dict[str, Any], touched: set[str]) -> None:
        model = self.models[name]
        model.states.append(state)
        model.touched.append(touched)
        model.times.append(self.clock.now)

    @rule(name=AGENTS, data=st.data())
    def apply(self, name: str, data: st.DataObject) -> None:
        model = self.models[name]
        change = data.draw(changes(model.now))
        self.clock.tick(1)
        version = self.agent(name).apply(change)

        touched = set(change.operations)
        if change.cleared:
            touched |= set(model.now) | {"*"}
        self.record(name, unpack_state(change.apply(pack_state(model.now))), touched)
        assert version == model.version

    @rule(name=AGENTS, key=KEYS, value=SHAPES | VALUES)
    def set_state(self, name: str, key: str, value: Any) -> None:
        self.clock.tick(1)
        self.agent(name).set_state(key, value)
        self.record(name, {**self.models[name].now, key: value}, {key})

    @rule(name=AGENTS, key=KEYS)
    def delete_state(self, name: str, key: str) -> None:
        self.clock.tick(1)
        self.agent(name).delete_state(key)
        rest = {k: v for k, v in self.models[name].now.items() if k != key}
        self.record(name, rest, {key})

    @rule(name=AGENTS, key=KEYS, items=st.lists(VALUES, max_size=3))
    def grow_by_setting(self, name: str, key: str, items: list[Any]) -> None:
        """Set a list to a longer one, as somebody does who read it, appended, and set it."""
        now = self.models[name].now.get(key)
        value = [*now, *items] if isinstance(now, list) else ["x" * 200, *items]
        self.clock.tick(1)
        self.agent(name).set_state(key, value)
        self.record(name, {**self.models[name].now, key: value}, {key})

    @rule(name=AGENTS)
    def clear_state(self, name: str) -> None:
        self.clock.tick(1)
        self.agent(name).clear_state()
        self.record(name, {}, {"*"})

    @rule(name=AGENTS, key=KEYS)
    def atomic_update(self, name: str, key: str) -> None:
        self.clock.tick(1)
        agent = self.agent(name)
        agent.atomic_update(key, lambda value: [value])
        value = [self.models[name].now.get(key)]
        self.record(name, {**self.models[name].now, key: value}, {key})

    @rule(name=AGENTS, key=KEYS, data=st.data())
    def set_at_an_old_version(self, name: str, key: str, data: st.DataObject) -> None:
        model = self.models[name]
        base = data.draw(st.integers(0, model.version))
        since = model.touched[base + 1 :]
        self.clock.tick(1)
        if any(key in touched or "*" in touched for touched in since):
            with pytest.raises(WrongExpectedVersion):
                self.agent(name).set_state(key, "based", expected_version=base)
        else:
            self.agent(name).set_state(key, "based", expected_version=base)
            self.record(name, {**model.now, key: "based"}, {key})

    @rule(name=AGENTS, tag=st.sampled_from(["a", "b"]), data=st.data())
    def tag(self, name: str, tag: str, data: st.DataObject) -> None:
        model = self.models[name]
        version = data.draw(st.integers(0, model.version))
        self.clock.tick(1)
        self.agent(name).tag(tag, version, replace=True)
        model.tags = {**model.tags, tag: version}
        self.record(name, model.now, set())

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.open()

    @rule(back=st.integers(0, 100))
    def set_the_clock_back(self, back: int) -> None:
        # Times in the log never go back, so the model's clock may only be set back as far as to
        # what was last recorded.
        last = max(model.times[-1] for model in self.models.values())
        self.clock.now = max(self.clock.now - back * 1_000_000, last, Clock().now)

    @rule(name=AGENTS, data=st.data())
    def read_the_past(self, name: str, data: st.DataObject) -> None:
        model, agent = self.models[name], self.agent(name)
        version = data.draw(st.integers(0, model.version))

        assert same(agent.at(version).data, model.states[version])
        for key in ("", "a", "a/b", "never"):
            found = agent.value_at(key, version, "absent")
            assert same(found, model.states[version].get(key, "absent"))

    @rule(name=AGENTS, data=st.data())
    def read_at_a_time(self, name: str, data: st.DataObject) -> None:
        model, agent = self.models[name], self.agent(name)
        version = data.draw(st.integers(0, model.version))
        if version:
            moment = EPOCH + timedelta(microseconds=model.times[version])
            last = max(at for at, time in enumerate(model.times) if time <= model.times[version])
            assert agent.at(moment).version == last

    @rule(name=AGENTS, data=st.data())
    def compare(self, name: str, data: st.DataObject) -> None:
        model, agent = self.models[name], self.agent(name)
        one = data.draw(st.integers(0, model.version))
        other = data.draw(st.integers(0, model.version))

        change = agent.diff(one, other)

        after = unpack_state(change.apply(pack_state(model.states[one])))
        assert same(after, model.states[other])

    @rule(name=AGENTS, key=KEYS, back=st.booleans())
    def ask_for_history(self, name: str, key: str, back: bool) -> None:
        model, agent = self.models[name], self.agent(name)
        touched = [
            version for version, keys in enumerate(model.touched) if key in keys or "*" in keys
        ]
        told = [event.version for event in agent.history(key, newest_first=back)]
        assert told == (touched[::-1] if back else touched)

    @precondition(lambda self: hasattr(self, "models"))
    @invariant()
    def the_present_is_as_it_should_be(self) -> None:
        for name, model in self.models.items():
            agent = self.agent(name)
            state = agent.at()
            assert state.version == model.version
            assert same(state.data, model.now)
            assert agent.tags() == model.tags

    def teardown(self) -> None:
        if hasattr(self, "store"):
            events = {name: list(self.agent(name).history()) for name in self.models}
            for name, model in self.models.items():
                self.replays(events[name], model)
            self.store.close()
            shutil.rmtree(self.folder)

    @staticmethod
    def replays(events: list[statecore.Event], model: Model) -> None:
        """The events alone, applied one by one, lead through every state."""
        state = pack_state({})
        for event in events:
            state = event.change.apply(state)
            assert same(unpack_state(state), model.states[event.version])


class WithoutSnapshots(StoreMachine):
    snapshots = False


@pytest.mark.parametrize("machine", [StoreMachine, WithoutSnapshots])
def test_random_programs_agree_with_the_model(
    machine: type[StoreMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_WEIGHT_MIN", 600)  # so that there are snapshots at all
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )


def test_the_empty_changes_of_the_model_are_those_of_the_store() -> None:
    assert not EMPTY.touches_anything
    assert CLEAR.touches_anything
