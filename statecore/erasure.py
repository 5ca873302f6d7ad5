"""Erasure, brought to its end: no key outlives the event that says it was destroyed.

The event is recorded first, the keys are destroyed right after. A kill in between, or a key store
put back from an older backup, leaves keys that the log says are gone: whoever opens the store next
destroys them. The log decides, and only by events whose seal was checked: nothing is destroyed
because somebody without the key wrote so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from statecore.codec import Sealer, read_epoch
from statecore.errors import DamagedRecord
from statecore.events import EventType
from statecore.keys import DataKey, KeyRing
from statecore.keys.ring import LOG_EPOCH
from statecore.recorders import LogRow, LogStore

_PAGE: Final = 1_000
_LAG: Final = 500  # events looked at anew: how far the log is settled is noted now and then only


def settle(log: LogStore, ring: KeyRing) -> int:
    """Destroy the keys of what was erased since the last time; return of how many streams.

    Looks at the headers of the events since then, some hundred of them where the store was closed.
    """
    head, settled = log.last_position(), ring.settled
    if settled > head:  # noted beside a longer log than this one
        settled = 0
    ends = ended(log, ring.log_key, settled)
    left = {stream: end for stream, end in ends.items() if ring.has_keys(stream, end)}
    if left or head - settled > 2 * _LAG or settled < ring.settled:
        # Not to the very end: in some logs a position may yet be seen that comes before it.
        ring.destroy(left, max(0, head - _LAG))
    return len(left)


def ended(log: LogStore, log_key: DataKey, after: int = 0) -> dict[bytes, int]:
    """Return the streams that were erased after a position, and the last version it happened at."""
    return {
        stream: version
        for _, stream, version, stored in _rows(log, after)
        if _says_erased(log, log_key, stream, version, stored)
    }


def _rows(log: LogStore, after: int) -> Iterator[LogRow]:
    while rows := log.read_log(after, _PAGE):
        yield from rows
        after = rows[-1][0]


def _says_erased(
    log: LogStore, log_key: DataKey, stream: bytes, version: int, stored: bytes
) -> bool:
    try:
        if read_epoch(stored) != LOG_EPOCH:
            return False
        sealer = Sealer(log.log_id, stream, {LOG_EPOCH: log_key}, log.prefix_of)
        return sealer.open(version, stored).type == EventType.ERASED
    except DamagedRecord:
        return False  # who reads the stream is told
