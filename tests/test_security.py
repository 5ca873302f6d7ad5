"""States sealed to be kept elsewhere or handed to others: who can read them, and for how long."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyrage
import pytest

import statecore
from statecore import age
from statecore.errors import (
    DamagedRecord,
    Erased,
    Expired,
    InputError,
    InvalidKey,
    LimitExceeded,
    StatecoreError,
    WrongKey,
)
from statecore.keys.backup import open_contents
from tests.conftest import KEY, Clock
from tests.test_xaes import VECTORS as FOLDER

VALUES: dict[str, Any] = {
    "plan": {"steps": ["pay", "fly"], "cost": Decimal("9.90")},
    "when": datetime(2026, 1, 2, tzinfo=UTC),
    "bytes": b"\0\1",
    "big": 1 << 80,
    "none": None,
}


def filled(agent: statecore.BlockingManager) -> statecore.BlockingManager:
    with agent.transaction(reason="all at once") as tx:
        for key, value in VALUES.items():
            tx.set(key, value)
    agent.tag("here")
    return agent


# Under the store's key


def test_a_sealed_state_opens_to_the_same_state(
    store: statecore.BlockingStore, agent: statecore.BlockingManager
) -> None:
    filled(agent)
    agent.delete_state("big")

    for version in (1, 3):
        state = agent.at(version)
        sealed = store.security.encrypt_state(state)
        opened = store.security.decrypt_state(sealed, agent_id="agent-7", version=version)
        assert opened == state
        assert (opened.id, opened.branch, opened.kind) == (state.id, state.branch, state.kind)
        assert (opened.version, opened.timestamp) == (state.version, state.timestamp)
        assert opened.metadata == state.metadata
        assert opened.root.tags == state.root.tags
        assert b"steps" not in sealed


def test_a_sealed_state_is_bound_to_its_agent_and_version(
    store: statecore.BlockingStore, agent: statecore.BlockingManager
) -> None:
    other = filled(store.manager("other"))
    sealed = store.security.encrypt_state(filled(agent).at())
    theirs = store.security.encrypt_state(other.at())

    with pytest.raises(InputError, match="another agent"):
        store.security.decrypt_state(sealed, agent_id="other")
    with pytest.raises(InputError, match="another version"):
        store.security.decrypt_state(sealed, version=1)
    for at in range(len(sealed)):
        with pytest.raises(DamagedRecord):
            store.security.decrypt_state(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
    for cut in (0, 10, 42, len(sealed) - 1):
        with pytest.raises(DamagedRecord):
            store.security.decrypt_state(sealed[:cut])
    with pytest.raises(DamagedRecord):
        store.security.decrypt_state(sealed[:42] + theirs[42:])


def test_a_sealed_state_of_another_store_does_not_open(tmp_path: Path) -> None:
    with statecore.open(tmp_path / "one.db", key=KEY) as one:
        sealed = one.security.encrypt_state(filled(one.manager("agent")).at())
    with statecore.open(tmp_path / "two.db", key=KEY) as two:
        filled(two.manager("agent"))
        with pytest.raises(DamagedRecord):
            two.security.decrypt_state(sealed)


def test_a_sealed_state_ends_with_the_state(path: Path, clock: Clock) -> None:
    with statecore.open(path, key=KEY, clock=clock) as store:
        agent = filled(store.manager("agent"))
        session = store.manager("session", kind="temporary", ttl=60)
        session.set_state("n", 1)
        sealed = [store.security.encrypt_state(each.at()) for each in (agent, session)]
        late = agent.at()
        store.keys.rotate_data("agent")
        assert store.security.decrypt_state(sealed[0]) == agent.at()
        clock.tick(61)
        with pytest.raises((Expired, Erased)):
            store.security.decrypt_state(sealed[1])

        store.erase("agent")

        for _ in range(2):
            with pytest.raises(Erased):
                store.security.decrypt_state(sealed[0])
            with pytest.raises(Erased):
                store.security.encrypt_state(late)
            agent.set_state("fresh", 1)
        assert store.security.decrypt_state(store.security.encrypt_state(agent.at())) == agent.at()


def test_states_of_branches_are_sealed_too(store: statecore.BlockingStore) -> None:
    agent = filled(store.manager("agent"))
    fork = agent.branch("fork", 1)
    assert store.security.decrypt_state(store.security.encrypt_state(fork.at())) == fork.at()
    fork.set_state("own", 1)
    agent.delete_branch("fork")
    again = agent.branch("fork", 2)
    again.set_state("own", 2)

    for branch in (fork, again):
        opened = store.security.decrypt_state(store.security.encrypt_state(branch.at()))
        assert (opened.data, opened.branch) == (branch.at().data, "fork")
        assert opened.event == branch.at().event


def test_what_was_never_written_here_cannot_be_sealed(store: statecore.BlockingStore) -> None:
    runtime = store.manager("runtime", kind="runtime")
    runtime.set_state("n", 1)

    for agent in (runtime, store.manager("empty")):
        with pytest.raises(StatecoreError):
            store.security.encrypt_state(agent.at())


# To others


@pytest.fixture
def identity() -> Any:
    return pyrage.x25519.Identity.generate()


def exported(state: statecore.AgentState, *recipients: str) -> bytes:
    target = io.BytesIO()
    with statecore.open("memory:") as store:
        store.security.export_state(state, target, recipients)
    return target.getvalue()


def test_an_exported_state_is_read_by_its_recipients_only(
    agent: statecore.BlockingManager, identity: Any
) -> None:
    other = pyrage.x25519.Identity.generate()
    state = filled(agent).at()
    sealed = exported(state, str(identity.to_public()), str(other.to_public()))

    for reader in (identity, other):
        read = statecore.StateSecurityManager.import_state(io.BytesIO(sealed), str(reader))
        assert read.data == state.data
        assert {key: type(value) for key, value in read.data.items()} == {
            key: type(value) for key, value in state.data.items()
        }
        assert (read.agent_id, read.branch, read.version) == ("agent-7", "main", 2)
        assert read.timestamp == state.timestamp
    assert b"steps" not in sealed
    stranger = str(pyrage.x25519.Identity.generate())
    with pytest.raises(WrongKey):
        statecore.StateSecurityManager.import_state(io.BytesIO(sealed), stranger)
    with pytest.raises(InvalidKey) as caught:
        statecore.StateSecurityManager.import_state(io.BytesIO(sealed), "AGE-SECRET-KEY-1MINE")
    assert "MINE" not in str(caught.value)
    with pytest.raises(InputError, match="to whom"):
        exported(state)
    with pytest.raises(InvalidKey):
        exported(state, "age1nobody")


def test_an_exported_state_that_was_cut_or_changed_is_refused(
    agent: statecore.BlockingManager, identity: Any
) -> None:
    for number in range(20):
        agent.set_state(f"key-{number}", hashlib.shake_128(bytes([number])).digest(10_000))
    sealed = exported(agent.at(), str(identity.to_public()))
    assert len(sealed) > 3 * 64 * 1024

    for at in range(0, len(sealed), 4_999):
        flipped = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        for bad in (sealed[:at], flipped):
            with pytest.raises(StatecoreError):
                statecore.StateSecurityManager.import_state(io.BytesIO(bad), str(identity))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"kind": "other"}],
        [{"kind": "statecore state", "format": 2}],
        [{"kind": "statecore state", "format": 1}],
        [{"kind": "statecore state", "format": 1}, {"key": "n", "value": 1}],
        [{"kind": "statecore state", "format": 1}, {"keys": 1}],
        [{"kind": "statecore state", "format": 1}, {"keys": 0}, {"key": "n", "value": 1}],
        ["text"],
        [{"kind": "statecore state", "format": 1}, {"key": 5, "value": 1}, {"keys": 1}],
    ],
)
def test_an_age_file_that_holds_no_state_is_refused(identity: Any, lines: list[Any]) -> None:
    plain = "".join(json.dumps(line) + "\n" for line in lines).encode()
    sealed = age.encrypt(plain, [str(identity.to_public())])

    with pytest.raises(StatecoreError):
        statecore.StateSecurityManager.import_state(io.BytesIO(sealed), str(identity))


ABOUT = {"kind": "statecore state", "format": 1, "agent": "a", "branch": "main", "version": 1}
TIME = "2026-11-23T12:00:00+00:00"


@pytest.mark.parametrize(
    ("about", "end", "fits"),
    [
        ({}, {"keys": 1}, True),
        ({"time": None}, {"keys": 1}, True),
        ({}, {"keys": True}, False),
        ({}, {"keys": 1.0}, False),
        ({"format": True}, {"keys": 1}, False),
        ({"agent": 5}, {"keys": 1}, False),
        ({"agent": "\ud800"}, {"keys": 1}, False),
        ({"branch": None}, {"keys": 1}, False),
        ({"version": "1"}, {"keys": 1}, False),
        ({"version": -1}, {"keys": 1}, False),
        ({"time": "2026-11-23T12:00:00"}, {"keys": 1}, False),
        ({"time": ""}, {"keys": 1}, False),
        ({"time": 5}, {"keys": 1}, False),
        ({}, {"key": "n", "value": 2}, False),
    ],
)
def test_what_an_imported_state_says_of_itself_is_of_its_type(
    identity: Any, about: dict[str, Any], end: dict[str, Any], fits: bool
) -> None:
    lines = [{**ABOUT, "time": TIME, **about}, {"key": "n", "value": 1}, end]
    if "key" in end:
        lines.append({"keys": 1})
    plain = "".join(json.dumps(line) + "\n" for line in lines).encode()
    sealed = io.BytesIO(age.encrypt(plain, [str(identity.to_public())]))

    if fits:
        read = statecore.StateSecurityManager.import_state(sealed, str(identity))
        assert (read.agent_id, read.version, read.data) == ("a", 1, {"n": 1})
        return
    with pytest.raises(DamagedRecord):
        statecore.StateSecurityManager.import_state(sealed, str(identity))


@pytest.mark.skipif(not shutil.which("age"), reason="the age command is not installed")
def test_the_age_command_reads_what_we_write_and_writes_what_we_read(
    agent: statecore.BlockingManager, tmp_path: Path
) -> None:
    subprocess.run(["age-keygen", "-o", tmp_path / "id"], capture_output=True, check=True)
    identity = (tmp_path / "id").read_text()
    recipient = subprocess.run(
        ["age-keygen", "-y", tmp_path / "id"], capture_output=True, text=True, check=True
    ).stdout.strip()
    agent.set_state("large", "x" * 200_000)
    state = filled(agent).at()
    (tmp_path / "state.age").write_bytes(exported(state, recipient))

    command = ["age", "--decrypt", "-i", tmp_path / "id", tmp_path / "state.age"]
    plain = subprocess.run(command, capture_output=True, check=True).stdout

    about, *entries, end = [json.loads(line) for line in plain.splitlines()]
    assert about["agent"] == "agent-7"
    assert [entry["key"] for entry in entries] == sorted(state)
    assert end == {"keys": len(state)}
    again = subprocess.run(
        ["age", "--encrypt", "-r", recipient], input=plain, capture_output=True, check=True
    ).stdout
    read = statecore.StateSecurityManager.import_state(io.BytesIO(again), identity)
    assert read.data == state.data


STANZA = b"-> X25519 TEiF0ypqr+bpvcqXNyCVJpL7OuwPdVwPL7KQEbFDOCc\n" + b"A" * 43 + b"\n"


class Endless(io.RawIOBase):
    """A stream that never ends, and counts what was read of it."""

    def __init__(self, begun: bytes, more: bytes) -> None:
        self.data, self.more, self.count = begun, more, 0

    def read(self, size: int = -1) -> bytes:
        while len(self.data) < size:
            self.data += self.more
        piece, self.data = self.data[:size], self.data[size:]
        self.count += len(piece)
        return piece


@pytest.mark.parametrize("more", [STANZA, b"-> a\n\n", b"-> x " + b"A" * 1000, b"\n", b"---"])
def test_a_header_without_an_end_is_refused_and_not_read(identity: Any, more: bytes) -> None:
    source: Any = Endless(b"age-encryption.org/v1\n" + STANZA, more)

    with pytest.raises(LimitExceeded, match="header"):
        statecore.StateSecurityManager.import_state(source, str(identity))

    assert source.count <= 2**16


@pytest.mark.parametrize("stanzas", [STANZA * 8000, b"-> a\n\n" * 10_000])
def test_a_header_that_takes_long_is_refused(identity: Any, stanzas: bytes) -> None:
    sealed = b"age-encryption.org/v1\n" + stanzas + b"--- " + b"A" * 43 + b"\n"

    with pytest.raises(LimitExceeded, match="header"):
        statecore.StateSecurityManager.import_state(io.BytesIO(sealed), str(identity))
    with pytest.raises(LimitExceeded, match="header"):  # of a key backup
        open_contents(sealed, None, str(identity))


def test_as_many_recipients_as_there_may_be_read_it(identity: Any) -> None:
    to = str(identity.to_public())

    sealed = age.encrypt(b"all", [to] * age.RECIPIENTS_MAX)

    assert age.decrypt(sealed, str(identity)) == b"all"
    with pytest.raises(LimitExceeded, match="recipients"):
        age.encrypt(b"all", [to] * (age.RECIPIENTS_MAX + 1))


def test_an_age_file_as_text_is_refused(identity: Any) -> None:
    text = pyrage.encrypt(b"all", [identity.to_public()], armored=True)

    with pytest.raises(DamagedRecord, match="begin"):
        age.decrypt(text, str(identity))


# A stanza of an unknown kind that lacks its last line: old files of rage have such ones, and it
# goes on reading them. The header's code is checked all the same.
LENIENT = {"stanza_missing_body", "stanza_missing_final_line"}


class Vector(NamedTuple):
    """A published vector of the age format (C2SP, CCTV)."""

    about: dict[str, str]
    identities: list[str]
    file: bytes


def vectors() -> dict[str, Vector]:
    found = {}
    for file in sorted((FOLDER / "age").glob("*")):
        head, _, body = file.read_bytes().partition(b"\n\n")
        lines = [line.split(": ", 1) for line in head.decode().splitlines()]
        identities = [value for name, value in lines if name == "identity"]
        about = dict(lines)
        if about.get("compressed") == "zlib":
            body = zlib.decompress(body)
        # What we read: files to X25519 recipients, as they are written, not as text.
        ours = all(each.startswith("AGE-SECRET-KEY-1") for each in identities)
        if identities and ours and "armored" not in about and file.name not in LENIENT:
            found[file.name] = Vector(about, identities, body)
    return found


@pytest.mark.skipif(not vectors(), reason="the vectors of age are not beside the project")
@pytest.mark.parametrize("name", vectors() or ["none"])
def test_the_published_vectors_of_age_agree(name: str) -> None:
    vector = vectors()[name]
    text = "\n".join(vector.identities)

    target = io.BytesIO()
    if vector.about["expect"] == "success":
        plain = age.decrypt(vector.file, text)
        age.decrypt_stream(io.BytesIO(vector.file), target, text)
        assert hashlib.sha256(plain).hexdigest() == vector.about["payload"]
        assert target.getvalue() == plain
        return
    expected = WrongKey if vector.about["expect"] == "no match" else DamagedRecord
    with pytest.raises(expected):
        age.decrypt(vector.file, text)
    with pytest.raises(expected):
        age.decrypt_stream(io.BytesIO(vector.file), target, text)
