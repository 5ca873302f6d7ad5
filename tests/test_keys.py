"""Keys: where they come from, what happens without them, and that they stay to themselves."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

import statecore
from statecore import KeyFile, KeyInEnvironment, Passphrase, new_key
from statecore.errors import DamagedRecord, InputError, InvalidKey, KeyMissing, WrongKey
from statecore.keys import FileKeyStore, KeyRing, KeyStore, MemoryKeyStore
from statecore.keys.providers import GivenKey, default_key_file, read_key, write_key
from statecore.keys.ring import LOG_STREAM
from statecore.keys.store import WrappedKey
from tests.conftest import KEY, environment
from tests.test_xaes import VECTORS

LOG_ID, STREAM = b"l" * 16, b"s" * 16


def check_of(store: KeyStore) -> bytes:
    vault = store.load()
    assert vault is not None
    return vault.check


@pytest.fixture(params=["memory", "file"])
def key_store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "memory":
        return MemoryKeyStore()
    return FileKeyStore(tmp_path / "keys", create=True)


def test_a_key_written_down_can_be_read() -> None:
    text = new_key()

    assert text.startswith("statecore-key-1:")
    assert write_key(read_key(text, "here")) == text
    assert read_key(KEY.hex(), "here") == KEY
    assert read_key(f"# a comment\n{write_key(KEY)}\n", "here") == KEY
    assert read_key(base64.urlsafe_b64encode(KEY).decode(), "here") == KEY
    assert new_key() != new_key()


@pytest.mark.parametrize("text", ["", "x", "statecore-key-1:", "g" * 64, "ab" * 31, "ü" * 43])
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidKey) as caught:
        read_key(text, "the key file")
    assert str(caught.value).startswith("the key file does not hold a key")
    assert not text or text not in str(caught.value).removeprefix("the key file")[:20]


def test_the_users_key_file_is_made_on_first_use_and_private(tmp_path: Path) -> None:
    with statecore.open(tmp_path / "a.db") as store:
        store.manager("agent").set_state("n", 1)

    file = default_key_file()
    assert file == tmp_path / "data" / "statecore" / "key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    with statecore.open(tmp_path / "a.db") as store, statecore.open(tmp_path / "b.db") as other:
        assert store.manager("agent").get_state("n") == 1
        other.manager("agent").set_state("n", 2)  # one key for all of a user's stores


def test_every_file_of_a_store_is_private(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("n", 1)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}

    expected = ("", "-wal", "-shm", "-lock", "-keys")
    assert modes == {"agents.db" + end: 0o600 for end in expected}


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(new_key())
    file.chmod(0o644)

    with pytest.raises(InvalidKey, match="chmod 600"):
        statecore.open(tmp_path / "a.db", key=KeyFile(file)).blocking()


def test_a_missing_key_file_is_made_for_a_new_store_only(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with statecore.open(tmp_path / "a.db", key=KeyFile(file)) as store:
        store.manager("agent").set_state("n", 1)
    file.unlink()

    with pytest.raises(KeyMissing, match=r"no key file at .*; the store was made with .* key file"):
        statecore.open(tmp_path / "a.db", key=KeyFile(file)).blocking()
    assert not file.exists()


def test_of_many_processes_that_make_the_key_file_one_wins(tmp_path: Path) -> None:
    code = (
        "from statecore import KeyFile; from pathlib import Path; import sys;"
        "print(KeyFile(Path(sys.argv[1])).key({}, create=True).hex())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "deep" / "key")]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) for _ in range(8)
    ]
    keys = {process.communicate()[0] for process in running}

    assert len(keys) == 1
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["key"]


def test_the_environment_comes_before_the_key_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATECORE_KEY", new_key())
    with statecore.open(path) as store:
        store.manager("agent").set_state("n", 1)
    assert not default_key_file().exists()
    with statecore.open(path) as store:
        assert store.manager("agent").get_state("n") == 1

    monkeypatch.setenv("STATECORE_KEY", new_key())
    with pytest.raises(WrongKey, match="made with a key from: environment"):
        statecore.open(path).blocking()
    monkeypatch.setenv("STATECORE_KEY", "nonsense")
    with pytest.raises(InvalidKey, match="STATECORE_KEY does not hold a key"):
        statecore.open(path).blocking()
    monkeypatch.delenv("STATECORE_KEY")
    with pytest.raises(KeyMissing, match="STATECORE_KEY is not set"):
        statecore.open(path, key=KeyInEnvironment()).blocking()
    with pytest.raises(KeyMissing, match="made with a key from: environment"):
        statecore.open(path).blocking()
    assert not default_key_file().exists()  # a new key could only be the wrong one


def test_a_passphrase_opens_what_it_closed(path: Path) -> None:
    with statecore.open(path, passphrase="correct horse") as store:
        store.manager("agent").set_state("n", 1)

    with statecore.open(path, passphrase="correct horse") as store:
        assert store.manager("agent").get_state("n") == 1
    with pytest.raises(WrongKey, match="not this store's key"):
        statecore.open(path, passphrase="battery staple").blocking()
    with pytest.raises(WrongKey):
        statecore.open(path, key=KEY).blocking()
    with pytest.raises(InputError, match="not both"):
        statecore.open(path, key=KEY, passphrase="x")
    assert "correct horse" not in repr(Passphrase("correct horse"))
    assert KEY.hex() not in repr(GivenKey(KEY))


def test_a_passphrase_for_a_store_with_another_key_is_refused(path: Path) -> None:
    statecore.open(path, key=KEY).blocking().close()

    with pytest.raises(InvalidKey, match="no passphrase"):
        statecore.open(path, passphrase="x").blocking()


def test_settings_of_a_hostile_key_store_cannot_fill_the_memory() -> None:
    for absurd in ({"memory_kib": 1 << 40}, {"memory_kib": 1}, {"salt": b"two"}, {"salt": "text"}):
        settings = {**Passphrase("x").settings(), **absurd}
        with pytest.raises(InvalidKey, match="absurd"):
            Passphrase("x").key(settings, create=False)


@pytest.mark.parametrize("passphrase", ["", "half \ud800"])
def test_a_passphrase_that_is_none_makes_no_store(path: Path, passphrase: str) -> None:
    with pytest.raises(InvalidKey, match="passphrase"):
        statecore.open(path, key=Passphrase(passphrase)).blocking()

    assert not path.exists()


@pytest.mark.parametrize("key", [b"short", b"", "x" * 64, new_key()[:-1]])
def test_a_malformed_key_is_refused(path: Path, key: Any) -> None:
    with pytest.raises(InvalidKey):
        statecore.open(path, key=key).blocking()
    assert not path.exists() or path.stat().st_size == 0
    statecore.open(path, key=KEY).blocking().close()  # nothing half-made stands in the way


def test_a_wrong_key_opens_nothing_and_harms_nothing(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("n", 1)

    with pytest.raises(WrongKey):
        statecore.open(path, key=bytes(32)).blocking()

    with statecore.open(path, key=KEY) as store:
        assert store.manager("agent").get_state("n") == 1


def test_a_log_without_its_key_store_says_what_to_restore(path: Path) -> None:
    statecore.open(path, key=KEY).blocking().close()
    path.with_name("agents.db-keys").unlink()

    with pytest.raises(KeyMissing, match=r"agents.db-keys is missing; restore it"):
        statecore.open(path, key=KEY).blocking()


def test_a_key_store_without_its_log_is_not_written_over(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("n", 1)
    path.unlink()

    with pytest.raises(statecore.StoreNotFound, match="restore the log, or move the key store"):
        statecore.open(path, key=KEY).blocking()


def test_a_creation_that_was_interrupted_goes_on(path: Path) -> None:
    statecore.open(path, key=KEY).blocking().close()
    path.unlink()  # the key store was made, the log not yet

    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("n", 1)
    with statecore.open(path, key=KEY) as store:
        assert store.manager("agent").get_state("n") == 1


def test_a_key_store_of_another_log_is_refused(tmp_path: Path) -> None:
    for name in ("one.db", "two.db"):
        with statecore.open(tmp_path / name, key=KEY) as store:
            store.manager("agent").set_state("n", 1)
    (tmp_path / "one.db-keys").replace(tmp_path / "two.db-keys")

    with pytest.raises(WrongKey, match="belongs to another log"):
        statecore.open(tmp_path / "two.db", key=KEY).blocking()


def test_data_keys_come_back_and_differ(key_store: KeyStore) -> None:
    ring = KeyRing.create(key_store, GivenKey(KEY), LOG_ID)
    made = ring.new_key(STREAM, 1, 1, None)
    other = ring.new_key(b"o" * 16, 1, 1, 500)
    assert ring.keys(STREAM) == {}
    ring.keep_new()

    again = KeyRing.open(key_store, GivenKey(KEY), LOG_ID)

    found = again.keys(STREAM)[1]
    assert found is not None
    assert found.commitment == made.commitment != other.commitment
    assert found.tag(b"name") == made.tag(b"name") != other.tag(b"name")
    assert again.expired(499) == []
    assert again.expired(500) == [b"o" * 16]
    assert again.next_expiry() == 500
    again.destroy({b"o" * 16: 1})
    assert again.keys(b"o" * 16) == {1: None}
    assert again.expired(500) == []
    assert again.next_expiry() is None
    ring.close()


def test_a_wrapped_key_opens_only_where_it_belongs(tmp_path: Path) -> None:
    store = FileKeyStore(tmp_path / "keys", create=True)
    ring = KeyRing.create(store, GivenKey(KEY), LOG_ID)
    ring.new_key(STREAM, 1, 1, None)
    ring.keep_new()
    (kept,) = store.get(STREAM)
    assert kept.wrapped is not None
    flipped = bytes([kept.wrapped[0] ^ 1]) + kept.wrapped[1:]
    store.put(
        [
            WrappedKey(b"moved".ljust(16), 1, 1, kept.wrapped, None),
            WrappedKey(STREAM, 2, 1, kept.wrapped, None),
            WrappedKey(b"flipped".ljust(16), 1, 1, flipped, None),
        ],
        check_of(store),
    )

    for stream in (b"moved".ljust(16), STREAM, b"flipped".ljust(16)):
        with pytest.raises(DamagedRecord, match="changed or moved"):
            ring.keys(stream)
    store.close()


def test_a_destroyed_key_is_gone_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    store = FileKeyStore(file, create=True)
    ring = KeyRing.create(store, GivenKey(KEY), LOG_ID)
    ring.new_key(STREAM, 1, 1, None)
    ring.keep_new()
    wrapped = store.get(STREAM)[0].wrapped
    assert wrapped is not None
    assert wrapped in file.read_bytes()

    ring.destroy({STREAM: 1})

    assert wrapped[:16] not in file.read_bytes()
    assert [each.name for each in tmp_path.iterdir()] == ["keys"]
    store.close()


def test_the_log_stream_has_its_key_from_the_beginning(key_store: KeyStore) -> None:
    ring = KeyRing.create(key_store, GivenKey(KEY), LOG_ID)

    assert ring.keys(LOG_STREAM)[0] is not None
    assert not key_store.has_streams()


def test_nothing_secret_is_in_the_files_in_clear(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent-with-a-telling-name", actor="telling-actor")
        for number in range(50):
            agent.set_state("telling-key", f"telling-value-{number}", reason="telling-reason")
        agent.tag("telling-tag")
        contents = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())

    assert b"telling" not in contents
    assert KEY not in contents


def hkdf_vectors() -> list[Any]:
    file = VECTORS / "wycheproof" / "hkdf_sha256_test.json"
    if not file.exists():
        return []
    return [test for group in json.loads(file.read_text())["testGroups"] for test in group["tests"]]


@pytest.mark.skipif(not hkdf_vectors(), reason="the Wycheproof vectors are not beside the project")
def test_wycheproof_agrees_about_hkdf() -> None:
    for test in hkdf_vectors():
        secret, salt, info, derived = (
            bytes.fromhex(test[field]) for field in ("ikm", "salt", "info", "okm")
        )
        if test["result"] == "valid":
            hkdf = HKDF(SHA256(), test["size"], salt=salt, info=info)
            assert hkdf.derive(secret) == derived
        else:
            with pytest.raises(ValueError, match="larger"):
                HKDF(SHA256(), test["size"], salt=salt, info=info)


def test_argon2id_is_the_published_one() -> None:
    # RFC 9106, section 5.3, needs secret and associated data; this is from the reference
    # implementation's own test (phc-winner-argon2, src/test.c, Argon2id, t=2, m=2^16, p=1).
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    derived = Argon2id(
        salt=b"somesalt", length=32, iterations=2, lanes=1, memory_cost=1 << 16
    ).derive(b"password")

    assert derived.hex() == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_a_key_file_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(KeyMissing, match="can't be made"):
        statecore.open(tmp_path / "a.db", key=KeyFile(tmp_path / "file" / "key")).blocking()
