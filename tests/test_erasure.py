"""Erasure: what is gone is gone from every file, after any kill and in every process."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import statecore
from statecore.errors import Damage, DamagedRecord, Erased, StatecoreError, SubjectMismatch
from statecore.keys import DataKey
from statecore.keys.ring import LOG_STREAM
from statecore.stream import StreamName
from tests.conftest import KEY, Clock
from tests.test_format import Reader, Sealed
from tests.test_rotation import contents, die_at

SECRET = "telling-value"
THEIRS = ("chat-1", "chat-2", "profile")


def copy_of(path: Path, folder: Path) -> Path:
    """Copy the log and its key store, which nobody has open."""
    folder.mkdir(parents=True)
    for name in (path.name, path.name + "-keys"):
        shutil.copy(path.with_name(name), folder)
    return folder / path.name


def secrets_of(store: statecore.BlockingStore) -> dict[bytes, list[bytes]]:
    """Of each stream what must be in no file once it is erased: its data keys, wrapped and not."""
    ring = store.store._engine.streams.ring
    found: dict[bytes, list[bytes]] = {}
    for kept in ring.kept():
        if kept.wrapped and kept.stream != LOG_STREAM:
            pieces = [kept.wrapped[at : at + 12] for at in range(0, 72, 12)]
            found.setdefault(kept.stream, []).extend([*pieces, ring._unwrap(kept)])
    return found


@pytest.fixture
def written(path: Path) -> Path:
    """A closed store: two subjects, branches, several data keys, snapshots."""
    with statecore.open(path, key=KEY) as store:
        for subject, names in (("user-42", THEIRS), ("user-7", ("other",)), (None, ("nobody",))):
            for name in names:
                agent = store.manager(name, subject=subject)
                agent.set_state("secret", SECRET, event_id=f"id-{name}")
                store.keys.rotate_data(name)
                agent.set_state("more", SECRET * 50_000)  # large enough for a snapshot
                agent.set_state("more", "")
                idea = agent.branch("idea", description=SECRET)
                idea.set_state("idea", SECRET)
                agent.branch("unwritten")
    return path


def theirs(store: statecore.BlockingStore) -> set[bytes]:
    streams = store.store._engine.streams
    return {
        streams.id_of(StreamName(agent, branch))
        for agent in THEIRS
        for branch in ("main", "idea", "")
    }


def require_erased(path: Path) -> None:
    """Nothing of the subject is left, and all of the others."""
    with statecore.open(path, key=KEY) as store:
        for name in THEIRS:
            agent = store.manager(name)
            for ask in (agent.at, agent.history, lambda a=agent: a.get_state("secret")):
                with pytest.raises(Erased):
                    list(ask())
            with pytest.raises(Erased):
                agent.at(2)
        for name in ("other", "nobody"):
            agent = store.manager(name)
            assert agent.at(1).data == {"secret": SECRET}
            assert agent.find_event(f"id-{name}") == 1
            assert agent.branch("idea", create=False).get_state("idea") == SECRET
        assert {birth.agent_id for birth in store.agents()} == {"other", "nobody"}
        assert store.keys.check().problems == ()


def opened_by_force(path: Path) -> Iterator[tuple[bytes, int]]:
    """Open each event and snapshot with each key there is in the key store, by the published
    format alone; yield what opened: its stream and version."""
    reader = Reader(path, path.with_name(path.name + "-keys"))
    keys = [key for key in reader.keys.values() if key]
    for stream in reader.streams:
        for table, kind in (("events", b"\1"), ("snapshots", b"\2")):
            for version, stored in reader.rows(stream, table):
                sealed = Sealed(stored, reader.prefixes)
                bound = sealed.bound(kind, reader.log_id, stream, version)
                for key in keys:
                    sealed.commitment = b""
                    try:
                        sealed.open(key, bound)
                    except Exception:  # a wrong key says so in its own way
                        continue
                    yield stream, version
    reader.database.close()


def test_erasing_a_subject_leaves_nothing_of_it_in_any_file(written: Path, tmp_path: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        gone, secrets = theirs(store), secrets_of(store)
        assert secrets.keys() > gone

        assert store.erase_subject("user-42") == list(THEIRS)
        backup = tmp_path / "log-backup.db"
        database = apsw.Connection(str(written))
        database.execute("VACUUM INTO ?", (str(backup),))
        database.close()
        while_open = contents(written.parent)
    for everything in (while_open, contents(written.parent), contents(tmp_path)):
        assert SECRET.encode() not in everything
        for stream in gone:
            assert [piece for piece in secrets[stream] if piece in everything] == []

    require_erased(written)
    readable = list(opened_by_force(written))
    ends = {stream: version for stream, version in readable if stream in gone}
    assert len([place for place in readable if place[0] in gone]) == len(ends) == len(gone)
    database = apsw.Connection(str(written))
    for table in ("touches", "ids", "snapshots"):
        sql = f"SELECT DISTINCT name FROM {table} JOIN streams ON streams.id = stream"
        assert {name for (name,) in database.execute(sql)} & gone == set()
    database.close()


def test_the_search_would_have_found_what_was_not_erased(written: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        gone, secrets = theirs(store), secrets_of(store)

    everything = contents(written.parent)
    for stream in gone:
        assert any(piece in everything for piece in secrets[stream])
    assert {stream for stream, _ in opened_by_force(written)} > gone


def is_erased(agent: statecore.BlockingManager) -> bool:
    try:
        return agent.get_state("secret") != SECRET
    except Erased:
        return True


def test_an_erasure_outlives_a_kill_at_every_step(written: Path, tmp_path: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        gone, secrets = theirs(store), secrets_of(store)
    done = 0
    for step in range(1, 10_000):
        copy = copy_of(written, tmp_path / f"after-{step}")

        def erase(copy: Path = copy) -> None:
            with statecore.open(copy, key=KEY) as store:
                store.erase_subject("user-42")

        killed = die_at(step, erase)
        with statecore.open(copy, key=KEY) as store:
            erased = {is_erased(store.manager(name)) for name in THEIRS}
            assert len(erased) == 1, "all or none"
            if erased == {True}:
                done += 1
                everything = contents(copy.parent)  # already now, by opening it
                assert not any(piece in everything for at in gone for piece in secrets[at])
            store.erase_subject("user-42")
        require_erased(copy)
        assert not any(piece in contents(copy.parent) for at in gone for piece in secrets[at])
        shutil.rmtree(copy.parent)
        if not killed:
            break
    assert step > 10
    assert 1 < done < step


def test_what_another_process_has_open_is_gone_there_too(written: Path) -> None:
    with (
        statecore.open(written, key=KEY) as store,
        statecore.open(written, key=KEY) as other,
    ):
        agent = other.manager("profile")
        idea = agent.branch("idea")
        assert (agent.at(1)["secret"], idea.get_state("idea")) == (SECRET, SECRET)
        assert agent.value_at("secret", 2) == SECRET

        store.erase_subject("user-42")

        for ask in (lambda: agent.at(1), lambda: agent.get_state("secret"), agent.at, idea.at):
            with pytest.raises(Erased):
                ask()
        stream = agent.manager._stream
        aids = other.store._engine.streams.aids
        assert stream.key is None
        assert [key for key in stream.keys.values() if isinstance(key, DataKey)] == [
            other.store._engine.streams.ring.log_key
        ]
        assert aids.roots.nearest(stream.id, 100) is None
        assert not aids.values.find(stream.id, "secret", 2)[0]
        agent.set_state("fresh", 1)
        assert store.manager("profile").at().data == {"fresh": 1}
        with pytest.raises(Erased):
            agent.at(2)


def test_a_state_begun_over_keys_that_a_kill_left_shows_nothing_of_before(path: Path) -> None:
    """Killed between the event and the destruction, while another process goes on."""
    with statecore.open(path, key=KEY) as other:
        agent = other.manager("agent")
        agent.set_state("secret", SECRET)
        with statecore.open(path, key=KEY) as store:
            ring = store.store._engine.streams.ring
            destroy, ring.destroy = ring.destroy, lambda *_: None  # type: ignore[method-assign]
            store.erase("agent")
            ring.destroy = destroy  # type: ignore[method-assign]
            stream = agent.manager._stream.id
            assert ring.has_keys(stream, 1)

            with pytest.raises(Erased):
                agent.at(1)
            agent.set_state("fresh", 1)

            assert not ring.has_keys(stream, 1)
            for manager in (agent, store.manager("agent")):
                assert manager.at().data == {"fresh": 1}
                with pytest.raises(Erased):
                    manager.at(1)


def test_keys_that_come_back_with_an_older_key_store_are_destroyed_on_opening(
    written: Path, tmp_path: Path
) -> None:
    keys = written.with_name("agents.db-keys")
    shutil.copy(keys, tmp_path / "old-keys")
    with statecore.open(written, key=KEY) as store:
        gone, secrets = theirs(store), secrets_of(store)
        store.erase_subject("user-42")
    with statecore.open(written, key=KEY, durability="relaxed") as store:
        for number in range(3_000):
            store.manager("busy" if number % 100 else "nobody").set_state("n", number)
        store.manager("chat-1").set_state("fresh", 1)  # under a key that the old store lacks
    shutil.copy(tmp_path / "old-keys", keys)

    with statecore.open(written, key=KEY) as store:
        everything = keys.read_bytes()
        assert not any(piece in everything for at in gone for piece in secrets[at])
        with pytest.raises(Erased):
            store.manager("chat-2").at()
        with pytest.raises(Damage):
            store.manager("chat-1").at()
        assert store.manager("other").get_state("secret") == SECRET


def test_no_key_is_destroyed_because_somebody_without_it_wrote_so(written: Path) -> None:
    database = apsw.Connection(str(written))
    sql = "SELECT max(position), stream, max(version), topic, state FROM events GROUP BY stream"
    for _, stream, version, topic, state in database.execute(sql).fetchall():
        forged = state[:1] + b"\0" + state[2:]
        row = (stream, version + 1, topic, forged)
        database.execute("INSERT INTO events(stream, version, topic, state) VALUES(?,?,?,?)", row)
    database.close()
    before = written.with_name("agents.db-keys").read_bytes()

    with statecore.open(written, key=KEY) as store, pytest.raises(Damage):
        store.manager("other").at()

    assert written.with_name("agents.db-keys").read_bytes() == before


def test_a_long_log_is_not_looked_through_at_every_opening(path: Path) -> None:
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        agent = store.manager("agent")
        for number in range(2_500):
            agent.set_state("n", number)
        assert store.store._engine.streams.ring.settled == 0
    with statecore.open(path, key=KEY) as store:
        assert store.store._engine.streams.ring.settled == 2_000
        store.manager("agent").set_state("n", 0)
    with statecore.open(path, key=KEY) as store:
        assert store.store._engine.streams.ring.settled == 2_000


def test_a_shorter_log_than_was_settled_is_looked_through_anew(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("secret", SECRET)
        store.manager("other").set_state("n", 1)
    old = path.with_name("old")
    shutil.copy(path, old)
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        for number in range(1_500):
            store.manager("other").set_state("n", number)
    shutil.copy(old, path)

    with statecore.open(path, key=KEY) as store:
        assert store.store._engine.streams.ring.settled == 0
        store.erase("agent")
        assert store.manager("other").get_state("n") == 1


def test_a_state_says_whose_data_it_holds(store: statecore.BlockingStore) -> None:
    agent = store.manager("agent", subject="user-42")
    assert agent.subject == "user-42"
    agent.set_state("n", 1)
    fork = agent.branch("fork")
    fork.set_state("n", 2)

    assert store.manager("agent").get_state("n") == 1
    assert (store.manager("agent").subject, fork.subject) == ("user-42", "user-42")
    assert [birth.subject for birth in store.agents()] == ["user-42"]
    for wrong in ("user-7", ""):
        with pytest.raises(SubjectMismatch, match="another subject"):
            store.manager("agent", subject=wrong).set_state("n", 3)
    with pytest.raises(SubjectMismatch):
        store.manager("agent", subject="user-7").branch("fork").set_state("n", 3)
    store.manager("free").set_state("n", 1)
    with pytest.raises(SubjectMismatch):
        store.manager("free", subject="user-42").set_state("n", 2)

    assert store.erase_subject("user-42") == ["agent"]
    assert store.erase_subject("user-42") == []
    assert store.erase_subject("never there") == []
    other = store.manager("agent", subject="user-7")
    other.set_state("n", 4)
    assert other.at().data == {"n": 4}
    assert store.manager("free").get_state("n") == 1


def test_who_has_not_looked_at_a_state_cannot_put_anothers_data_to_it(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent", subject="user-42").set_state("n", 1)

    with statecore.open(path, key=KEY) as store:
        with pytest.raises(SubjectMismatch):
            store.manager("agent", subject="user-7").set_state("n", 2)
        assert store.manager("agent", subject="user-42").set_state("n", 2) == 2


def test_of_two_subjects_that_begin_one_state_at_once_one_gets_it(path: Path) -> None:
    async def begin() -> list[object]:
        async with statecore.open(path, key=KEY) as store:
            managers = [store.manager("agent", subject=f"user-{number % 2}") for number in range(8)]
            writes = (manager.add("n", 1) for manager in managers)
            return await asyncio.gather(*writes, return_exceptions=True)

    outcomes = asyncio.run(begin())

    assert sorted(outcome for outcome in outcomes if isinstance(outcome, int)) == [1, 2, 3, 4]
    assert sum(isinstance(outcome, SubjectMismatch) for outcome in outcomes) == 4


def test_a_subjects_runtime_states_are_erased_with_it(store: statecore.BlockingStore) -> None:
    runtime = store.manager("agent", kind="runtime", subject="user-42")
    runtime.set_state("n", 1)
    durable = store.persist(runtime)
    assert durable.subject == "user-42"

    assert store.erase_subject("user-42") == ["agent"]

    for manager in (runtime, durable):
        with pytest.raises(Erased):
            manager.get_state("n")


def test_a_branch_that_was_persisted_is_erased_with_its_agent(
    store: statecore.BlockingStore,
) -> None:
    runtime = store.manager("agent", kind="runtime")
    runtime.set_state("n", 1)
    durable = store.persist(runtime.branch("idea"))
    assert (durable.branch_name, durable.get_state("n")) == ("idea", 1)

    store.erase("agent")

    with pytest.raises(Erased):
        durable.get_state("n")
    assert all(entry.is_destroyed for entry in store.keys.entries()[1:])


def test_a_subject_is_not_readable_in_the_files(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent", subject="user-42").set_state("n", 1)

        assert b"user-42" not in contents(path.parent)


def test_an_expired_state_of_a_subject_is_erased_either_way(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        session = store.manager("session", kind="temporary", ttl=60, subject="user-42")
        session.set_state("n", 1)
        clock.tick(61)

        assert store.erase_subject("user-42") in (["session"], [])  # or the sweeper was faster

        with pytest.raises(StatecoreError):
            session.get_state("n")
        assert store.clean_up() == 0


def test_a_log_that_is_older_than_its_keys_says_so_and_how_to_go_on(
    path: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old" / "agents.db"
    old.parent.mkdir()
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("k", 1)
    shutil.copy(path, old)
    with statecore.open(path, key=KEY) as store:
        store.erase("agent")
    shutil.copy(f"{path}-keys", f"{old}-keys")

    with statecore.open(old, key=KEY) as store:
        with pytest.raises(DamagedRecord, match="the log is older than its key store; erase"):
            store.manager("agent").get_state("k")
        store.erase("agent")
        with pytest.raises(Erased):
            store.manager("agent").at(1)
        assert store.manager("agent").set_state("k", 2) == 3
    assert statecore.verify(old, depth="replay", key=KEY).findings == []
