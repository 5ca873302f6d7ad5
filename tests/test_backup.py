"""Backups: taken while agents write, carried on, two at once, killed, damaged, tidied, verified."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from eventsourcing.persistence import StoredEvent

import statecore
from statecore import Damage, InputError, StoreFull, Verdict
from statecore.anchoring import checkpoint_of
from statecore.backup import Backup, lag, take
from statecore.backup.chain import chain_of
from statecore.backup.destination import DRAFT, Folder
from statecore.backup.pruning import groups
from statecore.backup.segment import Name
from statecore.recorders.sqlite import Factory
from tests.conftest import KEY, Clock, environment
from tests.test_disk import Filler, disk  # noqa: F401 - a fixture

AGENTS = 3


def write(store: statecore.BlockingStore, count: int, first: int = 0) -> None:
    """Write to a few agents in turn."""
    agents = [store.manager(f"agent-{number}", actor="planner") for number in range(AGENTS)]
    for number in range(first, first + count):
        agent = agents[number % AGENTS]
        agent.set_state(f"key-{number % 7}", number, event_id=f"event-{number}")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "backup"


@pytest.fixture
def taken(path: Path, place: Path) -> Path:
    """A backup of 300 events in six segments, whose last head covers all of them."""
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        write(store, 300)
        take(path, place, events_max=50)
        store.backup(place)
    return place


def segments(place: Path) -> list[Path]:
    return sorted(place.glob("*.segment"))


def found(place: Path, **options: object) -> list[str]:
    """Return the kinds of what a verification finds."""
    return [each.kind for each in statecore.verify_backup(place, **options).findings]  # type: ignore[arg-type]


# Taking


def test_only_what_is_new_travels(path: Path, place: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store, 100)
        first = store.backup(place)
        write(store, 10, 100)
        second = store.backup(place)
        third = store.backup(place)

    assert (first.events, second.events, third.events) == (100, 10, 0)
    assert (third.position, third.size, third.signed) == (110, 110, 110)
    assert second.bytes < first.bytes / 3
    assert len(segments(place)) == 2


def test_a_backup_needs_no_key_and_holds_nothing_readable(path: Path, place: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent-7", actor="planner").set_state("secret-key", "secret-value")
    shutil.move(f"{path}-keys", f"{path}-elsewhere")

    result = take(path, place)

    assert (result.events, result.signed) == (1, 1)
    for file in place.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        for word in (b"agent-7", b"planner", b"secret"):
            assert word not in file.read_bytes()


def test_a_head_signed_after_the_last_event_was_taken_is_taken_too(path: Path, place: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store, 3)
        assert take(path, place).signed == 0
        store.signed_head()

        again = take(path, place)

    assert (again.events, again.signed) == (0, 3)
    assert checkpoint_of(Backup(place).head(3)).size == 3


def test_the_blocking_face_and_tasks_take_the_same_backup(path: Path, place: Path) -> None:
    async def work() -> int:
        async with statecore.open(path, key=KEY) as store:
            await store.manager("one").set_state("n", 1)
            return (await store.backup(place)).events

    import asyncio

    assert asyncio.run(work()) == 1
    with statecore.open(path, key=KEY) as store:
        assert store.backup(place).events == 0


def test_progress_is_told_up_to_the_end(path: Path, place: Path) -> None:
    told = []
    with statecore.open(path, key=KEY) as store:
        write(store, 100)

    take(path, place, events_max=40, on_progress=lambda done, total: told.append((done, total)))

    assert told == [(40, 100), (80, 100), (100, 100)]


def test_a_store_in_no_file_says_so() -> None:
    with statecore.open("memory:") as store, pytest.raises(InputError, match="SQLite file"):
        store.backup("anywhere")


def test_how_far_behind_it_is_counts_events_and_seconds(
    path: Path, place: Path, clock: Clock
) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        write(store, 2)
        result = store.backup(place)
        assert lag(path, result.position, clock.now) == (0, 0.0)
        write(store, 3, 2)
        clock.tick(90)

        assert lag(path, result.position, clock.now) == (3, 90.0)


def test_events_of_other_applications_in_the_file_are_taken_along(
    path: Path, place: Path, tmp_path: Path
) -> None:
    from uuid import uuid4

    with statecore.open(path, key=KEY) as store:
        write(store, 5)
        factory = Factory({"SQLITE_DBNAME": str(path)})
        theirs = StoredEvent(uuid4(), 0, "their.topic", b"state")
        factory.application_recorder().insert_events([theirs])
        factory.close()
        write(store, 5, 5)
        store.backup(place)
    assert found(place) == []

    statecore.restore(place, tmp_path / "restored.db")

    factory = Factory({"SQLITE_DBNAME": str(tmp_path / "restored.db")})
    notifications = factory.application_recorder().select_notifications(1, 20)
    assert [each.topic for each in notifications].count("their.topic") == 1
    assert [each.id for each in notifications] == list(range(1, 12))
    factory.close()


def test_it_is_consistent_while_other_processes_write(path: Path, place: Path) -> None:
    code = """
import sys, statecore
from statecore import KeyInEnvironment
with statecore.open(sys.argv[1], key=bytes(range(32))) as store:
    agent = store.manager(sys.argv[2])
    for number in range(100_000):
        agent.set_state(f"key-{number % 5}", number)
"""
    with statecore.open(path, key=KEY) as store:
        write(store, 1)
    writers = [
        subprocess.Popen([sys.executable, "-c", code, path, name], env=environment())
        for name in ("left", "right")
    ]
    try:
        results = []
        ends = time.monotonic() + 60
        while len(results) < 15 or results[-1].position < 1000:
            results.append(take(path, place))
            assert time.monotonic() < ends, "nothing is written"
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()

    report = statecore.verify_backup(place, key=KEY, key_store=f"{path}-keys")
    assert (report.verdict, report.findings) == (Verdict.UNANCHORED, [])
    assert report.events == sum(result.events for result in results) == results[-1].size


def test_two_at_once_to_one_place_do_no_harm(path: Path, place: Path) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        write(store, 2000)
    sizes = [7, 50, 64, 64]
    failed = []

    def work(size: int) -> None:
        try:
            take(path, place, events_max=size)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    report = statecore.verify_backup(place)
    assert (failed, report.findings, report.events) == ([], [], 2000)
    statecore.prune_backup(place)
    assert found(place) == []
    assert len(segments(place)) <= 2


TAKE = """
import sys
from pathlib import Path
from statecore.backup import take
print("begun", flush=True)
take(Path(sys.argv[1]), sys.argv[2], events_max=20)
"""


def test_a_backup_killed_at_any_moment_is_gone_on_with(path: Path, place: Path) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        write(store, 3000)
    dice, kills = random.Random(7), 0

    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE, path, place], env=environment(), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(dice.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        if segments(place):
            assert found(place) == []

    assert kills
    take(path, place)
    report = statecore.verify_backup(place)
    assert (report.findings, report.events, report.head_size) == ([], 3000, 3000)


def test_a_full_disk_is_told_and_gone_on_from(path: Path, disk: Path) -> None:  # noqa: F811
    with statecore.open(path, key=KEY) as store:
        write(store, 500)
        take(path, disk / "backup")
        write(store, 1500, 500)
    filler = Filler(disk)
    filler.fill()

    with pytest.raises(StoreFull):
        for _ in range(100):
            take(path, disk / "backup", events_max=500)
            filler.fill()
            with statecore.open(path, key=KEY) as store:
                write(store, 100)

    assert found(disk / "backup") == []
    filler.free()
    take(path, disk / "backup")
    assert found(disk / "backup") == []


# What is refused


def test_a_damaged_event_is_not_carried_off(path: Path, place: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store, 300)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE events SET state = state || x'00' WHERE position = 100")

    with pytest.raises(Damage, match="audit tree"):
        take(path, place)

    assert segments(place) == []


def test_the_place_of_another_store_is_refused(taken: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with statecore.open(other, key=KEY) as store:
        write(store, 300)
        with pytest.raises(InputError, match="another store"):
            store.backup(taken)


def test_a_store_that_went_back_is_refused(path: Path, place: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    with statecore.open(path, key=KEY) as store:
        write(store, 20)
    shutil.copy(path, old)
    shutil.copy(f"{path}-keys", f"{old}-keys")
    with statecore.open(path, key=KEY) as store:
        write(store, 20, 20)
        store.backup(place)

    with statecore.open(old, key=KEY) as store:
        with pytest.raises(InputError, match="does not go on from"):
            store.backup(place)
        write(store, 30, 20)
        with pytest.raises(InputError, match="does not go on from"):
            store.backup(place)


# Verifying


def test_an_untouched_backup_is_valid_and_says_what_that_rests_on(
    path: Path, taken: Path, tmp_path: Path
) -> None:
    with statecore.open(path, key=KEY) as store:
        (tmp_path / "head").write_bytes(store.signed_head())
        policy = store.audit_policy()

    alone = statecore.verify_backup(taken)
    anchored = statecore.verify_backup(taken, policy=policy, anchors=[tmp_path / "head"])

    assert (alone.verdict, alone.findings) == (Verdict.UNANCHORED, [])
    assert (anchored.verdict, anchored.findings) == (Verdict.ANCHORED, [])
    assert anchored.events == anchored.head_size == anchored.anchored == 300
    assert anchored.signed_by == checkpoint_of((tmp_path / "head").read_bytes()).origin


def flip(place: Path) -> None:
    data = bytearray(segments(place)[2].read_bytes())
    data[len(data) // 2] ^= 1
    segments(place)[2].write_bytes(data)


def truncate(place: Path) -> None:
    segments(place)[2].write_bytes(segments(place)[2].read_bytes()[:-1])


def empty(place: Path) -> None:
    segments(place)[2].write_bytes(b"")


def lose(place: Path) -> None:
    segments(place)[2].unlink()


def lose_first(place: Path) -> None:
    segments(place)[0].unlink()


def swap(place: Path) -> None:
    one, other = segments(place)[2:4]
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def duplicate(place: Path) -> None:
    segments(place)[4].write_bytes(segments(place)[2].read_bytes())


def mix(place: Path) -> None:
    other = place.parent / "mixed.db"
    with statecore.open(other, key=KEY) as store:
        write(store, 300)
    take(other, place.parent / "mixed", events_max=50)
    shutil.copy(segments(place.parent / "mixed")[2], segments(place)[2])


HARMS: list[tuple[Callable[[Path], None], str, int]] = [
    (flip, "damaged-segment", 100),
    (truncate, "damaged-segment", 100),
    (empty, "damaged-segment", 100),
    (lose, "missing-segment", 100),
    (lose_first, "missing-segment", 0),
    (swap, "damaged-segment", 100),
    (duplicate, "damaged-segment", 200),
    (mix, "damaged-segment", 100),
]


@pytest.mark.parametrize(
    ("harm", "kind", "reached"), HARMS, ids=lambda p: getattr(p, "__name__", "")
)
def test_a_harmed_backup_is_told_with_its_extent_and_restores_up_to_there(
    path: Path, taken: Path, tmp_path: Path, harm: Callable[[Path], None], kind: str, reached: int
) -> None:
    harm(taken)

    report = statecore.verify_backup(taken)

    assert report.verdict == Verdict.INVALID
    assert report.findings[0].kind == kind
    assert f"positions {reached + 1:,} to " in report.findings[0].text
    assert report.events == reached
    with pytest.raises(Damage):
        statecore.restore(taken, tmp_path / "restored.db")
    assert not list(tmp_path.glob("*restored*"))
    if reached:
        result = statecore.restore(taken, tmp_path / "restored.db", at=reached, record=False)
        assert result.events == reached


def test_a_segment_that_was_forged_whole_does_not_fit_what_was_signed(
    path: Path, taken: Path, tmp_path: Path
) -> None:
    forged = tmp_path / "forged.db"
    shutil.copy(path, forged)
    with sqlite3.connect(forged) as database:
        database.execute("UPDATE events SET state = state || x'00' WHERE position = 280")
        database.executescript("DELETE FROM tree; DELETE FROM links; DELETE FROM heads;")
    shutil.copy(f"{path}-keys", f"{forged}-keys")
    with statecore.open(forged, key=KEY) as store:
        store.manager("agent-1").set_state("again", True)  # makes the tree anew
    take(forged, tmp_path / "forgery", events_max=50)
    shutil.copy(segments(tmp_path / "forgery")[5], segments(taken)[5])

    report = statecore.verify_backup(taken)

    assert report.verdict == Verdict.INVALID
    assert "other-history" in [each.kind for each in report.findings]
    with pytest.raises(Damage, match="signed head"):
        statecore.restore(taken, tmp_path / "restored.db")


def test_an_end_that_is_missing_is_told_by_the_head_that_signed_it(
    taken: Path, tmp_path: Path
) -> None:
    segments(taken)[-1].unlink()

    assert found(taken) == ["rolled-back"]
    with pytest.raises(Damage, match="its end is missing"):
        statecore.restore(taken, tmp_path / "restored.db")
    assert statecore.restore(taken, tmp_path / "rest.db", at=250, record=False).events == 250


def test_an_older_backup_is_told_by_what_was_kept_outside(
    path: Path, taken: Path, tmp_path: Path
) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store, 1, 300)
        (tmp_path / "head").write_bytes(store.signed_head())

    report = statecore.verify_backup(taken, anchors=[tmp_path / "head"])

    assert (report.verdict, report.findings[0].kind) == (Verdict.DIVERGED, "rolled-back")


def test_every_event_is_opened_by_who_has_the_keys(path: Path, place: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store, 30)
        store.erase("agent-1")
        store.backup(place)

    report = statecore.verify_backup(place, key=KEY, key_store=f"{path}-keys")

    assert (report.findings, report.depth) == ([], "contents")
    assert "21 events were opened with their keys; 10 were erased, on purpose" in report.notes
    with pytest.raises(statecore.WrongKey):
        statecore.verify_backup(place, key=bytes(32), key_store=f"{path}-keys")


def test_events_without_their_keys_are_told(path: Path, taken: Path) -> None:
    with sqlite3.connect(f"{path}-keys") as database:
        database.execute("DELETE FROM keys WHERE epoch > 0")

    report = statecore.verify_backup(taken, key=KEY, key_store=f"{path}-keys")

    assert report.verdict == Verdict.INVALID
    assert {each.kind for each in report.findings} == {"damaged-event"}
    assert report.findings[-1].text == "and 280 more events do not open"


def test_where_there_is_no_backup_it_says_so(tmp_path: Path) -> None:
    for ask in (statecore.verify_backup, statecore.prune_backup):
        with pytest.raises(statecore.NotFound, match="no backup"):
            ask(tmp_path / "nowhere")


# Tidying


def test_small_segments_are_made_into_larger_ones_and_every_point_stays(
    taken: Path, tmp_path: Path
) -> None:
    before = statecore.verify_backup(taken)

    planned = statecore.prune_backup(taken, dry_run=True)
    assert len(segments(taken)) == 6
    done = statecore.prune_backup(taken)

    assert planned == done
    assert (done.merged, done.made, len(segments(taken))) == (5, 1, 2)
    after = statecore.verify_backup(taken)
    assert (after.findings, after.root, after.events) == ([], before.root, 300)
    for point in (1, 49, 50, 51, 249, 250, 251, 300):
        result = statecore.restore(taken, tmp_path / f"{point}.db", at=point, record=False)
        assert result.events == point
    assert statecore.prune_backup(taken).merged == 0


def test_tidying_that_was_interrupted_is_taken_up_again(
    taken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = []

    def stop(folder: Folder, name: str) -> None:
        if removed:
            raise KeyboardInterrupt
        (taken / name).unlink()
        removed.append(name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "remove", stop)
        with pytest.raises(KeyboardInterrupt):
            statecore.prune_backup(taken)
    assert found(taken) == []

    statecore.prune_backup(taken)

    assert (found(taken), len(segments(taken))) == ([], 2)


def test_tidying_removes_nothing_of_what_is_damaged(taken: Path) -> None:
    flip(taken)

    with pytest.raises(Damage):
        statecore.prune_backup(taken)

    assert len(segments(taken)) == 6


def test_tidying_removes_no_spare_of_a_segment_that_is_not_whole(path: Path, place: Path) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        write(store, 100)
    take(path, place, events_max=50)
    take(path, place.parent / "spare")
    for file in segments(place.parent / "spare"):
        shutil.copy(file, place)
    data = segments(place)[1].read_bytes()
    segments(place)[1].write_bytes(data[:-1])

    with pytest.raises(Damage):
        statecore.prune_backup(place)

    assert len(segments(place)) == 3


def test_what_a_killed_one_left_behind_goes_after_a_day(taken: Path) -> None:
    draft = taken / f"{DRAFT}0123"
    draft.write_bytes(b"half")
    statecore.prune_backup(taken)
    assert draft.exists()
    os.utime(draft, (0, 0))

    statecore.prune_backup(taken)

    assert not draft.exists()


def test_the_chain_is_the_way_that_leads_furthest() -> None:
    names = [Name(*each) for each in [(0, 5), (5, 9), (0, 7), (0, 9), (7, 8), (9, 11), (12, 20)]]

    assert chain_of(names) == [Name(0, 9), Name(9, 11)]
    assert chain_of([]) == []
    assert chain_of([Name(3, 4)]) == []


def test_only_what_fits_together_is_merged() -> None:
    many = 1 << 15
    weights = [many, many, 1, 1, 2 * many, 5]

    merging = groups([(Name(at, at + 1), weight, 1) for at, weight in enumerate(weights)])

    assert [[name.after for name in group] for group in merging] == [[0, 1], [2, 3]]
