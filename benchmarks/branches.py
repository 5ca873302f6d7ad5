"""Time travel, forks and merges, beside those who are made for it.

    python -m benchmarks.branches

Everybody gets the same ``--sets`` over ``--keys`` keys, a version each, and is asked the same
questions in turns, so that a machine that changes its speed slows all. First, a few answers of
each are compared with a plain replay. All times are in microseconds; ``to_statecore`` is a peer's
median over ours.

The peers (peers/): a history table in SQLite; doltlite, pygit2, loro and pycrdt, each skipped with
a note where it is not installed. Ours goes through the blocking face; it alone seals what it keeps.

- a key, and a whole state, as of random versions: for the first time, and again. A state comes as
  it comes, its values unpacked when they are read; unpacking all of them is measured apart
- what changed between versions 100 apart; the history of a key, its values read
- forks, at the head and in the past; the first reading there, the first set, and one more. Ours is
  a durable event, and so is one more set; the first on a fork makes a data key, too
- merges. In each round both sides fork at the head and set 100 keys, 10 of them the same; then
  theirs is merged into ours. Rehearsed: worked out, nothing recorded. Merged: ours is a durable
  event; doltlite's is gone when its transaction ends, pygit2's is an index and files that no commit
  can be made of until somebody decides. A conflict counts as kept where both sides can still be had
- far: a store of ``--far`` events, ours only, for what must not depend on how many there are.
  ``--store PATH`` keeps it there, or takes the one that is there; ``--far 0`` skips it

Not measured: disks, but for syncs; several processes; states that do not fit into memory.
"""

from __future__ import annotations

import argparse
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import statecore
from benchmarks.harness import AGENT, KEY, Row, fill, main, pace, pace_since, settle
from benchmarks.peers import PEERS, Peer
from benchmarks.peers.contender import Cant, Contender, Pairs, bytes_in
from benchmarks.peers.results import US, Results
from benchmarks.read import report, timed_each
from benchmarks.synthetic import Synthetic

APART: Final = 100
SIDE: Final = 100  # sets on each side of a fork
BOTH: Final = 10  # of which on the same keys
SAMPLES: Final = 50  # questions whose answers are compared before anything is measured
TURN: Final = 10
EARLY: Final = 10_000
PROGRESS: Final = 10  # in the far store, every so many events a key says how far it is
BISECTIONS: Final = 20

HEAD, PAST = "fork at the head", "fork in the past"
READING, FIRST_SET, SET = "first reading on a fork", "first set on a fork", "one more set"
BEYOND = "p50 at most 1,000 beyond one more set"
REHEARSED, MERGED = "merge, rehearsed", "merge"


class Statecore(Contender):
    """Ours."""

    name = US

    def __init__(self, folder: Path, pairs: Pairs) -> None:
        self._folder = folder
        with statecore.open(folder / "agents.db", key=KEY) as store:
            agent = store.manager(AGENT)
            for key, value in pairs:
                agent.set_state(key, value)
        self.agent = statecore.open(folder / "agents.db", key=KEY).blocking().manager(AGENT)
        self.agent.version()

    def value(self, key: str, version: int) -> Any:
        return self.agent.value_at(key, version)

    def state(self, version: int) -> Any:
        return self.agent.at(version)

    def values(self, version: int) -> dict[str, Any]:
        return self.agent.at(version).data

    def diff(self, before: int, after: int) -> Mapping[str, Any]:
        return self.agent.diff(before, after).operations

    def history(self, key: str) -> list[int]:
        return [event.version for event in self.agent.history(key)]

    def fork(self, name: str, version: int | None = None) -> Any:
        return self.agent.branch(name, version)

    def read(self, branch: Any, key: str) -> Any:
        return branch.get_state(key)

    def write(self, branch: Any, key: str, value: Any) -> None:
        branch.set_state(key, value)

    def rehearse(self, ours: Any, theirs: Any) -> Any:
        return ours.merge(theirs, dry_run=True)

    def merge(self, ours: Any, theirs: Any) -> Any:
        return ours.merge(theirs)

    def lost(self, ours: Any, side: Mapping[str, Any]) -> set[str]:
        """Maps are merged field by field: one that a side left as it was is the other's to set."""
        conflicts = ours.conflicts()
        with warnings.catch_warnings(category=statecore.UnresolvedWarning, action="ignore"):
            return {
                key
                for key, value in side.items()
                for name, part in ours.get_state(key).items()
                if value[name] not in [part, *getattr(conflicts.get((key, name)), "sides", ())]
                and value[name] != (self.agent.get_state(key) or {}).get(name)
            }

    def size_bytes(self) -> int:
        return bytes_in(self._folder)


class Replayed(Contender):
    """What the answers have to be: those of a plain replay."""

    name = "plain replay"

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def value(self, key: str, version: int) -> Any:
        return self.values(version).get(key)

    def values(self, version: int) -> dict[str, Any]:
        return dict(self._pairs[:version])

    def diff(self, before: int, after: int) -> dict[str, Any]:
        return dict(self._pairs[before:after])

    def history(self, key: str) -> list[int]:
        return [version for version, pair in enumerate(self._pairs, 1) if pair[0] == key]


class Question(NamedTuple):
    """A question, and what it is asked about."""

    title: str
    ask: Callable[[Contender], Callable[..., Any]]
    about: Sequence[tuple[Any, ...]]


class Workload:
    """The sets, and what is asked about them."""

    def __init__(self, sets: int, keys: int) -> None:
        self.chance = random.Random(11)
        self._records = Synthetic(11).record
        self._keys = [f"k{number}" for number in range(keys)]
        self.pairs = [(self.key(), self._records()) for _ in range(sets)]

    def key(self) -> str:
        """A key."""
        return self.chance.choice(self._keys)

    def version(self, after: int = 0) -> int:
        """A version."""
        return self.chance.randint(after + 1, len(self.pairs))

    def sides(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What both sides of a fork set."""
        keys = self.chance.sample(self._keys, 2 * SIDE - BOTH)
        ours, theirs = keys[:SIDE], keys[SIDE - BOTH :]
        return {key: self._records() for key in ours}, {key: self._records() for key in theirs}

    def questions(self, count: int) -> list[Question]:
        """The questions of the past, the quick ones so many times."""
        values = [(self.key(), self.version()) for _ in range(count)]
        states = [(self.version(),) for _ in range(count // 5)]
        starts = [self.version(APART) - APART for _ in range(count // 5)]
        keys = [(self.key(),) for _ in range(count // 25)]
        return [
            Question("key as of a version, first", lambda c: c.value, values),
            Question("key as of a version, again", lambda c: c.value, values),
            Question("state as of a version, first", lambda c: c.state, states),
            Question("state as of a version, again", lambda c: c.state, states),
            Question("state as of a version, all values", lambda c: c.values, states),
            Question(f"diff, {APART} apart", lambda c: c.diff, [(at, at + APART) for at in starts]),
            Question("history of a key", lambda c: c.history, keys),
        ]


def build(folder: Path, pairs: Pairs) -> tuple[list[Contender], list[Row]]:
    """Return everybody who is here, and what the sets take them; say who is not."""
    contenders: list[Contender] = []
    rows: list[Row] = []
    for name, is_here, make in (Peer(US, True, Statecore), *PEERS):
        if not is_here:
            rows.append({"what": name, "note": "skipped: it is not installed"})
            continue
        into = folder / str(len(rows))
        into.mkdir()
        contenders.append(make(into, pairs))
        size = contenders[-1].size_bytes()
        ratio = {} if name == US else {"to_statecore": round(size / rows[0]["bytes"], 2)}
        rows.append({"what": f"{len(pairs):,} sets, {name}", "bytes": size, **ratio})
    return contenders, rows


def check(contender: Contender, truth: Contender, questions: Sequence[Question]) -> None:
    """Compare answers with what they have to be."""
    for question in questions:
        for about in question.about:
            with suppress(Cant):
                wanted, answer = question.ask(truth)(*about), question.ask(contender)(*about)
                if question.title.startswith("diff"):
                    wanted, answer = wanted.keys(), {*answer}
                assert answer == wanted, f"{contender.name} is wrong: {question.title} {about}"


def ask_in_turns(
    results: Results, contenders: Sequence[Contender], questions: Sequence[Question]
) -> None:
    """Ask everybody everything, a few questions at a time."""
    for question in questions:
        settle()
        for start in range(0, len(question.about), TURN):
            results.begin_turn()
            for contender in contenders:
                with suppress(Cant):
                    for about in question.about[start : start + TURN]:
                        results.time(question.title, contender, question.ask(contender), *about)


def forks(
    results: Results, contenders: Sequence[Contender], workload: Workload, count: int
) -> None:
    """Fork, read and set."""
    settle()
    for number in range(count):
        (key, value), version = workload.chance.choice(workload.pairs), workload.version()
        results.begin_turn()
        for contender in contenders:
            with suppress(Cant):
                contender.fork(f"first{number}")  # what is written first after a pause takes longer
                branch = results.time(HEAD, contender, contender.fork, f"head{number}")
                results.time(READING, contender, contender.read, branch, key)
                for title in (FIRST_SET, SET):
                    new = {**value, "title": title}
                    results.time(title, contender, contender.write, branch, key, new)
                results.time(PAST, contender, contender.fork, f"past{number}", version)


def merges(
    results: Results, contenders: Sequence[Contender], workload: Workload, rounds: int
) -> list[Row]:
    """Fork, set on both sides, and merge; return how many conflicts were kept."""
    kept: dict[str, int] = {}
    settle()
    for number in range(2 * rounds):
        sides = workload.sides()
        results.begin_turn()
        for contender in contenders:
            try:
                both = merge(results, contender, sides, number)
            except Cant as why:
                results.give_up(REHEARSED if number % 2 else MERGED, contender, why)
            else:
                kept[contender.name] = kept.get(contender.name, 0) + both
    return [
        {"what": f"conflicts, {name}", "kept": count, "dropped": rounds * BOTH - count}
        for name, count in kept.items()
    ]


def merge(
    results: Results, contender: Contender, sides: Sequence[Mapping[str, Any]], number: int
) -> int:
    """Merge, or rehearse it in every other round; return of how many keys both sides were kept."""
    ours, theirs = (set_all(contender, f"side{number}-{at}", side) for at, side in enumerate(sides))
    if number % 2:
        results.time(REHEARSED, contender, contender.rehearse, ours, theirs)
        return 0
    contender.prepare(ours)
    results.time(MERGED, contender, contender.merge, ours, theirs)
    lost = contender.lost(ours, sides[0]) | contender.lost(ours, sides[1])
    contender.end_merge()
    assert lost <= sides[0].keys() & sides[1].keys(), f"{contender.name} lost what is no conflict"
    return BOTH - len(lost)


def set_all(contender: Contender, name: str, side: Mapping[str, Any]) -> Any:
    """Return a new branch on which these keys are set."""
    branch = contender.fork(name)
    for key, value in side.items():
        contender.write(branch, key, value)
    return branch


def far_sets(count: int) -> Iterator[tuple[str, Any]]:
    """Yield the sets of the far store: random keys, and one that says how far it is."""
    chance, records = random.Random(12), cycle([Synthetic(12).record() for _ in range(1000)])
    for number in range(1, count + 1):
        if number % PROGRESS:
            yield f"k{chance.randrange(1000)}", next(records)
        else:
            yield "progress", number


def far(path: Path, count: int) -> list[Row]:
    """Ask, in a store of many events, what must not depend on how many there are."""
    if not path.exists():
        fill(path, far_sets(count))
    chance, rows = random.Random(13), []
    with statecore.open(path, key=KEY) as store:
        agent = store.manager(AGENT)
        head = agent.version()
        for last in (min(EARLY, head), head):
            starts = [chance.randint(0, last - APART) for _ in range(200)]
            what = f"diff, {APART} apart, among {last:,} of {head:,}"
            about: list[Any] = [(start, start + APART) for start in starts]
            rows.append(asked(what, agent.diff, about, "p50 at most 1,000"))
        name = time.time_ns()  # a store that was kept has the forks of earlier runs
        for what, last in ((HEAD, head), (PAST, chance.randint(1, head))):
            about = [(f"{name}-{last}-{number}", last) for number in range(50)]
            rows.append(asked(f"{what}, {head:,} events", agent.branch, about, BEYOND))
        about = [("k0", number) for number in range(50)]
        rows.append(asked(f"{SET}, {head:,} events", agent.branch(f"{name}").set_state, about))
        return [*rows, *bisections(agent, chance, head)]


def bisections(agent: Any, chance: random.Random, head: int) -> list[Row]:
    """Look for when a key went beyond a number."""
    if not hasattr(agent, "bisect"):
        return [{"what": "bisect", "note": "skipped: there is none yet"}]

    def find(limit: int, read: Callable[[Any], Any]) -> None:
        found = agent.bisect(PROGRESS, head, lambda state: read(state)["progress"] < limit)
        assert found.first_bad == -(-limit // PROGRESS) * PROGRESS, "not where it is"

    limits = [chance.randint(PROGRESS + 1, head - PROGRESS) for _ in range(BISECTIONS)]
    by_key: list[Any] = [(limit, MappingProxyType) for limit in limits]
    by_state: list[Any] = [(limit, dict) for limit in limits[:2]]
    what = f"bisect, {head:,} events"
    return [
        asked(f"{what}, judged by one key", find, by_key, "p50 at most 50,000"),
        asked(f"{what}, judged by all keys", find, by_state),
    ]


def asked(
    what: str,
    ask: Callable[..., object],
    about: Sequence[tuple[Any, ...]],
    expected: str | None = None,
) -> Row:
    """Return what the answers take."""
    os.sync()
    settle()
    before = pace()
    return report(what, timed_each(ask, about), pace_since(before), expected)


EXPECTED: Final = {
    ("key as of a version, again", "temporal"): "to_statecore at least 3",
    ("state as of a version, again", "temporal"): "to_statecore at least 3",
    (f"diff, {APART} apart", US): "p50 at most 1,000",
    (HEAD, US): BEYOND,
    (PAST, US): BEYOND,
    (MERGED, "pygit2"): "to_statecore at least 5",
}


def measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """Ask everybody everything."""
    workload, results = Workload(arguments.sets, arguments.keys), Results()
    contenders, rows = build(folder, workload.pairs)
    samples = workload.questions(SAMPLES)
    for contender in contenders:
        check(contender, Replayed(workload.pairs), samples)
    ask_in_turns(results, contenders, workload.questions(arguments.questions))
    forks(results, contenders, workload, arguments.forks)
    conflicts = merges(results, contenders, workload, arguments.merges)
    rows += [*results.rows(EXPECTED), *conflicts]
    if arguments.far:
        path = Path(arguments.store) if arguments.store else folder / "far.db"
        rows += far(path, arguments.far)
    return rows


if __name__ == "__main__":
    defaults = {"sets": 10_000, "keys": 1_000, "questions": 500, "forks": 50, "merges": 10}
    main("Time travel, forks and merges", measure, **defaults, far=1_000_000, store="")
