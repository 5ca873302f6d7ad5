"""Salvage: all that is intact of a damaged file, proven, and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest

import statecore
from statecore.errors import InputError, KeyMissing, StoreBusy, StoreNotFound
from statecore.recorders.sqlite.images import Images
from statecore.salvaging import Salvaged, salvage
from tests.conftest import KEY, environment

PAGE = 4096
Place = tuple[str, int]
"""A stream by its pseudonym, and a version."""


@pytest.fixture
def written(path: Path) -> Path:
    """A closed store with several agents, long values, a branch, and an erased state."""
    write(path)
    return path


def write(path: Path, events: int = 60) -> None:
    with statecore.open(path, key=KEY) as store:
        for name in ("agent", "other", "third"):
            agent = store.manager(name, actor="ada")
            for number in range(events):
                agent.set_state(f"k{number % 7}", os.urandom(9000) if number % 25 == 3 else number)
            agent.set_state("last", "word", event_id=f"the last of {name}")
        store.manager("agent").branch("idea").set_state("k1", "otherwise")
        store.manager("gone").set_state("secret", 1)
        store.erase("gone")


def places(path: Path) -> dict[Place, tuple[int, bytes]]:
    """All events of a healthy file: position and bytes of each."""
    with sqlite(path) as database:
        rows = database.execute(
            "SELECT hex(name), version, position, state FROM events"
            " JOIN streams ON streams.id = stream"
        ).fetchall()
    return {(name, version): (position, state) for name, version, position, state in rows}


class sqlite:  # noqa: N801 - a context manager, named as what it opens
    def __init__(self, path: Path) -> None:
        self.database = apsw.Connection(str(path))

    def __enter__(self) -> apsw.Connection:
        return self.database

    def __exit__(self, *_: object) -> None:
        self.database.close()


def homes(path: Path) -> dict[tuple[str, int], set[int]]:
    """On which pages each event stands: its own, and those that it goes on in."""
    from statecore.recorders.sqlite.pages import Page

    found: dict[tuple[str, int], set[int]] = {}
    with sqlite(path) as database:
        names = dict(database.execute("SELECT id, hex(name) FROM streams").fetchall())
    images = Images(path)
    for number, image in images.current_pages():
        page = Page(number, image, images.size)
        if page.kind != 0x0D:
            continue
        asked: set[int] = set()

        def load(at: int, asked: set[int] = asked) -> bytes | None:
            asked.add(at)
            return images.newest(at)

        for at in page._pointers():
            asked.clear()
            row = page._cell(at, load)
            match row and row.columns:
                case (None, int(stream), int(version), 1, bytes()):
                    found[names[stream], version] = {number, *asked}
    images.close()
    return found


def copy_of(written: Path, name: str, content: bytes | bytearray) -> Path:
    """A copy of a store whose log holds something else."""
    copy = written.with_name(name)
    copy.write_bytes(content)
    shutil.copy(f"{written}-keys", f"{copy}-keys")
    return copy


def salvaged(damaged: Path, **options: Any) -> Salvaged:
    new = damaged.with_name("new.db")
    for each in new.parent.glob("new.db*"):
        each.unlink()
    return salvage(damaged, new, **{"key": KEY, **options})


def require_nothing_forged(done: Salvaged, before: dict[Place, tuple[int, bytes]]) -> set[Place]:
    """Hold every event of the new store against what was written; return which there are."""
    after = places(done.path)
    for place, (position, state) in after.items():
        assert before[place] == (position, state), place
    return set(after)


def test_a_healthy_store_is_salvaged_whole(written: Path) -> None:
    before = written.read_bytes(), written.with_name("agents.db-keys").read_bytes()

    done = salvaged(written)

    assert (written.read_bytes(), written.with_name("agents.db-keys").read_bytes()) == before
    assert require_nothing_forged(done, places(written)) == places(written).keys()
    assert done.survey.losses == []
    assert done.survey.refused == 0
    assert done.survey.is_whole
    assert not done.survey.is_damaged
    assert done.heads > 0
    assert everything(done.path) == everything(written)
    assert statecore.verify(done.path).verdict == statecore.Verdict.UNANCHORED


def everything(path: Path) -> list[object]:
    """All one can read of a store, by every route."""
    told: list[object] = []
    with statecore.open(path, key=KEY) as store:
        for birth in store.agents():
            agent = store.manager(birth.agent_id)
            told += [str(event) for event in agent.history()]
            told.append(agent.at().data)
            told += [agent.value_at("k1", version) for version in range(agent.version() + 1)]
            told += [event.version for event in agent.history("k3")]
            told.append(agent.set_state("last", "word", event_id=f"the last of {birth.agent_id}"))
        told.append(store.manager("agent").branch("idea", create=False).at().data)
    return told


def test_a_flipped_byte_on_any_page_costs_no_event_of_another_page(written: Path) -> None:
    whole, before, stand_on = written.read_bytes(), places(written), homes(written)
    assert stand_on.keys() == before.keys()
    for page in range(len(whole) // PAGE):
        for offset in (0, 5, 1700, PAGE - 9):
            flipped = bytearray(whole)
            flipped[page * PAGE + offset] ^= 0xFF

            done = salvaged(copy_of(written, "damaged.db", flipped))

            there = require_nothing_forged(done, before)
            lost = before.keys() - there
            assert all(page + 1 in stand_on[place] for place in lost), (page, offset, lost)
            assert lost_by_report(done) >= {place for place in lost if is_inside(place, there)}


def lost_by_report(done: Salvaged) -> set[Place]:
    return {
        (loss.stream.upper(), version)
        for loss in done.survey.losses
        for version in range(loss.first, loss.last + 1)
    }


def is_inside(place: Place, there: set[Place]) -> bool:
    """Whether there are events of the stream on both sides."""
    versions = [version for name, version in there if name == place[0]]
    return bool(versions) and min(versions) < place[1] < max(versions)


def test_zeroed_pages_cost_the_events_on_them(written: Path) -> None:
    whole, before, stand_on = written.read_bytes(), places(written), homes(written)
    for page in range(len(whole) // PAGE):
        zeroed = bytearray(whole)
        zeroed[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)

        done = salvaged(copy_of(written, "damaged.db", zeroed))

        lost = before.keys() - require_nothing_forged(done, before)
        assert lost == {place for place, pages in stand_on.items() if page + 1 in pages}, page


@pytest.mark.parametrize("without_key", [False, True])
def test_a_file_cut_anywhere_gives_what_is_before_the_cut(written: Path, without_key: bool) -> None:
    whole, before, stand_on = written.read_bytes(), places(written), homes(written)
    for length in range(3 * PAGE + 100, len(whole), 5 * PAGE + 333):
        cut = copy_of(written, "damaged.db", whole[:length])

        done = salvaged(cut, without_key=without_key)

        there = require_nothing_forged(done, before)
        kept = {place for place, pages in stand_on.items() if max(pages) <= length // PAGE}
        assert done.survey.is_damaged
        assert done.survey.pages_cut == -(-len(whole) // PAGE) - -(-length // PAGE)
        assert not done.survey.is_whole
        # A name may be lost with its page, and without the key nothing else tells it.
        assert there >= kept or without_key


def test_a_state_of_which_no_event_is_left_is_told_as_missing(written: Path) -> None:
    names = {name.lower() for name, _ in places(written)}
    cut = copy_of(written, "damaged.db", written.read_bytes()[: 2 * PAGE])
    edit(written, "DELETE FROM events WHERE stream = 2", "VACUUM")

    nothing, some = salvaged(cut), salvaged(written)

    assert nothing.written == 0
    assert {*nothing.survey.gone} == names
    (gone,) = some.survey.gone
    assert gone not in {run.stream for run in some.survey.runs}
    assert not some.survey.is_whole
    with statecore.open(some.path, key=KEY) as store:
        assert store.check().proved["states without an event"] == 1
        assert store.check().proved["erased states"] == 1


def test_a_key_whose_first_event_was_never_written_is_no_loss(written: Path) -> None:
    with sqlite(Path(f"{written}-keys")) as keys:
        keys.execute(
            "INSERT INTO keys SELECT randomblob(16), 1, 1, wrapped, NULL FROM keys LIMIT 1"
        )

    assert salvaged(written).survey.is_whole


def test_a_damaged_write_ahead_log_gives_what_sqlite_no_longer_sees(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for number in range(40):
            agent.set_state(f"k{number % 3}", number)
        copy = path.with_name("damaged.db")
        for ending in ("", "-wal", "-keys"):
            shutil.copy(f"{path}{ending}", f"{copy}{ending}")
    log = Path(f"{copy}-wal")
    torn = bytearray(log.read_bytes())
    torn[len(torn) // 2] ^= 0xFF
    log.write_bytes(torn)
    seen = seen_by_sqlite(copy)

    done = salvaged(copy)

    assert done.written == 40 > seen
    assert require_nothing_forged(done, places(path)) == places(path).keys()


def seen_by_sqlite(path: Path) -> int:
    """How many events SQLite sees, of a copy, so that it changes nothing."""
    other = path.with_name("seen.db")
    for ending in ("", "-wal"):
        shutil.copy(f"{path}{ending}", f"{other}{ending}")
    with sqlite(other) as database:
        return int(database.execute("SELECT count(*) FROM events").get)


def test_a_lost_write_ahead_log_leaves_what_the_file_has(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for number in range(1500):
            agent.set_state(f"k{number % 3}", number)
        copy = path.with_name("damaged.db")
        for ending in ("", "-keys"):
            shutil.copy(f"{path}{ending}", f"{copy}{ending}")

    done = salvaged(copy)

    assert 0 < done.written < 1500
    require_nothing_forged(done, places(path))


def edit(path: Path, *statements: str) -> None:
    with sqlite(path) as database:
        for statement in statements:
            database.execute(statement)


FLIP = (
    "UPDATE events SET state = substr(state, 1, 30)"
    " || CASE substr(state, 31, 1) WHEN x'00' THEN x'01' ELSE x'00' END || substr(state, 32)"
)


@pytest.mark.parametrize(
    "statement",
    [
        f"{FLIP} WHERE position = 7",
        "UPDATE events SET state = (SELECT state FROM events WHERE position = 9)"
        " WHERE position = 7",
        "INSERT INTO events SELECT 100000, stream, 1000, topic, state FROM events WHERE version = 5"
        " AND stream = 1",
        "INSERT INTO events SELECT 100001, stream, 62, topic, randomblob(70)"
        " FROM events WHERE version = 5 AND stream = 1",
        "INSERT INTO events SELECT 100002, stream, 900, topic,"
        " x'10010665172931168001' || randomblob(90) FROM events WHERE version = 5 AND stream = 1",
    ],
)
def test_what_was_forged_does_not_get_in(written: Path, statement: str) -> None:
    before = places(written)
    edit(written, statement)

    done = salvaged(written)

    there = require_nothing_forged(done, before)
    assert len(before.keys() - there) <= 1
    assert done.survey.refused >= 1


def test_without_the_key_the_tree_refutes_what_was_forged(path: Path) -> None:
    write(path, events=200)
    before = places(path)
    edit(path, f"{FLIP} WHERE position = 70", f"{FLIP} WHERE position = 300")

    done = salvaged(path, without_key=True)

    forged = {place for place, (position, _) in before.items() if position in (70, 300)}
    assert not forged & require_nothing_forged(done, before)
    assert done.survey.events["tree"] > 150  # of streams that nobody touched
    assert done.survey.refused > 0
    assert not done.has_indexes


def test_every_event_says_what_it_is_proven_by(path: Path) -> None:
    write(path, events=200)

    with_key, without = salvaged(path).survey, salvaged(path, without_key=True).survey

    assert set(with_key.events) == {"seal", "tree"}  # what was erased, nobody can open
    assert set(without.events) == {"tree"}
    assert with_key.total == without.total == len(places(path))
    assert sum(run.last - run.first + 1 for run in with_key.runs) == with_key.total
    assert set(with_key.agents.values()) >= {"agent", "other", "third", "agent@idea"}


def test_an_agent_goes_on_before_its_gap_where_streams_are_cut(written: Path) -> None:
    edit(written, f"{FLIP} WHERE position = 20")

    with statecore.open(salvaged(written).path, key=KEY) as store:
        with pytest.raises(statecore.DamagedRecord, match="version 20 is missing"):
            store.manager("agent").get_state("k1")
        assert store.manager("other").get_state("last") == "word"
        assert store.manager("agent", actor="ada").version is not None
    with statecore.open(salvaged(written, cut=True).path, key=KEY) as store:
        assert store.manager("agent").version() == 19
        assert store.manager("agent").set_state("k1", "on we go") == 20
        assert store.manager("other").get_state("last") == "word"


def test_names_and_the_log_itself_are_found_by_the_key(written: Path) -> None:
    before = places(written)
    edit(written, "DELETE FROM streams", "DELETE FROM log", "VACUUM")

    done = salvaged(written)

    there = require_nothing_forged(done, before)
    gone = {name for name, version in before if version == 2 and (name, 3) not in before}
    assert {place for place in before.keys() - there if place[0] not in gone} == set()


STOPPED = """
import os, signal
if {number} != signal.SIGKILL and {number} != signal.SIGINT:
    signal.signal({number}, signal.SIG_DFL)  # under nohup it would be ignored
from statecore.recorders.sqlite.writing import NewFile
NewFile.commit = lambda self: os.kill(os.getpid(), {number})
from statecore.cli import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_a_salvage_that_was_stopped_leaves_is_gone_with_the_next(
    number: signal.Signals, written: Path, tmp_path: Path
) -> None:
    into = tmp_path / "into"
    into.mkdir()
    code, new = STOPPED.format(number=int(number)), into / "sal.db"
    command = [sys.executable, "-c", code, "salvage", str(written), str(new)]

    stopped = subprocess.run(
        command, env={**environment(), "STATECORE_KEY": KEY.hex()}, check=False
    )

    is_killed = number == signal.SIGKILL
    assert stopped.returncode == (-number if is_killed else 128 + number)
    assert any(into.iterdir()) == is_killed
    assert salvage(written, new, key=KEY).written == len(places(written))
    assert {each.name for each in into.iterdir()} == {"sal.db", "sal.db-keys"}


def test_what_can_t_be_is_refused_and_leaves_nothing_behind(written: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    with pytest.raises(StoreNotFound):
        salvage(tmp_path / "no.db", new, key=KEY)
    with pytest.raises(statecore.ForeignSchema, match="is not a file"):
        salvage(tmp_path, new, key=KEY)
    with pytest.raises(InputError, match="is there already"):
        salvage(written, written, key=KEY)
    with statecore.open(written, key=KEY), pytest.raises(StoreBusy):
        salvage(written, new, key=KEY)
    with pytest.raises(statecore.WrongKey):
        salvage(written, new, key=bytes(32))
    Path(f"{written}-keys").unlink()
    with pytest.raises(KeyMissing, match="restore it from its own backup"):
        salvage(written, new, key=KEY)
    assert [each for each in tmp_path.iterdir() if each.name.startswith("new")] == []
    assert salvage(written, new, without_key=True).written == len(places(written))


def test_it_gets_back_no_less_than_sqlite_reads(written: Path) -> None:
    whole, before = written.read_bytes(), places(written)
    for page in range(3, len(whole) // PAGE, 9):
        zeroed = bytearray(whole)
        zeroed[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
        copy = copy_of(written, "damaged.db", zeroed)

        theirs = read_by_sqlite(copy)
        ours = require_nothing_forged(salvaged(copy), before)

        genuine = {place for place, event in before.items() if event in theirs}
        assert genuine
        assert ours >= genuine, page


def read_by_sqlite(path: Path) -> set[tuple[int, bytes]]:
    """What SQLite reads from either end of a damaged file: positions and bytes of events."""
    found: set[tuple[int, bytes]] = set()
    with sqlite(path) as database:
        for order in ("", " DESC"):
            with suppress(apsw.Error):
                sql = f"SELECT position, state FROM events ORDER BY position{order}"
                for position, state in database.execute(sql):
                    found.add((position, state))
    return found
