"""A reader written from docs/format.md alone: it shares no line with the engine, and agrees."""

from __future__ import annotations

import hashlib
import re
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from decimal import Context, Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgpack
import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

ROOT: Final = Path(__file__).parent.parent
VECTORS: Final = ROOT / "tests/vectors/format-1"
SPECIFICATION: Final = (ROOT / "docs/format.md").read_text()
DICTIONARY: Final = (ROOT / "statecore/codec/dictionary-1.zdict").read_bytes()
KEY: Final = bytes(range(32))
GONE: Final = object()  # where a key has no value


# Section 2 of the page: numbers and values


def number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] >= 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def special(code: int, data: bytes) -> Any:
    if code == 1:
        local, offset = struct.unpack(">qi", data)
        midnight = datetime(1970, 1, 1, tzinfo=timezone(timedelta(seconds=offset)))
        return midnight + timedelta(microseconds=local)
    if code == 2:
        return Decimal(data.decode())
    if code == 3:
        return UUID(bytes=data)
    assert code == 4
    return int.from_bytes(data, "big", signed=True)


def value(packed: bytes) -> Any:
    return msgpack.unpackb(packed, ext_hook=special)


def items(count: int, packed: bytes) -> list[Any]:
    reader = msgpack.Unpacker(ext_hook=special)
    reader.feed(packed)
    found = list(reader)
    assert len(found) == count
    return found


# Section 3: keys


def expand(secret: bytes, label: bytes, context: bytes) -> bytes:
    return HKDFExpand(SHA256(), 32, info=label + context).derive(secret)


def subkey(key: bytes, nonce: bytes) -> bytes:
    halves = []
    for counter in (b"\0\1", b"\0\2"):
        code = CMAC(AES256(key))
        code.update(counter + b"X\0" + nonce[:12])
        halves.append(code.finalize())
    return b"".join(halves)


def xaes(key: bytes, nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
    return AESGCM(subkey(key, nonce)).decrypt(nonce[12:], sealed, bound)


class DataKey:
    def __init__(self, wrapping_key: bytes, wrapped: bytes, context: bytes, bound: bytes) -> None:
        self.secret = xaes(wrapping_key, wrapped[:24], wrapped[24:], context + bound)
        self.seal_key = expand(self.secret, b"statecore/1 seal", context)
        self.tag_key = expand(self.secret, b"statecore/1 tag", context)
        self.commitment = expand(self.secret, b"statecore/1 commitment", context)

    def tag(self, name: bytes) -> bytes:
        return hashlib.blake2b(name, digest_size=16, key=self.tag_key).digest()


# Section 4: the stored event


@dataclass
class Sealed:
    """A stored event or snapshot, taken apart."""

    stored: bytes
    prefixes: dict[int, bytes]
    epoch: int = 0
    time: int = 0
    prefix: bytes = b""
    sequence: int = 0
    commitment: bytes = b""
    header: bytes = b""
    nonce: bytes = b""

    def __post_init__(self) -> None:
        stored = self.stored
        assert stored[0] >> 4 == 1, "the format"
        self.epoch, at = number(stored, 1)
        self.time, at = int.from_bytes(stored[at : at + 7], "big"), at + 7
        if stored[0] & 1:
            self.prefix, at = stored[at : at + 12], at + 12
        else:
            writer, at = number(stored, at)
            self.prefix = self.prefixes[writer]
        start = at
        self.sequence, at = number(stored, at)
        at += 6
        self.nonce = self.prefix + stored[start:at].rjust(12, b"\0")
        if stored[0] & 2:
            self.commitment, at = stored[at : at + 32], at + 32
        self.header = stored[:at]

    def bound(self, kind: bytes, log_id: bytes, stream: bytes, version: int) -> bytes:
        return kind + log_id + stream + version.to_bytes(8, "big") + self.header

    def open(self, key: DataKey, bound: bytes) -> tuple[bytes, bytes]:
        """Return what was sealed, and what that is when it is decompressed."""
        assert self.commitment in (b"", key.commitment)
        packed = xaes(key.seal_key, self.nonce, self.stored[len(self.header) :], bound)
        return packed, self.decompressed(packed)

    def decompressed(self, packed: bytes) -> bytes:
        method = self.stored[0] >> 2 & 3
        if method == 0:
            return packed
        dictionary = zstandard.ZstdCompressionDict(DICTIONARY) if method == 2 else None
        decoder = zstandard.ZstdDecompressor(dict_data=dictionary)
        return decoder.decompress(b"\x28\xb5\x2f\xfd" + packed, allow_extra_data=False)

    def own_id(self) -> str:
        raw = bytearray(self.prefix + self.sequence.to_bytes(4, "big"))
        raw[6], raw[8] = 0x80 | raw[6] & 0x0F, 0x80 | raw[8] & 0x3F
        return str(UUID(bytes=bytes(raw)))


@dataclass
class Event:
    version: int
    time: int
    body: list[Any]
    own_id: str
    extras: dict[str, Any] = field(init=False)
    touched: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.body += [None] * (5 - len(self.body))
        self.extras = self.body[4] or {}
        wire = self.body[0]
        rows = [wire[at : at + 4] for at in range(0, len(wire), 4)]
        self.touched = {key: self.version - far if far else 0 for key, _, far, _ in rows}

    def after(self, state: dict[str, Any]) -> dict[str, Any]:
        if self.body[3] == 3 or "x" in self.extras:
            state = {}
        return changed(state, self.body[0])


def changed(state: dict[str, Any], wire: list[Any]) -> dict[str, Any]:
    state = dict(state)
    for at in range(0, len(wire), 4):
        key, code, _, argument = wire[at : at + 4]
        new = done(code, argument, state.pop(key, GONE))
        if new is not GONE:
            state[key] = new
    return state


def done(code: int, argument: Any, old: Any) -> Any:
    length = {0: None, 1: None, 2: 2, 3: 4, 4: 1, 5: 2, 6: 1}[code]
    if code == 0:
        return value(argument)
    if code == 1:
        return GONE
    if code == 2:
        new = [*([] if old is GONE else old), *items(*argument[:2])]
    elif code == 3:
        at, delete, *added = argument[:4]
        new = [] if old is GONE else [*old]
        new[at : at + delete] = items(*added)
    elif code == 4:
        new = added_up(old, value(argument[0]))
    elif code == 5:
        new = changed({} if argument[0] or old is GONE else old, argument[1])
    else:
        new = old
        for step in argument[0]:
            new = done(*step, new)
    if len(argument) > length:
        assert repr(value(argument[-1])) == repr(new), "the whole value, beside the operation"
    return new


def added_up(old: Any, amounts: list[Any]) -> Any:
    total = type(amounts[0])(0) if old is GONE else old
    for amount in amounts:
        exact = Context(prec=4096)
        total = exact.add(total, amount) if isinstance(total, Decimal) else total + amount
    return total


# Sections 5 to 7: the state, the log, snapshots


class Reader:
    """What a store holds, read without the engine."""

    def __init__(
        self, log: Path, keys: Path, key: bytes = KEY, archive: Path | None = None
    ) -> None:
        self.database = sqlite3.connect(f"file:{log}?mode=ro", uri=True)
        self.archive = archive and sqlite3.connect(f"file:{archive}?mode=ro", uri=True)
        with sqlite3.connect(f"file:{keys}?mode=ro", uri=True) as vault:
            ((form, self.log_id, _, check),) = vault.execute("SELECT * FROM vault")
            derived = HKDF(SHA256(), 64, self.log_id, b"statecore/1 key encryption").derive(key)
            assert (form, derived[32:]) == (1, check)
            self.wrapping_key = derived[:32]
            rows = vault.execute("SELECT * FROM keys ORDER BY epoch").fetchall()
            self.wrapped = {row[:2]: row[3] for row in rows}
            self.spans = {row[:2]: struct.pack(">QQ", row[2], row[4] or 0) for row in rows}
        vault.close()
        self.keys = {place: self._unwrap(*place) for place in self.wrapped}
        self.log_key = self.keys[bytes(16), 0]

    def _unwrap(self, stream: bytes, epoch: int) -> DataKey | None:
        wrapped = self.wrapped[stream, epoch]
        context = self.log_id + stream + epoch.to_bytes(4, "big")
        return wrapped and DataKey(self.wrapping_key, wrapped, context, self.spans[stream, epoch])

    def key(self, stream: bytes, epoch: int) -> DataKey | None:
        return self.log_key if epoch == 0 else self.keys[stream, epoch]

    def id_of(self, agent_id: str, branch: str = "main") -> bytes:
        return self.log_key.tag(b"s" + msgpack.packb([agent_id, branch]))

    def tag_key(self, stream: bytes) -> DataKey:
        return next(key for (name, _), key in self.keys.items() if name == stream and key)

    def rows(self, stream: bytes, table: str = "events") -> list[tuple[int, bytes]]:
        sql = (
            f"SELECT version, state FROM {table} JOIN streams ON streams.id = stream"
            " WHERE name = ? ORDER BY version"
        )
        return self.database.execute(sql, (stream,)).fetchall()

    @property
    def prefixes(self) -> dict[int, bytes]:
        return dict(self.database.execute("SELECT id, prefix FROM writers"))

    @property
    def streams(self) -> list[bytes]:
        return [name for (name,) in self.database.execute("SELECT name FROM streams ORDER BY id")]

    def left(self, stored: bytes) -> tuple[bytes, bytes, int]:
        """Take an archived event apart: its header, the digest of its body, and who says so."""
        assert stored[0] & 0x80
        sealed = Sealed(bytes((stored[0] & 0x7F,)) + stored[1:], self.prefixes)
        end = len(sealed.header) + 32
        said_by, at = number(stored, end)
        assert at == len(stored)
        return sealed.header, stored[len(sealed.header) : end], said_by

    def whole(self, stream: bytes, version: int, stored: bytes) -> bytes | None:
        """Return a stored event as it was; ``None`` where its body is not at hand."""
        if not stored[0] & 0x80:
            return stored
        if self.archive is None:
            return None
        header, digest, _ = self.left(stored)
        sql = "SELECT body FROM bodies WHERE stream = ? AND version = ?"
        ((body,),) = self.archive.execute(sql, (stream, version))
        assert hashlib.sha256(body).digest() == digest
        return header + bytes(body)

    def events(self, stream: bytes) -> Iterator[Event | None]:
        """Yield the events of a stream; ``None`` for those that were erased or are elsewhere."""
        for version, kept in self.rows(stream):
            stored = self.whole(stream, version, kept)
            if stored is None:
                yield None
                continue
            sealed = Sealed(stored, self.prefixes)
            key = self.key(stream, sealed.epoch)
            bound = sealed.bound(b"\1", self.log_id, stream, version)
            if key is None:
                yield None
            else:
                body = msgpack.unpackb(sealed.open(key, bound)[1])
                yield Event(version, sealed.time, body, sealed.own_id())

    def archived(self, stream: bytes) -> set[int]:
        """Return which events of a stream are archived, and see that an event says so of each."""
        rows = dict(self.rows(stream))
        named = {at: self.left(kept)[2] for at, kept in rows.items() if kept[0] & 0x80}
        said: dict[int, tuple[int, int]] = {}
        for event in self.events(stream):
            if event is not None and event.body[3] == 12:
                archives = event.extras["h"][0]
                assert all(one[1] == two[0] for one, two in pairwise(archives))
                said[event.version] = archives[0][0], archives[-1][1]
        for version, said_by in named.items():
            assert said_by > version
            if said_by not in named or self.archive:
                assert said[said_by][0] <= version < said[said_by][1]
        if named:
            first = min(rows)
            assert named[first] not in named
            assert said[named[first]][0] == first
            assert max(named) < said[named[first]][1]
        return set(named)

    def touches(self, stream: bytes, tag: bytes) -> list[int]:
        sql = (
            "SELECT first, count, distances FROM touches JOIN streams ON streams.id = stream"
            " WHERE name = ? AND tag = ? ORDER BY first"
        )
        versions: list[int] = []
        for first, count, distances in self.database.execute(sql, (stream, tag)):
            versions.append(first)
            for distance in items(count - 1, distances):
                versions.append(versions[-1] + distance)
        return versions


class PortableReader(Reader):
    """The same in another persistence module of ``eventsourcing``: section 9."""

    @property
    def prefixes(self) -> dict[int, bytes]:
        return {}

    def rows(self, stream: bytes, table: str = "stored_events") -> list[tuple[int, bytes]]:
        sql = (
            f"SELECT originator_version + 1, state FROM {table} WHERE originator_id = ? ORDER BY 1"
        )
        return self.database.execute(sql, (str(UUID(bytes=stream)),)).fetchall()


def to_time(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def told(event: Event) -> tuple[object, ...]:
    """Everything an event says, but for what it did."""
    _, actor, reason, kind, _ = event.body
    time = to_time(event.time)
    metadata = value(event.extras["m"]) if "m" in event.extras else {}
    tag = tuple(event.extras["t"]) if "t" in event.extras else None
    event_id = event.extras.get("i", event.own_id)
    cause = event.extras.get("c")
    return event.version, time, kind or 1, actor, reason, event_id, cause, metadata, tag


def told_by_the_engine(event: Any) -> tuple[object, ...]:
    said = (event.version, event.time, event.type, event.actor, event.reason, event.id)
    return *said, event.cause, dict(event.metadata), event.tag


def require_agreement(reader: Reader, agent: Any) -> None:
    """Compare every event and every state of an agent with what the engine says."""
    stream = reader.id_of(agent.agent_id)
    events = [event for event in reader.events(stream) if event is not None]
    state: dict[str, Any] = {}

    assert [told(event) for event in events] == [told_by_the_engine(e) for e in agent.history()]
    assert [event.touched for event in events] == [dict(e.touched) for e in agent.history()]
    for event in events:
        state = event.after(state)
        assert repr(dict(sorted(state.items()))) == repr(agent.at(event.version).data)


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    """A copy of the frozen store of format 1."""
    for name in ("agents.db", "agents.db-keys"):
        shutil.copy(VECTORS / name, tmp_path)
    return tmp_path / "agents.db"


@pytest.fixture
def reader(frozen: Path) -> Iterator[Reader]:
    made = Reader(frozen, frozen.with_name("agents.db-keys"))
    yield made
    made.database.close()


def test_a_reader_made_from_the_specification_agrees_with_the_engine(
    reader: Reader, tmp_path: Path
) -> None:
    import statecore

    (tmp_path / "engine").mkdir()
    for name in ("agents.db", "agents.db-keys"):
        shutil.copy(VECTORS / name, tmp_path / "engine")

    with statecore.open(tmp_path / "engine/agents.db", key=KEY) as store:
        for name in ("agent-7", "board"):
            require_agreement(reader, store.manager(name))
        agents = [(birth.agent_id, birth.branch, birth.kind) for birth in store.agents()]

    names = [reader.id_of(agent_id, branch) for agent_id, branch, _ in agents]
    births = [next(reader.events(name)).extras["b"] for name in names]
    assert names == reader.streams[:2]
    assert [(birth[0], birth[1], birth[2]) for birth in births] == agents


def test_an_erased_stream_tells_only_that_it_was_erased(reader: Reader) -> None:
    gone, erased = reader.events(reader.id_of("session"))

    assert gone is None
    assert erased.body == [[], None, None, 3, None]


def test_epochs_that_begin_without_an_erasure_are_as_specified(tmp_path: Path) -> None:
    import statecore

    path = tmp_path / "agents.db"
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent", subject="user-42")
        for number in range(6):
            agent.add("n", number, event_id=f"id-{number}")
            if number % 2:
                store.keys.rotate_data("agent", reason="a new one")
        reader = Reader(path, path.with_name("agents.db-keys"))
        require_agreement(reader, agent)
    stream = reader.id_of("agent")
    events = [event for event in reader.events(stream) if event is not None]
    stored = [Sealed(stored, reader.prefixes) for _, stored in reader.rows(stream)]

    assert events[0].extras["b"] == ["agent", "main", "persistent", None, 0, None, "user-42"]
    assert [event.version for event in events if event.body[3] == 11] == [3, 6, 9]
    assert [sealed.epoch for sealed in stored] == [1, 1, 2, 2, 2, 3, 3, 3, 4]
    assert [at + 1 for at, sealed in enumerate(stored) if sealed.commitment] == [1, 3, 6, 9]
    assert reader.touches(stream, reader.keys[stream, 1].tag(b"kn")) == [1, 2, 4, 5, 7, 8]
    assert reader.tag_key(stream) is reader.keys[stream, 1]
    reader.database.close()


def test_an_archived_store_is_as_specified(tmp_path: Path) -> None:
    import statecore

    path, archive = tmp_path / "agents.db", tmp_path / "old.archive"
    keys = path.with_name("agents.db-keys")
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent", actor="planner")
        for at in range(20):
            agent.set_state(f"k{at % 3}", at)
        store.keys.rotate_data("agent")
        agent.tag("named", at=12)
        whole = Reader(path, keys)
        stream = whole.id_of("agent")
        before = whole.rows(stream)
        store.archive("agent", before=15, to=archive)
        horizon = agent.at(15)
        digest = hashlib.sha256(archive.read_bytes()).digest()
    reader = Reader(path, keys, archive=archive)
    rows = reader.rows(stream)

    with statecore.open(path, key=KEY, archives=[archive]) as store:
        require_agreement(reader, store.manager("agent"))
    for (version, stored), (_, was) in zip(rows[:14], before, strict=False):
        header, body_digest, said_by = reader.left(stored)
        assert (header, said_by) == (was[: len(header)], 23)
        assert body_digest == hashlib.sha256(was[len(header) :]).digest()
        assert reader.whole(stream, version, stored) == was
    assert reader.archived(stream) == set(range(1, 15))
    assert rows[14:22] == before[14:]
    assert reader.archive is not None
    assert list(reader.archive.execute("SELECT * FROM archive")) == [(1, reader.log_id)]
    schema = reader.archive.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
    for (sql,) in schema:
        assert sql.removeprefix("CREATE TABLE ") in SPECIFICATION
    last = list(reader.events(stream))[22]
    assert last is not None
    assert (last.body[0], last.body[3]) == ([], 12)
    assert last.extras["b"] == ["agent", "main", "persistent", None]
    archives, state = last.extras["h"]
    assert archives == [[1, 15, 0, "old.archive", digest]]
    form, time, _, tags, names, versions, values = msgpack.unpackb(state)
    assert (form, to_time(time), tags) == (1, horizon.timestamp, {})
    assert dict(zip(names, map(value, values), strict=True)) == horizon.data
    assert versions == [13, 14, 15]
    for each in (whole, reader):
        each.database.close()
    reader.archive.close()


def test_who_says_so_is_as_specified_where_a_state_was_archived_again(tmp_path: Path) -> None:
    import statecore

    path, again = tmp_path / "agents.db", tmp_path / "again.db"
    keys = path.with_name("agents.db-keys")
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for at in range(20):
            agent.set_state("n", at)
        store.archive("agent", before=8, to=tmp_path / "one.archive")
        store.backup(tmp_path / "backup")
        store.archive("agent", before=15, to=tmp_path / "two.archive")
        store.backup(tmp_path / "backup")
    statecore.restore(tmp_path / "backup", again, key_store=keys, key=KEY)

    for place, named, archived in ((path, (22, 21, 22), 14), (again, (21, 21, None), 7)):
        reader = Reader(place, keys)
        stream = reader.id_of("agent")
        rows = dict(reader.rows(stream))
        assert reader.archived(stream) == set(range(1, archived + 1))
        assert (reader.left(rows[1])[2], reader.left(rows[7])[2]) == named[:2]
        assert (reader.left(rows[8])[2] if archived > 7 else None) == named[2]
        reader.database.close()


def test_a_sealed_state_is_as_specified(tmp_path: Path) -> None:
    import statecore

    path = tmp_path / "agents.db"
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        agent.set_state("n", 1)
        agent.set_state("text", "two")
        given = store.security.encrypt_state(agent.at())
    reader = Reader(path, path.with_name("agents.db-keys"))
    stream = reader.id_of("agent")

    magic = b"statecore state 1\n"
    at = len(magic)
    assert given[:at] == magic
    assert (given[at : at + 16], int.from_bytes(given[at + 16 : at + 24], "big")) == (stream, 2)
    sealed = Sealed(given[at + 24 :], {})
    bound = sealed.bound(b"\3", reader.log_id, stream, 2)
    body = msgpack.unpackb(sealed.open(reader.keys[stream, 1], bound)[1])
    time, _, tags, names, versions, values, past = body[4:]
    assert body[:4] == [1, ["agent", "main", 0], ["main", 0], "persistent"]
    assert (time, tags, past) == (sealed.time, {}, [])
    assert (names, versions) == (["n", "text"], [1, 2])
    assert [value(packed) for packed in values] == [1, "two"]
    reader.database.close()


def test_a_key_backup_is_as_specified(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    import statecore

    path = tmp_path / "agents.db"
    with statecore.open(path, key=KEY) as store:
        store.manager("agent").set_state("n", 1)
        store.manager("gone").set_state("n", 1)
        store.erase("gone")
        store.keys.backup(tmp_path / "backup", passphrase="correct horse")
    reader = Reader(path, path.with_name("agents.db-keys"))
    given = (tmp_path / "backup").read_bytes()

    magic = b"statecore key backup 1\n"
    assert given.startswith(magic)
    end = len(magic) + 2 + int.from_bytes(given[len(magic) : len(magic) + 2], "big")
    settings = msgpack.unpackb(given[len(magic) + 2 : end])
    key = Argon2id(
        salt=settings["salt"],
        length=32,
        iterations=settings["iterations"],
        lanes=settings["lanes"],
        memory_cost=settings["memory_kib"],
    ).derive(b"correct horse")
    opened = xaes(key, given[end : end + 24], given[end + 24 :], given[:end])
    form, log_id, rows = msgpack.unpackb(opened)
    assert (form, log_id) == (1, reader.log_id)
    assert {(row[0], row[1]): row[3] for row in rows} == {
        place: key and key.secret for place, key in reader.keys.items()
    }
    assert {(row[0], row[1]): struct.pack(">QQ", row[2], row[4] or 0) for row in rows} == (
        reader.spans
    )
    reader.database.close()


def test_the_key_history_and_the_ids_are_as_specified(reader: Reader) -> None:
    stream = reader.id_of("agent-7")
    key = reader.tag_key(stream)
    events = [event for event in reader.events(stream) if event is not None]

    for name in {name for event in events for name in event.touched}:
        versions = [event.version for event in events if name in event.touched]
        assert reader.touches(stream, key.tag(b"k" + name.encode())) == versions
    assert reader.touches(stream, key.tag(b"c")) == [9]
    ids = reader.database.execute("SELECT tag, version FROM ids").fetchall()
    assert ids == [(key.tag(b"ipayment-42"), 12)]


def test_a_snapshot_holds_what_the_events_add_up_to(tmp_path: Path) -> None:
    import statecore

    path = tmp_path / "agents.db"
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for at in range(200):  # many postings of one key, and enough to keep a snapshot
            agent.set_state(f"key {at % 3}", hashlib.shake_128(bytes([at])).hexdigest(15_000))
        agent.tag("here")
    reader = Reader(path, path.with_name("agents.db-keys"))
    stream = reader.id_of("agent")
    (version, stored), *_ = reader.rows(stream, "snapshots")

    sealed = Sealed(stored, reader.prefixes)
    bound = sealed.bound(b"\2", reader.log_id, stream, version)
    _, body = sealed.open(reader.keys[stream, sealed.epoch], bound)
    form, time, _, tags, names, versions, values = msgpack.unpackb(body)

    events = [event for event in reader.events(stream) if event is not None]
    state: dict[str, Any] = {}
    for event in events[:version]:
        state = event.after(state)
    assert stored[0] >> 2 & 3 == 1, "a frame without the dictionary"
    assert (form, time, tags) == (1, events[version - 1].time, {})
    assert dict(zip(names, map(value, values), strict=True)) == state
    for name, last in zip(names, versions, strict=True):
        touched = reader.touches(stream, reader.tag_key(stream).tag(b"k" + name.encode()))
        assert len(touched) > 64
        assert last == max(at for at in touched if at <= version)
    reader.database.close()


def test_events_behind_another_persistence_module_are_as_specified(tmp_path: Path) -> None:
    import statecore

    log, keys = tmp_path / "other.db", tmp_path / "other-keys"
    with statecore.open(
        persistence_module="eventsourcing.sqlite",
        environment={"SQLITE_DBNAME": str(log)},
        key_store=keys,
        key=KEY,
    ) as store:
        agent = store.manager("agent", actor="planner")
        agent.set_state("n", 1)
        agent.add("n", 2, event_id="once")
        reader = PortableReader(log, keys)

        require_agreement(reader, agent)
        assert reader.rows(bytes(16)) == [(1, reader.log_id)]
        reader.database.close()


def worked_example(reader: Reader) -> dict[str, bytes]:
    """Each step from the key to the last event of the frozen store."""
    stream = reader.id_of("agent-7")
    data_key = reader.keys[stream, 1]
    version, stored = reader.rows(stream)[-1]
    sealed = Sealed(stored, reader.prefixes)
    bound = sealed.bound(b"\1", reader.log_id, stream, version)
    frame, body = sealed.open(data_key, bound)
    return {
        "key-encryption key": KEY,
        "log id": reader.log_id,
        "wrapping key": reader.wrapping_key,
        "wrapped key of the log": reader.wrapped[bytes(16), 0],
        "data key of the log": reader.log_key.secret,
        "tag key of the log": reader.log_key.tag_key,
        "stream": stream,
        "wrapped key of the stream": reader.wrapped[stream, 1],
        "data key": data_key.secret,
        "seal key": data_key.seal_key,
        "tag key": data_key.tag_key,
        "commitment": data_key.commitment,
        "stored event": stored,
        "header": sealed.header,
        "nonce": sealed.nonce,
        "subkey": subkey(data_key.seal_key, sealed.nonce),
        "associated data": bound,
        "frame": frame,
        "body": body,
        "tag of key n": data_key.tag(b"kn"),
        "tag of id payment-42": data_key.tag(b"ipayment-42"),
        "id of the writer's own": UUID(sealed.own_id()).bytes,
    }


def test_the_worked_example_is_true(reader: Reader) -> None:
    block = re.search(r"```text\n(key-encryption key .*?)```", SPECIFICATION, re.DOTALL)
    assert block is not None
    written: dict[str, str] = {}
    for line in block[1].splitlines():
        name, _, digits = line.partition(" = ")
        if not digits:  # a long number goes on, behind a margin
            name, digits = next(reversed(written)), line.strip()
        written[name.strip()] = written.get(name.strip(), "") + digits

    assert written == {name: data.hex() for name, data in worked_example(reader).items()}


def test_the_tables_are_as_written_in_the_specification(tmp_path: Path) -> None:
    import statecore

    statecore.open(tmp_path / "agents.db", key=KEY).blocking().close()

    blocks = re.findall(r"```sql\n(.*?)```", SPECIFICATION, re.DOTALL)

    for name, block in zip(("agents.db-keys", "agents.db"), blocks, strict=True):
        database = sqlite3.connect(tmp_path / name)
        schema = database.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")
        assert block.strip().split(";\n") == [sql for (sql,) in schema]
        database.close()


def test_the_dictionary_is_the_one_in_the_specification() -> None:
    assert hashlib.sha256(DICTIONARY).hexdigest() in SPECIFICATION
    assert f"{len(DICTIONARY):,} bytes" in SPECIFICATION
