"""Archives that are at hand: whole, damaged, of another history; and archiving broken off."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

import statecore
from statecore import Archived, BlockingManager, BlockingStore
from statecore.errors import Damage, DamagedRecord, OutcomeUnknown
from statecore.recorders.sqlite.datastore import Datastore
from statecore.salvaging import salvage
from statecore.streams import Streams
from tests.conftest import KEY
from tests.test_archiving import told, write

EVENTS = 120
HORIZON = 80


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "old.archive"


@pytest.fixture
def store(path: Path) -> Iterator[BlockingStore]:
    with statecore.open(path, key=KEY) as opened:
        write(opened.manager("agent"), EVENTS)
        yield opened


def edit(archive: Path, sql: str) -> None:
    database = apsw.Connection(str(archive))
    database.execute(sql)
    database.close()


def from_horizon(agent: BlockingManager) -> object:
    return told(agent, HORIZON, EVENTS)


def test_archiving_that_is_cancelled_loses_nothing(path: Path, archive: Path) -> None:
    async def work() -> None:
        async with statecore.open(path, key=KEY) as store:
            agent = store.manager("agent")
            for number in range(10):
                await agent.set_state("n", number)
            another = Datastore(path)  # as another process has it open
            with another.turn():
                task = asyncio.create_task(store.archive("agent", before=8, to=archive))
                while not store._engine.sequencer._queue:  # noqa: ASYNC110 - tells nobody
                    await asyncio.sleep(0.01)
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            another.close()
            await agent.set_state("n", 10)  # behind it in the queue
            with pytest.raises(Archived):
                await agent.at(3)

    asyncio.run(work())

    with statecore.open(path, key=KEY, archives=[archive]) as store:
        assert store.manager("agent").at(3).data == {"n": 2}


def test_what_was_written_and_can_t_be_shown_is_not_told_to_have_failed(
    store: BlockingStore, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = store.manager("agent")

    def fail(*_: object) -> None:
        raise Damage("it can't be shown")

    with monkeypatch.context() as failing:
        failing.setattr(Streams, "advance", fail)
        with pytest.raises(OutcomeUnknown, match="it can't be shown"):
            agent.set_state("n", 5, event_id="once")
    assert agent.get_state("n") == 5
    with monkeypatch.context() as failing:
        failing.setattr(Streams, "advance", fail)
        with pytest.raises(OutcomeUnknown, match="it can't be shown"):
            store.archive("agent", before=HORIZON, to=archive)

    assert archive.exists()
    assert agent.set_state("n", 5, event_id="once") == EVENTS + 1
    assert agent.version() == EVENTS + 2
    with pytest.raises(Archived):
        agent.at(HORIZON - 1)


def test_a_damaged_archive_takes_nothing_behind_the_horizon(
    store: BlockingStore, path: Path, archive: Path
) -> None:
    expected = from_horizon(store.manager("agent"))
    store.archive("agent", before=HORIZON, to=archive)
    store.close()
    size = archive.stat().st_size
    with archive.open("r+b") as file:
        file.seek(8192)
        file.write(bytes(size - 8192))

    with statecore.open(path, key=KEY, archives=[archive]) as opened:
        agent = opened.manager("agent")
        assert from_horizon(agent) == expected
        for version in range(1, HORIZON):
            with pytest.raises((Damage, Archived)):
                agent.at(version)


def test_one_damaged_body_is_told_where_it_is_read_and_nowhere_else(
    store: BlockingStore, path: Path, archive: Path
) -> None:
    agent = store.manager("agent")
    expected = from_horizon(agent)
    store.archive("agent", before=HORIZON, to=archive)
    store.close()
    edit(archive, "UPDATE bodies SET body = x'00' WHERE version = 20")

    with statecore.open(path, key=KEY, archives=[archive], snapshots=False) as opened:
        agent = opened.manager("agent")
        assert from_horizon(agent) == expected
        assert agent.at(19).version == 19
        with pytest.raises(DamagedRecord, match="is not what was archived"):
            agent.at(30)


def test_an_archive_that_a_killed_attempt_left_is_none(
    store: BlockingStore, path: Path, archive: Path, tmp_path: Path
) -> None:
    expected = from_horizon(store.manager("agent"))
    left = tmp_path / "left.archive"
    store.archive("agent", before=HORIZON, to=archive)
    store.close()
    shutil.copy(archive, left)
    edit(left, f"DELETE FROM bodies WHERE version > {HORIZON - 20}")

    for archives, is_whole in (([left], False), ([left, archive], True), ([archive, left], True)):
        with statecore.open(path, key=KEY, archives=archives) as opened:
            agent = opened.manager("agent")
            assert from_horizon(agent) == expected
            assert opened.check().complaints == []
            if is_whole:
                assert agent.at(5).version == 5
            else:
                with pytest.raises(Archived):
                    agent.at(5)


def test_an_archive_of_a_history_that_was_left_behind_is_none(
    path: Path, archive: Path, tmp_path: Path
) -> None:
    place, again = tmp_path / "backup", tmp_path / "again" / "agents.db"
    again.parent.mkdir()
    with statecore.open(path, key=KEY) as store:
        write(store.manager("agent"), 60)
        store.backup(place)
        write(store.manager("agent"), 60)
        store.archive("agent", before=100, to=archive)
    statecore.restore(place, again, key_store=f"{path}-keys", key=KEY)
    other = tmp_path / "other.archive"
    with statecore.open(again, key=KEY) as store:
        write(store.manager("agent"), 60)
        whole = told(store.manager("agent"), 1, EVENTS)
        store.archive("agent", before=100, to=other)

    for archives in ([archive, other], [other, archive]):
        with statecore.open(again, key=KEY, archives=archives) as store:
            assert told(store.manager("agent"), 1, EVENTS) == whole
            assert store.check().complaints == []
    with statecore.open(again, key=KEY, archives=[archive]) as store:
        agent = store.manager("agent")
        assert told(agent, 100, EVENTS)[0] == whole[0][99:]
        with pytest.raises(Archived, match=r"other\.archive"):
            agent.at(30)


def test_what_was_salvaged_tells_no_wrong_value_with_its_archive(
    store: BlockingStore, path: Path, archive: Path, tmp_path: Path
) -> None:
    agent, new = store.manager("agent"), tmp_path / "new" / "agents.db"
    new.parent.mkdir()
    states, values, *_ = told(agent)
    made = agent.blame("k3", at=HORIZON)
    store.archive("agent", before=HORIZON, to=archive)
    store.close()
    salvage(path, new, key=KEY)

    with statecore.open(new, key=KEY, archives=[archive]) as opened:
        agent = opened.manager("agent")
        assert told(agent, 1, EVENTS)[:2] == [states, values]
        with pytest.raises(DamagedRecord, match="rebuild the indexes"):
            agent.blame("k3", at=HORIZON)
        opened.rebuild()
        assert opened.check().complaints == []
        assert agent.blame("k3", at=HORIZON) == made
