"""What must not get in: each case a typed error that names cause and place, the store unharmed."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

import statecore
from statecore import EMPTY, BlockingManager, BlockingStore, Change, scribe
from statecore.codec import compression, seal
from statecore.errors import (
    DamagedRecord,
    ForeignSchema,
    InputError,
    LimitExceeded,
    NewerFormat,
    StatecoreError,
    UnsupportedValue,
)
from statecore.operations import Put
from statecore.values import DEPTH_MAX, EVENT_BYTES_MAX, KEY_BYTES_MAX
from tests.conftest import KEY

MEBIBYTE = 1024 * 1024


@pytest.fixture
def agent(file_store: BlockingStore) -> BlockingManager:
    """A state in a file; what is tested here stands before any backend."""
    return file_store.manager("agent-7", actor="planner")


@contextmanager
def refused(agent: BlockingManager, kind: type[StatecoreError], named: str) -> Iterator[None]:
    """Expect an error that names something, and a state that is as before and goes on."""
    before, version = agent.at().data, agent.version()
    with pytest.raises(kind) as caught:
        yield
    assert named in str(caught.value)
    assert agent.version() == version
    assert agent.at().data == before
    assert agent.set_state("next", version) == version + 1
    assert str(list(agent.history())[-1]).endswith(f"next = {version}")


# Values


def in_a_transaction(agent: BlockingManager, value: Any) -> None:
    with agent.transaction() as tx:
        tx.set("good", 1)
        tx.set("plan", value)


def by_splicing(agent: BlockingManager, value: Any) -> None:
    with agent.transaction() as tx:
        tx.splice("plan", 0, 0, [value])


WAYS: dict[str, Callable[[BlockingManager, Any], object]] = {
    "set_state": lambda agent, value: agent.set_state("plan", value),
    "extend": lambda agent, value: agent.extend("plan", [value]),
    "patch": lambda agent, value: agent.patch("plan", {"step": value}),
    "apply": lambda agent, value: agent.apply(EMPTY.put("plan", value)),
    "atomic_update": lambda agent, value: agent.atomic_update("plan", lambda _: value),
    "transaction": in_a_transaction,
    "splice": by_splicing,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("value", "kind", "cause"),
    [
        ({"who": {1, 2}}, UnsupportedValue, "['who']: set: use a sorted list"),
        ({"who": [{math.nan: 1}]}, UnsupportedValue, "map keys are strings, not float (nan)"),
        ({"who": {1: "x"}}, UnsupportedValue, "['who']: map keys are strings, not int (1)"),
        ({"who": 2**9000}, LimitExceeded, "the integer is 1,126 bytes; the limit is 1,024"),
        ({"who": ["\ud800"]}, UnsupportedValue, "['who'][0]: the text holds a lone surrogate"),
    ],
    ids=["type", "NaN key", "number as key", "integer", "surrogate"],
)
def test_what_can_not_be_recorded_is_refused_however_it_comes(
    agent: BlockingManager, way: str, value: Any, kind: type[StatecoreError], cause: str
) -> None:
    with refused(agent, kind, cause):
        WAYS[way](agent, value)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_refused_is_named_from_its_key_on(agent: BlockingManager, way: str) -> None:
    with refused(agent, UnsupportedValue, "plan"):
        WAYS[way](agent, {"who": {1, 2}})


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"x": value}
    return value


@pytest.mark.parametrize("way", WAYS)
def test_what_is_too_deep_is_refused_however_it_comes(agent: BlockingManager, way: str) -> None:
    agent.set_state("deep", nested(DEPTH_MAX - 1))

    with refused(agent, LimitExceeded, "depth is 65 levels; the limit is 64 levels"):
        WAYS[way](agent, nested(DEPTH_MAX + 1))


def test_patches_of_patches_lead_no_deeper(agent: BlockingManager) -> None:
    with refused(agent, LimitExceeded, "the limit is 64 levels"):
        change = EMPTY.put("x", nested(DEPTH_MAX - 10))
        for _ in range(20):
            change = EMPTY.patch("x", change)
        agent.patch("plan", change)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_too_large_is_refused_however_it_comes(agent: BlockingManager, way: str) -> None:
    with refused(agent, LimitExceeded, "the limit is 16,777,216 bytes"):
        WAYS[way](agent, bytes(EVENT_BYTES_MAX + 1))


def test_a_sum_that_is_too_large_is_refused(agent: BlockingManager) -> None:
    agent.set_state("n", 2**8190)

    with refused(agent, LimitExceeded, "the integer is 1,025 bytes; the limit is 1,024 bytes"):
        agent.add("n", 2**8190)


# Keys, and what is said beside


KEYED: dict[str, Callable[[BlockingManager, Any], object]] = {
    "set_state": lambda agent, key: agent.set_state(key, 1),
    "delete_state": lambda agent, key: agent.delete_state(key),
    "extend": lambda agent, key: agent.extend(key, [1]),
    "add": lambda agent, key: agent.add(key, 1),
    "patch": lambda agent, key: agent.patch("map", {key: 1}),
    "atomic_update": lambda agent, key: agent.atomic_update(key, lambda _: 1),
}
BAD_KEYS = {
    1: "keys are strings, not int (1)",
    math.nan: "keys are strings, not float (nan)",
    None: "keys are strings, not NoneType",
    b"plan": "keys are strings, not bytes (b'plan')",
    "\ud800": "holds a lone surrogate",
    "x" * (KEY_BYTES_MAX + 1): "the key is 1,025 bytes; the limit is 1,024 bytes",
    "ü" * 513: "the key is 1,026 bytes; the limit is 1,024 bytes",
}


@pytest.mark.parametrize("way", KEYED)
@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: repr(key)[:12])
def test_what_is_no_key_is_refused(agent: BlockingManager, way: str, key: Any) -> None:
    with refused(agent, InputError, BAD_KEYS[key]):
        KEYED[way](agent, key)


def test_the_longest_key_is_one(agent: BlockingManager) -> None:
    agent.set_state("x" * KEY_BYTES_MAX, 1)

    assert agent.value_at("x" * KEY_BYTES_MAX, 1) == 1


@pytest.mark.parametrize("key", [1, b"plan", "\ud800"])
def test_what_is_no_key_has_no_past(agent: BlockingManager, key: Any) -> None:
    agent.set_state("plan", 1)

    with refused(agent, InputError, "key"):
        agent.value_at(key, 1)
    with refused(agent, InputError, "key"):
        list(agent.history(key))


@pytest.mark.parametrize("option", ["actor", "reason", "cause", "event_id"])
@pytest.mark.parametrize("value", ["\ud800", 5, [1], object()])
def test_what_is_said_beside_must_be_text(agent: BlockingManager, option: str, value: Any) -> None:
    options: Any = {option: value}
    with refused(agent, InputError, option):
        agent.set_state("n", 1, **options)


@pytest.mark.parametrize("metadata", [{1: 1}, {"a": {1}}, [1], "text"])
def test_what_is_no_metadata_is_refused(agent: BlockingManager, metadata: Any) -> None:
    with refused(agent, InputError, "metadata"):
        agent.set_state("n", 1, metadata=metadata)


@pytest.mark.parametrize("name", [5, "\ud800", b"tag", ""])
def test_what_is_no_name_of_a_tag_is_refused(agent: BlockingManager, name: Any) -> None:
    agent.set_state("n", 1)

    with refused(agent, InputError, "tag"):
        agent.tag(name)


@pytest.mark.parametrize("version", ["1", 1.5, True])
def test_what_is_no_version_is_not_expected(agent: BlockingManager, version: Any) -> None:
    agent.set_state("n", 1)

    with refused(agent, InputError, "expected_version"):
        agent.set_state("n", 2, expected_version=version)


@pytest.mark.parametrize("ttl", [math.nan, math.inf, 1e300, -1, 0, "5"])
def test_what_is_no_time_to_live_is_refused(file_store: BlockingStore, ttl: Any) -> None:
    with pytest.raises(InputError, match="ttl"):
        file_store.manager("session", kind="temporary", ttl=ttl)


# Bombs, sealed by somebody who has the key


def rle_block(*, last: bool) -> bytes:
    """128 KiB of zeros in four bytes (RFC 8878, section 3.1.1.2)."""
    return (last | 1 << 1 | (128 * 1024) << 3).to_bytes(3, "little") + b"\0"


def zstd_bomb(claimed: int, blocks: int) -> bytes:
    """A frame that claims to hold so much, and holds so many blocks of 128 KiB."""
    header = b"\xe0" + claimed.to_bytes(8, "little")
    return header + rle_block(last=False) * (blocks - 1) + rle_block(last=True)


GIBIBYTE = 1024 * MEBIBYTE
ZSTD_BOMBS = {
    "claims what it holds": zstd_bomb(GIBIBYTE, 8 * 1024),
    "claims less than it holds": zstd_bomb(1_000, 8 * 1024),
    "claims much and holds little": zstd_bomb(GIBIBYTE, 1),
    "does not say": b"\x00\x58" + zstd_bomb(0, 8 * 1024)[9:],
}


@pytest.mark.parametrize("bomb", ZSTD_BOMBS)
def test_a_zstd_bomb_does_not_go_off(
    path: Path, bomb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("other").set_state("n", 1)
        agent = store.manager("agent")
        agent.set_state("n", 1)
        with monkeypatch.context() as attack:
            packed = (compression.PLAIN, ZSTD_BOMBS[bomb])
            attack.setattr(seal, "compress", lambda *_: packed)
            agent.set_state("n", 2)

    does_not_go_off(path)


MSGPACK_BOMBS = {
    "four billion entries": b"\xdd\xff\xff\xff\xff",
    "four billion fields": b"\xdf\xff\xff\xff\xff",
    "four billion bytes": b"\xc6\xff\xff\xff\xff",
    "too deep": b"\x91" * 100_000,
    "nothing": b"",
}


@pytest.mark.parametrize("bomb", MSGPACK_BOMBS)
def test_a_msgpack_bomb_for_a_body_does_not_go_off(
    path: Path, bomb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with statecore.open(path, key=KEY) as store:
        store.manager("other").set_state("n", 1)
        agent = store.manager("agent")
        agent.set_state("n", 1)
        with monkeypatch.context() as attack:
            attack.setattr(scribe, "pack_body", lambda _: MSGPACK_BOMBS[bomb])
            agent.set_state("n", 2)

    does_not_go_off(path)


def does_not_go_off(path: Path) -> None:
    """The agent's second event is damage, costs no memory, and is the only harm."""
    tracemalloc.start()
    try:
        with statecore.open(path, key=KEY) as store:
            agent = store.manager("agent")
            for ask in (agent.at, agent.version, lambda: agent.set_state("n", 3)):
                with pytest.raises(DamagedRecord, match="version 2: it does not parse"):
                    ask()
            assert store.manager("other").set_state("n", 2) == 2
        assert tracemalloc.get_traced_memory()[1] < 64 * MEBIBYTE
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bomb", MSGPACK_BOMBS)
def test_a_msgpack_bomb_for_a_value_does_not_go_off(path: Path, bomb: str) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        agent.set_state("n", 1)
        agent.apply(Change({"bomb": Put(MSGPACK_BOMBS[bomb])}))

    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        for ask in (
            lambda: agent.get_state("bomb"),
            lambda: agent.at()["bomb"],
            lambda: agent.value_at("bomb", 2),
            lambda: "".join(map(str, agent.history())),
        ):
            with pytest.raises(StatecoreError):
                ask()
        assert agent.get_state("n") == 1
        assert agent.delete_state("bomb") == 3
        assert agent.at().data == {"n": 1}


# Files that somebody wrote to


@pytest.fixture
def written(path: Path) -> Path:
    with statecore.open(path, key=KEY) as store:
        for number in range(10):
            for name in ("agent", "other"):
                store.manager(name).set_state("n", number)
    return path


def sql(path: Path, statement: str, *bindings: Any) -> list[Any]:
    database = apsw.Connection(str(path))
    try:
        return database.execute(statement, bindings).fetchall()
    finally:
        database.close()


EVENTS = "SELECT * FROM events ORDER BY position"


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        (lambda own, _: own[:-1] + bytes([own[-1] ^ 1]), "version 5: the seal does not fit"),
        (lambda own, _: own[:9], "version 5: "),
        (lambda _, previous: previous, "version 5: the seal does not fit"),
        (lambda own, _: bytes([own[0] & 0x0F | 0x20]) + own[1:], "version 5 has format 2"),
    ],
    ids=["edited", "truncated", "swapped", "newer"],
)
def test_a_bad_record_harms_nothing_but_what_rests_on_it(
    written: Path, stored: Callable[[bytes, bytes], bytes], named: str
) -> None:
    before = sql(written, EVENTS)
    (own,), (previous,) = sql(written, "SELECT state FROM events WHERE position IN (9, 7)")[::-1]
    sql(written, "UPDATE events SET state = ? WHERE position = 9", stored(own, previous))

    with statecore.open(written, key=KEY) as store:
        agent = store.manager("agent")
        for ask in (agent.at, agent.version, lambda: agent.set_state("n", 99)):
            with pytest.raises((DamagedRecord, NewerFormat)) as caught:
                ask()
            assert named in str(caught.value)
        assert store.manager("other").set_state("n", 10) == 11

    sql(written, "UPDATE events SET state = ? WHERE position = 9", own)
    assert sql(written, EVENTS)[:-1] == before
    with statecore.open(written, key=KEY) as store:
        assert store.manager("agent").set_state("n", 10) == 11


@pytest.mark.parametrize(
    ("plant", "remove", "kind", "named"),
    [
        (
            "CREATE TRIGGER evil BEFORE INSERT ON events BEGIN DELETE FROM events; END",
            "DROP TRIGGER evil",
            ForeignSchema,
            "agents.db holds a trigger evil",
        ),
        ("UPDATE log SET format = 2", "UPDATE log SET format = 1", NewerFormat, "has format 2"),
    ],
)
def test_a_store_that_was_refused_is_as_it_was(
    written: Path, plant: str, remove: str, kind: type[StatecoreError], named: str
) -> None:
    before = sql(written, EVENTS)
    sql(written, plant)

    with pytest.raises(kind, match=named):
        statecore.open(written, key=KEY).blocking()

    sql(written, remove)
    assert sql(written, EVENTS) == before
    with statecore.open(written, key=KEY) as store:
        assert store.manager("agent").set_state("n", 10) == 11
