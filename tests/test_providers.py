"""Keys that other programs keep: the system's keyring, and services that seal and open."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Mapping
from multiprocessing import get_context
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import statecore
from statecore import KeyFromService, KeyInKeyring, new_key
from statecore.errors import InputError, InvalidKey, KeyMissing, WrongKey
from statecore.keys.providers import KeyFile, default_provider, write_key
from tests.conftest import KEY

keyring = pytest.importorskip("keyring", reason="needs statecore[keyring]")
alternatives = pytest.importorskip("keyrings.alt.file", reason="needs keyrings.alt")


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Any]:
    """A keyring in a file."""
    before = keyring.get_keyring()
    backend = alternatives.PlaintextKeyring()
    backend.file_path = str(tmp_path / "keyring.cfg")
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


def test_the_key_in_the_keyring_is_made_on_first_use_and_found_again(path: Path, ring: Any) -> None:
    with statecore.open(path, key=KeyInKeyring()) as store:
        store.manager("agent").set_state("n", 1)

    with statecore.open(path, key=KeyInKeyring()) as store:
        assert store.manager("agent").get_state("n") == 1
    kept = ring.get_password("statecore", "default")
    assert kept.startswith("statecore-key-1:")
    with statecore.open(path, key=kept) as store:
        assert store.manager("agent").get_state("n") == 1
    with pytest.raises(KeyMissing, match=r"'other'.* is not there; .* from: keyring"):
        statecore.open(path, key=KeyInKeyring("other")).blocking()
    assert ring.get_password("statecore", "other") is None


def test_what_is_no_key_in_the_keyring_is_refused_and_not_repeated(path: Path, ring: Any) -> None:
    keyring.set_password("statecore", "default", "nonsense")

    with pytest.raises(InvalidKey) as caught:
        statecore.open(path, key=KeyInKeyring()).blocking()

    assert "nonsense" not in str(caught.value)


def test_a_keyring_that_is_not_there_is_said_to_be(path: Path, ring: Any) -> None:
    from keyring.backends.fail import Keyring

    keyring.set_keyring(Keyring())

    with pytest.raises(KeyMissing, match="can't be had"):
        statecore.open(path, key=KeyInKeyring()).blocking()


def test_a_missing_extra_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)

    with pytest.raises(InputError, match=r"statecore\[keyring\]"):
        statecore.open(path, key=KeyInKeyring()).blocking()


def test_a_store_moves_into_the_keyring(path: Path, ring: Any) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("n", 1)
        store.keys.rotate(KeyInKeyring("agents"))

    with statecore.open(path, key=KeyInKeyring("agents")) as store:
        assert store.manager("agent").get_state("n") == 1
    with pytest.raises(WrongKey):
        statecore.open(path, key=KEY).blocking()


def test_the_environment_can_name_a_key_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATECORE_KEY_FILE", str(tmp_path / "my.key"))
    assert default_provider() == KeyFile(tmp_path / "my.key")
    monkeypatch.setenv("STATECORE_KEY", write_key(KEY))
    assert isinstance(default_provider(), statecore.KeyInEnvironment)


# A key management service, in another process: its own key never leaves it.


def serve(address: str) -> None:
    """Seal and open for whoever asks, until told to end."""
    cipher = AESGCM(secrets.token_bytes(32))
    with Listener(address) as listener:
        while True:
            with listener.accept() as asked:
                try:
                    if answer(asked, cipher):
                        return
                except EOFError:
                    continue


def answer(asked: Connection[Any, Any], cipher: AESGCM) -> bool:
    what, content, context = asked.recv()
    bound = repr(sorted(context.items())).encode()
    if what == "encrypt":
        nonce = secrets.token_bytes(12)
        asked.send(nonce + cipher.encrypt(nonce, content, bound))
    elif what == "decrypt":
        try:
            asked.send(cipher.decrypt(content[:12], content[12:], bound))
        except InvalidTag:
            asked.send(PermissionError("not what was sealed"))
    return what == "end"


class RemoteService:
    """The client of such a service."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.asked: list[str] = []

    def encrypt(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        return self._ask("encrypt", data_key, context)

    def decrypt(self, sealed: bytes, context: Mapping[str, str]) -> bytes:
        return self._ask("decrypt", sealed, context)

    def _ask(self, what: str, content: bytes, context: Mapping[str, str]) -> bytes:
        self.asked.append(what)
        with Client(self._address) as asking:
            asking.send((what, content, dict(context)))
            answered = asking.recv()
        if isinstance(answered, Exception):
            raise answered
        return bytes(answered)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RemoteService]:
    address = str(tmp_path / "service")
    process = get_context("spawn").Process(target=serve, args=(address,))
    process.start()
    while not Path(address).exists():
        process.join(0.01)
        assert process.exitcode is None
    yield RemoteService(address)
    with Client(address) as asking:
        asking.send(("end", b"", {}))
    process.join()


def test_a_key_management_service_wraps_the_key_of_a_store(
    path: Path, service: RemoteService
) -> None:
    provider = KeyFromService(service, {"tenant": "blue"})
    with statecore.open(path, key=provider) as store:
        store.manager("agent").set_state("n", 1)
    service.asked.clear()

    with statecore.open(path, key=provider) as store:
        for number in range(20):
            store.manager(f"agent-{number}").set_state("n", number)
        assert store.keys.check().provider == "kms"
    assert service.asked == ["decrypt"]
    with pytest.raises(KeyMissing, match=r"\(PermissionError\); .* from: kms"):
        statecore.open(path, key=KeyFromService(service, {"tenant": "red"})).blocking()
    with pytest.raises(WrongKey, match="from: kms"):
        statecore.open(path, key=KEY).blocking()


def test_a_new_key_of_the_same_service_is_found_by_who_has_the_store_open(
    path: Path, service: RemoteService
) -> None:
    with statecore.open(path, key=new_key()) as store:
        store.manager("agent").set_state("n", 1)
        store.keys.rotate(KeyFromService(service))
        with statecore.open(path, key=KeyFromService(service)) as other:
            store.keys.rotate(KeyFromService(service))

            assert other.manager("agent").get_state("n") == 1
            other.manager("new").set_state("n", 2)
    with statecore.open(path, key=KeyFromService(service)) as store:
        assert store.manager("new").get_state("n") == 2
        assert store.keys.check().problems == ()


def test_a_store_without_a_service_is_not_opened_by_one(path: Path, service: RemoteService) -> None:
    statecore.open(path, key=KEY).blocking().close()

    with pytest.raises(InvalidKey, match="not a service"):
        statecore.open(path, key=KeyFromService(service)).blocking()


class Liar:
    """A service that gives what is no key."""

    def encrypt(self, data_key: bytes, context: Mapping[str, str]) -> bytes:
        return data_key

    def decrypt(self, sealed: bytes, context: Mapping[str, str]) -> bytes:
        return sealed[:5]


def test_what_a_service_gives_must_be_a_key(path: Path) -> None:
    with pytest.raises(InvalidKey, match="is no key"):
        statecore.open(path, key=KeyFromService(Liar())).blocking()
