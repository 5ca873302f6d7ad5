"""Branches of a real store against a plain model that keeps every version of every branch in full.

What a merge or a taking back leads to is taken from the engine. But it must obey the laws, and
from then on it must never change.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

import statecore
from statecore import Change, MergeConflict, MergeResult
from statecore.values import expose, same
from tests.branch_machine import ACTORS, BACK, WHICH, BranchMachine, done
from tests.branch_model import (
    COUNTER,
    MISSING,
    Version,
    at_path,
    check_merge,
    find_conflicts,
    put_at,
)
from tests.conftest import KEY
from tests.dying import write_and_die
from tests.strategies import KEYS, SHAPES, VALUES, changes

PROGRAMS = int(os.environ.get("STATECORE_PROGRAMS", "30"))
LONG = 200  # programs
FURTHER = st.integers(1, 3)  # another branch, so many further round
WAYS = st.sampled_from(["record", "record", "ours", "theirs", "raise"])
PICKS = st.integers(0, 2) | st.none()  # a side of a conflict
PARTS = {"part 1": {"", "a", "naïve"}, "part 2": {"b", "c"}, "part 3": {"a/b", "~"}}  # of the keys
STRATEGIES = st.sampled_from(["latest", "max", "min", "sum", "union", "append", "objects"])
ALIKE = [  # that strategies can bring together
    st.integers(-5, 5),
    st.floats(),
    st.decimals(),
    st.lists(st.integers(0, 3), max_size=3),
    st.lists(st.fixed_dictionaries({"id": st.integers(0, 2), "at": VALUES}), max_size=3),
]
RULED = "~"  # the key that there may be a strategy for


class InMemory(BranchMachine):
    """Random programs on the branches of one agent, in memory."""

    # Merging

    @rule(name=STRATEGIES | st.none())
    def set_strategy(self, name: str | None) -> None:
        self.on("main").set_strategy(RULED, name)
        self.model.ruled = {RULED} if name else set()

    @rule(which=WHICH, further=FURTHER, back=st.just(0) | BACK, way=WAYS)
    def merge(self, which: int, further: int, back: int, way: Any) -> None:
        target, source = self.pair(which, further)
        self.bring(target, source, self.version(source, back), way)

    @rule(which=WHICH, further=FURTHER, key=KEYS, values=st.tuples(SHAPES, SHAPES), pick=PICKS)
    def collide(
        self, which: int, further: int, key: str, values: tuple[Any, Any], pick: int | None
    ) -> None:
        target, source = self.pair(which, further)
        self.set_state(which, "ann", key, values[0])
        self.set_state(which + further, "bob", key, values[1])
        self.bring(target, source, self.model.head(source))
        if pick is not None and self.conflicts():
            self.resolve(which, pick, None)

    @rule(name=STRATEGIES, which=WHICH, further=FURTHER, data=st.data())
    def collide_under_a_strategy(
        self, name: str, which: int, further: int, data: st.DataObject
    ) -> None:
        values = data.draw(st.one_of([st.tuples(each, each) for each in ALIKE]))
        self.set_strategy(name)
        self.collide(which, further, RULED, values, None)

    @rule(which=WHICH, further=FURTHER, key=KEYS, values=st.tuples(VALUES, VALUES), way=WAYS)
    def collide_within(
        self, which: int, further: int, key: str, values: tuple[Any, Any], way: Any
    ) -> None:
        target, source = self.pair(which, further)
        for name, value in zip((target, source), values, strict=True):
            self.build(name, self.on(name).patch, "b", {key: value})
        self.bring(target, source, self.model.head(source), way)

    @rule(which=WHICH, further=FURTHER, key=KEYS, items=st.lists(VALUES, max_size=2))
    def append_alike(self, which: int, further: int, key: str, items: list[Any]) -> None:
        """What both appended may be one thing or two, equal or not."""
        target, source = self.pair(which, further)
        self.build(target, self.on(target).extend, key, items)
        self.build(source, self.on(source).extend, key, items)
        self.bring(target, source, self.model.head(source))

    @rule(which=WHICH, further=FURTHER)
    def merge_both_ways(self, which: int, further: int) -> None:
        """A merge back after a merge is a fast-forward: both are then the same."""
        target, source = self.pair(which, further)
        self.bring(target, source, self.model.head(source))
        self.bring(source, target, self.model.head(target))
        assert same(self.model.head(target).state, self.model.head(source).state)

    @rule(which=WHICH, further=FURTHER)
    def criss_cross(self, which: int, further: int) -> None:
        """Each takes in the other as it was before: both have then two states in common."""
        target, source = self.pair(which, further)
        self.count(which, "ann", 1)
        self.count(which + further, "bob", 2)
        ours, theirs = self.model.head(target), self.model.head(source)
        self.bring(target, source, theirs)
        self.bring(source, target, ours)

    @rule(which=WHICH, back=BACK, order=st.permutations(sorted(PARTS)), data=st.data())
    def merge_three(self, which: int, back: int, order: list[str], data: st.DataObject) -> None:
        """The order does not matter in which branches come in that touched no key in common."""
        name, start = self.name(which), self.version(self.name(which), back)
        for each in (*PARTS, "here", "there"):
            self.fork_at(name, start, each)
        for part, keys in PARTS.items():
            change = data.draw(changes(start.state, clears=False))
            only = Change({key: op for key, op in change.operations.items() if key in keys})
            self.note(part, self.on(part).apply(only), done(start.state, only))
            self.build(part, self.on(part).add, COUNTER, 1)
        for target, parts in (("here", sorted(PARTS)), ("there", order)):
            for part in parts:
                self.bring(target, part, self.model.head(part))

        assert same(self.model.head("here").state, self.model.head("there").state)
        for each in (*PARTS, "here", "there"):
            self.delete_branch(each)

    def bring(self, target: str, source: str, theirs: Version, way: Any = "record") -> None:
        ours, into, out_of = self.model.head(target), self.on(target), self.on(source)
        plan = into.merge(out_of, theirs.number, dry_run=True)
        self.is_symmetric(ours, theirs, source, target, plan)
        if theirs is self.model.head(source):
            contested = into.contested()
            keys = {str(path[0]) for path in plan.conflicts} - self.model.ruled
            assert all(source in contested[key] for key in keys)
        if way == "raise" and plan.conflicts:
            self.reached["merge refused"] += 1
            with pytest.raises(MergeConflict):
                into.merge(out_of, theirs.number, on_conflict=way)
            return

        result = into.merge(out_of, theirs.number, on_conflict=way)

        if theirs.moment in ours.seen:
            self.reached["nothing new to merge"] += 1
            assert result.version is None
            return
        bases = self.model.bases(ours, theirs)
        assert set(result.bases) == bases
        self.reached["criss-cross"] += len(bases) > 1
        self.reached["both sides changed a key"] += bool(result.keys_both)
        self.reached["conflict"] += bool(result.conflicts)
        self.reached["conflict within a value"] += any(len(path) > 1 for path in result.conflicts)
        self.reached["strategy"] += RULED in result.keys_both and bool(self.model.ruled)
        noted = self.note(target, result.version, source=theirs)
        assert noted.event is not None
        assert noted.event.parents == (theirs.moment,)
        if way == "record":
            assert same(done(ours.state, plan.change), noted.state)
            check_merge(self.model, ours, theirs, noted.state, {**result.conflicts})
        assert into.merge(out_of, theirs.number).version is None

    def is_symmetric(
        self, ours: Version, theirs: Version, source: str, target: str, plan: MergeResult
    ) -> None:
        """Merging the other way round leads to the same state."""
        if theirs is self.model.head(source):
            other = self.on(source).merge(self.on(target), dry_run=True)
            here, there = done(ours.state, plan.change), done(theirs.state, other.change)
            if ours.moment not in theirs.seen and theirs.moment not in ours.seen:
                assert same(here, there)
                assert set(plan.bases) == set(other.bases)

    # Taking back

    def note_if_any(self, name: str, result: MergeResult | None, keys: set[str]) -> bool:
        """Take in what took something back, which may change these keys; tell whether it did."""
        if result is None or result.version is None:
            return False
        noted = self.note(name, result.version)
        assert noted.touched <= keys
        found = find_conflicts(noted.state)
        made = {path for path in found if path[0] in noted.touched}
        assert made <= result.conflicts.keys() <= found.keys()
        return True

    @rule(which=WHICH, back=BACK, again=st.booleans())
    def revert(self, which: int, back: int, again: bool) -> None:
        name, version = self.name(which), self.version(self.name(which), back)
        before = self.model.head(name)
        if version.number == 0:
            return
        result = self.on(name).revert(version.number)
        reverted = self.note_if_any(name, result, set(version.touched))
        if self.model.count(before) is not None and version.moment in self.model.added:
            count = before.state.get(COUNTER, 0) - self.model.added[version.moment]
            since = self.model.branches[name][version.number + 1 : before.number + 1]
            is_far = sum(COUNTER in each.touched for each in since) > COMPOSED_MAX
            if not (is_far and (COUNTER,) in result.conflicts):
                assert same(self.model.head(name).state.get(COUNTER, 0), count)
        if version is before:
            assert same(self.model.head(name).state, self.version(name, 1 + reverted).state)
        if reverted and again:
            self.reached["reverted a revert"] += 1
            result = self.on(name).revert(result.version)
            self.note_if_any(name, result, set(version.touched))
            assert same(self.model.head(name).state, before.state)

    @rule(which=WHICH, back=BACK, by=st.none() | ACTORS)
    def revert_all_since(self, which: int, back: int, by: str | None) -> None:
        name, version = self.name(which), self.version(self.name(which), back)
        since = self.model.branches[name][version.number + 1 :]
        result = self.on(name).revert(since=version.number, by=by)
        self.note_if_any(name, result, {key for each in since for key in each.touched})
        if by is None:
            assert same(self.model.head(name).state, version.state)

    @rule(which=WHICH, back=BACK, by_diff=st.booleans())
    def restore(self, which: int, back: int, by_diff: bool) -> None:
        name, version = self.name(which), self.version(self.name(which), back)
        branch, before = self.on(name), self.model.head(name)
        if by_diff:
            made: int | None = branch.apply(branch.diff(before.number, version.number))
        else:
            made = branch.restore(version.number).version
        if made is None:
            assert same(before.state, version.state)
        else:
            self.note(name, made, version.state)

    @rule(which=WHICH, actor=ACTORS, again=st.booleans())
    def undo(self, which: int, actor: str, again: bool) -> None:
        name = self.name(which)
        branch, before = self.on(name, actor), self.model.head(name)
        act = self.model.undoable(name, actor)
        result = branch.undo()
        assert (result is None) == (act is None)
        if result is not None and act is not None:
            assert self.note(name, result.version).takes_back == (act.number,)
            if again:
                redone = branch.redo()
                assert redone is not None
                self.note(name, redone.version, before.state)

    @rule(which=WHICH, actor=ACTORS)
    def redo(self, which: int, actor: str) -> None:
        name = self.name(which)
        result = self.on(name, actor).redo()
        if result is not None:
            self.note(name, result.version)

    @rule(which=WHICH, further=FURTHER, backs=st.sets(BACK, min_size=1, max_size=3))
    def cherry_pick(self, which: int, further: int, backs: set[int]) -> None:
        name, source = self.pair(which, further)
        versions = self.model.branches[source]
        picked = [versions[-back] for back in sorted(backs) if 0 < back < len(versions)]
        if picked:
            numbers = [version.number for version in reversed(picked)]
            result = self.on(name).cherry_pick(self.on(source), *numbers)
            keys = {key for version in picked for key in version.touched}
            self.note_if_any(name, result, keys)

    @precondition(lambda self: self.conflicts())
    @rule(at=st.integers(0, 9), pick=PICKS, value=VALUES)
    def resolve(self, at: int, pick: int | None, value: Any) -> None:
        conflicts = self.conflicts()
        name, (key, *path) = conflicts[at % len(conflicts)]
        state = self.model.head(name).state
        found = at_path(state, (key, *path))
        if pick is not None:
            pick %= len(found.adds)
            value = MISSING if found.adds[pick] is None else expose(found.adds[pick])
        version = self.on(name).resolve(
            key, None if value is MISSING else value, path=tuple(path), pick=pick
        )
        self.note(name, version, put_at(state, (key, *path), value))

    def conflicts(self) -> list[Any]:
        if not hasattr(self, "model"):
            return []
        heads = {name: versions[-1] for name, versions in sorted(self.model.branches.items())}
        return [(name, path) for name, head in heads.items() for path in find_conflicts(head.state)]


class OnDisk(InMemory):
    """The same in a file, which others write to as well, and whose writers die."""

    snapshots = True

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.left: list[statecore.BlockingStore] = []
        super().begin()
        self.left.append(self.open())

    def open(self) -> statecore.BlockingStore:
        path, clock = self.folder / "agents.db", self.clock
        return statecore.open(path, key=KEY, clock=clock, snapshots=self.snapshots).blocking()

    @rule()
    def reopen(self) -> None:
        self.reached["reopened"] += 1
        self.store.close()
        self.store = self.open()

    @rule()
    def leave_and_open_another(self) -> None:
        """The old one stays as it is, as where a process hangs."""
        self.left.append(self.store)
        self.store = self.open()

    @rule()
    def go_back_to_one_left(self) -> None:
        """It does not know yet what happened since."""
        self.reached["went on with a store that others overtook"] += 1
        self.left.insert(0, self.store)
        self.store = self.left.pop()

    @rule(which=WHICH, committed=st.booleans(), data=st.data())
    def die(self, which: int, committed: bool, data: st.DataObject) -> None:
        """Another process writes, and is killed while it does."""
        name = self.name(which)
        state = self.model.head(name).state
        change = data.draw(changes(state, clears=False))
        path = self.folder / "agents.db"
        self.reached["killed after its commit" if committed else "killed before its commit"] += 1
        write_and_die(path, "agent", name, change, committed=committed, now=self.clock.now)
        if committed:
            self.note(name, self.model.head(name).number + 1, done(state, change))

    @rule(which=WHICH)
    def keep_a_snapshot(self, which: int) -> None:
        stream = self.on(self.name(which)).manager._stream
        stream.weight_since_snapshot = 1 << 40
        self.store.store._engine.streams.aids.snapshots.consider(stream)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            for store in (self.store, *self.left):
                store.close()
            self.snapshots = not self.snapshots
            self.store = self.open()
        super().teardown()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


class OnDiskWithoutSnapshots(OnDisk):
    snapshots = False


COMPOSED_MAX = 3  # operations on one key; after more, taking one back may be a conflict

# What the engine does only from a certain length or weight on, it does here from the beginning on.
SMALL = {
    "statecore.history._PAGE": 3,
    "statecore.packed._ROPE_BYTES_MIN": 16,
    "statecore.replay.FAR": 8,
    "statecore.replay.WARM_DISTANCE": 4,
    "statecore.snapshots.keeper._WEIGHT_MIN": 600,
    "statecore.state._GROWN_BYTES_MIN": 8,
    "statecore.state._WHOLE_BYTES_MAX": 4,
    "statecore.streams.FAR": 8,
    "statecore.streams.WARM_DISTANCE": 4,
    "statecore.streams._PAGE": 3,
    "statecore.taking_back._COMPOSED_MAX": COMPOSED_MAX,
    "statecore.timeline._CHAIN_MAX": 2,
    "statecore.timeline._COMPOSED_MAX": 6,
}


# Without these, a law is asked of nothing. The second come up in few programs: in a long run, then.
REACHED = {
    *("changed", "merged", "both sides changed a key", "conflict", "written to three forks deep"),
}
REACHED_IN_LONG_RUNS = {
    *("criss-cross", "conflict within a value", "strategy", "merge refused", "resolved"),
    *("nothing new to merge", "reverted", "reverted a revert", "undone", "redone", "restored"),
    *("picked", "refused what was overtaken", "refused to build on another type"),
    "written under a clock set back",
}
REACHED_ON_DISK = {
    *("reopened", "went on with a store that others overtook"),
    *("killed before its commit", "killed after its commit"),
}


@pytest.mark.parametrize("machine", [InMemory, OnDisk, OnDiskWithoutSnapshots])
def test_random_programs_on_branches_obey_the_laws(
    machine: type[BranchMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = Counter[str]()
    monkeypatch.setattr(machine, "reached", reached, raising=False)
    for name, size in SMALL.items():
        monkeypatch.setattr(name, size)

    budget = settings(max_examples=PROGRAMS, stateful_step_count=30)
    run_state_machine_as_test(machine, settings=budget)

    wanted = set(REACHED)
    if PROGRAMS >= LONG:
        wanted |= REACHED_IN_LONG_RUNS | (REACHED_ON_DISK if issubclass(machine, OnDisk) else set())
    assert {what for what in wanted if not reached[what]} == set()
