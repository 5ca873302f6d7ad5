"""Key backups: they open without the store's key, and bring back nothing that was erased."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import msgpack
import pyrage
import pytest

import statecore
from statecore import new_key
from statecore.errors import (
    Damage,
    DamagedRecord,
    Erased,
    InputError,
    InvalidKey,
    NewerFormat,
    StatecoreError,
    StoreNotFound,
    StoreReadOnly,
    WrongKey,
)
from statecore.keys.backup import KeyContents, open_contents, seal_contents
from statecore.keys.providers import KeyFile
from statecore.keys.ring import LOG_EPOCH, LOG_STREAM
from statecore.keys.store import WrappedKey
from statecore.unlocking import open_file_log
from tests.conftest import KEY, Clock
from tests.test_damage import tamper
from tests.test_rotation import contents, die_at

WORDS = "correct horse"


@pytest.fixture
def written(path: Path) -> Path:
    """A closed store: agents, a branch, a second data key, a temporary state."""
    clock = Clock()
    with statecore.open(path, key=KEY, clock=clock) as store:
        for number in range(5):
            store.manager(f"agent-{number}", subject=f"user-{number}").set_state("n", number)
        store.keys.rotate_data("agent-0")
        store.manager("agent-0").branch("idea").set_state("n", 7)
        store.manager("session", kind="temporary", ttl=60).set_state("n", 8)
        store.erase("agent-4")
    return path


def lose_keys(path: Path) -> None:
    path.with_name("agents.db-keys").unlink()


def read(path: Path, key: bytes) -> dict[str, object]:
    with statecore.open(path, key=key, clock=Clock()) as store:
        assert store.keys.check().problems == ()
        found: dict[str, object] = {
            birth.agent_id: store.manager(birth.agent_id).get_state("n") for birth in store.agents()
        }
        found["idea"] = store.manager("agent-0").branch("idea").get_state("n")
        return found


EVERYTHING = {f"agent-{number}": number for number in range(4)} | {"session": 8, "idea": 7}


def backup(path: Path, target: Path, **to: object) -> int:
    with statecore.open(path, key=KEY, clock=Clock()) as store:
        return store.keys.backup(target, **to)  # type: ignore[arg-type]


def test_a_backup_opens_with_its_passphrase_alone(written: Path, tmp_path: Path) -> None:
    target = tmp_path / "keys.backup"
    assert backup(written, target, passphrase=WORDS) == 9
    assert oct(target.stat().st_mode & 0o777) == "0o600"
    lose_keys(written)

    new = bytes(32)  # the key of before was lost, too
    assert statecore.restore_keys(target, written, backup_passphrase=WORDS, key=new) == 9

    assert read(written, new) == EVERYTHING
    with pytest.raises(WrongKey):
        statecore.open(written, key=KEY).blocking()
    assert [file.name for file in tmp_path.iterdir() if "restoring" in file.name] == []
    keys = written.with_name("agents.db-keys")
    assert oct(keys.stat().st_mode & 0o777) == "0o600"


def test_a_backup_to_an_age_recipient_opens_with_its_identity(
    written: Path, tmp_path: Path
) -> None:
    mine, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    target = tmp_path / "keys.age"
    backup(written, target, recipients=[str(mine.to_public()), str(other.to_public())])
    lose_keys(written)

    with pytest.raises(WrongKey, match="not to the holder"):
        stranger = str(pyrage.x25519.Identity.generate())
        statecore.restore_keys(target, written, identity=stranger, key=KEY)
    with pytest.raises(InputError, match="age identity"):
        statecore.restore_keys(target, written, backup_passphrase=WORDS, key=KEY)
    text = f"# created: today\n{other}\n"
    statecore.restore_keys(target, written, identity=text, key=KEY)

    assert read(written, KEY) == EVERYTHING


@pytest.mark.skipif(not shutil.which("age"), reason="the age command is not installed")
def test_another_implementation_of_age_opens_a_backup(written: Path, tmp_path: Path) -> None:
    mine = pyrage.x25519.Identity.generate()
    (tmp_path / "identity").write_text(f"{mine}\n")
    backup(written, tmp_path / "keys.age", recipients=[str(mine.to_public())])

    command = ["age", "--decrypt", "-i", tmp_path / "identity", tmp_path / "keys.age"]
    opened = subprocess.run(command, capture_output=True, check=True).stdout

    number, _, rows = msgpack.unpackb(opened)
    assert number == 1
    assert len([row for row in rows if row[3]]) == 9
    assert len([row for row in rows if row[3] is None]) == 1


def test_a_backup_holds_no_key_in_clear_and_is_never_written_over(
    written: Path, tmp_path: Path
) -> None:
    target = tmp_path / "keys.backup"
    backup(written, target, passphrase=WORDS)
    before = target.read_bytes()
    opened = open_contents(before, WORDS, None)

    with pytest.raises(InputError, match="not written over"):
        backup(written, target, passphrase=WORDS)

    assert target.read_bytes() == before
    assert not any(secret in before for _, secret in opened.keys if secret)
    assert sorted(file.name for file in tmp_path.iterdir() if "backup" in file.name) == [
        "keys.backup"
    ]


def test_a_backup_taken_before_the_key_was_changed_still_restores(
    written: Path, tmp_path: Path
) -> None:
    backup(written, tmp_path / "old", passphrase=WORDS)
    with statecore.open(written, key=KEY, clock=Clock()) as store:
        store.keys.rotate(new_key())
    lose_keys(written)

    file = KeyFile(tmp_path / "key")
    statecore.restore_keys(tmp_path / "old", written, backup_passphrase=WORDS, key=file)

    assert read(written, file.key({}, create=False)) == EVERYTHING


def test_what_was_erased_since_a_backup_stays_erased(written: Path, tmp_path: Path) -> None:
    backup(written, tmp_path / "old", passphrase=WORDS)
    opened = open_contents((tmp_path / "old").read_bytes(), WORDS, None)
    with statecore.open(written, key=KEY, clock=Clock()) as store:
        streams = store.store._engine.streams
        gone = streams.id_of(statecore.stream.StreamName("agent-2"))
        store.erase_subject("user-2")
        store.manager("agent-3").set_state("more", 1)
        store.erase("agent-1")
        store.manager("agent-1").set_state("n", "fresh")
        store.keys.backup(tmp_path / "newer", passphrase=WORDS)
    (secret,) = [secret for key, secret in opened.keys if key.stream == gone]
    assert secret

    for source, fresh in (("old", False), ("newer", True)):
        lose_keys(written)
        statecore.restore_keys(tmp_path / source, written, backup_passphrase=WORDS, key=KEY)
        assert secret not in contents(written.parent)
        with statecore.open(written, key=KEY, clock=Clock()) as store:
            ring = store.store._engine.streams.ring
            assert not ring.has_keys(gone, 100)
            with pytest.raises(Erased):
                store.manager("agent-2").get_state("n")
            assert store.manager("agent-3").at().data == {"n": 3, "more": 1}
            if fresh:
                assert store.manager("agent-1").get_state("n") == "fresh"
            else:  # whose new key came after the backup
                with pytest.raises(Damage):
                    store.manager("agent-1").get_state("n")
            assert bool(store.keys.check().problems) != fresh


def test_a_backup_of_another_log_is_refused(written: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    statecore.open(other, key=KEY).blocking().close()
    backup(written, tmp_path / "keys.backup", passphrase=WORDS)
    other.with_name("other.db-keys").unlink()

    with pytest.raises(WrongKey, match="another log"):
        statecore.restore_keys(tmp_path / "keys.backup", other, backup_passphrase=WORDS, key=KEY)

    assert not other.with_name("other.db-keys").exists()


def test_a_key_store_that_is_there_is_not_replaced(written: Path, tmp_path: Path) -> None:
    backup(written, tmp_path / "keys.backup", passphrase=WORDS)
    before = written.with_name("agents.db-keys").read_bytes()

    with pytest.raises(InputError, match="move it away first"):
        statecore.restore_keys(tmp_path / "keys.backup", written, backup_passphrase=WORDS, key=KEY)

    assert written.with_name("agents.db-keys").read_bytes() == before


def test_what_is_no_backup_is_refused_with_a_reason(written: Path, tmp_path: Path) -> None:
    target = tmp_path / "keys.backup"
    backup(written, target, passphrase=WORDS)
    sealed = target.read_bytes()
    lose_keys(written)

    def restore(content: bytes, words: str | None = WORDS, identity: str | None = None) -> None:
        target.write_bytes(content)
        statecore.restore_keys(target, written, backup_passphrase=words, identity=identity, key=KEY)

    with pytest.raises(WrongKey, match="passphrase is not"):
        restore(sealed, "battery staple")
    with pytest.raises(InputError, match="with a passphrase"):
        restore(sealed, None)
    with pytest.raises(NewerFormat):
        restore(sealed.replace(b"backup 1\n", b"backup 2\n"))
    with pytest.raises(DamagedRecord, match="no key backup"):
        restore(b"nonsense")
    with pytest.raises(InvalidKey):
        restore(b"age-encryption.org/v1\nnonsense", None, "AGE-SECRET-KEY-1NONSENSE")
    for at in (*range(0, 25, 8), *range(25, len(sealed), 211)):
        with pytest.raises(StatecoreError):
            restore(sealed[:at] + bytes([sealed[at] ^ 0x10]) + sealed[at + 1 :])
        with pytest.raises(StatecoreError):
            restore(sealed[:at])
    with pytest.raises(StoreNotFound):
        statecore.restore_keys(tmp_path / "none", written, backup_passphrase=WORDS, key=KEY)
    with pytest.raises(StoreNotFound):
        statecore.restore_keys(target, tmp_path / "none.db", backup_passphrase=WORDS, key=KEY)
    assert not written.with_name("agents.db-keys").exists()


def test_a_backup_says_to_whom(written: Path, tmp_path: Path) -> None:
    for to in ({}, {"passphrase": ""}, {"passphrase": WORDS, "recipients": ["age1"]}):
        with pytest.raises(InputError):
            backup(written, tmp_path / "keys.backup", **to)
    with pytest.raises(InvalidKey, match="no age recipient"):
        backup(written, tmp_path / "keys.backup", recipients=["age1nonsense"])
    with pytest.raises(StoreReadOnly):
        backup(written, tmp_path / "nowhere" / "keys.backup", passphrase=WORDS)
    assert [file.name for file in tmp_path.iterdir() if "backup" in file.name] == []


def test_a_restore_outlives_a_kill_at_every_step(written: Path, tmp_path: Path) -> None:
    mine = pyrage.x25519.Identity.generate()
    backup(written, tmp_path / "keys.age", recipients=[str(mine.to_public())])
    lose_keys(written)

    def restore() -> None:
        statecore.restore_keys(tmp_path / "keys.age", written, identity=str(mine), key=KEY)

    steps = 0
    while die_at(steps + 1, restore):
        steps += 1
        assert not written.with_name("agents.db-keys").exists()
    assert steps > 5
    assert read(written, KEY) == EVERYTHING


def forge(path: Path, target: Path, *, log_key: bytes = bytes(32)) -> str:
    """Write a key backup as somebody can who knows the recipient only; return its identity."""
    mine = pyrage.x25519.Identity.generate()
    with closing(open_file_log(path)) as log:
        stream = log.streams()[0] if log.streams() else bytes(16)
        keys = [(WrappedKey(LOG_STREAM, LOG_EPOCH, 0), log_key)]
        keys += [(WrappedKey(stream, 1, 1), bytes(32)), (WrappedKey(stream, 2, 900), bytes(32))]
        contents = KeyContents(log.log_id, keys)
    target.write_bytes(seal_contents(contents, None, [str(mine.to_public())]))
    return str(mine)


@pytest.mark.parametrize(
    "statement", ["SELECT 1", "DELETE FROM heads", "UPDATE heads SET note = 0"]
)
def test_a_backup_that_somebody_else_encrypted_is_refused(
    written: Path, tmp_path: Path, statement: str
) -> None:
    tamper(written, statement)
    lose_keys(written)
    identity = forge(written, tmp_path / "keys.age")

    with pytest.raises(WrongKey, match="nothing in the log shows"):
        statecore.restore_keys(tmp_path / "keys.age", written, identity=identity, key=KEY)

    assert not written.with_name("agents.db-keys").exists()


def test_a_log_without_heads_is_shown_to_be_the_backup_s_by_its_events(
    written: Path, tmp_path: Path
) -> None:
    backup(written, tmp_path / "keys.backup", passphrase=WORDS)
    lose_keys(written)
    tamper(written, "DELETE FROM heads")

    statecore.restore_keys(tmp_path / "keys.backup", written, backup_passphrase=WORDS, key=KEY)

    assert read(written, KEY) == EVERYTHING


def test_what_a_kill_left_of_a_restore_is_gone_with_the_next_opening(
    written: Path, tmp_path: Path
) -> None:
    backup(written, tmp_path / "keys.backup", passphrase=WORDS)
    keys = written.with_name("agents.db-keys")
    keys.rename(tmp_path / "aside")

    def restore() -> None:
        statecore.restore_keys(tmp_path / "keys.backup", written, backup_passphrase=WORDS, key=KEY)

    left = keys.with_name("agents.db-keys.restoring")
    step = next(step for step in range(1, 100) if die_at(step, restore) and left.exists())
    assert step
    (tmp_path / "aside").rename(keys)

    with statecore.open(written, key=KEY, clock=Clock()) as store:
        store.erase_subject("user-1")

    assert not left.exists()


@pytest.mark.parametrize(
    "row",
    [
        ["text", 1, 1, bytes(32), None],
        [None, 1, 1, bytes(32), None],
        [bytes(3), 1, 1, bytes(32), None],
        [bytes(16), -1, 1, bytes(32), None],
        [bytes(16), 1, -1, bytes(32), None],
        [bytes(16), 1, 1 << 63, bytes(32), None],
        [bytes(16), 1, 1, bytes(31), None],
        [bytes(16), 1, 1, "text", None],
        [bytes(16), 1, 1, bytes(32), 0],
        [bytes(16), 1, 1, bytes(32), "text"],
        [bytes(16), 1],
        7,
    ],
)
def test_a_key_backup_of_nonsense_is_damaged(row: object) -> None:
    mine = pyrage.x25519.Identity.generate()
    packed = msgpack.packb([1, bytes(16), [row]])
    sealed = pyrage.encrypt(packed, [mine.to_public()])

    with pytest.raises(DamagedRecord, match="does not parse"):
        open_contents(sealed, None, str(mine))
