"""Keys are changed: the store's own at any moment, an agent's from now on. Nothing else is."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

import statecore
from statecore import EMPTY, EventType, KeyFile, Passphrase, Policy, Rule, new_key
from statecore.appends import Append, Source, WriteOptions
from statecore.errors import AccessDenied, DamagedRecord, Erased, InputError, KeyMissing, WrongKey
from statecore.keys import FileKeyStore, KeyRing
from statecore.keys.providers import GivenKey
from tests.conftest import KEY, Clock
from tests.mortal import MortalDisk

NEW = bytes(range(32, 64))


def wrapped_keys(path: Path) -> list[bytes]:
    database = apsw.Connection(str(path.with_name(path.name + "-keys")))
    found = [wrapped for (wrapped,) in database.execute("SELECT wrapped FROM keys") if wrapped]
    database.close()
    return found


def contents(folder: Path) -> bytes:
    """Every byte of every file there."""
    return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())


def events(path: Path) -> list[Any]:
    database = apsw.Connection(str(path))
    found = database.execute("SELECT * FROM events ORDER BY position").fetchall()
    database.close()
    return found


@pytest.fixture
def written(path: Path) -> Path:
    """A closed store of several agents and branches, one of them erased."""
    with statecore.open(path, key=KEY) as store:
        for number in range(40):
            store.manager(f"agent-{number}").set_state("n", number, event_id=f"id-{number}")
        store.manager("agent-0").branch("idea").set_state("n", -1)
        store.erase("agent-1")
    return path


def require_whole(path: Path, key: bytes) -> None:
    with statecore.open(path, key=key) as store:
        for number in [0, *range(2, 40)]:
            assert store.manager(f"agent-{number}").get_state("n") == number
        assert store.manager("agent-0").branch("idea").get_state("n") == -1
        with pytest.raises(Erased):
            store.manager("agent-1").get_state("n")
        assert store.keys.check().problems == ()


def test_after_a_change_of_the_key_only_the_new_one_opens_the_store(written: Path) -> None:
    before, old = events(written), wrapped_keys(written)

    with statecore.open(written, key=KEY) as store:
        assert store.keys.rotate(NEW) == len(old)
        store.manager("agent-2").set_state("more", 1)
        store.manager("new").set_state("n", 1)

    with pytest.raises(WrongKey):
        statecore.open(written, key=KEY).blocking()
    require_whole(written, NEW)
    assert events(written)[: len(before)] == before
    everything = contents(written.parent)
    for wrapped in old:
        assert wrapped[:24] not in everything
        assert wrapped[24:40] not in everything
    with statecore.open(written, key=NEW) as store:
        assert store.manager("new").get_state("n") == 1


def test_the_key_can_move_from_a_file_to_a_passphrase_and_back(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "key"
    with statecore.open(path) as store:
        store.manager("agent").set_state("n", 1)
        store.keys.rotate(Passphrase("correct horse"))
    with pytest.raises(WrongKey, match="made with a key from: passphrase"):
        statecore.open(path).blocking()
    with statecore.open(path, passphrase="correct horse") as store:
        assert store.manager("agent").get_state("n") == 1
        store.keys.rotate(KeyFile(file))
    with statecore.open(path, key=KeyFile(file)) as store:
        assert store.manager("agent").get_state("n") == 1
        with pytest.raises(InputError, match="the store has already"):
            store.keys.rotate(KeyFile(file))
    assert oct(file.stat().st_mode & 0o777) == "0o600"


def test_the_same_passphrase_with_another_salt_is_another_key(path: Path) -> None:
    with statecore.open(path, passphrase="correct horse") as store:
        store.manager("agent").set_state("n", 1)
        with statecore.open(path, passphrase="correct horse") as other:
            store.keys.rotate(Passphrase("correct horse"))
            other.manager("new").set_state("n", 2)  # whose provider finds the new key by itself
            assert other.manager("agent").get_state("n") == 1
    with statecore.open(path, passphrase="correct horse") as store:
        assert store.manager("new").get_state("n") == 2


def test_another_who_has_the_store_open_goes_on_and_is_told_when_that_needs_the_key(
    written: Path,
) -> None:
    with statecore.open(written, key=KEY) as other:
        agent = other.manager("agent-2")
        agent.set_state("n", 2)
        with statecore.open(written, key=KEY) as store:
            store.keys.rotate(NEW)

        agent.set_state("more", 1)
        assert agent.at().data == {"n": 2, "more": 1}
        with pytest.raises(WrongKey, match="was changed since it was opened here"):
            other.manager("agent-3").get_state("n")
        with pytest.raises(WrongKey, match="was changed since it was opened here"):
            other.manager("new").set_state("n", 1)
        agent.set_state("more", 2)  # which that did not spoil
    require_whole(written, NEW)
    with statecore.open(written, key=NEW) as store:
        assert store.manager("new").version() == 0
        assert store.keys.check().problems == ()


@pytest.mark.parametrize("is_found", [True, False])
def test_a_data_key_that_was_on_its_way_is_never_kept_under_the_old_key(
    tmp_path: Path, is_found: bool
) -> None:
    """Behind other persistence modules turns are not everybody's."""
    log_id, stream = bytes(16), b"s" * 16
    provider = Passphrase("correct horse") if is_found else GivenKey(KEY)
    stores = [FileKeyStore(tmp_path / "keys", create=create) for create in (True, False)]
    mine = KeyRing.create(stores[0], provider, log_id)
    theirs = KeyRing.open(stores[1], provider, log_id)
    made = mine.new_key(stream, 1, 1, None)
    theirs.rewrap(provider if is_found else GivenKey(NEW))

    if is_found:
        mine.keep_new()
        kept = theirs.keys(stream)[1]
        assert kept is not None
        assert kept.commitment == made.commitment
    else:
        with pytest.raises(WrongKey, match="was changed since it was opened here"):
            mine.keep_new()
        assert theirs.keys(stream) == {}
    for store in stores:
        store.close()


def test_a_key_store_with_a_changed_key_is_not_rewrapped(written: Path) -> None:
    keys = written.with_name("agents.db-keys")
    database = apsw.Connection(str(keys))
    database.execute("UPDATE keys SET since = since + 1 WHERE epoch = 1 AND wrapped IS NOT NULL")
    database.close()
    before = keys.read_bytes()

    with statecore.open(written, key=KEY) as store, pytest.raises(DamagedRecord):
        store.keys.rotate(NEW)

    assert keys.read_bytes() == before
    statecore.open(written, key=KEY).blocking().close()


def test_a_new_key_that_is_not_to_be_had_changes_nothing(written: Path) -> None:
    with statecore.open(written, key=KEY) as store, pytest.raises(KeyMissing):
        store.keys.rotate(statecore.KeyInEnvironment("STATECORE_NO_SUCH_KEY"))
    require_whole(written, KEY)


def die_at(step: int, work: Callable[[], None]) -> bool:
    """Do the work in another process, killed at a step; tell whether it came to that."""
    process = os.fork()
    if process == 0:
        disk = MortalDisk(step)
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
        finally:
            del disk
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def test_a_change_of_the_key_outlives_a_kill_at_every_step(path: Path, tmp_path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        for number in range(120):  # over several pages
            store.manager(f"agent-{number}").set_state("n", number)
    opened_by = []
    for step in range(1, 1_000):
        folder = tmp_path / f"after-{step}"
        folder.mkdir()
        for name in ("agents.db", "agents.db-keys"):
            shutil.copy(path.with_name(name), folder)
        copy = folder / "agents.db"

        def change(copy: Path = copy) -> None:
            with statecore.open(copy, key=KEY) as store:
                store.keys.rotate(NEW)

        killed = die_at(step, change)
        try:
            store, key = statecore.open(copy, key=KEY).blocking(), KEY
        except WrongKey:
            store, key = statecore.open(copy, key=NEW).blocking(), NEW
        opened_by.append(key)
        with store:
            assert store.manager("agent-77").get_state("n") == 77
            assert store.keys.check().problems == ()
        if not killed:
            break
    assert opened_by == sorted(opened_by), "the old key, and from some step on the new one"
    assert {*opened_by} == {KEY, NEW}
    assert len(opened_by) > 10


# New data keys for what an agent writes from now on


def test_a_new_data_key_seals_what_comes_and_the_old_one_opens_what_was(
    store: statecore.BlockingStore, agent: statecore.BlockingManager
) -> None:
    agent.set_state("n", 1, event_id="one")
    agent.set_state("other", 1)
    idea = agent.branch("idea")
    idea.set_state("n", 7)

    assert sorted(store.keys.rotate_data("agent-7", actor="ops", reason="yearly")) == [
        "",
        "idea",
        "main",
    ]
    agent.add("n", 1, event_id="two")
    agent.set_state("n", 5, event_id="one")  # a retry of the first

    assert agent.at().data == {"n": 2, "other": 1}
    assert agent.at(1).data == {"n": 1}
    assert agent.value_at("n", 2) == 1
    assert [event.version for event in agent.history(key="n")] == [1, 4]
    assert agent.find_event("one") == 1
    assert agent.find_event("two") == 4
    told = list(agent.history())[2]
    assert (told.type, told.actor, told.reason) == (EventType.REKEYED, "ops", "yearly")
    with pytest.raises(statecore.WrongExpectedVersion):
        agent.set_state("n", 9, expected_version=1)
    assert agent.set_state("third", 9, expected_version=1) == 5
    assert agent.branch("idea").get_state("n") == 7
    epochs = [
        entry.epoch
        for entry in store.keys.entries()
        if entry.birth and entry.birth.branch == "main"
    ]
    assert epochs == [1, 2]
    assert store.keys.check().problems == ()
    agent.undo()
    assert "third" not in agent.at().data


def test_who_may_handle_the_keys_gives_new_ones_and_it_is_told_of_them(
    store: statecore.BlockingStore, agent: statecore.BlockingManager, tmp_path: Path
) -> None:
    agent.set_state("n", 1)
    agent.branch("idea").set_state("n", 2)
    store.manager("board", kind="shared", actor="x").set_state("n", 1)
    root, ada, bob = (store.as_principal(who) for who in ("root", "ada", "bob"))
    may = Rule("ada", "permit", ("keys",), principals=("ada",))
    root.access.set_policy(Policy(("root",), (may,)))

    assert sorted(ada.keys.rotate_data("agent-7")) == ["", "idea", "main"]
    assert ada.keys.rotate_data("board") == ["main"]
    with pytest.raises(AccessDenied):
        bob.keys.rotate_data("agent-7")
    held = ada.keys
    root.access.set_policy(Policy(("root",)))
    for call in (
        lambda: held.rotate_data("agent-7"),
        lambda: held.rotate(NEW),
        lambda: held.backup(tmp_path / "keys.backup", passphrase="a"),
        held.entries,
        held.check,
    ):
        with pytest.raises(AccessDenied, match="ada may not keys"):
            call()

    events = [each.event for each in root.audit() if each.event]
    assert [each.actor for each in events if each.type == EventType.REKEYED] == ["ada"] * 4


def test_what_is_written_in_one_turn_with_a_new_data_key_is_found_by_key_and_id(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        agent.set_state("n", 0)
        stream, sequencer = agent.manager._stream, store.store._engine.sequencer
        for number in range(2, 11):
            options: WriteOptions = {"event_id": f"id-{number}"}
            rekeys = number in (4, 8)  # twice in the turn, of which the first counts
            change = EMPTY if rekeys else EMPTY.add("n", 1)
            append = Append(stream, agent.manager._birth, change, options)
            append.source = Source(EventType.REKEYED) if rekeys else None
            sequencer.submit(append)
        sequencer.pump()

    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        assert (agent.get_state("n"), agent.version()) == (7, 10)
        assert [event.version for event in agent.history("n")] == [1, 2, 3, 5, 6, 7, 9, 10]
        assert [agent.find_event(f"id-{number}") for number in range(2, 11)] == [*range(2, 11)]
        assert agent.add("n", 1, event_id="id-10") == 10
        assert [entry.since for entry in store.keys.entries()] == [0, 1, 4]
        assert store.keys.check().problems == ()


def test_all_ways_to_a_past_state_agree_across_many_data_keys(path: Path) -> None:
    expected: dict[int, dict[str, Any]] = {}
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for number in range(60):
            agent.set_state(f"k{number % 5}", number)
            expected[agent.version()] = agent.at().data
            if number % 10 == 9:
                store.keys.rotate_data("agent")
                expected[agent.version()] = agent.at().data

    for snapshots in (True, False):
        with statecore.open(path, key=KEY, snapshots=snapshots) as store:
            agent = store.manager("agent")
            for version, data in expected.items():
                assert agent.at(version).data == data
                for key in data:
                    assert agent.value_at(key, version) == data[key]
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        assert agent.clear_state() == 67
        agent.restore(66)
        assert agent.at().data == expected[66]


def test_what_others_gave_a_new_key_is_written_on_with_it(path: Path) -> None:
    with statecore.open(path, key=KEY) as one, statecore.open(path, key=KEY) as other:
        mine, theirs = one.manager("agent"), other.manager("agent")
        mine.set_state("n", 1)
        assert theirs.get_state("n") == 1
        one.keys.rotate_data("agent")

        theirs.set_state("n", 2)

        assert mine.get_state("n") == 2
        stream = theirs.manager._stream
        assert stream.key is not None
        assert stream.key.epoch == 2
        other.keys.rotate_data("agent")
        mine.set_state("n", 3)
        assert [event.version for event in theirs.history("n")] == [1, 3, 5]
    with statecore.open(path, key=KEY) as store:
        assert store.keys.check().problems == ()


def test_a_new_data_key_ends_with_its_temporary_state(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        session = store.manager("session", kind="temporary", ttl=60)
        session.set_state("n", 1)
        store.keys.rotate_data("session")
        session.set_state("n", 2)
        clock.tick(61)
        store.clean_up()

        entries = [entry for entry in store.keys.entries() if entry.epoch]
        assert [entry.is_destroyed for entry in entries] == [True, True]
    assert wrapped_keys(path) == wrapped_keys(path)[:1]  # the log's own is left


def test_an_erased_or_unknown_agent_gets_no_new_key(store: statecore.BlockingStore) -> None:
    store.manager("gone").set_state("n", 1)
    store.erase("gone")

    assert store.keys.rotate_data("gone") == []
    assert store.keys.rotate_data("never there") == []
    assert store.manager("gone").version() == 2


def test_a_new_data_key_outlives_a_kill_at_every_step(path: Path, tmp_path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("n", 1)
    outcomes = set()
    for step in range(1, 1_000):
        folder = tmp_path / f"after-{step}"
        folder.mkdir()
        for name in ("agents.db", "agents.db-keys"):
            shutil.copy(path.with_name(name), folder)
        copy = folder / "agents.db"

        def change(copy: Path = copy) -> None:
            with statecore.open(copy, key=KEY) as store:
                store.keys.rotate_data("agent")
                store.manager("agent").set_state("n", 2)

        killed = die_at(step, change)
        with statecore.open(copy, key=KEY) as store:
            agent = store.manager("agent")
            outcomes.add(agent.version())
            agent.add("n", 1)
            store.keys.rotate_data("agent")  # over whatever the kill left
            agent.add("n", 1)
            assert agent.get_state("n") == (4 if agent.version() == 6 else 3)
            assert [event.version for event in agent.history()] == [*range(1, agent.version() + 1)]
            assert store.keys.check().problems == ()
        if not killed:
            break
    assert outcomes == {1, 2, 3}


def test_keys_are_listed_with_their_age_and_end(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=new_key(), clock=clock) as store:
        store.manager("agent").set_state("n", 1)
        session = store.manager("session", kind="temporary", ttl=60)
        session.set_state("n", 1)
        store.manager("gone").set_state("n", 1)
        store.erase("gone")
        entries = store.keys.entries()

    log, agent, temporary, gone = entries
    assert (log.stream, log.epoch, log.birth) == ("0" * 32, 0, None)
    assert agent.birth is not None
    assert agent.birth.agent_id == "agent"
    assert agent.begun == statecore.events.to_time(clock.now)
    assert temporary.expires == statecore.events.to_time(clock.now + 60_000_000)
    assert (gone.is_destroyed, gone.birth) == (True, None)
    assert not agent.is_destroyed
