"""The audit tree: what keeping it costs, how fast a store is verified, how long one proof takes.

    python -m benchmarks.audit --events 1000000

- keeping: what the tree and its signed heads take of each event, in turns of 100 events
- verify: processor time by depth. Up to digests over all events, which are of the shape and the
  size of real ones and not sealed, since no key is used; contents and replay over a store of its
  own with ``--sealed`` events
- proofs: of events at random, each with the signed head and the entry, ready to be sent
- pymerkle builds a tree of the same entries in memory; SQLite's own ``integrity_check`` reads the
  same file and hashes nothing: a floor

Not measured: stores larger than memory, disks.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pymerkle  # type: ignore[import-untyped]  # ships no types
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import statecore
from benchmarks.harness import KEY, Row, fill, main, pace, pace_since, settle, spread, timed
from statecore import Depth
from statecore.codec.numbers import write_number
from statecore.projections.audit_tree import AuditTree
from statecore.projections.heads import HeadKeeper
from statecore.recorders import KeptTree, LogStore
from statecore.recorders.sqlite.datastore import Datastore, create_datastore
from statecore.recorders.sqlite.log import SqliteLog
from statecore.transparency.signers import Ed25519Signer

STREAMS = 100
TURN = 100
PROOFS = 500
BODY_BYTES = 60


def stored(number: int) -> bytes:
    """Return bytes like those of a stored event."""
    epoch, when, sequence = b"\x01", (1_700_000_000_000_000 + number).to_bytes(7, "big"), number + 1
    header = b"\x10" + epoch + when + b"\x01" + write_number(sequence) + b"random"
    return header + random.randbytes(BODY_BYTES)


def build(path: Path, events: int) -> tuple[LogStore, HeadKeeper, float]:
    """Write a log; return it, open, and the seconds that its tree took of that."""
    create_datastore(path, lambda: os.urandom(16))
    log: Any = SqliteLog(Datastore(path, durability="relaxed"))
    signer = Ed25519Signer(f"statecore/{log.log_id.hex()}", Ed25519PrivateKey.generate())
    heads = HeadKeeper(log, signer, print)
    keep, took = log.on_commit, 0.0
    assert keep is not None

    def timed_keep(tree: KeptTree, last: int) -> None:
        nonlocal took
        started = time.perf_counter()
        keep(tree, last)
        took += time.perf_counter() - started

    log.on_commit = timed_keep
    names = [os.urandom(16) for _ in range(STREAMS)]
    for start in range(0, events, TURN):
        with log.turn() as turn:
            for number in range(start, min(start + TURN, events)):
                name, version = names[number % STREAMS], number // STREAMS + 1
                turn.append(name, version, stored(number), (), None)
            turn.commit()
    return log, heads, took


def processor_seconds(action: Callable[[], object]) -> float:
    """Return the processor time an action takes: the best of three."""
    best = []
    for _ in range(3):
        settle()
        started = time.process_time()
        action()
        best.append(time.process_time() - started)
    return min(best)


def verified(path: Path, depth: Depth, events: int) -> Row:
    """Return how fast a store is verified."""
    before = pace()
    seconds = processor_seconds(lambda: require_valid(path, depth))
    return {
        "what": f"verify --depth {depth}",
        "events": events,
        "seconds": round(seconds, 2),
        "events_per_second": round(events / seconds),
        "pace_ms": pace_since(before),
    }


def require_valid(path: Path, depth: Depth) -> None:
    """Verify, and stop where anything is found: that would be no measurement."""
    report = statecore.verify(path, depth=depth, key=KEY)
    assert not report.findings, report.findings


def peers(log: LogStore, path: Path, entries: int) -> list[Row]:
    """Return what the peers take for their part of the work."""
    assert log.tree is not None
    tree = AuditTree(log.tree)
    leaves = [entry for tile in range(-(-entries // 256)) for entry in tree.entries(tile)]

    def append() -> None:
        theirs = pymerkle.InmemoryTree(algorithm="sha256")
        for entry in leaves:
            theirs.append_entry(entry)
        theirs.get_root()

    appending = processor_seconds(append)
    database = apsw.Connection(str(path))
    checking = processor_seconds(lambda: database.execute("PRAGMA integrity_check").fetchall())
    database.close()
    return [
        {
            "what": "pymerkle, the same entries",
            "events": len(leaves),
            "events_per_second": round(len(leaves) / appending),
        },
        {"what": "SQLite's integrity_check", "seconds": round(checking, 2)},
    ]


def measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """Measure."""
    path, sealed, events = folder / "made-up.db", folder / "sealed.db", arguments.events
    before = pace()
    log, heads, took = build(path, events)
    rows: list[Row] = [
        {
            "what": f"keeping the tree, turns of {TURN}",
            "events": events,
            "microseconds_per_event": round(took / events * 1e6, 2),
            "pace_ms": pace_since(before),
        }
    ]
    heads.head()
    positions = random.Random(7).sample(range(1, events + 1), PROOFS)
    before, started = pace(), time.process_time()
    proving = timed(lambda: heads.prove(positions.pop()), PROOFS)
    processor = (time.process_time() - started) / PROOFS
    rows.append(
        {
            "what": "one proof, microseconds",
            **spread(proving),
            "of_processor_time": round(processor * 1e6),
            "pace_ms": pace_since(before),
        }
    )
    rows += peers(log, path, min(events, 50_000))
    heads.close()
    log.close()
    rows += [verified(path, depth, events) for depth in (Depth.PROOFS, Depth.DIGESTS)]
    fill(sealed, ((f"key {number % 50}", number) for number in range(arguments.sealed)))
    deep = (Depth.CONTENTS, Depth.REPLAY)
    return rows + [verified(sealed, depth, arguments.sealed) for depth in deep]


if __name__ == "__main__":
    main("the audit tree", measure, events=1_000_000, sealed=50_000)
