"""A log whose pages are out of order: refused or told, and nobody reads on for ever."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import apsw
import pytest
from eventsourcing.utils import Environment

import statecore
from statecore.backup.taking import take
from statecore.doctor import examine
from statecore.errors import Damage
from statecore.recorders.sqlite import Factory
from statecore.recorders.sqlite.datastore import Datastore
from statecore.recorders.sqlite.log import SqliteLog
from statecore.salvaging import salvage
from tests.conftest import KEY

pytestmark = pytest.mark.usefixtures("patience")


def root_page(path: Path, name: str) -> tuple[int, int]:
    """Where the first page of a table or an index begins in a file, and ends."""
    database = apsw.Connection(str(path))
    sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
    ((page,),) = database.execute(sql, (name,)).fetchall()
    ((size,),) = database.execute("PRAGMA page_size").fetchall()
    database.close()
    return (page - 1) * size, page * size


def number_the_last_event(path: Path, position: int) -> None:
    """Give the last event another position, as a flipped bit in its row's number does."""
    begin, _ = root_page(path, "events")
    whole = bytearray(path.read_bytes())
    assert whole[begin] == 13  # one leaf of a table, which has its cells in order
    cells = int.from_bytes(whole[begin + 3 : begin + 5], "big")
    pointer = begin + 8 + 2 * (cells - 1)
    at = begin + int.from_bytes(whole[pointer : pointer + 2], "big")
    while whole[at] & 0x80:  # the size of the row
        at += 1
    assert whole[at + 1] == cells
    whole[at + 1] = position
    path.write_bytes(whole)


@pytest.fixture(params=[1, 5])
def disordered(path: Path, request: pytest.FixtureRequest) -> Path:
    with statecore.open(path, key=KEY) as store:
        for number in range(10):
            store.manager("agent").set_state("n", number)
    number_the_last_event(path, request.param)
    return path


def test_reading_all_of_the_log_is_refused(disordered: Path) -> None:
    datastore = Datastore(disordered)
    try:
        with pytest.raises(Damage, match="the log is out of order: behind position"):
            SqliteLog(datastore).read_log(0, 100)
    finally:
        datastore.close()


def test_what_an_agent_did_is_told_or_refused(disordered: Path) -> None:
    with suppress(Damage), statecore.open(disordered, key=KEY) as store:
        agent = store.manager("agent")
        assert [event.version for event in agent.history()] == list(range(1, 11))
        assert len(list(store.audit())) <= 10
        assert agent.set_state("n", 10) == 11


def test_verification_comes_to_its_end(disordered: Path) -> None:
    for depth in ("proofs", "digests", "contents", "replay"):
        report = statecore.verify(disordered, depth=depth, key=KEY)
        assert report.verdict == "INVALID"


def test_a_doctor_tells_it(disordered: Path) -> None:
    assert "damaged-file" in [finding.kind for finding in examine(disordered, key=KEY).diagnoses]


def test_no_backup_is_taken_of_it(disordered: Path, tmp_path: Path) -> None:
    with pytest.raises(Damage, match="out of order"):
        take(disordered, tmp_path / "backup")


def test_all_but_the_last_event_is_salvaged(disordered: Path, tmp_path: Path) -> None:
    salvage(disordered, tmp_path / "new.db", key=KEY)

    with statecore.open(tmp_path / "new.db", key=KEY) as store:
        assert store.manager("agent").get_state("n") >= 8


def test_an_application_of_eventsourcing_does_not_read_on_for_ever(disordered: Path) -> None:
    environment = Environment("App", {"SQLITE_DBNAME": str(disordered)})
    factory = Factory(environment)
    try:
        with pytest.raises(Damage, match="out of order"):
            factory.application_recorder().select_notifications(1, 100)
    finally:
        factory.close()


def test_an_index_that_contradicts_what_is_read_is_damage_not_a_race(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        for number in range(3):
            store.manager("agent").set_state("n", number)
    _, end = root_page(path, "events_of_stream")
    whole = bytearray(path.read_bytes())
    whole[end - 4] ^= 4  # the size of its first entry, which is of nothing then
    path.write_bytes(whole)

    with statecore.open(path, key=KEY) as store:
        with pytest.raises(Damage, match="refuses an event though nobody was faster"):
            store.manager("agent").set_state("new", 9)
        assert store.manager("other").set_state("n", 1) == 1


def test_a_stream_without_a_name_is_damage_to_whoever_reads_the_log(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("n", 1)
    database = apsw.Connection(str(path))
    database.execute("UPDATE streams SET name = 'text' WHERE id = 1")
    database.close()

    datastore = Datastore(path)
    try:
        with pytest.raises(Damage, match="has parts of another type"):
            SqliteLog(datastore).read_log(0, 100)
    finally:
        datastore.close()
