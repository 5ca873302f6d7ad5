"""Disks that are full, read-only or bad: each a typed error, nothing half-written, nothing lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import statecore
from statecore.errors import StoreFull, StoreReadOnly
from tests.acknowledged import wait_until
from tests.conftest import KEY, environment
from tests.faults.bad_disk import is_sound, items_after_retries, write_on_a_bad_disk
from tests.faults.mounts import MEBIBYTE, Filler, mount, small_disk


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    with small_disk(request.param, tmp_path) as folder:
        yield folder


def test_a_full_disk_refuses_writes_and_takes_them_again_once_there_is_space(disk: Path) -> None:
    path, filler = disk / "agents.db", Filler(disk)
    values = [os.urandom(5_000 * (number % 3)) for number in range(1_000)]
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        agent.set_state("value", b"first")
        filler.fill(left_bytes=300_000)
        written = 1
        with pytest.raises(StoreFull, match=rf"no space left to write {path}"):
            for value in values:
                with agent.transaction() as tx:
                    tx.set("value", value)
                    tx.set("size", len(value))
                written += 1
        assert 5 < written < 200
        filler.fill()
        for _ in range(3):
            with pytest.raises(StoreFull):
                agent.set_state("value", os.urandom(MEBIBYTE))

        assert agent.version() == written
        assert agent.at().data == {"value": values[written - 2], "size": len(values[written - 2])}
        assert [event.version for event in agent.history()] == list(range(1, written + 1))
        filler.free()
        assert agent.set_state("value", b"after") == written + 1
        assert agent.at(written)["value"] == values[written - 2]
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for version in range(2, written + 1):
            state = agent.at(version)
            assert (state["value"], state["size"]) == (
                values[version - 2],
                len(values[version - 2]),
            )
        assert agent.get_state("value") == b"after"
    assert is_sound(path)


def test_of_tasks_on_a_full_disk_those_acknowledged_are_stored(disk: Path) -> None:
    path, filler = disk / "agents.db", Filler(disk)

    async def work() -> list[tuple[int, int | BaseException]]:
        async with statecore.open(path, key=KEY) as store:
            await store.manager("old").set_state("n", 0)
            filler.fill(left_bytes=250_000)
            outcomes: list[tuple[int, int | BaseException]] = []

            async def one(number: int) -> None:
                agent = store.manager("old" if number % 3 else f"new-{number}")
                for _ in range(30):
                    write = agent.extend("items", [os.urandom(400)], actor=str(number))
                    (outcome,) = await asyncio.gather(write, return_exceptions=True)
                    outcomes.append((number, outcome))

            await asyncio.gather(*map(one, range(30)))
            filler.free()
            await store.manager("old").set_state("n", 1)
            return outcomes

    outcomes = asyncio.run(work())

    refused = [outcome for _, outcome in outcomes if isinstance(outcome, BaseException)]
    assert {type(error) for error in refused} == {StoreFull}
    assert len(refused) < len(outcomes)
    with statecore.open(path, key=KEY) as store:
        stored = [
            (int(event.actor), event.version)
            for birth in store.agents()
            for event in store.manager(birth.agent_id).history()
            if event.actor
        ]
    acknowledged = [(number, outcome) for number, outcome in outcomes if isinstance(outcome, int)]
    assert sorted(stored) == sorted(acknowledged)


def test_a_store_that_there_is_no_space_for_can_be_made_later(disk: Path) -> None:
    made, refused = [], []
    for number, left_bytes in enumerate(range(0, 400_000, 20_000)):
        path, filler = disk / f"{number}.db", Filler(disk)
        filler.fill(left_bytes)
        try:
            with statecore.open(path, key=KEY) as store:
                store.manager("agent").set_state("n", 0)
            made.append(left_bytes)
        except StoreFull as error:
            refused.append(str(error))
        filler.free()

        with statecore.open(path, key=KEY) as store:
            agent = store.manager("agent")
            agent.set_state("n", 1)
            assert agent.get_state("n") == 1
        for file in disk.glob(f"{number}.db*"):
            file.unlink()

    assert made
    assert len(refused) > 3
    assert {told.partition(f"{disk}/")[0] for told in refused} == {"no space left to write "}


RESTORED = """
import sys
import statecore
from pathlib import Path
from tests.faults.mounts import Filler

path = Path(sys.argv[1])
with statecore.open(path, key=bytes(range(32))) as store:
    agent = store.manager("agent")
    print(agent.get_state("n"), flush=True)
    Filler(path.parent).fill()
    try:
        agent.set_state("n", 2)
    except statecore.StoreFull:
        print("full", flush=True)
"""


def test_a_full_disk_kills_no_process(disk: Path) -> None:
    """A file mapped into memory must have its space: a write to a hole would be a bus error."""
    path = disk / "agents.db"
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("n", 1)
    path.with_name("agents.db-lock").unlink()  # a restored store comes without it

    done = subprocess.run(
        [sys.executable, "-c", RESTORED, str(path)],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "1\nfull\n", "")


def test_a_snapshot_that_found_no_space_does_not_spoil_the_next(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, filler = disk / "agents.db", Filler(disk)
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for number in range(5):
            agent.set_state(f"key-{number}", os.urandom(100_000))
        filler.fill(left_bytes=200_000)
        agent.set_state("key-5", os.urandom(100_000))  # now it is time for a snapshot
        wait_until(lambda: "no space left" in caplog.text, "no snapshot was tried")
        filler.free()
        for number in range(6):
            agent.set_state(f"key-{number}", os.urandom(100_000))
    with statecore.open(path, key=KEY) as store:
        stream = store.manager("agent").manager._stream
        streams = store.store._engine.streams
        streams.refresh(stream)
        kept = streams.aids.snapshots.load(stream, 12)

    assert kept is not None
    assert kept.version == 12


@pytest.mark.parametrize("there", [True, False])
def test_a_read_only_disk_is_named(disk: Path, there: bool) -> None:
    path = disk / "agents.db"
    if there:
        with statecore.open(path, key=KEY) as store:
            store.manager("agent").set_state("n", 1)
    mount("-o", "remount,ro", disk)

    with pytest.raises(StoreReadOnly, match=r"agents\.db.* can't be .*: Read-only file system"):
        statecore.open(path, key=KEY).blocking()
    mount("-o", "remount,rw", disk)
    with statecore.open(path, key=KEY) as store:
        assert store.manager("agent").set_state("n", 2) == 1 + there


@pytest.fixture
def written(path: Path) -> Path:
    """A closed store with one agent and one event."""
    with statecore.open(path, key=KEY) as store:
        store.manager("old").extend("items", ["first"])
    return path


@pytest.mark.parametrize("when", [1, 3, 6])
@pytest.mark.parametrize("fault", ["fdatasync:EIO", "pwrite64:EIO", "fdatasync:ENOSPC"])
def test_after_a_failed_commit_nothing_is_acknowledged_until_the_store_is_opened_anew(
    written: Path, fault: str, when: int
) -> None:
    told = write_on_a_bad_disk(written, ["old"], "agents.db-wal", fault, when)

    acknowledged = [number for number, version, *_ in told if version.isdigit()]
    failed = told[len(acknowledged) :]
    assert [number for number, *_ in told] == [str(number) for number in range(8)]
    assert acknowledged == [str(number) for number in range(len(acknowledged))]
    assert {error for _, error, *_ in failed} == {"OutcomeUnknown"}
    assert f"{written}: the commit failed (disk I/O error)" in failed[0][2]
    with statecore.open(written, key=KEY) as store:
        items = store.manager("old").get_state("items")
    count = len(acknowledged)
    assert items in (["first", *range(count)], ["first", *range(count + 1)])
    assert items_after_retries(written, "old") == ["first", *range(8)]
    assert is_sound(written)


def test_a_write_that_finds_no_space_is_known_not_to_be_written(written: Path) -> None:
    told = write_on_a_bad_disk(written, ["old"], "agents.db-wal", "pwrite64:ENOSPC", 9)

    errors = [rest for _, *rest in told if not rest[0].isdigit()]
    assert errors == [["StoreFull", f"no space left to write {written}"]]
    versions = [int(version) for _, version, *_ in told if version.isdigit()]
    assert versions == list(range(2, 9))  # all others were written, without opening it anew
    with statecore.open(written, key=KEY) as store:
        items = store.manager("old").get_state("items")
    assert items == ["first", *(int(number) for number, version, *_ in told if version.isdigit())]


@pytest.mark.parametrize(
    ("fault", "when"), [("fdatasync:EIO", 1), ("pwrite64:EIO", 1), ("pwrite64:EIO", 2)]
)
def test_after_a_key_could_not_be_kept_nothing_is_acknowledged_until_the_store_is_opened_anew(
    written: Path, fault: str, when: int
) -> None:
    told = write_on_a_bad_disk(written, ["new", "old"], "agents.db-keys", fault, when)

    acknowledged = [number for number, version, *_ in told if version.isdigit()]
    failed = told[len(acknowledged) :]
    assert acknowledged == []  # not even of an agent whose key was kept long before
    assert {error for _, error, *_ in failed} == {"OutcomeUnknown"}
    assert f"{written}-keys: the disk failed (disk I/O error)" in failed[0][2]
    with statecore.open(written, key=KEY) as store:
        assert store.manager("new").version() == 0
        assert store.manager("old").get_state("items") == ["first"]
    assert items_after_retries(written, "new") == [*range(8)]
    assert items_after_retries(written, "old") == ["first", *range(8)]
    assert is_sound(written.with_name("agents.db-keys"))


OPEN = """
import sys
import statecore

try:
    statecore.open(sys.argv[1], key=bytes(range(32))).blocking().close()
    print("opened")
except statecore.StatecoreError as error:
    print(type(error).__name__)
"""


def test_a_disk_that_fails_while_a_store_is_opened_is_an_error_of_ours(written: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    told = []
    for when in range(1, 7):
        fail = ["-e", "trace=newfstatat", "-e", f"inject=newfstatat:error=EIO:when={when}"]
        strace = ["strace", "-f", "-o", str(written.with_name("trace")), *fail, "-P", str(written)]
        done = subprocess.run(
            [*strace, os.path.realpath(sys.executable), "-c", OPEN, str(written)],
            capture_output=True,
            text=True,
            env={**environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=False,
        )
        assert done.stderr == ""
        told.append(done.stdout.strip())

    assert "StoreFailure" in told
