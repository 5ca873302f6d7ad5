"""Attacks that digests can't tell of, and that whoever has the key finds: contents and replay."""

from __future__ import annotations

from pathlib import Path

import pytest

import statecore
from statecore import Depth, Report, Verdict, verify
from statecore.errors import KeyMissing, WrongKey
from statecore.keys import FileKeyStore, KeyRing
from statecore.keys.providers import GivenKey
from statecore.recorders.sqlite.reading import StoreFile
from statecore.snapshots import keeper
from statecore.state import Root
from tests.attacking import copy_store, kinds, refit, resign, run, shell, write_store
from tests.conftest import KEY, Clock

LAST = "(SELECT max(position) FROM events)"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with forks, merges, tags, clears, ids, snapshots, and states that were erased."""
    path, clock = tmp_path_factory.mktemp("contents") / "agents.db", Clock()
    with (
        pytest.MonkeyPatch.context() as patch,
        statecore.open(path, key=KEY, clock=clock, durability="relaxed") as store,
    ):
        patch.setattr(keeper, "_WEIGHT_MIN", 2000)
        agent = store.manager("agent", actor="planner")
        for number in range(120):
            clock.tick(1)
            agent.set_state(f"key {number % 5}", "value " * (number % 7), event_id=f"id-{number}")
        agent.tag("release", 60)
        agent.clear_state()
        agent.add("count", 5)
        idea = agent.branch("idea", at=90)
        deeper = idea.branch("deeper")
        for branch in (agent, idea, deeper):
            branch.set_state("side", branch.branch_name)
            branch.extend("items", [branch.branch_name])
        agent.merge(deeper)
        agent.restore(50)
        gone = store.manager("session", kind="temporary", ttl=1)
        gone.set_state("secret", "is erased")
        again = store.manager("again", kind="temporary", ttl=1)
        again.set_state("secret", "is erased", event_id="first")
        clock.tick(60)
        store.clean_up()
        store.manager("again").set_state("new", "life", event_id="second")
        store.manager("other").set_state("n", 1)
    return path


@pytest.fixture
def store(original: Path, path: Path) -> Path:
    return copy_store(original, path)


def opened(path: Path, depth: Depth = Depth.REPLAY) -> Report:
    return verify(path, depth=depth, key=KEY)


def keys_of(path: Path) -> Path:
    return path.with_name(path.name + "-keys")


@pytest.mark.parametrize("depth", [Depth.CONTENTS, Depth.REPLAY])
def test_a_store_of_every_feature_is_valid(depth: Depth, store: Path) -> None:
    files = {file: file.read_bytes() for file in store.parent.glob("agents.db*")}

    report = opened(store, depth)

    assert (report.verdict, report.findings) == (Verdict.UNANCHORED, [])
    assert report.signed_by is not None
    assert report.notes[-1] == "2 streams were erased: their events are proved, not readable"
    assert report.notes[0] != "0 snapshots were opened"
    assert {file: file.read_bytes() for file in files} == files


@pytest.mark.parametrize("depth", [Depth.CONTENTS, Depth.REPLAY])
def test_the_right_key_is_needed(depth: Depth, store: Path) -> None:
    with pytest.raises(WrongKey):
        verify(store, depth=depth, key=b"x" * 32)
    with pytest.raises(KeyMissing):
        verify(store, depth=depth)
    keys_of(store).unlink()
    with pytest.raises(KeyMissing, match="key store"):
        verify(store, depth=depth, key=KEY)


def test_a_swapped_key_store_is_refused(store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    write_store(other, 3)
    keys_of(store).write_bytes(keys_of(other).read_bytes())

    with pytest.raises(WrongKey, match="another log"):
        opened(store)


IN_THE_LOG = [
    # An old event, once more, under a new version, behind all that is signed.
    (
        f"INSERT INTO events SELECT {LAST} + 1, stream, (SELECT max(version) + 1 FROM events AS e"
        " WHERE e.stream = events.stream), topic, state FROM events WHERE position = 7",
        "damaged-event",
    ),
    ("UPDATE writers SET prefix = x'000102030405060708090a0b' WHERE id = 1", "damaged-event"),
    ("DELETE FROM writers", "damaged-event"),
    ("UPDATE snapshots SET state = CAST(substr(state, 1, 40) AS BLOB)", "damaged-snapshot"),
    ("UPDATE snapshots SET version = version + 1", "damaged-snapshot"),
    ("UPDATE snapshots SET version = version + 1000", "missing-events"),
]

IN_THE_KEYS = [
    ("UPDATE keys SET wrapped = NULL WHERE since = 1", "missing-erasure"),
    ("DELETE FROM keys WHERE since = 1", "missing-key"),
    ("UPDATE keys SET since = 2 WHERE since = 1", "damaged-key"),
    ("UPDATE keys SET wrapped = zeroblob(72) WHERE since = 1", "damaged-key"),
    ("UPDATE keys SET wrapped = 'text' WHERE since = 1", "damaged-key"),
    ("UPDATE keys SET epoch = 5 WHERE since = 1", "damaged-key"),
]


@pytest.mark.parametrize(("statement", "kind"), IN_THE_LOG)
@pytest.mark.parametrize("depth", [Depth.CONTENTS, Depth.REPLAY])
def test_what_does_not_open_is_told(statement: str, kind: str, depth: Depth, store: Path) -> None:
    run(store, statement)

    report = opened(store, depth)

    assert kind in kinds(report)
    assert report.verdict == Verdict.INVALID
    assert verify(store).verdict == Verdict.UNANCHORED


@pytest.mark.parametrize(("statement", "kind"), IN_THE_KEYS)
def test_keys_that_were_taken_or_edited_are_told(statement: str, kind: str, store: Path) -> None:
    run(keys_of(store), statement)

    report = opened(store)

    assert kind in kinds(report)
    assert report.verdict == Verdict.INVALID


def test_a_second_key_for_what_a_first_one_sealed_is_told(store: Path) -> None:
    """Whoever has the key-encryption key still can't have the log read in two ways."""
    file = StoreFile(store)
    ((stream,),) = file.all("SELECT name FROM streams WHERE id = 1")
    with shell(keys_of(store)) as database:
        database.execute("DELETE FROM keys WHERE stream = ?", (stream,))
    ring = KeyRing.open(FileKeyStore(keys_of(store)), GivenKey(KEY), file.log_id)
    ring.new_key(stream, 1, 1, None)
    ring.keep_new()
    ring.close()
    file.close()

    report = opened(store, Depth.CONTENTS)

    told = [finding.text for finding in report.findings if finding.kind == "damaged-event"]
    assert "the log commits to another data key" in told[0]


def test_keys_of_what_was_erased_that_are_back_are_noted(path: Path, tmp_path: Path) -> None:
    clock = Clock()
    with statecore.open(path, key=KEY, clock=clock) as store:
        store.manager("session", kind="temporary", ttl=1).set_state("secret", "is erased")
        backup = keys_of(path).read_bytes()
        clock.tick(60)
        store.clean_up()
    keys_of(path).write_bytes(backup)

    report = opened(path, Depth.CONTENTS)

    assert report.findings == []
    assert report.notes[-1] == "1 streams were erased, and keys of what was erased are there"


FIRST_TAG = "(SELECT tag FROM touches WHERE stream = 1 ORDER BY tag LIMIT 1)"
IN_THE_INDEXES = [
    ("DELETE FROM touches", "wrong-history"),
    (f"DELETE FROM touches WHERE stream = 1 AND tag = {FIRST_TAG}", "wrong-history"),
    ("UPDATE touches SET first = first + 1", "wrong-history"),
    ("UPDATE touches SET distances = x'c1', count = 2", "wrong-history"),
    ("UPDATE touches SET distances = 'text'", "wrong-history"),
    ("UPDATE touches SET count = 'text'", "wrong-history"),
    ("UPDATE touches SET first = 'text'", "wrong-history"),
    ("INSERT INTO touches VALUES (1, zeroblob(16), 3, 1, x'')", "wrong-history"),
    ("DELETE FROM ids WHERE version = 7", "wrong-ids"),
    ("UPDATE ids SET version = 8 WHERE version = 7", "wrong-ids"),
    ("UPDATE ids SET version = 'text' WHERE version = 7", "wrong-ids"),
    ("INSERT INTO ids VALUES (1, zeroblob(16), 3)", "wrong-ids"),
]


@pytest.mark.parametrize(("statement", "kind"), IN_THE_INDEXES)
def test_indexes_that_lack_or_invent_anything_are_told(
    statement: str, kind: str, store: Path
) -> None:
    run(store, statement)

    report = opened(store)

    assert kinds(report) == {kind}
    assert opened(store, Depth.CONTENTS).findings == []


def test_a_snapshot_that_lies_is_told_though_it_opens(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statecore with a fault, or somebody with the key, sealed a state that never was."""
    pack = keeper.pack_root
    monkeypatch.setattr(keeper, "_WEIGHT_MIN", 1)
    monkeypatch.setattr(keeper, "pack_root", lambda root: pack(_with_other_cells(root)))
    with statecore.open(store, key=KEY) as changed:
        for number in range(40):
            changed.manager("other").set_state("n", "lorem " * number)

    report = opened(store)

    assert kinds(report) >= {"wrong-snapshot", "wrong-state"}
    assert opened(store, Depth.CONTENTS).findings == []


def _with_other_cells(root: Root) -> Root:
    cells = root.cells.set("n", (1, b"\x07"))
    return Root(root.version, root.time, cells, root.weight, root.tags, root.last, root.past)


@pytest.mark.parametrize("clever", [False, True])
def test_events_that_an_old_copy_lacks_are_told_where_their_snapshots_are(
    clever: bool, store: Path
) -> None:
    """The end of a stream was cut off, with a head of the attacker's; its snapshot is there."""
    with shell(store) as database:
        (newest,) = database.execute(
            "SELECT max(version) FROM snapshots WHERE stream = 1"
        ).fetchall()[0]
        database.execute("DELETE FROM events WHERE stream = 1 AND version >= ?", (newest,))
    if clever:
        refit(store)
        resign(store)

    assert "missing-events" in kinds(opened(store, Depth.CONTENTS))


def test_the_beginning_of_a_stream_can_not_be_taken_away(store: Path) -> None:
    """Behind the last head nothing is signed; what a key says of its stream is."""
    with statecore.open(store, key=KEY) as later:
        later.manager("late").set_state("n", 1)
        later.manager("late").set_state("n", 2)
    with shell(store) as database:
        at = database.execute("SELECT max(position) FROM events").get
        database.execute("DELETE FROM events WHERE position = ?", (at - 1,))
        database.execute("UPDATE events SET position = ? WHERE position = ?", (at - 1, at))
        database.execute("DELETE FROM heads WHERE size = (SELECT max(size) FROM heads)")
    refit(store)

    assert verify(store).findings == []
    assert kinds(opened(store, Depth.CONTENTS)) == {"missing-events", "no-commitment"}


def test_a_clock_that_ran_backwards_is_told(path: Path) -> None:
    """No statecore records this; somebody with the key might."""
    clock = Clock()
    with statecore.open(path, key=KEY, clock=clock) as store:
        store.manager("one").set_state("n", 1)
        clock.tick(60)
        store.manager("two").set_state("n", 2)
    run(
        path,
        "UPDATE events SET position = -position",
        "UPDATE events SET position = 3 + position",
    )

    assert "time-backwards" in kinds(opened(path, Depth.CONTENTS))


@pytest.mark.parametrize("depth", [Depth.CONTENTS, Depth.REPLAY])
def test_damage_of_one_stream_leaves_the_others_checked(depth: Depth, store: Path) -> None:
    run(
        store,
        "UPDATE events SET state = zeroblob(50) WHERE stream = 1 AND version IN (5, 6, 7, 40)",
        "DELETE FROM touches WHERE stream = (SELECT max(stream) FROM touches)",
    )

    report = opened(store, depth)

    damaged = [finding.text for finding in report.findings if finding.kind == "damaged-event"]
    assert len(damaged) == 2
    assert "version 5: it does not parse" in damaged[0]
    assert "and so up to version 7" in damaged[0]
    assert ("wrong-history" in kinds(report)) == (depth == Depth.REPLAY)


def test_no_error_names_a_secret(store: Path) -> None:
    run(store, "UPDATE events SET state = CAST(substr(state, 1, 40) AS BLOB)")

    told = " ".join(finding.text for finding in opened(store).findings)

    assert "planner" not in told
    assert "key 1" not in told
