"""Archiving: old bodies move to a file, proofs stay, and nothing is lost on the way."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import statecore
from statecore import Archived, BlockingManager, BlockingStore
from statecore.archiving import _Work
from statecore.codec.cut import cut, is_cut, read_cut
from statecore.errors import (
    AccessDenied,
    DamagedRecord,
    Erased,
    ForeignSchema,
    InputError,
    LimitExceeded,
    NotFound,
    VersionNotFound,
    WrongExpectedVersion,
)
from statecore.events import to_time
from statecore.projections.audit_tree import AuditTree
from statecore.recorders.sqlite.reading import StoreFile
from tests.conftest import KEY, Clock

DEPTHS = ("proofs", "digests", "contents", "replay")


def write(agent: BlockingManager, events: int, bytes_each: int = 60) -> None:
    """Write events of each kind that a state's history may have."""
    for number in range(events):
        match number % 8:
            case 0 | 1:
                agent.set_state(f"k{number % 5}", os.urandom(bytes_each).hex())
            case 2:
                agent.add("n", number, event_id=f"add-{agent.version()}")
            case 3:
                agent.extend("list", [number])
            case 4:
                agent.patch("map", {f"f{number % 3}": number})
            case 5:
                agent.delete_state(f"k{number % 3}")
            case 6:
                agent.tag(f"t{agent.version()}", at=agent.version() - 2)
            case _:
                agent.set_state("last", number, reason="because", metadata={"at": number})


def told(agent: BlockingManager, first: int = 1, last: int | None = None) -> list[Any]:
    """All that can be read from one version to another."""
    last = last or agent.version()
    keys = ("k0", "k1", "n", "list", "map", "last", "never")
    states = [agent.at(version) for version in range(first, last + 1)]
    values = [[agent.value_at(key, version) for key in keys] for version in range(first, last + 1)]
    diffs = [agent.diff(first, last), agent.diff(last, first), agent.diff(last - 1, last)]
    events = list(agent.history(since=first - 1, until=last))
    return [
        [(state.data, state.timestamp, state.metadata) for state in states],
        values,
        diffs,
        events,
        [list(agent.history(key, until=last).versions()) for key in keys],
    ]


@pytest.fixture
def store(path: Path, clock: Clock) -> Iterator[BlockingStore]:
    """A store with an agent of 120 events, and another."""

    def ticking() -> int:
        clock.tick(1)
        return clock.now

    with statecore.open(path, key=KEY, clock=ticking) as opened:
        write(opened.manager("agent", actor="ada"), 120)
        write(opened.manager("other", actor="bob"), 20)
        yield opened


@pytest.fixture
def agent(store: BlockingStore) -> BlockingManager:
    return store.manager("agent", actor="ada")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "old.archive"


def rows(path: Path, agent_first: bool = True) -> list[tuple[int, bytes]]:
    """Version and bytes of the first agent's events."""
    database = apsw.Connection(str(path))
    sql = "SELECT version, state FROM events WHERE stream = 1 ORDER BY version"
    found = database.execute(sql).fetchall()
    database.close()
    return found


def edit(path: Path, sql: str, *bindings: Any) -> None:
    database = apsw.Connection(str(path))
    database.execute(sql, bindings)
    database.close()


def test_what_is_archived_is_told_and_cut(
    store: BlockingStore, agent: BlockingManager, archive: Path, path: Path
) -> None:
    done = store.archive("agent", before=80, to=archive, actor="ops")

    assert (done.first, done.horizon, done.events, done.version) == (1, 80, 79, 121)
    assert done.bytes == archive.stat().st_size
    assert archive.stat().st_mode & 0o777 == 0o600
    assert [version for version, stored in rows(path) if is_cut(stored)] == [*range(1, 80)]
    last = next(iter(agent.history(newest_first=True)))
    assert last.type == statecore.EventType.ARCHIVED
    assert (last.actor, last.reason) == ("ops", "versions 1 to 79 are in old.archive")
    assert [each for each in archive.parent.iterdir() if ".archive." in each.name] == []


def test_everything_from_the_horizon_on_is_read_as_it_was(
    store: BlockingStore, agent: BlockingManager, archive: Path, path: Path
) -> None:
    before = told(agent, 80)
    current = agent.at().data

    store.archive("agent", before=80, to=archive)

    assert told(agent, 80, 120) == before
    assert agent.at().data == current
    store.close()
    with statecore.open(path, key=KEY) as again:
        assert told(again.manager("agent"), 80, 120) == before


def test_what_is_before_the_horizon_says_where_it_is(
    store: BlockingStore, agent: BlockingManager, archive: Path
) -> None:
    agent.at(40)  # is warm
    agent.value_at("n", 40)
    store.archive("agent", before=80, to=archive)

    readings: list[Callable[[], object]] = [
        lambda: agent.at(40),
        lambda: agent.at(1),
        lambda: agent.at("t38"),
        lambda: agent.value_at("n", 40),
        lambda: agent.diff(40, 90),
        lambda: agent.diff(90, 40),
        lambda: agent.states(40, 42),
        lambda: list(agent.history(since=40)),
        lambda: agent.revert(40),
        lambda: agent.what_if("otherwise", skip=[40]),
        lambda: agent.blame("never"),
        lambda: agent.restore(40),
        lambda: agent.branch("old", at=40).at(),
    ]
    for reading in readings:
        with pytest.raises(Archived) as raised:
            reading()
        assert (raised.value.archive, raised.value.first) == ("old.archive", 80)


def test_the_key_history_goes_on_telling_versions(
    store: BlockingStore, agent: BlockingManager, archive: Path
) -> None:
    known = [event.version for event in agent.history("k1")]
    store.archive("agent", before=80, to=archive)

    history = agent.history("k1")

    assert list(history.versions()) == known
    assert [event.version for event in history] == [at for at in known if at >= 80]
    assert list(agent.history("k1", newest_first=True).versions()) == known[::-1]
    assert list(agent.history().versions()) == [*range(1, 122)]
    assert [event.version for event in agent.history()] == [*range(80, 122)]
    with pytest.raises(InputError):
        agent.history(actor="ada").versions()


def test_with_the_archive_all_is_read_as_before(
    store: BlockingStore, agent: BlockingManager, archive: Path, path: Path, tmp_path: Path
) -> None:
    before = told(agent)
    store.archive("agent", before=80, to=archive)
    store.close()
    moved = archive.rename(tmp_path / "renamed")

    with statecore.open(path, key=KEY, archives=[moved]) as again:
        agent = again.manager("agent")
        assert told(agent, 1, 120) == before
        assert agent.blame("n", at=30) is not None
        assert again.check().complaints == []
        assert again.rebuild(only_check=True).differences == []
        agent.revert(20)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("is_at_hand", [False, True])
def test_an_archived_store_is_verified_as_before(
    store: BlockingStore,
    archive: Path,
    path: Path,
    tmp_path: Path,
    depth: str,
    is_at_hand: bool,
) -> None:
    write(store.manager("third"), 300)  # more than a tile
    anchor = tmp_path / "head"
    anchor.write_bytes(store.signed_head())
    store.archive("agent", before=80, to=archive)
    store.close()

    report = statecore.verify(
        path, depth=depth, key=KEY, anchors=[anchor], archives=[archive] if is_at_hand else []
    )

    assert report.findings == []
    assert report.verdict == statecore.Verdict.ANCHORED
    assert report.archived == (0 if depth == "proofs" else 79)


def entries(path: Path) -> list[bytes]:
    file = StoreFile(path)
    try:
        tree = AuditTree(file.tree)
        return [*tree.entries(0), *tree.entries(1)]
    finally:
        file.close()


def test_entries_and_proofs_are_the_same_byte_for_byte(
    store: BlockingStore, archive: Path, path: Path
) -> None:
    write(store.manager("third"), 300)
    before = entries(path)

    store.archive("agent", before=80, to=archive)

    assert entries(path)[:-1] == before
    assert store.prove("agent", 40)


def test_archiving_again_goes_on_where_the_last_archive_ended(
    store: BlockingStore, agent: BlockingManager, path: Path, tmp_path: Path
) -> None:
    before = told(agent)
    names = [tmp_path / f"{number}.archive" for number in range(3)]
    for name, horizon in zip(names, (40, 70, 100), strict=True):
        write(agent, 16)
        done = store.archive("agent", before=horizon, to=name)
        assert done.horizon == horizon
    assert done.first == 70
    store.close()

    for count in range(4):  # the newest ones are at hand
        horizon = (100, 70, 40, 1)[count]
        with statecore.open(path, key=KEY, archives=names[3 - count :]) as again:
            agent = again.manager("agent")
            found = told(agent, horizon, 120)
            assert [each[-20:] for each in found[:2]] == [each[-20:] for each in before[:2]]
            assert found[0] == before[0][horizon - 1 :]
            assert again.check().complaints == []
            if horizon > 1:
                with pytest.raises(Archived) as raised:
                    agent.at(horizon - 1)
                assert raised.value.first == horizon
                assert raised.value.archive == names[2 - count].name
                with pytest.raises(Archived) as raised:
                    agent.at(1)
                assert raised.value.archive == "0.archive"
        for depth in DEPTHS:
            report = statecore.verify(path, depth=depth, key=KEY, archives=names[3 - count :])
            assert report.findings == []
    with statecore.open(path, key=KEY, archives=names[:2]) as again:  # the last one is missing
        with pytest.raises(Archived) as raised:
            again.manager("agent").at(99)
        assert raised.value.archive == "2.archive"


def test_what_others_archive_is_noticed(path: Path, archive: Path) -> None:
    opening = statecore.open(path, key=KEY)
    one, two = opening.blocking(), opening.blocking()
    write(one.manager("agent"), 50)
    behind, reader = two.manager("agent"), two.manager("agent")
    before = told(reader, 80 - 40)
    write(one.manager("agent"), 50)
    one.archive("agent", before=80, to=archive)

    assert behind.at().data == one.manager("agent").at().data
    with pytest.raises(Archived):
        reader.at(45)
    assert before[0][0] is not None
    assert behind.set_state("k", 1) == 102
    one.close()
    two.close()


def test_a_reader_that_is_behind_everything_archived_catches_up(path: Path, archive: Path) -> None:
    opening = statecore.open(path, key=KEY)
    one, two = opening.blocking(), opening.blocking()
    write(one.manager("agent"), 10)
    behind = two.manager("agent")
    assert behind.version() == 10
    write(one.manager("agent"), 90)
    one.archive("agent", before=80, to=archive)

    assert behind.at().data == one.manager("agent").at().data
    one.close()
    two.close()


def test_a_tampered_body_in_the_archive_is_found(
    store: BlockingStore, archive: Path, path: Path
) -> None:
    store.archive("agent", before=80, to=archive)
    store.close()
    edit(archive, "UPDATE bodies SET body = zeroblob(length(body)) WHERE version = 40")

    opening = statecore.open(path, key=KEY, archives=[archive])
    with opening as again, pytest.raises(DamagedRecord, match="not what was archived"):
        again.manager("agent").revert(40)
    report = statecore.verify(path, depth="contents", key=KEY, archives=[archive])
    assert [finding.kind for finding in report.findings] == ["damaged-event"]
    assert statecore.verify(path, depth="contents", key=KEY).findings == []


def test_a_tampered_horizon_is_found_and_not_passed_over(
    store: BlockingStore, archive: Path, path: Path
) -> None:
    version = store.archive("agent", before=80, to=archive).version
    store.close()
    stored = dict(rows(path))[version]
    changed = stored[:-1] + bytes((stored[-1] ^ 1,))
    edit(path, "UPDATE events SET state = ? WHERE stream = 1 AND version = ?", changed, version)

    with statecore.open(path, key=KEY) as again, pytest.raises(DamagedRecord):
        again.manager("agent").at()
    for depth in DEPTHS[2:]:
        assert statecore.verify(path, depth=depth, key=KEY).findings
    assert statecore.verify(path).findings  # the head was signed over it when it was closed


@pytest.mark.parametrize("said_by", [1, 90, 121, 500])
def test_a_body_that_was_taken_away_is_damage_and_not_archived(
    store: BlockingStore, archive: Path, path: Path, said_by: int
) -> None:
    """By somebody without the key, who leaves the digest, so that every proof holds."""
    store.archive("agent", before=80, to=archive)
    store.close()
    stored = dict(rows(path))[100]
    taken = cut(stored, said_by)
    edit(path, "UPDATE events SET state = ? WHERE stream = 1 AND version = 100", taken)

    with statecore.open(path, key=KEY, snapshots=False) as again:
        with pytest.raises(DamagedRecord):
            again.manager("agent").at()
        assert again.check().complaints
    assert statecore.verify(path).findings == []
    report = statecore.verify(path, depth="contents", key=KEY)
    assert "missing-body" in [finding.kind for finding in report.findings]


@pytest.mark.parametrize("said_by", [1, 3, 5, 90, 100, 500])
@pytest.mark.parametrize("version", [1, 5])
def test_rows_that_name_another_event_are_damage(
    store: BlockingStore, archive: Path, path: Path, version: int, said_by: int
) -> None:
    """One before it, itself, one of another kind, of another state, or none."""
    write(store.manager("other", actor="bob"), 79)
    assert store.archive("other", before=10, to=archive.with_name("other")).version == 100
    store.archive("agent", before=80, to=archive)
    store.close()
    taken = cut(dict(rows(path))[version], said_by)
    edit(path, "UPDATE events SET state = ? WHERE stream = 1 AND version = ?", taken, version)

    if version == 1:  # which readers go by
        with statecore.open(path, key=KEY) as again, pytest.raises(DamagedRecord):
            again.manager("agent").at()
    for at_hand in ([], [archive]):
        report = statecore.verify(path, depth="contents", key=KEY, archives=at_hand)
        assert [finding.kind for finding in report.findings] == ["missing-body"]


@pytest.mark.parametrize("version", [1, 60])
def test_rows_that_name_an_event_whose_archives_lack_them_are_damage(
    store: BlockingStore, archive: Path, path: Path, tmp_path: Path, version: int
) -> None:
    """Of the first one that is all of them: readers go by it."""
    made = [tmp_path / "one.archive", archive]
    first = store.archive("agent", before=40, to=made[0]).version
    store.archive("agent", before=80, to=made[1])
    store.close()
    taken = cut(dict(rows(path))[version], first)
    edit(path, "UPDATE events SET state = ? WHERE stream = 1 AND version = ?", taken, version)

    if version == 1:
        with statecore.open(path, key=KEY) as again, pytest.raises(DamagedRecord):
            again.manager("agent").at()
    for at_hand in ([], made):
        report = statecore.verify(path, depth="contents", key=KEY, archives=at_hand)
        assert [finding.kind for finding in report.findings] == ["missing-body"]


def test_rows_that_name_an_event_which_was_archived_since_are_sound(
    store: BlockingStore, agent: BlockingManager, archive: Path, path: Path, tmp_path: Path
) -> None:
    made = [tmp_path / "one.archive", archive]
    first = store.archive("agent", before=40, to=made[0]).version
    write(agent, 20)
    store.archive("agent", before=first + 10, to=made[1])
    store.close()
    assert read_cut(dict(rows(path))[2]).event == first
    assert is_cut(dict(rows(path))[first])

    for at_hand in ([], made[:1], made[1:], made):
        assert statecore.verify(path, depth="replay", key=KEY, archives=at_hand).findings == []
    taken = cut(dict(rows(path))[2], 50)
    edit(path, "UPDATE events SET state = ? WHERE stream = 1 AND version = 2", taken)
    report = statecore.verify(path, depth="contents", key=KEY, archives=made)
    assert [finding.kind for finding in report.findings] == ["missing-body"]


def test_what_makes_no_sense_is_refused_and_nothing_is_left(
    store: BlockingStore, agent: BlockingManager, archive: Path, path: Path, tmp_path: Path
) -> None:
    archive.write_bytes(b"mine")
    with pytest.raises(InputError, match="there already"):
        store.archive("agent", before=80, to=archive)
    assert archive.read_bytes() == b"mine"
    archive.unlink()
    for before in (0, 1):
        with pytest.raises(InputError, match="nothing to archive"):
            store.archive("agent", before=before, to=archive)
    with pytest.raises(VersionNotFound):
        store.archive("agent", before=500, to=archive)
    with pytest.raises(NotFound):
        store.archive("nobody", before=1, to=archive)
    with pytest.raises(NotFound):
        store.archive("agent", before=80, to=tmp_path / "no" / "folder")
    store.erase("other")
    with pytest.raises(Erased):
        store.archive("other", before=10, to=archive)
    shared = store.manager("board", actor="ada", kind="shared")
    write(shared, 10)
    with pytest.raises(statecore.MissingActor):
        store.archive("board", before=9, to=archive)
    store.as_principal("ada").access.set_policy(statecore.Policy(owners=("ada",)))
    with pytest.raises(statecore.AccessDenied):
        store.as_principal("bob").archive("agent", before=80, to=archive)
    assert not archive.exists()
    assert [version for version, stored in rows(path) if is_cut(stored)] == []
    with statecore.open() as memory:
        memory.manager("agent").set_state("n", 1)
        with pytest.raises(InputError, match="SQLite file"):
            memory.archive("agent", before=1, to=archive)


def test_a_file_in_the_way_is_told_to_be_needed_or_left_over(
    store: BlockingStore, agent: BlockingManager, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: _Work) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(_Work, "text", property(stop))
        with pytest.raises(KeyboardInterrupt):
            store.archive("agent", before=80, to=archive)

    with pytest.raises(InputError, match=r"no event of agent names it: .* it may be deleted"):
        store.archive("agent", before=80, to=archive)
    with pytest.raises(InputError, match="there already: an archive is a new file"):
        store.archive("other", before=10, to=archive)
    archive.unlink()
    said = store.archive("agent", before=80, to=archive).version
    with pytest.raises(InputError, match=f"needed: version {said} of agent names it"):
        store.archive("agent", before=100, to=archive)


MAY_ARCHIVE = statecore.Policy(
    ("root",),
    (
        statecore.Rule("ada", "permit", ("read", "erase"), principals=("ada",)),
        statecore.Rule("bob", "permit", ("read", "write"), principals=("bob",)),
        statecore.Rule(
            "cleo", "permit", ("read", "erase"), principals=("cleo",), agents=("agent",)
        ),
        statecore.Rule("cleo too", "permit", ("read",), principals=("cleo",)),
    ),
)


def test_who_may_archive_does_and_it_is_told_of_them(store: BlockingStore, archive: Path) -> None:
    store.manager("board", actor="x", kind="shared").set_state("n", 1)
    store.manager("board", actor="x").set_state("n", 2)
    root = store.as_principal("root")
    root.access.set_policy(MAY_ARCHIVE)
    ada = store.as_principal("ada")

    made = ada.archive("agent", before=80, to=archive)
    shared = ada.archive("board", before=2, to=archive.with_name("board"))
    with pytest.raises(InputError, match="nothing to archive"):
        ada.archive("other", before=1, to=archive.with_name("more"))
    done = [(each.principals, each.operation, each.agent_id) for each in root.access.records()]

    assert (made.events, shared.events) == (79, 1)
    assert archive.exists()
    assert [each for each in done if each[1] == "erase"] == [
        (("ada",), "erase", "agent"),
        (("ada",), "erase", "board"),
    ]
    events = [each.event for each in root.audit() if each.event]
    assert [(each.actor, each.type.name) for each in events if each.actor == "ada"][-2:] == [
        ("ada", "ARCHIVED"),
        ("ada", "ARCHIVED"),
    ]


def test_who_may_not_archive_is_refused_before_anything_is_done(
    store: BlockingStore, archive: Path, path: Path, clock: Clock
) -> None:
    root = store.as_principal("root")
    root.access.set_policy(MAY_ARCHIVE)
    now = to_time(clock.now)

    for who in ("bob", "root"):
        with pytest.raises(AccessDenied):
            store.as_principal(who).archive("agent", before=80, to=archive)
    with pytest.raises(AccessDenied):
        store.as_principal("cleo").archive_all(before=now, to=archive.parent)

    assert not list(archive.parent.glob("*archive"))
    assert [version for version, stored in rows(path) if is_cut(stored)] == []
    assert {each.what for each in root.access.records() if each.operation == "erase"} == {"denied"}
    assert len(store.as_principal("ada").archive_all(before=now, to=archive.parent)) == 2


def test_a_permission_that_is_taken_back_meanwhile_cuts_nothing(
    store: BlockingStore, archive: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = store.as_principal("root")
    root.access.set_policy(MAY_ARCHIVE)
    write_archive = _Work.write

    def write_and_lose(work: _Work) -> None:
        write_archive(work)
        root.access.set_policy(statecore.Policy(("root",)))

    monkeypatch.setattr(_Work, "write", write_and_lose)
    with pytest.raises(AccessDenied, match="ada may not erase agent"):
        store.as_principal("ada").archive("agent", before=80, to=archive)

    assert not archive.exists()
    assert [version for version, stored in rows(path) if is_cut(stored)] == []
    assert {each.what for each in root.access.records() if each.operation == "erase"} == {"denied"}


@pytest.mark.parametrize("what", ["archived", "erased", "cleared"])
def test_what_others_do_meanwhile_is_noticed_before_anything_is_cut(
    path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    opening = statecore.open(path, key=KEY)
    one, two = opening.blocking(), opening.blocking()
    write(one.manager("agent"), 100)
    write_archive = _Work.write

    def overtaken(work: _Work) -> None:
        write_archive(work)
        monkeypatch.setattr(_Work, "write", write_archive)
        if what == "archived":
            one.archive("agent", before=60, to=archive.with_name("faster"))
        elif what == "erased":
            one.erase("agent")
            write(one.manager("agent"), 20)
        else:
            one.manager("agent").clear_state()

    monkeypatch.setattr(_Work, "write", overtaken)
    with pytest.raises(WrongExpectedVersion):
        two.archive("agent", before=80, to=archive)

    assert not archive.exists()
    assert two.manager("agent").at().data == one.manager("agent").at().data
    assert one.check().complaints == two.check().complaints == []
    if what != "erased":
        two.archive("agent", before=80, to=archive)
        assert two.check().complaints == []
    one.close()
    two.close()


def test_a_state_that_no_event_can_hold_is_not_archived(path: Path, archive: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for number in range(3):
            agent.set_state(f"k{number}", os.urandom(7 << 20))
        before = agent.at().data

        with pytest.raises(LimitExceeded):
            store.archive("agent", before=3, to=archive)

        assert agent.at(2).data == {key: before[key] for key in ("k0", "k1")}
    assert not archive.exists()


def test_archives_that_are_not_of_this_store_are_refused(
    store: BlockingStore, archive: Path, path: Path, tmp_path: Path
) -> None:
    store.archive("agent", before=80, to=archive)
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(NotFound), statecore.open(path, key=KEY, archives=[tmp_path / "none"]):
        pass
    with pytest.raises(ForeignSchema), statecore.open(path, key=KEY, archives=[tmp_path / "text"]):
        pass
    with pytest.raises(ForeignSchema), statecore.open(path, key=KEY, archives=[path]):
        pass
    with (
        pytest.raises(InputError, match="another store"),
        statecore.open(tmp_path / "another.db", key=KEY, archives=[archive]),
    ):
        pass


OPERATIONS = st.one_of(
    st.tuples(st.just("set"), st.sampled_from("abc"), st.integers(0, 9)),
    st.tuples(st.just("delete"), st.sampled_from("abc"), st.just(0)),
    st.tuples(st.just("add"), st.just("n"), st.integers(-3, 3)),
    st.tuples(st.just("extend"), st.just("list"), st.integers(0, 9)),
    st.tuples(st.just("patch"), st.just("map"), st.integers(0, 9)),
    st.tuples(st.just("clear"), st.just(""), st.just(0)),
    st.tuples(st.just("tag"), st.sampled_from("xy"), st.integers(0, 9)),
    st.tuples(st.just("rekey"), st.just(""), st.just(0)),
    st.tuples(st.just("branch"), st.just("idea"), st.integers(0, 9)),
    st.tuples(st.just("merge"), st.just("idea"), st.integers(0, 9)),
    st.tuples(st.just("undo"), st.just(""), st.just(0)),
)


def act(store: BlockingStore, agent: BlockingManager, what: str, name: str, number: int) -> None:
    """Do one thing to an agent's main branch, or to a branch of it."""
    match what:
        case "set":
            agent.set_state(name, [number] * 20)
        case "delete":
            agent.delete_state(name)
        case "add":
            agent.add(name, number)
        case "extend":
            agent.extend(name, [f"{number}" * 40])  # too long to be recorded whole
        case "patch":
            agent.patch(name, {str(number): f"{number}" * 40})
        case "clear":
            agent.clear_state()
        case "tag":
            agent.tag(name, at=min(number, agent.version()), replace=True)
        case "rekey":
            store.keys.rotate_data(agent.agent_id)
        case "branch":
            agent.branch(name).set_state("a", number)
        case "merge" if name in agent.branch_names():
            agent.merge(agent.branch(name))
        case "undo":
            agent.undo()


def all_reads(agent: BlockingManager, first: int, last: int) -> list[Any]:
    """Every state, value, difference and event there is, from one version to another."""
    span = range(first, last + 1)
    keys = ("a", "b", "c", "n", "list", "map")
    return [
        [(agent.at(at).data, agent.at(at).timestamp, agent.at(at).metadata) for at in span],
        [[agent.value_at(key, at) for key in keys] for at in span],
        [agent.diff(at, to) for at in span for to in span],
        [event for event in agent.history() if first <= event.version <= last],
        [[v for v in agent.history(key, until=last).versions() if v >= first] for key in keys],
        agent.tags(),
    ]


@pytest.mark.filterwarnings("ignore::statecore.UnresolvedWarning")
@given(
    st.lists(OPERATIONS, min_size=3, max_size=16),
    st.lists(st.floats(0, 1), min_size=1, max_size=3),
)
@settings(max_examples=30)
def test_every_read_at_or_after_the_horizon_is_what_it_was(
    operations: list[tuple[str, str, int]], horizons: list[float]
) -> None:
    """And with the archives, every read; whatever the history, archived once or again."""
    with tempfile.TemporaryDirectory() as folder:
        path, archives, horizon = Path(folder) / "a.db", list[Path](), 1
        with statecore.open(path, key=KEY, durability="relaxed") as store:
            agent = store.manager("agent", actor="ada")
            for operation in operations:
                act(store, agent, *operation)
            last = agent.version()
            before = all_reads(agent, 1, last)
            for share in sorted(horizons):
                to = Path(folder) / f"{len(archives)}.archive"
                with suppress(NotFound, InputError):  # there is nothing before it
                    horizon = store.archive("agent", before=int(share * last), to=to).horizon
                    archives.append(to)
            hold_against(store, before, horizon, last)
        with statecore.open(path, key=KEY) as store:
            hold_against(store, before, horizon, last)
        with statecore.open(path, key=KEY, archives=archives) as whole:
            hold_against(whole, before, 1, last)
        for at_hand in ([], archives):
            report = statecore.verify(path, depth="replay", key=KEY, archives=at_hand)
            assert report.findings == []


def hold_against(store: BlockingStore, before: list[Any], horizon: int, last: int) -> None:
    """Hold what is read against what was."""
    agent = store.manager("agent")
    assert all_reads(agent, horizon, last) == parts(before, horizon, last)
    for at in range(1, horizon):
        with pytest.raises(Archived):
            agent.at(at)
    for name in agent.branch_names():
        assert agent.branch(name).at().data is not None
    assert store.check().complaints == []


def parts(reads: list[Any], first: int, last: int) -> list[Any]:
    """Of all reads those from a version on."""
    states, values, diffs, events, versions, tags = reads
    span = range(1, last + 1)
    chosen = [
        d
        for (a, b), d in zip([(a, b) for a in span for b in span], diffs, strict=True)
        if a >= first and b >= first
    ]
    return [
        states[first - 1 :],
        values[first - 1 :],
        chosen,
        [event for event in events if event.version >= first],
        [[version for version in each if version >= first] for each in versions],
        tags,
    ]
