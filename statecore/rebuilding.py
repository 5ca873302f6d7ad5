"""Rebuilding: the indexes, the audit tree and the snapshots of a log made again from its events."""

from __future__ import annotations

from dataclasses import dataclass, field

from statecore.checking import (
    compare_indexes,
    compare_tree,
    count_anew,
    holds,
    name_of,
    spell,
)
from statecore.errors import Archived, DamagedRecord, Erased, InputError, NewerFormat
from statecore.projections.audit_tree import MemoryTree
from statecore.recorders.port import Mending, Upkeep
from statecore.stream import Stream, StreamName
from statecore.streams import Streams


@dataclass(slots=True)
class Rebuilt:
    """What was made again, and where it differed from what was there."""

    streams: int = 0
    rows: int = 0
    """Of the key history, the ids and the tree, compared."""
    snapshots: int = 0
    differences: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)
    """States whose events can't all be read: nothing of theirs was touched."""
    is_replaced: bool = False
    """Whether what was made took the place of what was there."""


def rebuild(plain: Streams, *, only_check: bool = False) -> Rebuilt:
    """Make all that is derived again, compare it, and put it in place in one transaction.

    Nobody else writes meanwhile. A snapshot that is not what the events make is dropped; the engine
    keeps new ones by itself. Signed heads stay as they are: they are no cache.

    Args:
        plain: the streams of the log, folded from their events alone.
        only_check: change nothing.

    Raises:
        InputError: this store keeps nothing that could be made again.
    """
    upkeep = plain.log.upkeep
    if upkeep is None:
        raise InputError("this store keeps nothing beside its events")
    done = Rebuilt()
    with upkeep.mending() as mending:
        for stream_id in plain.log.streams():
            where = f"stream {stream_id.hex()}"
            try:
                name = name_of(plain, stream_id)
                if name is not None:
                    where = spell(name)
                    _rebuild_stream(plain, name, done, upkeep, mending)
            except (Archived, Erased):
                continue
            except (DamagedRecord, NewerFormat) as error:
                done.left_alone.append(f"{where}: {error}")
        tree = MemoryTree(plain.log)
        for text, count in compare_tree(plain, tree):
            done.rows += count
            if text:
                done.differences.append(f"the audit tree: {text}")
        mending.tree(*tree.kept())
        if not only_check and done.differences:
            mending.commit()
            done.is_replaced = True
    return done


def _rebuild_stream(
    plain: Streams, name: StreamName, done: Rebuilt, upkeep: Upkeep, mending: Mending
) -> None:
    stream = plain.open(name)
    plain.refresh(stream)
    done.streams += 1
    if stream.is_erased or stream.key is None:
        return
    is_wrong = False
    for text, count in compare_indexes(plain, stream):
        done.rows += count
        if text:
            is_wrong = True
            done.differences.append(f"{spell(name)}: {text}")
    if is_wrong:
        mending.indexes(stream.id, stream.first_own, count_anew(plain, stream))
    _rebuild_snapshots(plain, stream, done, upkeep, mending)


def _rebuild_snapshots(
    plain: Streams, stream: Stream, done: Rebuilt, upkeep: Upkeep, mending: Mending
) -> None:
    for version, stored in upkeep.snapshots(stream.id):
        done.snapshots += 1
        if not holds(plain, stream, version, stored):
            done.differences.append(
                f"{spell(stream.name)}: the snapshot at version {version} does not hold"
            )
            mending.drop_snapshot(stream.id, version)
