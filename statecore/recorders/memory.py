"""The log in memory: the reference for every other, and the home of runtime state."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

from statecore.errors import InputError, StoreBusy, StoreClosed
from statecore.recorders.port import EVERYTHING, KeptTree, LogRow, Row, last_of

Append: TypeAlias = tuple[bytes, int, bytes, Sequence[bytes], bytes | None]
"""Stream, version, stored bytes, tags of the keys touched, tag of the event's id."""


class MemoryLog:
    """A log that is gone with the process."""

    def __init__(self, log_id: bytes) -> None:
        self.log_id = log_id
        self._turn = threading.Lock()
        self._log: list[LogRow] = []
        self._streams: dict[bytes, list[Row]] = {}
        self._touches: dict[tuple[bytes, bytes], list[int]] = {}
        self._ids: dict[tuple[bytes, bytes], int] = {}
        self._snapshots: dict[bytes, dict[int, bytes]] = {}
        self._writers: list[bytes] = []
        self._listeners: list[Callable[[], None]] = []
        self._closed = False
        self.on_commit: Callable[[KeptTree, int], None] | None = None

    @property
    def upkeep(self) -> None:
        return None

    @property
    def tree(self) -> None:
        return None

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()  # there are no other processes

    def turn(self, *, wait: bool = True) -> MemoryTurn:
        return MemoryTurn(self, self._turn, wait=wait)

    def notify_all(self) -> None:
        """Call all listeners."""
        for notify in list(self._listeners):
            notify()

    def append(self, event: Append) -> None:
        """Put an event at the end of its stream and of the log."""
        stream, version, stored, tags, id_tag = event
        position = len(self._log) + 1
        rows = self._streams.setdefault(stream, [])
        assert not rows or version == rows[-1][0] + 1, "versions are contiguous"
        rows.append((version, position, stored))
        for tag in tags:
            self._touches.setdefault((stream, tag), []).append(version)
        if id_tag is not None:
            self._ids[stream, id_tag] = version
        self._log.append((position, stream, version, stored))

    def keep_snapshot(self, stream: bytes, version: int, stored: bytes) -> None:
        """Keep a snapshot, unless there is one of this version."""
        self._snapshots.setdefault(stream, {}).setdefault(version, stored)

    def drop_derived(self, stream: bytes) -> None:
        """Drop what is kept of a stream beside its events."""
        self._snapshots.pop(stream, None)
        for index in (self._touches, self._ids):
            for place in [place for place in index if place[0] == stream]:
                del index[place]

    def freshness(self) -> int:
        if self._closed:
            raise StoreClosed("the store was closed")
        return 0  # there are no others

    @property
    def history(self) -> MemoryLog:
        return self

    def register_writer(self, prefix: bytes) -> int:
        """Keep a writer's nonce prefix and return its number."""
        self._writers.append(prefix)
        return len(self._writers)

    def prefix_of(self, number: int) -> bytes | None:
        return self._writers[number - 1] if 0 < number <= len(self._writers) else None

    def version(self, stream: bytes) -> int:
        rows = self._streams.get(stream)
        return rows[-1][0] if rows else 0

    def last_position(self) -> int:
        return len(self._log)

    def read(
        self,
        stream: bytes,
        after: int,
        until: int = EVERYTHING,
        limit: int = -1,
        *,
        back: bool = False,
    ) -> list[Row]:
        rows = self._streams.get(stream, [])
        before = rows[0][0] - 1 if rows else 0  # a fork begins where it left its parent
        rows = rows[max(after - before, 0) : max(until - before, 0)]
        if back:
            rows.reverse()
        return rows if limit < 0 else rows[:limit]

    def read_log(self, after: int, limit: int) -> list[LogRow]:
        return self._log[after : after + limit]

    def streams(self) -> list[bytes]:
        return list(self._streams)

    def touched(self, stream: bytes, tag: bytes, after: int, until: int) -> list[int]:
        versions = self._touches.get((stream, tag), [])
        return versions[bisect_right(versions, after) : bisect_right(versions, until)]

    def last_touched(self, stream: bytes, tag: bytes, at: int) -> tuple[int, int]:
        return last_of(self._touches.get((stream, tag), []), at)

    def find_id(self, stream: bytes, id_tag: bytes) -> int:
        return self._ids.get((stream, id_tag), 0)

    def snapshot(self, stream: bytes, until: int) -> tuple[int, bytes] | None:
        kept = self._snapshots.get(stream, {})
        version = max((version for version in kept if version <= until), default=0)
        return (version, kept[version]) if version else None

    def subscribe(self, notify: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(notify)
        return lambda: self._unsubscribe(notify)

    def _unsubscribe(self, notify: Callable[[], None]) -> None:
        if notify in self._listeners:
            self._listeners.remove(notify)

    def size_bytes(self) -> dict[str, int]:
        return {"memory": sum(len(row[3]) for row in self._log)}

    def close(self) -> None:
        self._closed = True
        self.notify_all()


class MemoryTurn:
    """What a turn appends, put in place all at once when it commits."""

    freshness = 0

    def __init__(self, log: MemoryLog, lock: threading.Lock, *, wait: bool) -> None:
        self._log = log
        self._lock = lock
        self._wait = wait
        self._events: list[Append] = []
        self._snapshots: list[tuple[bytes, int, bytes]] = []
        self._dropped: list[bytes] = []

    @property
    def tree(self) -> None:
        return None

    def append(
        self,
        stream: bytes,
        version: int,
        stored: bytes,
        tags: Sequence[bytes],
        id_tag: bytes | None,
    ) -> None:
        self._events.append((stream, version, stored, tags, id_tag))

    def register_writer(self, prefix: bytes) -> int:
        return self._log.register_writer(prefix)

    def keep_snapshot(self, stream: bytes, version: int, stored: bytes) -> None:
        self._snapshots.append((stream, version, stored))

    def drop_derived(self, stream: bytes) -> None:
        self._dropped.append(stream)

    def cut(self, stream: bytes, begins: int, span: tuple[int, int], event: int) -> None:
        raise InputError("only a store in a SQLite file can be archived")

    def __enter__(self) -> MemoryTurn:
        if not self._lock.acquire(blocking=self._wait):
            raise StoreBusy("another thread has the turn")
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._log.notify_all()

    def commit(self) -> set[bytes]:
        if any(self._log.find_id(stream, tag) for stream, _, _, _, tag in self._events if tag):
            return set()
        for stream in self._dropped:
            self._log.drop_derived(stream)
        for snapshot in self._snapshots:
            self._log.keep_snapshot(*snapshot)
        for event in self._events:
            self._log.append(event)
        return {event[0] for event in self._events}
