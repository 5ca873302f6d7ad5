"""The stored format: what is sealed opens only where it belongs; frozen vectors; bombs."""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import statecore
from statecore.change import pack_state
from statecore.codec import Sealer, Writer, pack_body, read_epoch, read_time
from statecore.codec.compression import (
    BODY_BYTES_MAX,
    DICTIONARY_1,
    PLAIN,
    STORED,
    compress,
    decompress,
    dictionary,
)
from statecore.codec.cut import cut, header_and_digest, is_cut, mend, read_cut
from statecore.codec.leaf import chained_leaf, leaf_entry
from statecore.codec.numbers import read_number, write_number
from statecore.codec.record import make_body, unpack_body, upcast
from statecore.codec.wire import apply, read_change, rows, write_operations
from statecore.errors import Archived, DamagedRecord, Erased, NewerFormat
from statecore.events import EventType, event_id, is_own_id
from statecore.keys import DataKey, KeyRing, MemoryKeyStore
from statecore.keys.providers import GivenKey
from statecore.packed import same_packed, thaw
from tests.conftest import KEY
from tests.strategies import STATES, changes
from tests.vectors.make import tell

LOG_ID = b"the log's own id"
STREAM, OTHER = b"one stream, here", b"another, of many"
VECTORS = Path(__file__).parent / "vectors"


@pytest.fixture(scope="module")
def ring() -> KeyRing:
    return KeyRing.create(MemoryKeyStore(), GivenKey(KEY), LOG_ID)


@pytest.fixture(scope="module")
def key(ring: KeyRing) -> DataKey:
    made = ring.new_key(STREAM, 1, 1, None)
    ring.keep_new()
    return made


@pytest.fixture(params=[7, None], ids=["kept prefix", "inline prefix"])
def writer(request: pytest.FixtureRequest) -> Writer:
    return Writer(b"p" * 12, request.param)


def sealer(key: DataKey | None, stream: bytes = STREAM, log_id: bytes = LOG_ID) -> Sealer:
    return Sealer(log_id, stream, {1: key}, lambda number: b"p" * 12 if number == 7 else None)


BODY = pack_body(make_body(write_operations(statecore.EMPTY.put("plan", "to fly")), "planner"))


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3))
def test_numbers_come_back(number: int, rest: bytes) -> None:
    written = write_number(number)

    assert read_number(b"x" + written + rest, 1) == (number, 1 + len(written))


def test_a_number_that_does_not_end_is_refused() -> None:
    with pytest.raises(IndexError):
        read_number(b"\x80", 0)
    with pytest.raises(ValueError, match="63 bits"):
        read_number(b"\xff" * 20, 0)


@given(st.data())
def test_changes_come_back_from_the_wire(data: st.DataObject) -> None:
    state = data.draw(STATES)
    change = data.draw(changes(state))
    body = unpack_body(pack_body(make_body(write_operations(change))))

    back = read_change(body[0], cleared=change.cleared)

    assert back == change
    assert back.apply(pack_state(state)) is not None


@given(st.data())
def test_replay_does_operations_as_they_are_recorded(data: st.DataObject) -> None:
    state = pack_state(data.draw(STATES))
    change = data.draw(changes({key: thaw(packed) for key, packed in state.items()}))
    for key, code, _, argument in rows(write_operations(change)):
        old = None if change.cleared else state.get(key)

        assert same_packed(apply(code, argument, old), change.operations[key].apply(old))


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode), st.booleans())
def test_what_is_compressed_comes_back(body: bytes, patient: bool) -> None:
    method, packed = compress(body, patient=patient)

    assert decompress(method, packed) == body
    assert len(packed) <= len(body)


@pytest.mark.parametrize("size", [10, 250, 256, 300, 65_535, 65_791, 65_792, 70_000, 3_000_000])
def test_every_size_comes_back(size: int) -> None:
    body = b"abc" * (size // 3) + b"x" * (size % 3)
    method, packed = compress(body)

    assert method == (STORED if size < 20 else DICTIONARY_1 if size <= 64 * 1024 else PLAIN)
    assert decompress(method, packed) == body


def test_a_frame_that_claims_too_much_is_refused_before_it_is_unpacked() -> None:
    bomb = compress(bytes(BODY_BYTES_MAX + 1))
    assert len(bomb[1]) < 2000

    with pytest.raises(ValueError, match="claims 16,842,753 bytes; the limit is 16,842,752"):
        decompress(*bomb)


def frame(data: bytes, **options: Any) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(
        format=zstandard.FORMAT_ZSTD1_MAGICLESS, **options
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


@pytest.mark.parametrize(
    "packed",
    [
        frame(b"x" * 500, write_content_size=False),  # does not say how much it holds
        frame(b"x" * 500, write_content_size=True) + b"more",
        frame(b"x" * 500, write_content_size=True)[:-1],
        b"\x20\x05hello",
        b"\xff" * 20,
        b"\x00",
    ],
)
def test_what_is_no_whole_frame_is_refused(packed: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        decompress(PLAIN, packed)


def test_an_unknown_compression_method_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown compression method 3"):
        decompress(3, b"\x20\x01x")
    assert decompress(STORED, b"as it is") == b"as it is"


def test_the_shipped_dictionary_can_be_made_again() -> None:
    from benchmarks import train_dictionary

    if zstandard.ZSTD_VERSION != (1, 5, 7):
        pytest.skip("trained with zstd 1.5.7; another version trains another dictionary")
    assert train_dictionary.train() == dictionary().as_bytes()


def test_what_is_sealed_comes_back(key: DataKey, writer: Writer) -> None:
    for version in (1, 2, 300):
        number, stored = sealer(key).seal(key, version, 1_800_000_000_000_000, BODY, writer)
        record = sealer(key).open(version, stored)

        assert record.body == unpack_body(BODY)
        assert record.time == read_time(stored) == 1_800_000_000_000_000
        assert read_epoch(stored) == 1
        assert record.event_id == event_id(b"p" * 12, number)
        assert (record.actor, record.reason, record.type) == ("planner", None, EventType.CHANGED)


def test_a_commitment_to_the_key_stands_in_its_first_event_only(
    key: DataKey, writer: Writer
) -> None:
    _, first = sealer(key).seal(key, 1, 1, BODY, writer)
    _, second = sealer(key).seal(key, 2, 1, BODY, writer)

    assert key.commitment in first
    assert len(first) - len(second) == 32


def test_nothing_opens_anywhere_else(key: DataKey, ring: KeyRing, writer: Writer) -> None:
    other_key = ring.new_key(OTHER, 1, 1, None)
    _, stored = sealer(key).seal(key, 2, 1, BODY, writer)

    for elsewhere, version in (
        (sealer(key), 3),  # another version
        (sealer(key, OTHER), 2),  # another stream
        (sealer(key, log_id=b"another log's id"), 2),
        (sealer(other_key), 2),  # another key
    ):
        with pytest.raises(DamagedRecord, match="the seal does not fit"):
            elsewhere.open(version, stored)
    with pytest.raises(DamagedRecord, match="the seal does not fit"):
        sealer(key).open_snapshot(2, stored)  # an event is no snapshot


def test_no_bit_can_be_changed(key: DataKey, writer: Writer) -> None:
    for version in (1, 2):
        _, stored = sealer(key).seal(key, version, 1, BODY, writer)
        for bit in range(len(stored) * 8):
            changed = bytearray(stored)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises((DamagedRecord, NewerFormat)):
                sealer(key).open(version, bytes(changed))


@given(st.integers(0, 1 << 62), st.integers(1, 1 << 40), st.integers(1, 3), st.binary(max_size=90))
def test_what_is_left_of_an_event_has_its_leaf_and_is_mended(
    key: DataKey, said_by: int, time: int, version: int, body: bytes
) -> None:
    _, stored = sealer(key).seal(key, version, time, body, Writer(b"p" * 12, 7))

    left = cut(stored, said_by)

    assert is_cut(left)
    assert not is_cut(stored)
    assert read_cut(left).event == said_by
    assert header_and_digest(left) == header_and_digest(stored)
    assert leaf_entry(STREAM, version, KEY, left) == leaf_entry(STREAM, version, KEY, stored)
    assert chained_leaf(STREAM, version, KEY, left) == chained_leaf(STREAM, version, KEY, stored)
    assert read_time(left) == time
    assert read_epoch(left) == 1
    sealed = stored[len(read_cut(left).header) :]
    assert mend(version, left, sealed) == stored
    assert cut(left, 12) == cut(stored, 12)
    with pytest.raises(DamagedRecord):
        mend(version, left, sealed + b"0")
    with pytest.raises(Archived):
        sealer(key).open(version, left)
    for odd in (left[:-1], left + b"0", left[:20], b"\x90", left[:1] + bytes(40)):
        with pytest.raises(DamagedRecord):
            sealer(key).open(version, odd)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_event_have_a_leaf_of_their_own(odd: bytes) -> None:
    header, _ = header_and_digest(odd)

    assert leaf_entry(STREAM, 1, KEY, odd)[89:] == header
    assert header == odd[: len(header)] or is_cut(odd)


def test_no_byte_can_be_missing(key: DataKey, writer: Writer) -> None:
    for version in (1, 2):
        _, stored = sealer(key).seal(key, version, 1, BODY, writer)
        for length in range(len(stored)):
            with pytest.raises(DamagedRecord):
                sealer(key).open(version, stored[:length])
        with pytest.raises(DamagedRecord):
            sealer(key).open(version, stored + b"\0")


@pytest.mark.parametrize("nonsense", [None, 1.0, "1", b"", -1])
def test_what_is_no_version_or_no_record_is_damage(
    key: DataKey, writer: Writer, nonsense: Any
) -> None:
    _, stored = sealer(key).seal(key, 1, 1, BODY, writer)
    snapshot = sealer(key).seal_snapshot(key, 1, 1, BODY, writer)

    for open_it, sealed in (
        (sealer(key).open, stored),
        (sealer(key).open_snapshot, snapshot),
    ):
        with pytest.raises(DamagedRecord):
            open_it(nonsense, sealed)
        with pytest.raises(DamagedRecord):
            open_it(1, nonsense)


def test_a_record_sealed_under_two_keys_is_refused(ring: KeyRing, writer: Writer) -> None:
    mine = ring.new_key(STREAM, 1, 1, None)
    ring.begin()
    theirs = ring.new_key(STREAM, 1, 1, None)
    _, stored = sealer(mine).seal(mine, 1, 1, BODY, writer)

    with pytest.raises(DamagedRecord, match="commits to another data key"):
        sealer(theirs).open(1, stored)


def test_a_newer_format_says_upgrade(key: DataKey, writer: Writer) -> None:
    _, stored = sealer(key).seal(key, 2, 1, BODY, writer)
    newer = bytes([stored[0] & 0x0F | 0x20]) + stored[1:]

    with pytest.raises(NewerFormat, match="has format 2, this statecore reads up to 1: upgrade"):
        sealer(key).open(2, newer)


def test_a_destroyed_key_and_a_missing_one_are_told_apart(key: DataKey, writer: Writer) -> None:
    _, stored = sealer(key).seal(key, 2, 1, BODY, writer)
    missing = Sealer(LOG_ID, STREAM, {}, lambda _: b"p" * 12)

    with pytest.raises(Erased):
        sealer(None).open(2, stored)
    with pytest.raises(DamagedRecord, match="missing and no event says why"):
        missing.open(2, stored)


def test_nonces_do_not_repeat(key: DataKey) -> None:
    writer = Writer(b"p" * 12, 7)
    stored = [sealer(key).seal(key, 2, 1, BODY, writer)[1] for _ in range(2000)]

    assert len({each[10:18] for each in stored}) == 2000


def test_a_copied_writer_still_draws_other_nonces(key: DataKey) -> None:
    # A machine that is copied while it runs goes on twice with the same counter.
    one, two = Writer(b"p" * 12, 7), Writer(b"p" * 12, 7)

    first, second = (sealer(key).seal(key, 2, 1, BODY, writer)[1] for writer in (one, two))

    assert first[:11] == second[:11]
    assert first[11:17] != second[11:17]


def sealed_by_an_attacker(key: DataKey, body: bytes) -> bytes:
    """Seal what statecore never would, as somebody who has the key."""
    return sealer(key).seal(key, 2, 1, body, Writer(b"p" * 12, 7))[1]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x00",
        msgpack.packb([]),
        msgpack.packb([["key", 0]]),
        msgpack.packb([["key", 0, 0, b"x"], None, None, None, None, None]),
        msgpack.packb({"a": 1}),
        b"\x91" * 2000,  # nested deeper than the unpacker goes
        b"\xdd\xff\xff\xff\xff",  # claims four billion entries
        b"\xdf\xff\xff\xff\xff",
        msgpack.packb([None]),
    ],
)
def test_a_body_that_is_none_is_refused_even_under_the_right_key(key: DataKey, body: bytes) -> None:
    with pytest.raises(DamagedRecord):
        sealer(key).open(2, sealed_by_an_attacker(key, body))


def test_old_bodies_are_upcast_one_step_at_a_time() -> None:
    steps = {1: lambda body: (*body, "second"), 2: lambda body: (*body, "third")}

    assert upcast(("first",), 1, steps, 3) == ("first", "second", "third")
    assert upcast(("first",), 2, steps, 3) == ("first", "third")
    assert upcast(("first",), 3, steps, 3) == ("first",)


def test_ids_of_events_are_uuids_of_version_8() -> None:
    ids = {event_id(secrets.token_bytes(12), number) for number in range(500)}

    assert len(ids) == 500
    assert all(is_own_id(each) for each in ids)
    assert not is_own_id("payment-42")
    assert not is_own_id("5c9a2b1e-0000-4000-8000-000000000000")


@pytest.mark.parametrize("folder", sorted(VECTORS.glob("format-*")), ids=lambda folder: folder.name)
def test_stores_of_every_format_open(folder: Path, tmp_path: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    for name in ("agents.db", "agents.db-keys"):
        shutil.copy(folder / name, tmp_path)

    with statecore.open(tmp_path / "agents.db", key=KEY) as store:
        agent = store.manager("agent-7")
        for name, told in expected.items():
            found = tell(agent.branch(name, create=False))
            assert {what: found[what] for what in told} == told
            agent.branch(name).set_state("and", "goes on")


def test_a_store_of_format_1_goes_on(tmp_path: Path) -> None:
    for name in ("agents.db", "agents.db-keys"):
        shutil.copy(VECTORS / "format-1" / name, tmp_path)

    with statecore.open(tmp_path / "agents.db", key=KEY) as store:
        agent = store.manager("agent-7")
        assert agent.at("checkpoint").version == 4
        assert agent.add("n", 1, event_id="payment-42") == 12
        assert store.manager("board").at().data == {"items": ["x"]}
        with pytest.raises(Erased):
            store.manager("session").at()
        agent.set_state("and", "goes on")
