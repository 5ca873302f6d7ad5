"""Restoring: every point as it was, whole or not at all, proved, with a record of going back."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import statecore
from statecore import Erased, InputError, KeyMissing, Position, Unproven, Verdict, VersionNotFound
from statecore.anchoring import checkpoint_of
from statecore.backup import take
from statecore.backup.placing import draft_beside
from tests.conftest import KEY, Clock, environment
from tests.test_backup import write
from tests.test_cli import run

AGENTS = ("ada", "bob", "eve")
State = dict[str, Any] | str


def state(agent: statecore.BlockingManager, position: int | None = None) -> State:
    """Return a state, now or at a position, or the name of what is raised instead."""
    try:
        return agent.at(None if position is None else Position(position)).data
    except Erased:
        return "erased"
    except VersionNotFound:
        return {}


def history(agent: statecore.BlockingManager, until: int) -> list[tuple[int, str, str | None]]:
    try:
        return [(e.version, e.id, e.actor) for e in agent.history() if e.position <= until]
    except Erased:
        return []


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "backup"


@pytest.fixture
def taken(path: Path, place: Path, clock: Clock) -> Path:
    """A backup of 200 events in five segments, a second apart."""
    with statecore.open(path, key=KEY, clock=clock, durability="relaxed") as store:
        for number in range(200):
            clock.tick(1)
            write(store, 1, number)
        take(path, place, events_max=50)
        store.backup(place)
    return place


def keys_of(path: Path) -> str:
    return f"{path}-keys"


# Every point


Operation = tuple[str, int, int]

operations = st.lists(
    st.tuples(
        st.sampled_from(["write"] * 8 + ["fork", "erase", "backup", "backup", "prune"]),
        st.integers(0, 2),
        st.integers(0, 4),
    ),
    min_size=5,
    max_size=25,
)


def do(store: statecore.BlockingStore, place: Path, operation: Operation, number: int) -> None:
    kind, who, what = operation
    agent = store.manager(AGENTS[who], actor=f"actor-{what}")
    match kind:
        case "write":
            agent.set_state(f"key-{what}", number, event_id=f"id-{number}")
        case "fork":
            agent.set_state("n", number)
            agent.branch(f"idea-{number}").set_state("n", -number)
        case "erase":
            store.erase(agent.agent_id)
        case "backup":
            take(Path(store.store._parts._options.file), place, events_max=5)  # type: ignore[attr-defined]
        case "prune" if place.exists():
            statecore.prune_backup(place)


@settings(max_examples=25)
@given(operations, st.randoms(use_true_random=False))
def test_every_point_is_restored_as_it_was(given_: list[Operation], dice: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, place = Path(folder, "agents.db"), Path(folder, "backup")
        with statecore.open(path, key=KEY, durability="relaxed") as store:
            store.manager("ada").set_state("key-0", 0)
            for number, operation in enumerate(given_):
                do(store, place, operation, number)
            last = store.backup(place).position
            for at in {last, *(dice.randint(1, last) for _ in range(2))}:
                restored = Path(folder, f"{at}.db")
                statecore.restore(place, restored, at=at, key=KEY, key_store=keys_of(path))
                compare(store, restored, at)


def compare(store: statecore.BlockingStore, restored: Path, at: int) -> None:
    """Hold a restored store against what the live one says of that moment."""
    assert statecore.verify(restored).findings == []
    with statecore.open(restored, key=KEY, create=False) as other:
        for name in AGENTS:
            live, there = store.manager(name), other.manager(name)
            if history(there, at) == [] and state(there) == {}:  # it had not begun
                assert state(live, at) in ({}, "erased")
                continue
            if state(there) == "erased":  # a live one that began anew is empty at that event
                assert state(live, at) in ("erased", {})
                continue
            assert state(there) == state(live, at)
            assert history(there, at) == history(live, at)
            for key in there.at().data:
                versions = [e.version for e in live.history(key=key) if e.position <= at]
                assert [event.version for event in there.history(key=key)] == versions
            for branch in there.branches():
                on = live.branch(branch.name, create=False)
                assert state(there.branch(branch.name, create=False)) == state(on, at)


def test_twenty_points_are_those_that_the_live_history_had(
    path: Path, taken: Path, tmp_path: Path
) -> None:
    dice = random.Random(20)
    with statecore.open(path, key=KEY) as store:
        for at in sorted(dice.sample(range(1, 201), 20)):
            restored = tmp_path / f"{at}.db"
            result = statecore.restore(taken, restored, at=at, key=KEY, key_store=keys_of(path))
            assert (result.events, result.position, result.left) == (at, at, 200 - at)
            with statecore.open(restored, key=KEY) as other:
                for number in range(3):
                    name = f"agent-{number}"
                    assert state(other.manager(name)) == state(store.manager(name), at)


def test_a_time_is_all_that_was_recorded_up_to_then(
    taken: Path, tmp_path: Path, path: Path
) -> None:
    with statecore.open(path, key=KEY) as store:
        time = store.manager("agent-0").at(Position(100)).timestamp
    assert time is not None

    result = statecore.restore(taken, tmp_path / "restored.db", at=time, record=False)

    assert result.position == 100
    late = statecore.restore(taken, tmp_path / "late.db", at=datetime(2100, 1, 1, tzinfo=UTC))
    assert (late.position, late.left) == (200, 0)
    with pytest.raises(InputError, match="time zone"):
        statecore.restore(taken, tmp_path / "no.db", at=datetime(2100, 1, 1))  # noqa: DTZ001 - as asked


def test_a_version_of_an_agent_is_a_point_too(path: Path, taken: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"agent_id": "agent-1", "key": KEY, "key_store": keys_of(path)}

    result = statecore.restore(taken, tmp_path / "restored.db", at=20, **options)

    with statecore.open(tmp_path / "restored.db", key=KEY) as store:
        assert (store.manager("agent-1").version(), result.position) == (20, 59)
    with pytest.raises(VersionNotFound):
        statecore.restore(taken, tmp_path / "no.db", at=2000, **options)
    assert not list(tmp_path.glob("*no.db*"))


def test_a_point_that_the_backup_does_not_reach_is_none(taken: Path, tmp_path: Path) -> None:
    with pytest.raises(VersionNotFound, match="ends at position 200"):
        statecore.restore(taken, tmp_path / "no.db", at=201)
    with pytest.raises(InputError, match="begin with 1"):
        statecore.restore(taken, tmp_path / "no.db", at=0)


# What comes back


def test_all_tables_but_snapshots_are_as_they_were(path: Path, taken: Path, tmp_path: Path) -> None:
    restored = tmp_path / "restored.db"

    statecore.restore(taken, restored)

    with sqlite3.connect(path) as live, sqlite3.connect(restored) as there:
        for table in ("log", "streams", "topics", "writers", "events", "touches", "ids", "tracking",
                      "tree", "links"):  # fmt: skip
            rows = f"SELECT * FROM {table} ORDER BY 1, 2"
            assert there.execute(rows).fetchall() == live.execute(rows).fetchall(), table
        assert there.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_restored_store_is_gone_on_with_as_any_other(
    path: Path, taken: Path, tmp_path: Path
) -> None:
    restored = tmp_path / "restored.db"
    result = statecore.restore(taken, restored)
    assert result.needs_keys
    shutil.copy(keys_of(path), keys_of(restored))

    with statecore.open(restored, key=KEY) as store:
        write(store, 10, 195)  # of which five are there
        assert store.restores() == []
        assert store.statistics().events == 205
        assert store.backup(taken).events == 5

    assert statecore.verify(restored).findings == []
    assert statecore.verify_backup(taken).findings == []


def test_a_store_with_a_policy_goes_back_and_tells_its_auditors(
    path: Path, taken: Path, tmp_path: Path
) -> None:
    restored = tmp_path / "restored.db"
    with statecore.open(path, key=KEY) as store:
        anybody = statecore.Rule("anybody", "permit", ("write",), principals=("*",))
        store.as_principal("root").access.set_policy(statecore.Policy(("root",), (anybody,)))
        write(store, 10, 200)
        store.as_principal("root").backup(taken)
    statecore.restore(taken, restored, at=205, key=KEY, key_store=keys_of(path))

    with statecore.open(restored, key=KEY) as store:
        (went_back,) = store.as_principal("root").restores()
        with pytest.raises(statecore.AccessDenied):
            store.restores()

    assert went_back.kept == 205


def test_a_store_that_went_back_says_so_and_from_where(
    path: Path, taken: Path, tmp_path: Path
) -> None:
    restored = tmp_path / "restored.db"
    result = statecore.restore(taken, restored, at=120, key=KEY, key_store=keys_of(path))

    with statecore.open(restored, key=KEY) as store:
        (went_back,) = store.restores()
        agents = [birth.agent_id for birth in store.agents()]
        with pytest.raises(InputError, match="does not go on from"):
            store.backup(taken)
        store.backup(tmp_path / "new backup")

    assert (result.left, result.is_recorded, result.signed) == (80, True, 200)
    assert (went_back.kept, went_back.position, went_back.events) == (120, 120, 200)
    assert checkpoint_of(went_back.head.encode()).size == 200
    assert agents == ["agent-0", "agent-1", "agent-2"]
    outside = tmp_path / "head"
    outside.write_text(went_back.head)
    report = statecore.verify(restored, anchors=[outside])
    assert (report.verdict, report.findings[0].kind) == (Verdict.DIVERGED, "rolled-back")


def test_going_back_takes_the_keys_or_the_will_not_to_record_it(
    path: Path, taken: Path, tmp_path: Path
) -> None:
    restored = tmp_path / "restored.db"
    with pytest.raises(KeyMissing, match="80 signed events and 0 erasures are left behind"):
        statecore.restore(taken, restored, at=120, key=KEY)
    with pytest.raises(statecore.WrongKey):
        statecore.restore(taken, restored, at=120, key=bytes(32), key_store=keys_of(path))
    assert not list(tmp_path.glob("*restored*"))

    result = statecore.restore(taken, restored, at=120, record=False)

    assert (result.is_recorded, result.left, result.needs_keys) == (False, 80, True)


def test_what_was_erased_later_stays_erased(path: Path, place: Path, tmp_path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store, 30)
        store.erase("agent-1")
        store.backup(place)

    statecore.restore(place, tmp_path / "old.db", at=30, key=KEY, key_store=keys_of(path))

    with statecore.open(tmp_path / "old.db", key=KEY) as store:
        assert state(store.manager("agent-1")) == "erased"
        assert state(store.manager("agent-2")) != "erased"
    assert statecore.verify(tmp_path / "old.db").findings == []


def test_an_agent_that_began_anew_later_can_begin_in_the_past(
    path: Path, place: Path, tmp_path: Path
) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("ada").set_state("n", 1)
        store.manager("bob").set_state("n", 1)
        store.erase("bob")
        store.manager("bob").set_state("n", 2)
        store.backup(place)
    old = tmp_path / "old.db"
    statecore.restore(place, old, at=1, key=KEY, key_store=keys_of(path))

    with statecore.open(old, key=KEY) as store:
        assert state(store.manager("bob")) == {}
        store.manager("bob").set_state("n", 3)
        store.manager("bob").set_state("m", 4)

    with statecore.open(old, key=KEY) as store:
        assert state(store.manager("bob")) == {"n": 3, "m": 4}
    assert statecore.verify(old, depth="contents", key=KEY).findings == []


@pytest.mark.parametrize("moment", [3, 4, 5])
def test_an_agent_that_began_anew_later_is_erased_in_the_past_and_not_damaged(
    path: Path, place: Path, tmp_path: Path, moment: int
) -> None:
    with statecore.open(path, key=KEY) as store:
        for number in range(3):
            store.manager("ada").set_state("n", number)
        store.erase("ada")
        store.manager("bob").set_state("n", 1)
        store.manager("ada").set_state("n", 3)
        store.backup(place)
    old = tmp_path / "old.db"
    statecore.restore(place, old, at=moment, key=KEY, key_store=keys_of(path))

    with statecore.open(old, key=KEY) as store:
        report = store.check()
        assert report.complaints == []
        assert report.proved["erased states"] == 1
        assert store.rebuild(only_check=True).left_alone == []
        assert state(store.manager("ada")) == "erased"
        store.manager("ada").set_state("n", 4)
        assert store.check().complaints == []
        assert state(store.manager("ada")) == {"n": 4}


# What is held against it


def test_a_policy_and_an_anchor_are_asked_for_what_they_trust(
    path: Path, taken: Path, tmp_path: Path
) -> None:
    with statecore.open(path, key=KEY) as store:
        policy, head = store.audit_policy(), tmp_path / "head"
        head.write_bytes(store.signed_head())
        write(store, 1, 200)
        (tmp_path / "newer").write_bytes(store.signed_head())
    with statecore.open(tmp_path / "other.db", key=KEY) as other:
        other.manager("one").set_state("n", 1)
        foreign = other.audit_policy()
        (tmp_path / "foreign").write_bytes(other.signed_head())

    statecore.restore(taken, tmp_path / "restored.db", policy=policy, anchors=[head])

    refused: list[dict[str, Any]] = [
        {"policy": foreign},
        {"anchors": [tmp_path / "newer"]},
        {"anchors": [tmp_path / "foreign"]},
    ]
    for options in refused:
        with pytest.raises(Unproven):
            statecore.restore(taken, tmp_path / "no.db", **options)
    assert not list(tmp_path.glob("*no.db*"))


def test_nothing_is_ever_overwritten(taken: Path, tmp_path: Path) -> None:
    for end in ("", "-wal", "-journal"):
        there = tmp_path / f"restored.db{end}"
        there.write_bytes(b"something")
        with pytest.raises(InputError, match="is there"):
            statecore.restore(taken, tmp_path / "restored.db")
        assert there.read_bytes() == b"something"
        there.unlink()
    (tmp_path / "restored.db-keys").write_bytes(b"keys")
    with pytest.raises(InputError, match="key store"):
        statecore.restore(taken, tmp_path / "restored.db", key_store=tmp_path / "agents.db-keys")


RESTORE = """
import sys, statecore
print("begun", flush=True)
statecore.restore(sys.argv[1], sys.argv[2])
print("done", flush=True)
"""


def test_a_restore_killed_at_any_moment_leaves_a_whole_store_or_none(
    path: Path, place: Path, tmp_path: Path
) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        write(store, 4000)
    take(path, place)
    dice, kills, restored = random.Random(5), 0, tmp_path / "restored.db"

    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", RESTORE, place, restored],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(dice.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        is_done = process.communicate()[0] == "done\n"
        kills += process.returncode == -signal.SIGKILL
        assert restored.exists() or not is_done
        if restored.exists():
            report = statecore.verify(restored)
            assert (report.findings, report.events) == ([], 4000)
            restored.unlink()

    assert kills
    assert statecore.restore(place, restored).events == 4000


STOPPED = """
import os, signal
if {number} != signal.SIGKILL and {number} != signal.SIGINT:
    signal.signal({number}, signal.SIG_DFL)  # under nohup it would be ignored
from statecore.recorders.sqlite.copying import CopyTarget
CopyTarget.finish = lambda self: os.kill(os.getpid(), {number})
from statecore.cli import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_a_restore_that_was_stopped_leaves_is_gone_with_the_next(
    number: signal.Signals, path: Path, place: Path, tmp_path: Path
) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store, 10)
        store.backup(place)
    into = tmp_path / "into"
    into.mkdir()
    arguments = ["backup", "restore", place, into / "res.db", "--keys", keys_of(path)]
    command = [sys.executable, "-c", STOPPED.format(number=int(number)), *map(str, arguments)]

    stopped = subprocess.run(command, env=environment(), check=False)

    is_killed = number == signal.SIGKILL
    assert stopped.returncode == (-number if is_killed else 128 + number)
    assert any(into.iterdir()) == is_killed
    assert not list(into.glob("res.db*"))
    statecore.restore(place, into / "res.db", key_store=keys_of(path))
    assert {each.name for each in into.iterdir()} == {"res.db", "res.db-keys"}


def test_a_draft_that_somebody_still_has_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "res.db"
    of_another = tmp_path / ".other.db.draft-0123456789abcdef"
    of_another.touch()
    with draft_beside(path) as first:
        first.touch()
        with draft_beside(path):
            assert first.exists()
        assert first.exists()
    assert not first.exists()
    first.touch()
    with draft_beside(path):
        assert not first.exists(), "whoever had it is gone"
    assert of_another.exists()


# The command line


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what runs a command, asserts its exit code, and returns its output."""
    monkeypatch.setenv("STATECORE_KEY", KEY.hex())

    def command(*arguments: object, code: int = 0) -> str:
        answer = run("backup", *arguments)
        assert answer.code == code, answer
        return answer.out

    return command


def test_the_commands_back_up_and_restore(
    path: Path, place: Path, tmp_path: Path, command: Callable[..., str]
) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store, 20)

    first = command("run", path, place)
    again = json.loads(command("run", path, place, "--sign", "--json"))
    listed = command("list", place).splitlines()
    verified = command("verify", place, "--keys", keys_of(path), code=8)
    pruned = command("prune", place, "--dry-run")
    whole = command("restore", place, tmp_path / "whole.db").splitlines()
    options = ["--at", "9", "--keys", keys_of(path), "--json"]
    part = json.loads(command("restore", place, tmp_path / "part.db", *options))

    assert first.startswith("20 events in 1 segments, ")
    assert first.endswith("up to position 20, signed over the first 20 of 20 events\n")
    assert (again["events"], again["position"]) == (0, 20)
    assert listed[0].startswith("1 to 20  20 events  ")
    assert listed[-1] == "up to position 20, signed over the first 20 events"
    assert "20 events were opened with their keys" in verified
    assert pruned.startswith("0 segments would be made into 0")
    assert whole[1:] == [
        "all of them proved by the signed head of 20 events",
        f"its keys are not in the backup: bring the key store to {tmp_path / 'whole.db'}-keys",
    ]
    assert (part["events"], part["left"], part["is_recorded"]) == (9, 11, True)
    command("restore", place, tmp_path / "part.db", code=2)
    command("restore", place, tmp_path / "no.db", "--at", "soon", code=2)
    command("verify", tmp_path / "nowhere", code=1)


def test_a_backup_follows_what_is_written_until_it_is_interrupted(path: Path, place: Path) -> None:
    arguments = ["backup", "run", path, place, "--follow", "--every", "0.1", "--json"]
    with statecore.open(path, key=KEY) as store:
        write(store, 10)
        process = subprocess.Popen(
            [sys.executable, "-m", "statecore.cli", *map(str, arguments)],
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        seen = json.loads(process.stdout.readline())["events"]
        write(store, 10, 10)
        while seen < 20:
            line = json.loads(process.stdout.readline())
            seen += line["events"]
            assert {"events_behind", "seconds_behind"} <= line.keys()
        process.send_signal(signal.SIGINT)
        process.communicate()

    assert process.returncode == 130
    assert statecore.verify_backup(place).events == 20


def test_who_ignores_that_the_terminal_closes_goes_on(path: Path, place: Path) -> None:
    arguments = ["backup", "run", path, place, "--follow", "--every", "0.1", "--json"]
    with statecore.open(path, key=KEY) as store:
        write(store, 10)
        process = subprocess.Popen(
            ["nohup", sys.executable, "-m", "statecore.cli", *map(str, arguments)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["events"]
        process.send_signal(signal.SIGHUP)
        write(store, 10, 10)
        assert json.loads(process.stdout.readline())["events"]
        process.send_signal(signal.SIGTERM)
        process.communicate()

    assert process.returncode == 128 + signal.SIGTERM
