"""How much disk does a run take? Beside full snapshots, stock eventsourcing and a bare log.

    python -m benchmarks.size

- steps: the run of an agent (workload.py), a transaction a step. The same run is kept by
  - the bare log: pack, zstd with our dictionary, seal, one row. It answers nothing but replay
  - stock eventsourcing: its SQLite module, JSON, zlib and its AES cipher, an event a step
  - LangGraph's SqliteSaver: the whole state at each step, in the clear. That grows with the square
    of the steps, so it is done for ``--snapshots`` steps only, and skipped where
    langgraph-checkpoint-sqlite is not installed
- errands: large and nested values (workload.py), beside the bare log
- calls: what one more ``set_state`` takes once a tenth of ``--calls`` are there, on few keys and on
  many: the more keys, the more a snapshot holds. The peers are weighed whole, on few keys

The values of calls have about 170 bytes. Those like the dictionary are of the generator that it
was trained on, with another seed. Those unlike it are cut anywhere from Python's language
reference, which it was not made from; but that is English, as are some of its samples. The others
are in a made-up language that no dictionary knows a word of.

All files that are left after closing count, by their length: the log, the key store, the lock, a
write-ahead log if there is one. Not measured: what a store takes while it is open.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics
from statistics import mean
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import apsw
import msgpack
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import statecore
from benchmarks.append import Stock, ValueSet
from benchmarks.harness import AGENT, KEY, Row, fill, main
from benchmarks.synthetic import Synthetic
from benchmarks.workload import Storyteller, calls, errands, steps
from statecore.codec.compression import compress
from statecore.codec.record import make_body, pack_body
from statecore.codec.wire import write_operations
from statecore.values import pack

VALUE_BYTES: Final = 168
KEYS: Final = (20, 10_000)
EXPECTED_OF_STEPS: Final = (5_000, "less than 3,000,000 bytes")
_PAGE: Final = 100  # events that stock eventsourcing gets at once; as many bytes as one by one

Write: TypeAlias = Callable[[Path], None]


def ours(folder: Path, count: int) -> None:
    """The run, kept by us."""
    with statecore.open(folder / "agents.db", key=KEY) as store:
        agent = store.manager(AGENT)
        for message, keys in steps(count):
            with agent.transaction() as tx:
                tx.extend("messages", [message])
                for key, value in keys.items():
                    tx.set(key, value)


def ours_of_errands(folder: Path, count: int) -> None:
    """The errands, kept by us."""
    with statecore.open(folder / "agents.db", key=KEY) as store:
        agent = store.manager(AGENT)
        for change in errands(count):
            agent.apply(change)


def snapshots(folder: Path, count: int) -> None:
    """The run, kept as the whole state at each step."""
    saver_type: Any = import_module("langgraph.checkpoint.sqlite").SqliteSaver
    new_checkpoint: Any = import_module("langgraph.checkpoint.base").empty_checkpoint
    config: Any = {"configurable": {"thread_id": AGENT, "checkpoint_ns": ""}}
    state: dict[str, Any] = {"messages": []}
    versions: dict[str, str] = {}
    with saver_type.from_conn_string(str(folder / "checkpoints.db")) as saver:
        for number, (message, keys) in enumerate(steps(count), 1):
            state["messages"].append(message)
            state.update(keys)
            changed = dict.fromkeys(("messages", *keys), str(number))
            versions.update(changed)
            checkpoint = {
                **new_checkpoint(),
                "channel_values": state,
                "channel_versions": versions,
            }
            metadata = {"source": "loop", "step": number, "parents": {}}
            config = saver.put(config, checkpoint, metadata, changed)


def stock(folder: Path, pairs: Iterable[tuple[str, Any]]) -> None:
    """The same in stock eventsourcing, one event for each key and value."""
    store = Stock(folder)
    put(store, uuid4(), pairs)
    store.close()


def put(store: Stock, originator: UUID, pairs: Iterable[tuple[str, Any]]) -> None:
    """Have stock eventsourcing record an event for each key and value."""
    events = (
        ValueSet(  # type: ignore[call-arg]  # a dataclass by its metaclass
            originator_id=originator,
            originator_version=at,
            timestamp=ValueSet.create_timestamp(),
            key=key,
            value=value,
        )
        for at, (key, value) in enumerate(pairs, 1)
    )
    while page := list(islice(events, _PAGE)):
        store._store.put(page)


def bare(folder: Path, bodies: Iterable[bytes]) -> None:
    """The same in a log that does no more than seal."""
    database = apsw.Connection(str(folder / "bare.db"))
    database.execute(
        "CREATE TABLE events(position INTEGER PRIMARY KEY, stream INTEGER, version INTEGER,"
        " state BLOB, UNIQUE(stream, version))"
    )
    seal = AESGCM(KEY).encrypt
    with database:
        for at, body in enumerate(bodies, 1):
            method, packed = compress(body)
            nonce = os.urandom(12)
            stored = bytes((method,)) + nonce + seal(nonce, packed, at.to_bytes(8, "big"))
            database.execute(
                "INSERT INTO events(stream, version, state) VALUES (1, ?, ?)", (at, stored)
            )
    database.close()


def on_disk(folder: Path) -> dict[str, int]:
    """Return the length of every file."""
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir())}


def weigh(folder: Path, count: int, write: Write) -> Row:
    """Write something into a folder of its own, and return what that takes."""
    folder.mkdir()
    write(folder)
    files = on_disk(folder)
    size = sum(files.values())
    return {"bytes": size, "bytes_per_event": round(size / count, 1), "files": files}


def compare(title: str, folder: Path, count: int, contenders: dict[str, Write]) -> list[Row]:
    """Return what each takes, the first of them being us."""
    folder.mkdir()
    rows: list[Row] = []
    for name, write in contenders.items():
        row = weigh(folder / str(len(rows)), count, write)
        if rows:
            row["to_statecore"] = round(row["bytes"] / rows[0]["bytes"], 2)
        rows.append({"what": f"{title}, {name}", **row})
    return rows


def run_of_steps(folder: Path, count: int, *, with_snapshots: bool) -> list[Row]:
    """The run of an agent, kept by everybody."""
    contenders: dict[str, Write] = {
        "statecore": lambda into: ours(into, count),
        "bare log": lambda into: bare(into, (msgpack.packb(step) for step in steps(count))),
        "stock eventsourcing": lambda into: stock(into, (("step", step) for step in steps(count))),
    }
    title = f"{count:,} steps"
    has_langgraph = find_spec("langgraph") and find_spec("langgraph.checkpoint.sqlite")
    if with_snapshots and has_langgraph:
        name = f"SqliteSaver {version('langgraph-checkpoint-sqlite')}"
        contenders[name] = lambda into: snapshots(into, count)
    rows = compare(title, folder, count, contenders)
    if count == EXPECTED_OF_STEPS[0]:
        rows[0]["expected"] = EXPECTED_OF_STEPS[1]
    if with_snapshots and not has_langgraph:
        note = "skipped: langgraph-checkpoint-sqlite is not installed"
        rows.append({"what": f"{title}, SqliteSaver", "note": note})
    return rows


def run_of_errands(folder: Path, count: int) -> list[Row]:
    """The errands, and how many bytes they are before anything is done to them."""
    bodies = [pack_body(make_body(write_operations(change))) for change in errands(count)]
    contenders: dict[str, Write] = {
        "statecore": lambda into: ours_of_errands(into, count),
        "bare log": lambda into: bare(into, bodies),
    }
    rows = compare(f"{count:,} errands", folder, count, contenders)
    packed = sum(map(len, bodies))
    return [*rows, {"what": f"{count:,} errands, packed", "bytes": packed}]


def like() -> Iterator[Any]:
    """Values like those the dictionary was trained on."""
    make = Synthetic(7)
    while True:
        yield make.record()


def english() -> Iterator[Any]:
    """Text from Python's language reference, cut anywhere."""
    text = " ".join(" ".join(topics.values()).split())
    chance = random.Random(7)
    while True:
        at = chance.randrange(len(text) - VALUE_BYTES)
        yield text[at : at + VALUE_BYTES]


def made_up() -> Iterator[Any]:
    """Text in a made-up language."""
    teller = Storyteller(7)
    while True:
        yield teller.text(VALUE_BYTES)


VALUES: Final[dict[str, tuple[Callable[[], Iterator[Any]], str]]] = {
    "values like the dictionary": (like, "at most 130"),
    "unlike it, English": (english, "at most 200"),
    "unlike it, made up": (made_up, "at most 200"),
}


def single_calls(folder: Path, name: str, count: int) -> list[Row]:
    """Single calls with values of one sort, on few keys and on many, beside the peers."""
    make, expected = VALUES[name]
    folder.mkdir()
    value_bytes = round(mean(len(pack(value)) for value in islice(make(), 1000)))
    rows = []
    for keys in KEYS:
        row = {"value_bytes": value_bytes, **one_more(folder / str(keys), count, keys, make())}
        rows.append({"what": f"a call, {name}, {keys:,} keys", **row, "expected": expected})
    peers: dict[str, Write] = {
        "bare log": lambda into: bare(into, map(msgpack.packb, calls(count, KEYS[0], make()))),
        "stock eventsourcing": lambda into: stock(into, calls(count, KEYS[0], make())),
    }
    for peer, write in peers.items():
        weight = weigh(folder / peer, count, write)["bytes_per_event"]
        ratio = round(weight / rows[0]["bytes_per_event"], 2)
        row = {"bytes_per_event": weight, "to_statecore": ratio}
        rows.append({"what": f"a call, {name}, {peer}", **row})
    return rows


def one_more(folder: Path, count: int, keys: int, values: Iterator[Any]) -> Row:
    """Return what one event adds, in all and by table, once a tenth of them is there."""
    folder.mkdir()
    path = folder / "agents.db"
    to_write = calls(count, keys, values)
    taken = []
    for part in (count // 10, count - count // 10):
        fill(path, islice(to_write, part))
        taken.append({"in all": sum(on_disk(folder).values()), **tables(path)})
    before, after = taken
    each = {
        name: round((size - before.get(name, 0)) / part, 1)
        for name, size in after.items()
        if size > before.get(name, 0)
    }
    return {"bytes_per_event": each.pop("in all"), "of_which": each}


def tables(path: Path) -> dict[str, int]:
    """Return the bytes of each table and index, largest first."""
    database = apsw.Connection(str(path))
    sql = "SELECT name, sum(pgsize) FROM dbstat GROUP BY 1 ORDER BY 2 DESC"
    rows: list[Any] = database.execute(sql).fetchall()
    database.close()
    return dict(rows)


def measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """Weigh everything."""
    rows = []
    for count in sorted({arguments.steps, arguments.snapshots}):
        into = folder / f"steps-{count}"
        rows += run_of_steps(into, count, with_snapshots=count == arguments.snapshots)
    rows += run_of_errands(folder / "errands", arguments.errands)
    for name in VALUES:
        rows += single_calls(folder / name, name, arguments.calls)
    return rows


if __name__ == "__main__":
    main("Bytes on disk", measure, steps=5000, snapshots=1000, errands=1000, calls=100_000)
