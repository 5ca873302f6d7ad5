"""What is done with a store that was archived: kills, backups, salvage, erasure, branches."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

import statecore
from statecore import Archived, BlockingManager, BlockingStore, Standing, StateManager
from statecore.backup import take
from statecore.codec.cut import cut, is_cut
from statecore.doctor import examine
from statecore.errors import DamagedRecord, Erased, InputError
from statecore.events import to_time
from statecore.salvaging import salvage
from statecore.stream import StreamName
from tests.conftest import KEY, Clock
from tests.dying import archive_and_die
from tests.test_archiving import DEPTHS, edit, rows, told, write
from tests.test_cli import fails, run


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "old.archive"


@pytest.fixture
def store(path: Path) -> Iterator[BlockingStore]:
    with statecore.open(path, key=KEY) as opened:
        write(opened.manager("agent", actor="ada"), 120)
        write(opened.manager("other", actor="bob"), 20)
        yield opened


def cut_versions(path: Path) -> list[int]:
    return [version for version, stored in rows(path) if is_cut(stored)]


def test_a_kill_at_any_step_leaves_a_file_too_much_or_all_is_done(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    first = tmp_path / "first" / "agents.db"
    with statecore.open(first, key=KEY) as store:
        write(store.manager("agent"), 60)
        before = told(store.manager("agent"))
    wrong, done, left = [], 0, 0
    for steps in count(1):
        folder = tmp_path / str(steps)
        shutil.copytree(first.parent, folder)
        path, archive = folder / "agents.db", folder / "old.archive"
        ended = archive_and_die(path, archive, 40, steps)
        assert ended in (0, -signal.SIGKILL)
        is_done = bool(cut_versions(path))
        with statecore.open(path, key=KEY, archives=[archive] if is_done else []) as store:
            if told(store.manager("agent"), 1, 60) != before or store.check().complaints:
                wrong.append(steps)
        if statecore.verify(path, depth="replay", key=KEY).findings:
            wrong.append(steps)
        done, left = done + is_done, left + (archive.exists() and not is_done)
        shutil.rmtree(folder)
        if ended == 0:
            break

    assert wrong == []
    assert steps > 20
    assert left > 0
    assert done > 0


def test_a_file_that_a_kill_left_does_no_harm(path: Path, archive: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store.manager("agent"), 60)
    for steps in count(1):  # until it is there, and nothing is cut yet
        archive_and_die(path, archive, 40, steps)
        if archive.exists():
            break
    assert cut_versions(path) == []

    with statecore.open(path, key=KEY) as store:
        with pytest.raises(InputError, match="there already"):
            store.archive("agent", before=40, to=archive)
        archive.unlink()
        store.archive("agent", before=40, to=archive)
    assert cut_versions(path) == [*range(1, 40)]


def restored(place: Path, path: Path, to: Path, **options: object) -> Path:
    to.parent.mkdir(exist_ok=True)
    statecore.restore(place, to, key_store=f"{path}-keys", key=KEY, **options)  # type: ignore[arg-type]
    return to


@pytest.mark.parametrize("is_fresh", [True, False])
def test_an_archived_store_is_backed_up_and_restored_as_it_is(
    store: BlockingStore, path: Path, archive: Path, tmp_path: Path, is_fresh: bool
) -> None:
    place = tmp_path / "backup"
    agent = store.manager("agent", actor="ada")
    if not is_fresh:
        store.backup(place)  # of all bodies
        write(agent, 40)
    before = told(agent)
    last = agent.version()
    horizon = last - 30
    store.archive("agent", before=horizon, to=archive)
    write(store.manager("other"), 10)
    store.backup(place)
    head = store.signed_head()
    (tmp_path / "head").write_bytes(head)

    again = restored(place, path, tmp_path / "restored" / "agents.db", anchors=[tmp_path / "head"])

    assert statecore.verify_backup(place, key_store=f"{path}-keys", key=KEY).findings == []
    assert cut_versions(again) == cut_versions(path) == [*range(1, horizon)]
    for depth in DEPTHS:
        report = statecore.verify(again, depth=depth, key=KEY, anchors=[tmp_path / "head"])
        assert report.findings == []
    with statecore.open(again, key=KEY) as there:
        found = told(there.manager("agent"), horizon, last)
        assert found[0] == before[0][horizon - 1 :]
        assert found[3] == [event for event in before[3] if event.version >= horizon]
        assert there.check().complaints == []
        with pytest.raises(Archived) as raised:
            there.manager("agent").at(horizon - 1)
        assert raised.value.archive == "old.archive"
        there.archive("agent", before=last, to=tmp_path / "restored" / "next.archive")
    half = statecore.open(again, key=KEY, archives=[archive])
    with half as there, pytest.raises(Archived):
        there.manager("agent").at(last - 1)
    whole = [archive, tmp_path / "restored" / "next.archive"]
    with statecore.open(again, key=KEY, archives=whole) as there:
        assert told(there.manager("agent"), 1, last) == before


def test_a_backup_from_before_restores_what_was_not_archived_then(
    store: BlockingStore, path: Path, archive: Path, tmp_path: Path
) -> None:
    place = tmp_path / "backup"
    before = told(store.manager("agent"))
    last = store.backup(place).position
    store.archive("agent", before=80, to=archive)
    store.backup(place)

    again = restored(place, path, tmp_path / "restored" / "agents.db", at=last)

    assert cut_versions(again) == []
    with statecore.open(again, key=KEY) as there:
        assert told(there.manager("agent"), 1, 120) == before


def test_a_moment_whose_events_the_backup_has_not_got_is_refused(
    store: BlockingStore, path: Path, archive: Path, tmp_path: Path
) -> None:
    place = tmp_path / "backup"
    store.archive("agent", before=80, to=archive)
    store.backup(place)

    with pytest.raises(Archived, match="restore to a moment after"):
        restored(place, path, tmp_path / "restored" / "agents.db", at=100)

    assert not (tmp_path / "restored" / "agents.db").exists()


def test_segments_that_were_taken_between_two_archives_fit(
    store: BlockingStore, path: Path, tmp_path: Path
) -> None:
    place, agent = tmp_path / "backup", store.manager("agent", actor="ada")
    names = [tmp_path / f"{number}.archive" for number in range(3)]
    events = list(agent.history())
    for name in names:
        take(path, place, events_max=25)  # of which some are whole, and some were cut by then
        write(agent, 50)
        last = agent.version()
        events += agent.history(since=len(events))
        store.archive("agent", before=last - 20, to=name)
    take(path, place, events_max=25)

    again = restored(place, path, tmp_path / "restored" / "agents.db")

    assert statecore.verify_backup(place, key_store=f"{path}-keys", key=KEY).findings == []
    assert cut_versions(again) == cut_versions(path) == [*range(1, last - 20)]
    for depth in DEPTHS:
        assert statecore.verify(again, depth=depth, key=KEY).findings == []
    for at_hand, first in (([], last - 20), (names[2:], last - 71), (names, 1)):
        with statecore.open(again, key=KEY, archives=at_hand) as there:
            found = there.manager("agent")
            assert found.at(first).version == first
            here = list(found.history(until=last))
            assert here == [event for event in events if event.version >= first]
            assert there.check().complaints == []


def require_sound(path: Path, *at_hand: Path) -> None:
    """See that nobody finds anything wrong with a store."""
    for depth in DEPTHS:
        assert statecore.verify(path, depth=depth, key=KEY, archives=at_hand).findings == []
    with statecore.open(path, key=KEY, archives=at_hand) as store:
        assert store.check().complaints == []
        done = store.rebuild(only_check=True)
        assert (done.differences, done.left_alone) == ([], [])


def twice_archived(store: BlockingStore, path: Path, folder: Path, between: int) -> list[Path]:
    """Archive, take a backup, and both again; return the archives."""
    made = [folder / "one.archive", folder / "two.archive"]
    agent = store.manager("agent", actor="ada")
    store.archive("agent", before=40, to=made[0])
    store.backup(folder / "backup")
    write(agent, between)
    store.archive("agent", before=100, to=made[1])
    store.backup(folder / "backup")
    return made


@pytest.mark.parametrize("between", [0, 1, 30])
def test_what_was_backed_up_before_it_was_archived_again_is_restored_whole(
    store: BlockingStore, path: Path, tmp_path: Path, between: int
) -> None:
    """The second archive's event is there, what it cut is not, and the first one's tells all."""
    before = told(store.manager("agent"), 1, 120)
    one, two = twice_archived(store, path, tmp_path, between)

    again = restored(tmp_path / "backup", path, tmp_path / "restored" / "agents.db")

    held = statecore.verify_backup(tmp_path / "backup", key_store=f"{path}-keys", key=KEY)
    assert held.findings == []
    assert [each for each in examine(again, key=KEY).diagnoses if each.kind != "open-folder"] == []
    assert cut_versions(path) == [*range(1, 100)]
    assert cut_versions(again) == [*range(1, 40)]
    for at_hand in ([], [one], [two], [one, two]):
        require_sound(path, *at_hand)
        require_sound(again, *at_hand)
        with statecore.open(again, key=KEY, archives=at_hand) as there:
            agent = there.manager("agent")
            if one in at_hand:
                assert told(agent, 1, 120) == before
            else:
                assert told(agent, 40, 120)[0] == before[0][39:]
                with pytest.raises(Archived):
                    agent.at(39)

    third = tmp_path / "three.archive"
    with statecore.open(again, key=KEY) as there:
        assert there.archive("agent", before=110, to=third).first == 40
        there.backup(tmp_path / "next")
    require_sound(again)
    require_sound(again, one, third)
    require_sound(again, one, two)  # which has the first that the third one has, and not the last
    with statecore.open(again, key=KEY, archives=[one, two]) as there:
        assert there.manager("agent").at(110).version == 110
        with pytest.raises(Archived, match=r"three\.archive"):
            there.manager("agent").at(109)
    assert cut_versions(again) == [*range(1, 110)]
    last = restored(tmp_path / "next", again, tmp_path / "last" / "agents.db")
    require_sound(last)
    with statecore.open(last, key=KEY, archives=[one, third]) as there:
        assert told(there.manager("agent"), 1, 120) == before


@pytest.mark.parametrize("said_by", [121, 122, 90])
def test_a_body_that_only_a_later_event_tells_of_is_not_taken_from_what_was_restored(
    store: BlockingStore, path: Path, tmp_path: Path, said_by: int
) -> None:
    """It is here, by the event that readers go by, whatever else was archived elsewhere."""
    twice_archived(store, path, tmp_path, 0)
    again = restored(tmp_path / "backup", path, tmp_path / "restored" / "agents.db")
    taken = cut(dict(rows(again))[60], said_by)
    edit(again, "UPDATE events SET state = ? WHERE stream = 1 AND version = 60", taken)

    with statecore.open(again, key=KEY, snapshots=False) as there, pytest.raises(DamagedRecord):
        there.manager("agent").at()
    for depth in DEPTHS[2:]:
        found = statecore.verify(again, depth=depth, key=KEY).findings
        assert "missing-body" in [finding.kind for finding in found]


@pytest.mark.parametrize(
    ("version", "said_by"), [(100, 121), (100, 90), (100, 500), (5, 90), (5, 500), (1, 90)]
)
def test_a_backup_hides_no_body_that_was_taken_away(
    store: BlockingStore, path: Path, archive: Path, tmp_path: Path, version: int, said_by: int
) -> None:
    place, keys = tmp_path / "backup", f"{path}-keys"
    store.archive("agent", before=80, to=archive)
    store.close()
    taken = cut(dict(rows(path))[version], said_by)
    edit(path, "UPDATE events SET state = ? WHERE stream = 1 AND version = ?", taken, version)
    take(path, place, events_max=25)

    assert statecore.verify_backup(place).findings == []
    (found,) = statecore.verify_backup(place, key_store=keys, key=KEY).findings
    assert found.kind == "missing-body"


def test_a_backup_that_lacks_what_says_where_bodies_are_is_told_as_that(
    store: BlockingStore, path: Path, archive: Path, tmp_path: Path
) -> None:
    place, keys = tmp_path / "backup", f"{path}-keys"
    store.archive("agent", before=80, to=archive)
    store.close()
    take(path, place, events_max=25)
    names = sorted(place.glob("*.segment"))

    names[-1].unlink()
    found = statecore.verify_backup(place, key_store=keys, key=KEY).findings
    assert [finding.kind for finding in found] == ["rolled-back", "missing-body"]
    assert "79 events between versions 1 and 79" in found[1].text
    with pytest.raises(Archived, match="restore to a moment after"):
        restored(place, path, tmp_path / "restored" / "agents.db", at=125)
    take(path, place)
    assert statecore.verify_backup(place, key_store=keys, key=KEY).findings == []
    names[-2].unlink()  # it isn't known then what is behind
    found = statecore.verify_backup(place, key_store=keys, key=KEY).findings
    assert [finding.kind for finding in found] == ["missing-segment"]


def test_what_is_derived_is_rebuilt_and_what_is_archived_kept(
    store: BlockingStore, path: Path, archive: Path
) -> None:
    agent = store.manager("agent")
    known = [list(agent.history(key, until=120).versions()) for key in ("k0", "n", "list")]
    store.archive("agent", before=80, to=archive)
    store.close()
    edit(path, "DELETE FROM touches WHERE first > 100")
    edit(path, "DELETE FROM ids WHERE version > 100")
    edit(path, "DELETE FROM tree")

    with statecore.open(path, key=KEY) as again:
        assert again.check().complaints != []
        done = again.rebuild()
        agent = again.manager("agent")

        assert done.is_replaced
        assert done.left_alone == []
        assert again.check().complaints == []
        assert [list(agent.history(key, until=120).versions()) for key in ("k0", "n", "list")] == (
            known
        )
        assert agent.find_event("add-2") == 3
        assert again.check().proved["archived events"] == 79


def test_sizes_tell_what_is_archived_and_compacting_gives_it_back(
    path: Path, archive: Path
) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store.manager("agent"), 300, bytes_each=4000)
        store.compact()
        before = path.stat().st_size
        (whole,) = store.sizes().states

        store.archive("agent", before=280, to=archive)
        (left,) = store.sizes().states
        store.compact()

        assert (whole.archived, left.archived) == (0, 279)
        assert left.events == whole.events + 1
        assert left.events_bytes < whole.events_bytes / 2
        assert path.stat().st_size < before / 2
        assert [each.events for each in store.key_sizes("agent") if each.key == "last"] == [2]
        assert store.check().complaints == []


def test_the_doctor_finds_nothing_wrong_and_says_what_is_archived(
    store: BlockingStore, path: Path, archive: Path
) -> None:
    store.archive("agent", before=80, to=archive)
    store.close()

    found = examine(path, key=KEY)

    assert [each for each in found.diagnoses if each.kind != "open-folder"] == []
    assert "79 events are archived" in found.notes


@pytest.mark.parametrize("with_key", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_an_archived_store_is_salvaged_with_what_is_left(
    store: BlockingStore, path: Path, archive: Path, tmp_path: Path, with_key: bool, cut: bool
) -> None:
    agent = store.manager("agent")
    write(store.manager("third"), 200)
    before = told(agent, 80)
    store.archive("agent", before=80, to=archive)
    current = agent.at().data
    store.close()

    done = salvage(path, tmp_path / "saved.db", key=KEY, without_key=not with_key, cut=cut)

    assert done.survey.losses == []
    assert done.survey.refused == 0
    assert done.written == 120 + 20 + 200 + 1
    assert rows(tmp_path / "saved.db") == rows(path)
    assert statecore.verify(tmp_path / "saved.db", depth="contents", key=KEY).findings == []
    with statecore.open(tmp_path / "saved.db", key=KEY) as saved:
        if not with_key:
            saved.rebuild()
        agent = saved.manager("agent")
        found = told(agent, 80, 120)
        assert found[:4] == before[:4]
        assert agent.at().data == current
        with pytest.raises(Archived):
            agent.at(40)
    with statecore.open(tmp_path / "saved.db", key=KEY, archives=[archive]) as saved:
        saved.rebuild()
        assert saved.check().complaints == []
        assert next(saved.manager("agent").history("n").versions()) == 3


def test_a_salvaged_store_goes_on_where_older_images_have_the_bodies(
    path: Path, archive: Path, tmp_path: Path
) -> None:
    """Pages that the archiving freed still hold them, until they are used again."""
    with statecore.open(path, key=KEY) as store:
        write(store.manager("agent"), 200, bytes_each=3000)
        before = told(store.manager("agent"), 180)
        store.archive("agent", before=180, to=archive)
    torn = bytearray(path.read_bytes())
    for page in range(30, len(torn) // 4096, 17):
        torn[page * 4096 : page * 4096 + 8] = bytes(8)
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(torn)
    shutil.copy(f"{path}-keys", f"{damaged}-keys")

    done = salvage(damaged, tmp_path / "saved.db", key=KEY)

    lost = {version for loss in done.survey.losses for version in range(loss.first, loss.last + 1)}
    whole = [version for version, stored in rows(tmp_path / "saved.db") if not is_cut(stored)]
    assert [version for version in whole if version < 180] == []
    if not lost:
        with statecore.open(tmp_path / "saved.db", key=KEY) as saved:
            assert told(saved.manager("agent"), 180, 200)[:4] == before[:4]


def test_erasing_an_archived_agent_makes_its_archive_unreadable(
    store: BlockingStore, path: Path, archive: Path
) -> None:
    store.archive("agent", before=80, to=archive)

    store.erase("agent")

    with pytest.raises(Erased):
        store.manager("agent").at()
    store.manager("agent").set_state("new", 1)
    write(store.manager("agent"), 30)
    store.close()
    for at_hand in ([], [archive]):
        with statecore.open(path, key=KEY, archives=at_hand) as again:
            agent = again.manager("agent")
            with pytest.raises(Erased):
                agent.at(40)
            assert agent.get_state("new") == 1
            assert again.check().complaints == []
            standing = [entry.standing for entry in again.audit() if entry.position < 100]
            assert set(standing) == {Standing.ERASED}
        for depth in DEPTHS:
            report = statecore.verify(path, depth=depth, key=KEY, archives=at_hand)
            assert report.findings == []


def test_a_state_that_began_anew_is_archived_from_there(
    store: BlockingStore, path: Path, archive: Path, tmp_path: Path
) -> None:
    store.archive("agent", before=80, to=archive)
    store.erase("agent")
    agent = store.manager("agent", actor="ada")
    write(agent, 60)
    first = agent.start() + 1
    before = told(agent, first)

    done = store.archive("agent", before=first + 30, to=tmp_path / "new.archive")

    assert (done.first, done.horizon) == (first, first + 30)
    last = first + 59
    found = told(agent, first + 30, last)
    assert found[0] == before[0][30:]
    store.backup(tmp_path / "backup")
    store.close()
    again = restored(tmp_path / "backup", path, tmp_path / "restored" / "agents.db")
    assert rows(again) == rows(path)
    with statecore.open(path, key=KEY, archives=[tmp_path / "new.archive"]) as there:
        assert told(there.manager("agent"), first, last)[0] == before[0]


def test_an_archived_temporary_state_ends_on_time(path: Path, archive: Path) -> None:
    clock = Clock()
    with statecore.open(path, key=KEY, clock=clock) as store:
        session = store.manager("session", kind="temporary", ttl=600)
        write(session, 60)
        store.archive("session", before=40, to=archive)
        assert session.at(50).version == 50
        clock.tick(601)
        store.clean_up()
        with pytest.raises(Erased):
            session.at(50)
        with pytest.raises(Erased):
            store.archive("session", before=50, to=archive.with_name("more"))
    report = statecore.verify(path, depth="replay", key=KEY, archives=[archive])
    assert report.findings == []


def test_a_branch_keeps_what_it_shares(
    store: BlockingStore, path: Path, archive: Path, tmp_path: Path
) -> None:
    agent = store.manager("agent", actor="ada")
    idea = agent.branch("idea", at=50)
    idea.set_state("idea", 1)
    later = agent.branch("later", at=100)  # without an event of its own

    done = store.archive("agent", before=90, to=archive)

    assert done.horizon == 50
    assert idea.at().data == {**agent.at(50).data, "idea": 1}
    assert idea.value_at("n", 51) == agent.value_at("n", 50)
    assert later.at().data == agent.at(100).data
    assert agent.merge(idea).change.touches_anything
    with pytest.raises(Archived):
        idea.at(40)
    agent.delete_branch("idea")
    assert store.archive("agent", before=90, to=tmp_path / "more").horizon == 90
    store.close()
    with statecore.open(path, key=KEY) as again:
        assert again.check().complaints == []
        assert again.check().proved["forks of what is archived"] == 1
        assert again.rebuild(only_check=True).left_alone == []
        assert again.manager("agent").branch("later").at().version == 100
    for depth in DEPTHS:
        assert statecore.verify(path, depth=depth, key=KEY).findings == []


@pytest.mark.parametrize("is_written", [True, False])
def test_a_branch_of_what_is_archived_is_no_complaint_where_the_archive_is_not_at_hand(
    store: BlockingStore, path: Path, archive: Path, is_written: bool
) -> None:
    store.archive("agent", before=80, to=archive)
    store.close()
    with statecore.open(path, key=KEY, archives=[archive]) as there:
        idea = there.manager("agent").branch("idea", at=50)
        if is_written:
            idea.set_state("idea", 1)
        report = there.check()
        assert report.complaints == []
        assert report.proved["states held to rules"] == 3

    with statecore.open(path, key=KEY) as there:
        report = there.check()

    assert report.complaints == []
    assert report.proved.get("forks of what is archived", 0) == is_written
    assert report.proved["forks of what is archived, not held to rules"] == 1
    assert report.proved["states held to rules"] == 2


def test_a_branch_that_was_deleted_is_never_read_wrongly(
    store: BlockingStore, path: Path, archive: Path
) -> None:
    agent = store.manager("agent", actor="ada")
    idea = agent.branch("idea", at=50)
    write(idea, 130, bytes_each=9000)
    keys, last = ("k0", "k1", "n", "list", "map", "last"), idea.version()
    before = {(key, at): idea.value_at(key, at) for key in keys for at in range(1, last + 1)}
    agent.delete_branch("idea")
    store.archive("agent", before=90, to=archive)

    def hold_against(idea: BlockingManager) -> int:
        right = 0
        for (key, at), value in before.items():
            with suppress(Archived):
                assert idea.value_at(key, at) == value
                assert idea.at(at)[key] == value if value is not None else True
                right += 1
        return right

    assert hold_against(idea) > 0
    events = [event.version for event in idea.history()]
    assert events == [*range(51, last + 1)]
    store.close()
    with statecore.open(path, key=KEY, archives=[archive]) as whole:
        again = StateManager(whole.store._engine, StreamName("agent", "idea"))
        assert hold_against(BlockingManager(again)) == len(before)
    with statecore.open(path, key=KEY) as here:
        again = StateManager(here.store._engine, StreamName("agent", "idea"))
        hold_against(BlockingManager(again))


def test_the_audit_record_tells_that_an_event_is_archived(
    store: BlockingStore, path: Path, archive: Path
) -> None:
    store.archive("agent", before=80, to=archive)

    found = [entry for entry in store.audit(agent="agent") if entry.standing != Standing.OPEN]

    assert {entry.standing for entry in found} == {Standing.ARCHIVED}
    assert [entry.version for entry in found] == [*range(1, 80)]
    assert all(entry.time is not None and entry.event is None for entry in found)
    store.close()
    with statecore.open(path, key=KEY, archives=[archive]) as again:
        assert {entry.standing for entry in again.audit()} == {Standing.OPEN}


def test_snapshots_before_the_horizon_go(path: Path, archive: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        write(store.manager("agent"), 120, bytes_each=20_000)
    with statecore.open(path, key=KEY) as store:
        store.archive("agent", before=118, to=archive)
        agent = store.manager("agent")
        assert agent.at(119).version == 119
        (left,) = store.sizes().states
        assert left.snapshots_bytes == 0
    with statecore.open(path, key=KEY) as store:
        assert store.manager("agent").at(118).version == 118
        assert store.check().complaints == []


def test_readers_go_on_while_it_is_archived(path: Path, tmp_path: Path) -> None:
    """In threads of the same process, and with another's connections to the file."""
    opening = statecore.open(path, key=KEY, cache_mib=1)
    one, two = opening.blocking(), opening.blocking()
    write(one.manager("agent"), 400)
    expected = {at: one.manager("agent").at(at).data for at in range(1, 401, 7)}
    wrong: list[object] = []
    is_over = threading.Event()

    def read(store: BlockingStore) -> None:
        agent = store.manager("agent")
        while not is_over.is_set():
            for at, data in expected.items():
                try:
                    if agent.at(at).data != data or agent.value_at("n", at) != data.get("n"):
                        wrong.append(at)
                except Archived as error:
                    if at >= error.first:
                        wrong.append(error)
                except Exception as error:
                    wrong.append(error)

    readers = [threading.Thread(target=read, args=(store,)) for store in (one, one, two, two)]
    for reader in readers:
        reader.start()
    for number in range(1, 8):
        one.archive("agent", before=50 * number, to=tmp_path / f"{number}.archive")
    is_over.set()
    for reader in readers:
        reader.join()
    one.close()
    two.close()

    assert wrong == []


def test_all_agents_are_archived_before_a_time(path: Path, tmp_path: Path) -> None:
    clock = Clock()
    with statecore.open(path, key=KEY, clock=clock) as store:
        for name in ("ada", "bob"):
            write(store.manager(name), 40)
        store.manager("eve").branch("idea").set_state("n", 1)
        clock.tick(60)
        write(store.manager("new"), 40)
        clock.tick(60)
        before = to_time(clock.now - 90_000_000)
        write(store.manager("ada"), 40)

        done = store.archive_all(before=before, to=tmp_path)

        assert [(each.agent_id, each.horizon) for each in done] == [("ada", 40), ("bob", 40)]
        assert [each.path.name.partition("-")[2] for each in done] == ["80.archive", "40.archive"]
        assert store.archive_all(before=before, to=tmp_path) == []
        assert store.check().complaints == []


def test_all_agents_are_archived_from_the_command_line(
    store: BlockingStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.manager("agent").at(100).timestamp
    assert before is not None
    store.close()
    monkeypatch.setenv("STATECORE_KEY", KEY.hex())
    time = ("--before", before.isoformat(), "--to", tmp_path)

    (said,) = run("archive", path, "--all", *time, "--json").out.splitlines()

    assert json.loads(said)["horizon"] == 100
    assert run("archive", path, "--all", *time).out == "there is nothing before that time\n"
    fails(2, "archive", path, "--all", "agent", *time)
    fails(2, "archive", path, *time)
    fails(2, "archive", path, "--all", "--before", "50", "--to", tmp_path)


def test_it_is_archived_from_the_command_line(
    store: BlockingStore, path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    monkeypatch.setenv("STATECORE_KEY", KEY.hex())

    told_so = run("archive", path, "agent", "--before", "80", "--to", archive)

    assert told_so.out == (
        f"79 events of agent are in {archive}\n"
        "  its first version here is 80; version 121 says so\n"
    )
    assert "are in old.archive" in run("log", path, "--agent", "agent", "--limit", "1").out
    assert "old.archive" in fails(1, "show", path, "agent", "--at", "40")
    verified = run("verify", path, "--no-remember", "--depth", "contents").out
    assert "79 events are archived" in verified
    monkeypatch.setenv("STATECORE_ARCHIVES", str(archive))
    assert run("show", path, "agent", "--at", "40").code == 0
    told_so = run("archive", path, "agent", "--before", "90", "--to", f"{archive}.2", "--json")
    assert json.loads(told_so.out) == {
        "agent": "agent",
        "file": f"{archive}.2",
        "events": 10,
        "bytes": Path(f"{archive}.2").stat().st_size,
        "first": 80,
        "horizon": 90,
        "version": 122,
    }
