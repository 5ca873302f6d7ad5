"""The contract of every log: memory is the reference, SQLite and the portable fallback the same."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from statecore.errors import StoreBusy, StoreClosed
from statecore.recorders import LogStore, MemoryLog, open_log
from tests.conftest import BACKENDS

ONE, TWO = secrets.token_bytes(16), secrets.token_bytes(16)
KEY_A, KEY_B, ID = b"a" * 16, b"b" * 16, b"i" * 16


def open_backend(backend: str, path: Path) -> LogStore:
    if backend == "memory":
        return MemoryLog(b"log".ljust(16))
    if backend == "popo":
        return open_log("eventsourcing.popo", {}, b"log".ljust(16))
    settings = {"SQLITE_DBNAME": str(path / "log.db")}
    return open_log("statecore.recorders.sqlite", settings, b"")


@pytest.fixture(params=BACKENDS)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStore]:
    opened = open_backend(request.param, tmp_path)
    yield opened
    opened.close()


def append(log: LogStore, *events: tuple[bytes, int]) -> set[bytes]:
    with log.turn() as turn:
        for stream, version in events:
            turn.append(stream, version, b"%d" % version, (), None)
        return turn.commit()


def versions(log: LogStore, stream: bytes, after: int, until: int, limit: int = -1) -> list[int]:
    return [version for version, _, _ in log.read(stream, after, until, limit)]


def test_an_empty_log_says_so(log: LogStore) -> None:
    assert log.version(ONE) == 0
    assert log.read(ONE, 0) == []
    assert log.read_log(0, 10) == []
    assert log.streams() == []
    assert log.snapshot(ONE, 100) is None
    assert len(log.log_id) == 16


def test_events_come_back_in_order(log: LogStore) -> None:
    assert append(log, (ONE, 1), (TWO, 1), (ONE, 2)) == {ONE, TWO}
    append(log, (ONE, 3))

    rows = log.read(ONE, 0)

    assert [(version, stored) for version, _, stored in rows] == [(1, b"1"), (2, b"2"), (3, b"3")]
    assert log.version(ONE) == 3
    assert log.version(TWO) == 1
    assert sorted(log.streams()) == sorted([ONE, TWO])


def test_reading_is_after_exclusive_and_until_inclusive(log: LogStore) -> None:
    append(log, *((ONE, version) for version in range(1, 8)))

    assert versions(log, ONE, 2, 5) == [3, 4, 5]
    assert versions(log, ONE, 2, 5, limit=2) == [3, 4]
    assert versions(log, ONE, 7, 100) == []
    back = log.read(ONE, 2, 5, 2, back=True)
    assert [version for version, _, _ in back] == [5, 4]


def test_the_whole_log_is_in_the_order_of_positions(log: LogStore) -> None:
    append(log, (ONE, 1), (ONE, 2))
    append(log, (TWO, 1))

    rows = log.read_log(0, 10)

    positions = [position for position, _, _, _ in rows]
    assert positions == sorted(set(positions))
    assert log.last_position() == positions[-1]
    told = {(stream, version) for _, stream, version, _ in rows}
    assert told == {(ONE, 1), (ONE, 2), (TWO, 1)}
    assert log.read_log(positions[0], 1) == [rows[1]]


def test_a_turn_without_commit_writes_nothing(log: LogStore) -> None:
    append(log, (ONE, 1))
    with log.turn() as turn:
        turn.append(ONE, 2, b"2", (KEY_A,), ID)

    assert log.version(ONE) == 1
    append(log, (ONE, 2))
    assert log.version(ONE) == 2


def test_a_turn_that_fails_writes_nothing_and_ends(log: LogStore) -> None:
    with pytest.raises(ZeroDivisionError), log.turn() as turn:
        turn.append(ONE, 1, b"1", (), None)
        raise ZeroDivisionError

    assert log.version(ONE) == 0
    append(log, (ONE, 1))


def test_only_one_has_the_turn(log: LogStore) -> None:
    refused = []

    def other() -> None:
        try:
            with log.turn(wait=False):
                pass
        except StoreBusy as busy:
            refused.append(busy)

    with log.turn():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    assert len(refused) == 1


def test_writers_get_numbers_that_lead_back_to_their_prefixes(log: LogStore) -> None:
    with log.turn() as turn:
        number = turn.register_writer(b"p" * 12)
        turn.append(ONE, 1, b"1", (), None)
        turn.commit()

    if number is not None:
        assert log.prefix_of(number) == b"p" * 12
        assert log.prefix_of(number + 1) is None


def test_a_writer_of_a_turn_that_was_not_committed_is_forgotten(log: LogStore) -> None:
    with log.turn() as turn:
        lost = turn.register_writer(b"p" * 12)
    with log.turn() as turn:
        number = turn.register_writer(b"q" * 12)
        turn.append(ONE, 1, b"1", (), None)
        turn.commit()

    if number is not None and lost is not None:
        assert log.prefix_of(number) == b"q" * 12


def test_the_kept_history_says_which_versions_touched_a_key(log: LogStore) -> None:
    history = log.history
    if history is None:
        pytest.skip("this log keeps no history; the engine folds it")
    touched = [version for version in range(1, 400) if version % 3 != 0]
    with log.turn() as turn:
        for version in range(1, 400):
            turn.append(ONE, version, b"x", (KEY_A,) if version in touched else (KEY_B,), None)
        turn.commit()

    assert history.touched(ONE, KEY_A, 0, 400) == touched
    assert history.touched(ONE, KEY_A, 100, 107) == [101, 103, 104, 106, 107]
    assert history.touched(ONE, b"c" * 16, 0, 400) == []
    for version in range(1, 400):
        last = max((other for other in touched if other <= version), default=0)
        following = min((other for other in touched if other > version), default=10**9)
        found, until = history.last_touched(ONE, KEY_A, version)
        assert found == last
        assert version <= until < following


def test_ids_are_found_again(log: LogStore) -> None:
    history = log.history
    if history is None:
        pytest.skip("this log keeps no ids; the engine folds them")
    with log.turn() as turn:
        turn.append(ONE, 1, b"1", (), None)
        turn.append(ONE, 2, b"2", (), ID)
        turn.commit()

    assert history.find_id(ONE, ID) == 2
    assert history.find_id(TWO, ID) == 0


def test_nothing_is_committed_beside_an_id_that_is_there(log: LogStore) -> None:
    if log.history is None:
        pytest.skip("this log keeps no ids; the engine folds them")
    with log.turn() as turn:
        turn.append(ONE, 1, b"1", (), ID)
        assert turn.commit() == {ONE}

    with log.turn() as turn:
        turn.append(TWO, 1, b"1", (KEY_A,), ID)
        turn.append(ONE, 2, b"2", (KEY_A,), ID)
        assert turn.commit() == set()

    assert (log.version(ONE), log.version(TWO)) == (1, 0)
    assert log.history.touched(TWO, KEY_A, 0, 9) == []
    with log.turn() as turn:  # the id is of one stream
        turn.append(TWO, 1, b"1", (KEY_A,), ID)
        assert turn.commit() == {TWO}


def test_snapshots_are_kept_found_and_dropped(log: LogStore) -> None:
    append(log, *((ONE, version) for version in range(1, 10)))
    with log.turn() as turn:
        turn.keep_snapshot(ONE, 3, b"three")
        turn.keep_snapshot(ONE, 7, b"seven")
        turn.keep_snapshot(ONE, 7, b"again")
        turn.commit()
    if log.snapshot(ONE, 9) is None:
        pytest.skip("this log keeps no snapshots")

    assert log.snapshot(ONE, 2) is None
    assert log.snapshot(ONE, 6) == (3, b"three")
    assert log.snapshot(ONE, 9) == (7, b"seven")
    with log.turn() as turn:
        turn.drop_derived(ONE)
        turn.commit()
    assert log.snapshot(ONE, 9) is None


def test_listeners_hear_of_appends_until_they_end(log: LogStore) -> None:
    heard = threading.Event()
    end = log.subscribe(heard.set)

    append(log, (ONE, 1))

    assert heard.wait(5)
    end()
    end()


def test_closing_wakes_listeners_and_refuses_use(log: LogStore) -> None:
    heard = threading.Event()
    log.subscribe(heard.set)

    log.close()
    log.close()

    assert heard.wait(5)
    with pytest.raises(StoreClosed):
        log.freshness()


def test_what_one_file_holds_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    first = open_backend("sqlite", tmp_path)
    with first.turn() as turn:
        turn.register_writer(b"p" * 12)
        for version in range(1, 200):
            turn.append(ONE, version, b"%d" % version, (KEY_A,), None)
        turn.commit()
    first.close()

    second = open_backend("sqlite", tmp_path)

    assert second.log_id == first.log_id
    assert second.version(ONE) == 199
    assert second.prefix_of(1) == b"p" * 12
    with second.turn() as turn:  # the last posting list goes on where it ended
        turn.append(ONE, 200, b"200", (KEY_A,), None)
        turn.commit()
    assert second.history is not None
    assert second.history.touched(ONE, KEY_A, 0, 200) == list(range(1, 201))
    second.close()


def test_two_logs_on_one_file_see_each_other(tmp_path: Path) -> None:
    one, two = open_backend("sqlite", tmp_path), open_backend("sqlite", tmp_path)
    seen = one.freshness(), two.freshness()

    append(one, (ONE, 1))

    assert one.freshness() == seen[0]  # its own
    assert two.freshness() != seen[1]
    assert two.version(ONE) == 1
    with two.turn() as turn:
        turn.append(ONE, 1, b"the same version", (), None)
        assert turn.commit() == set()  # somebody was faster; nothing of it was written
    one.close()
    two.close()


def test_a_version_is_never_given_twice(tmp_path: Path) -> None:
    log = open_backend("popo", tmp_path)
    append(log, (ONE, 1))

    assert append(log, (ONE, 1), (TWO, 1)) == {TWO}
    log.close()


def test_settings_that_lose_events_are_refused() -> None:
    from statecore.errors import StoreUnsupported

    with pytest.raises(StoreUnsupported, match="loses events"):
        open_log("eventsourcing.popo", {"POSTGRES_ENABLE_DB_FUNCTIONS": "y"}, b"")
