"""Merging beside doltlite's (https://github.com/dolthub/doltlite): random programs on both.

doltlite is SQLite with branches and merges of tables: three-way, row by row, and cell by cell where
both sides changed a row. A row is here a key that holds a map of its cells. After every step all
branches hold the same on both sides, and every merge finds the same keys in conflict.

Where the two differ on purpose, and programs therefore do not go:

- doltlite knows where changes led, statecore what was done: only whole rows and single cells are
  set, nothing is added to or extended.
- SQL holds a number for the same as another that equals it, whatever its type: no float here is
  whole. It has no ``bool`` and no NaN.
- In a conflict doltlite keeps one side's row whole, statecore both sides of each cell: conflicts
  are decided at once, in favour of one side, as doltlite asks for before a merge is recorded.
- Of several newest states in common, after a criss-cross of merges, doltlite takes one as the base,
  statecore merges them: such merges are left out.

What both do alike, each by its own rule, is compared, too: the same change on both sides, two
deletions, two additions of a row, a deletion against a change.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import statecore
from statecore.values import same
from tests.branch_model import newest

# Importing doltlite makes it the SQLite of its whole process, so it gets one of its own.
PEER = """
import sys
import doltlite
import sqlite3

def ask(sql, *values):
    return connection.execute(sql, values).fetchall()

def begin():
    global connection
    connection = sqlite3.connect(":memory:", isolation_level=None)
    ask("CREATE TABLE state(key TEXT PRIMARY KEY, a, b)")
    return commit("begin")

def commit(message):
    return ask("SELECT dolt_commit('-A', '--allow-empty', '-m', ?)", message)[0][0]

def write(branch, message, sql, *values):
    ask("SELECT dolt_checkout(?)", branch)
    ask(sql, *values)
    return commit(message)

def fork(name, at):
    ask("SELECT dolt_branch(?, ?)", name, at)

def states(names):
    return {name: rows("SELECT key, a, b FROM dolt_at_state(?)", name) for name in names}

def rows(sql, *values):
    return {key: {"a": a, "b": b} for key, a, b in ask(sql, *values)}

def merge(branch, message, source, side):
    ask("SELECT dolt_checkout(?)", branch)
    ask("BEGIN")
    keys = []
    try:
        ask("SELECT dolt_merge(?, '--no-ff', '-m', ?)", source, message)
    except sqlite3.OperationalError:
        keys = ask("SELECT coalesce(our_key, their_key) FROM dolt_conflicts_state")
        if not keys:
            raise
    merged = rows("SELECT key, a, b FROM state")
    if keys:
        ask("SELECT dolt_conflicts_resolve(?, 'state')", "--" + side)
        commit(message)
    ask("COMMIT")
    return {key for key, in keys}, merged, ask("SELECT dolt_hashof('HEAD')")[0][0]

print("ready", flush=True)
for line in sys.stdin:
    name, *arguments = eval(line)
    try:
        answer = None, globals()[name](*arguments)
    except sqlite3.Error as error:
        answer = f"{name}: {error}", None
    print(repr(answer), flush=True)
"""


class Peer:
    """doltlite in a process of its own, which does what it is told."""

    def __init__(self, script: Path) -> None:
        script.write_text(PEER)
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.is_ready = self._read() == "ready\n"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def __call__(self, name: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(repr((name, *arguments)) + "\n")
        self._process.stdin.flush()
        error, answer = ast.literal_eval(self._read())
        assert error is None, error
        return answer

    def end(self) -> str:
        """End it, and return what it complained about."""
        return self._process.communicate()[1]


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    if find_spec("doltlite") is None:  # never imported here: it would take over this process
        pytest.skip('doltlite is not installed: pip install "statecore[dev]"')
    peer = Peer(tmp_path_factory.mktemp("doltlite") / "peer.py")
    if not peer.is_ready:
        pytest.skip(f"doltlite does not load into this Python: {peer.end().splitlines()[-1]}")
    yield peer
    assert peer.end() == ""


class Commit(NamedTuple):
    """The same moment on both sides."""

    number: int
    hash: str
    version: int
    seen: frozenset[int]


PROGRAMS = int(os.environ.get("STATECORE_PROGRAMS", "30"))
KEYS = st.sampled_from(["", "a", "b", "a/b"])
CELLS = (
    st.none()
    | st.integers(-3, 3)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: x != int(x))
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=2)
    | st.binary(max_size=2)
)
ROWS = st.lists(CELLS, min_size=2, max_size=2)
WHICH = st.integers(0, 4)  # a branch, counted round
FURTHER = st.integers(1, 2)  # another one
BACK = st.integers(0, 3)  # so many versions before the last one
SIDES = st.sampled_from(["ours", "theirs"])


class Beside(RuleBasedStateMachine):
    """Branches of a table, and of an agent's state."""

    peer: Peer
    reached: Counter[str]  # what programs came to

    @initialize()
    def begin(self) -> None:
        self.store = statecore.open().blocking()
        self.agent = self.store.manager("agent")
        self.agent.tag("beginning")
        first = Commit(0, self.peer("begin"), 1, frozenset([0]))
        self.commits = [first]
        self.branches = {"main": [first]}
        for name in ("one", "two"):
            self.fork(0, 0, name)

    def name(self, which: int) -> str:
        return sorted(self.branches)[which % len(self.branches)]

    def on(self, which: int) -> statecore.BlockingManager:
        return self.agent.branch(self.name(which), create=False)

    def note(self, which: int, digest: str, *parents: Commit) -> None:
        number = len(self.commits)
        seen = frozenset([number]).union(*(parent.seen for parent in parents))
        commit = Commit(number, digest, self.on(which).version(), seen)
        self.commits.append(commit)
        self.branches[self.name(which)].append(commit)

    def write(self, which: int, sql: str, *values: Any) -> None:
        name, message = self.name(which), f"commit {len(self.commits)}"
        self.note(which, self.peer("write", name, message, sql, *values), self.branches[name][-1])

    @rule(which=WHICH, key=KEYS, a=CELLS, b=CELLS)
    def set_row(self, which: int, key: str, a: Any, b: Any) -> None:
        self.on(which).set_state(key, {"a": a, "b": b})
        self.write(which, "INSERT OR REPLACE INTO state VALUES (?, ?, ?)", key, a, b)

    @rule(which=WHICH, key=KEYS, cell=st.sampled_from("ab"), value=CELLS)
    def set_cell(self, which: int, key: str, cell: str, value: Any) -> None:
        if key in self.on(which).at():
            self.on(which).patch(key, {cell: value})
            self.write(which, f"UPDATE state SET {cell} = ? WHERE key = ?", value, key)

    @rule(which=WHICH, key=KEYS)
    def delete_row(self, which: int, key: str) -> None:
        self.on(which).delete_state(key)
        self.write(which, "DELETE FROM state WHERE key = ?", key)

    @rule(which=WHICH, back=BACK, name=st.sampled_from(["three", "four"]))
    def fork(self, which: int, back: int, name: str) -> None:
        if name not in self.branches:
            commits = self.branches[self.name(which)]
            commits = commits[: max(1, len(commits) - back)]
            self.on(which).branch(name, at=commits[-1].version)
            self.peer("fork", name, commits[-1].hash)
            self.branches[name] = commits

    @rule(which=WHICH, further=FURTHER, key=KEYS, row=ROWS, other=ROWS, side=SIDES)
    def set_on_both(
        self, which: int, further: int, key: str, row: list[Any], other: list[Any], side: str
    ) -> None:
        self.set_row(which, key, *row)
        self.set_row(which + further, key, *other)
        self.merge(which, further, 0, side)

    @rule(which=WHICH, further=FURTHER, key=KEYS, value=CELLS, side=SIDES)
    def set_and_delete(self, which: int, further: int, key: str, value: Any, side: str) -> None:
        self.set_cell(which, key, "a", value)
        self.delete_row(which + further, key)
        self.merge(which, further, 0, side)

    @rule(which=WHICH, further=FURTHER, back=st.just(0) | BACK, side=SIDES)
    def merge(self, which: int, further: int, back: int, side: str) -> None:
        name, source = self.name(which), self.name(which + further)
        ours = self.branches[name][-1]
        theirs = self.branches[source][max(0, len(self.branches[source]) - 1 - back)]
        seen = [commit.seen for commit in self.commits]
        if len(newest(ours.seen & theirs.seen, seen.__getitem__)) > 1:
            self.reached["criss-cross, left out"] += 1
            return
        branch, message = self.on(which), f"commit {len(self.commits)}"

        result = branch.merge(source, theirs.version)
        keys, rows, digest = self.peer("merge", name, message, theirs.hash, side)

        self.reached["conflict" if keys else "merge without a conflict"] += 1
        self.reached["both sides changed a row"] += bool(set(result.keys_both) - keys)
        self.reached["nothing new to merge"] += result.version is None
        assert {path[0] for path in result.conflicts} == keys
        merged = self.state(branch.at(), without=keys)
        assert same(merged, {key: row for key, row in rows.items() if key not in keys})
        assert (result.version is None) == (theirs.number in ours.seen)
        chosen = self.on(which).at(ours.version) if side == "ours" else self.at(source, theirs)
        for key in keys:
            if key in chosen:
                branch.set_state(key, chosen[key])
            else:
                branch.delete_state(key)
        if result.version is not None:
            self.note(which, digest, ours, theirs)

    def at(self, name: str, commit: Commit) -> statecore.AgentState:
        return self.agent.branch(name, create=False).at(commit.version)

    def state(self, state: statecore.AgentState, without: set[str]) -> dict[str, Any]:
        return {key: state[key] for key in state if key not in without}

    @invariant()
    def all_branches_are_the_same(self) -> None:
        ours = {name: self.on(which).at().data for which, name in enumerate(sorted(self.branches))}
        assert same(ours, self.peer("states", list(ours)))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()


def test_merges_come_out_as_doltlites_do(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = Counter[str]()
    monkeypatch.setattr(Beside, "peer", peer, raising=False)
    monkeypatch.setattr(Beside, "reached", reached, raising=False)

    budget = settings(max_examples=PROGRAMS, stateful_step_count=30)
    run_state_machine_as_test(Beside, settings=budget)

    for what in ("conflict", "merge without a conflict", "both sides changed a row"):
        assert reached[what], f"no program came to it: {what}"
