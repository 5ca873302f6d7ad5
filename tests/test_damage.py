"""A file that is not what it was: each case a typed error that names the cause, nothing worse."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import apsw
import pytest

import statecore
from statecore.doctor import examine
from statecore.errors import (
    Damage,
    DamagedRecord,
    ForeignSchema,
    NewerFormat,
    StatecoreError,
    StoreFailure,
    StoreForked,
    StoreNotFound,
    StoreReadOnly,
    StoreUnsupported,
)
from tests.conftest import KEY, environment

VERSIONS = 30


@pytest.fixture
def written(path: Path) -> Path:
    """A closed store with two agents."""
    with statecore.open(path, key=KEY) as store:
        for name in ("agent", "other"):
            agent = store.manager(name)
            for number in range(VERSIONS):
                agent.set_state("n", number)
                agent.set_state(f"k{number}", f"value {number}")
    return path


def tamper(path: Path, *statements: str) -> None:
    """Change the database as somebody with a SQLite shell would."""
    database = apsw.Connection(str(path))
    for statement in statements:
        database.execute(statement)
    database.close()


def states(path: Path, name: str = "agent") -> list[object]:
    """Everything one can read of an agent."""
    with statecore.open(path, key=KEY) as store:
        agent = store.manager(name)
        told: list[object] = [str(event) for event in agent.history()]
        return [*told, *(agent.at(version).data for version in range(agent.version() + 1))]


def test_a_missing_store_is_not_made_where_it_should_be_there(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match="there is no store at"):
        statecore.open(tmp_path / "no.db", key=KEY, create=False).blocking()
    with pytest.raises(StoreNotFound, match="there is no directory"):
        statecore.open(tmp_path / "no" / "no.db", key=KEY).blocking()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough" * 40, b"x", bytes(4096)]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(ForeignSchema):
        statecore.open(path, key=KEY).blocking()
    assert path.read_bytes() == content


def test_a_file_that_was_emptied_is_damage_and_left_alone(written: Path) -> None:
    written.write_bytes(b"")

    with pytest.raises(Damage, match="is empty: no log"):
        statecore.open(written, key=KEY, create=False).blocking()
    with pytest.raises(StoreNotFound, match="but its key store"):  # it has keys of its streams
        statecore.open(written, key=KEY).blocking()
    written.with_name(written.name + "-keys").unlink()
    with pytest.raises(Damage, match="is empty: no log"):
        statecore.open(written, key=KEY, create=False).blocking()

    assert written.stat().st_size == 0


def test_an_empty_file_is_a_place_for_a_new_log(path: Path) -> None:
    path.touch()

    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("n", 1)
    assert states(path)


def test_what_is_no_file_is_not_verified(tmp_path: Path) -> None:
    with pytest.raises(ForeignSchema, match="is not a file"):
        statecore.verify(tmp_path)
    with pytest.raises(StoreNotFound):
        statecore.verify(tmp_path / "no.db")


def test_a_path_that_cannot_be_is_no_store() -> None:
    for create in (True, False):
        with pytest.raises(StoreNotFound, match="there can be no store"):
            statecore.open("/" + "a" * 300, key=KEY, create=create).blocking()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("create", [True, False])
def test_what_is_no_file_is_no_store_and_gets_nothing_beside_it(
    make: Callable[[Path], None], create: bool, path: Path
) -> None:
    make(path)

    with pytest.raises(Damage, match="is not a file"):
        statecore.open(path, key=KEY, create=create).blocking()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_an_id_of_the_log_that_is_not_what_it_should_be_is_damage_or_told_right(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("n", 1)
    tamper(path, "UPDATE log SET id = CAST(id AS TEXT)")  # which is no text
    with statecore.open(path, key=KEY) as store:
        assert store.manager("agent").get_state("n") == 1

    tamper(path, "UPDATE log SET id = x'00'")
    with pytest.raises(Damage, match="which log it is"):
        statecore.open(path, key=KEY).blocking()


def test_somebody_elses_database_is_refused_and_left_alone(path: Path) -> None:
    tamper(path, "CREATE TABLE users(name)", "INSERT INTO users VALUES ('Ada')")
    before = path.read_bytes()

    with pytest.raises(ForeignSchema, match="not one that statecore made"):
        statecore.open(path, key=KEY).blocking()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "CREATE TRIGGER evil AFTER INSERT ON events BEGIN DELETE FROM events; END",
            "trigger evil",
        ),
        ("CREATE VIEW evil AS SELECT * FROM events", "view evil"),
        ("CREATE TABLE evil(x)", "table evil that statecore never made"),
        ("CREATE INDEX evil ON events(length(state))", "index evil"),
        ("DROP INDEX events_of_stream", "lacks the index events_of_stream"),
        ("DROP TABLE touches", "lacks the table touches"),
        ("ALTER TABLE events ADD COLUMN more", "altered table events"),
    ],
)
def test_a_planted_or_altered_schema_is_refused(written: Path, statement: str, named: str) -> None:
    tamper(written, statement)

    with pytest.raises(ForeignSchema, match=named):
        statecore.open(written, key=KEY).blocking()


def test_a_trigger_planted_while_the_store_is_open_does_not_run(written: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        agent = store.manager("agent")
        agent.set_state("before", 1)
        tamper(written, "CREATE TRIGGER evil AFTER INSERT ON events BEGIN DELETE FROM events; END")
        agent.set_state("after", 2)
        assert agent.version() == 2 * VERSIONS + 2
        assert agent.at(1).data == {"n": 0}


def test_a_store_of_a_newer_format_says_upgrade(written: Path) -> None:
    tamper(written, "UPDATE log SET format = 2")

    with pytest.raises(NewerFormat, match="has format 2; this statecore reads 1"):
        statecore.open(written, key=KEY).blocking()


def test_a_record_of_a_newer_format_says_upgrade(written: Path) -> None:
    tamper(
        written,
        "UPDATE events SET state = x'21' || substr(state, 2) WHERE position = 5",
    )

    with pytest.raises(NewerFormat, match="version 5 has format 2"):
        states(written)
    states(written, "other")  # what is readable stays readable


SWAP = """
    UPDATE events SET state = (SELECT state FROM events AS o WHERE o.position = {b})
    WHERE position = {a}
"""


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET state = substr(state, 1, 20)"
        " || CASE substr(state, 21, 1) WHEN x'00' THEN x'01' ELSE x'00' END || substr(state, 22)"
        " WHERE position = 7",
        "UPDATE events SET state = substr(state, 1, length(state) - 1) WHERE position = 7",
        "UPDATE events SET state = x'' WHERE position = 7",
        "UPDATE events SET state = 'text' WHERE position = 7",
        SWAP.format(a=7, b=9),  # an older or newer version of the same stream
        SWAP.format(a=7, b=67),  # the same version of another stream
        "DELETE FROM events WHERE position = 7",
        "UPDATE events SET version = version + 1000 WHERE position = 7",
        "UPDATE writers SET prefix = x'000102030405060708090a0b'",
        "DELETE FROM writers",
    ],
)
def test_an_edited_record_is_noticed(written: Path, statement: str) -> None:
    tamper(written, statement)

    with pytest.raises(DamagedRecord):
        states(written)


def test_streams_that_were_exchanged_are_noticed(written: Path) -> None:
    tamper(
        written,
        "UPDATE events SET stream = -stream",
        "UPDATE events SET stream = 3 + stream",
    )

    with pytest.raises(DamagedRecord):
        states(written)


def test_a_record_of_another_store_is_noticed(written: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with statecore.open(other, key=KEY) as store:
        for number in range(VERSIONS):
            store.manager("agent").set_state("n", number)
    tamper(
        written,
        f"ATTACH '{other}' AS other",
        "UPDATE events SET state = (SELECT state FROM other.events AS o WHERE o.position = 7)"
        " WHERE position = 7",
    )

    with pytest.raises(DamagedRecord, match="the seal does not fit"):
        states(written)


def test_a_damaged_history_index_is_noticed_not_believed(written: Path) -> None:
    tamper(written, "UPDATE touches SET first = first + 1")

    with statecore.open(written, key=KEY) as store:
        agent = store.manager("agent")
        assert agent.get_state("n") == VERSIONS - 1
        with pytest.raises(DamagedRecord, match="the key history names version"):
            for version in range(1, 2 * VERSIONS):
                agent.value_at("n", version)


def test_truncation_is_an_error_or_an_older_state_never_a_crash(
    written: Path, tmp_path: Path
) -> None:
    whole = written.read_bytes()
    complete = states(written)
    for length in range(0, len(whole), 4096 * 2 + 1000):
        copy = tmp_path / f"{length}.db"
        copy.write_bytes(whole[:length])
        shutil.copy(written.with_name("agents.db-keys"), tmp_path / f"{length}.db-keys")
        with suppress(StatecoreError):
            assert states(copy) == complete


def test_flipped_bytes_change_no_event(written: Path, tmp_path: Path) -> None:
    """Sealed bytes can't change unseen. A damaged page of an index can hide whole events, which
    only the engine's own check notices, or the log's proofs."""
    whole = written.read_bytes()
    complete = states(written)
    copy = tmp_path / "flipped.db"
    shutil.copy(written.with_name("agents.db-keys"), tmp_path / "flipped.db-keys")
    noticed = 0
    for at in range(0, len(whole), 997):
        flipped = bytearray(whole)
        flipped[at] ^= 0xFF
        copy.write_bytes(flipped)
        for leftover in ("-wal", "-shm"):
            copy.with_name(copy.name + leftover).unlink(missing_ok=True)
        try:
            told = states(copy)
        except StatecoreError:
            noticed += 1
        else:
            assert told == complete or not is_sound(copy), at
    assert noticed


def is_sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with its own structures."""
    database = apsw.Connection(str(path))
    try:
        return database.execute("PRAGMA integrity_check(1)").get == "ok"
    finally:
        database.close()


def test_what_can_t_be_opened_is_not_held_open(written: Path) -> None:
    tamper(Path(f"{written}-keys"), "UPDATE keys SET expires = 'soon' WHERE epoch > 0")

    with pytest.raises(Damage) as refused:
        statecore.open(written, key=KEY).blocking()

    assert refused.value.__traceback__  # while all that the attempt knew is still there
    assert examine(written, key=KEY).diagnoses


def test_a_replaced_file_is_noticed_at_the_next_commit(written: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copy(written, copy)
    with statecore.open(written, key=KEY) as store:
        agent = store.manager("agent")
        agent.set_state("n", 1)
        copy.replace(written)

        with pytest.raises(Damage, match="was replaced or removed while it was open"):
            agent.set_state("n", 2)
        with pytest.raises(Damage):
            agent.set_state("n", 3)


def test_a_child_process_is_refused_what_was_open_when_it_was_forked(written: Path) -> None:
    """Also if it opens the file itself: it would hold no lock on it, and nobody would know."""
    with statecore.open(written, key=KEY) as store:
        agent = store.manager("agent")
        agent.set_state("parent", 1)
        child = os.fork()
        if child == 0:
            refused = 0
            for use in (
                lambda: agent.get_state("parent"),
                lambda: agent.set_state("child", 1),
                statecore.open(written, key=KEY).blocking,
            ):
                try:
                    use()
                except StoreForked:
                    refused += 1
            store.close()
            os._exit(0 if refused == 3 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        agent.set_state("parent", 2)
        with statecore.open(written, key=KEY) as again:
            assert again.manager("agent").get_state("parent") == 2


def test_a_child_process_may_open_what_its_parent_had_closed(written: Path) -> None:
    with statecore.open(written, key=KEY) as store:
        store.manager("agent").set_state("parent", 1)
    child = os.fork()
    if child == 0:
        with statecore.open(written, key=KEY) as store:
            store.manager("agent").set_state("child", 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    with statecore.open(written, key=KEY) as store:
        assert store.manager("agent").get_state("child") == 1


READ_ONLY = """
import os, sys
import statecore, statecore.recorders.sqlite
with statecore.open() as store:  # imports all there is, while they can be read
    store.manager("agent").set_state("n", 1)
os.setgid(65534)
os.setuid(65534)
try:
    with statecore.open(sys.argv[1], key=bytes(range(32))) as store:
        store.manager("agent").set_state("n", 1)
except statecore.StatecoreError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="needs root to become nobody"
)
@pytest.mark.parametrize("there", [True, False])
def test_a_read_only_directory_is_named(there: bool, written: Path) -> None:
    folder = written.parent
    if not there:
        for file in folder.glob("agents.db*"):
            file.unlink()
    for each in (folder, *folder.parents[:2]):
        each.chmod(0o755)
    for file in folder.glob("agents.db*"):
        file.chmod(0o644)

    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(written)],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )

    assert done.stdout.startswith("StoreReadOnly"), done.stdout + done.stderr
    assert "agents.db" in done.stdout


def test_a_network_file_system_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from statecore.recorders.sqlite import filesystem

    for kind in ("nfs4", "cifs", "fuse.sshfs", "9p"):
        monkeypatch.setattr(filesystem, "kind_of", lambda _, kind=kind: kind)
        with pytest.raises(StoreUnsupported, match=f"is on {kind}, where SQLite"):
            statecore.open(path, key=KEY).blocking()
    for kind in ("ext4", "xfs", "btrfs", "tmpfs", "overlay", ""):
        monkeypatch.setattr(filesystem, "kind_of", lambda _, kind=kind: kind)
        statecore.open(path, key=KEY).blocking().close()


def test_the_file_system_of_a_path_is_found(tmp_path: Path) -> None:
    from statecore.recorders.sqlite.filesystem import kind_of

    assert kind_of(Path("/proc/self/stat")) == "proc"
    assert kind_of(tmp_path / "x") != "proc"
    assert kind_of(tmp_path / "no" / "no" / "x") == ""


def test_an_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")

    with pytest.raises(StoreUnsupported, match=r"SQLite 3.51.2 can lose committed data"):
        statecore.open(path, key=KEY).blocking()


def test_errors_are_one_tree() -> None:
    from statecore import errors

    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    for kind in kinds:
        if issubclass(kind, Exception):
            assert issubclass(kind, StatecoreError)
            assert kind.__name__ in (errors.__doc__ or "")
    assert issubclass(statecore.InputError, ValueError)
    assert issubclass(statecore.NotFound, LookupError)
    assert not issubclass(StoreReadOnly, Damage)
    assert issubclass(StoreReadOnly, StoreFailure)
