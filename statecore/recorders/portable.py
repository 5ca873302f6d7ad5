"""The log in any persistence module of ``eventsourcing``, through nothing but its documented face.

It relies on little, since engines differ: one stream an insert, contiguous versions (theirs count
from 0, ours from 1), originator ids shaped like UUIDs. It keeps no key history and no snapshots;
the engine then folds streams in memory: the same answers, slower.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, Final
from uuid import UUID

from eventsourcing.persistence import (
    ApplicationRecorder,
    InfrastructureFactory,
    IntegrityError,
    Notification,
    PersistenceError,
    StoredEvent,
)

from statecore.errors import DamagedRecord, InputError, StoreBusy, StoreClosed, StoreFailure
from statecore.recorders.port import EVERYTHING, KeptTree, LogRow, Row
from statecore.recorders.watch import Watch

_TOPIC: Final = "statecore"
_LOG_TOPIC: Final = "statecore.log"
_LOG_STREAM: Final = str(UUID(int=0))  # holds one event, which says which log this is
_POLL_SECONDS: Final = 0.03
_PAGE: Final = 1000


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PersistenceError as error:
        raise StoreFailure(f"the persistence module failed: {error}") from error


class PortableLog:
    """A log behind an application recorder."""

    def __init__(self, factory: InfrastructureFactory[Any], log_id: bytes) -> None:
        self._factory = factory
        self._recorder: ApplicationRecorder = factory.application_recorder()
        self._turn = threading.Lock()
        self._closed = False
        self.on_commit: Callable[[KeptTree, int], None] | None = None
        self._watch = Watch(self.last_position, _POLL_SECONDS)
        self.log_id = self._settle_log_id(log_id)

    def _settle_log_id(self, log_id: bytes) -> bytes:
        """Make the log's own stream, unless somebody did."""
        with _translated():
            found = self._recorder.select_events(_LOG_STREAM, limit=1)
            if not found:
                with suppress(IntegrityError):  # another process was faster, and its id counts
                    self._recorder.insert_events([StoredEvent(_LOG_STREAM, 0, _LOG_TOPIC, log_id)])
                found = self._recorder.select_events(_LOG_STREAM, limit=1)
        if found[0].topic != _LOG_TOPIC or len(found[0].state) != len(log_id):
            raise DamagedRecord("the log's own stream does not say which log it is")
        return found[0].state

    @property
    def upkeep(self) -> None:
        return None

    @property
    def tree(self) -> None:
        return None

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()  # no persistence module lets one do that

    def turn(self, *, wait: bool = True) -> PortableTurn:
        return PortableTurn(self._recorder, self._watch, self._turn, wait=wait)

    def freshness(self) -> int:
        if self._closed:
            raise StoreClosed("the store was closed")
        return -1  # who else writes can't be seen from here

    @property
    def history(self) -> None:
        return None

    def prefix_of(self, number: int) -> bytes | None:
        return None

    def version(self, stream: bytes) -> int:
        with _translated():
            last = self._recorder.select_events(_text(stream), desc=True, limit=1)
        return last[0].originator_version + 1 if last else 0

    def last_position(self) -> int:
        with _translated():
            return self._recorder.max_notification_id() or 0

    def read(
        self,
        stream: bytes,
        after: int,
        until: int = EVERYTHING,
        limit: int = -1,
        *,
        back: bool = False,
    ) -> list[Row]:
        """Return rows as the port says, but without positions: each says 0."""
        with _translated():
            events = self._recorder.select_events(
                _text(stream),
                gt=after - 1,
                lte=None if until == EVERYTHING else until - 1,
                desc=back,
                limit=None if limit < 0 else limit,
            )
        return [(event.originator_version + 1, 0, event.state) for event in events]

    def read_log(self, after: int, limit: int) -> list[LogRow]:
        with _translated():
            notifications = self._recorder.select_notifications(
                after, limit, topics=[_TOPIC], inclusive_of_start=False
            )
        return [_log_row(notification) for notification in notifications]

    def streams(self) -> list[bytes]:
        found: dict[bytes, None] = {}
        after = 0
        while rows := self.read_log(after, _PAGE):
            found |= {row[1]: None for row in rows}
            after = rows[-1][0]
        return list(found)

    def snapshot(self, stream: bytes, until: int) -> tuple[int, bytes] | None:
        return None

    def subscribe(self, notify: Callable[[], None]) -> Callable[[], None]:
        return self._watch.subscribe(notify)

    def size_bytes(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self._closed = True
        self._watch.close()
        self._factory.close()


class PortableTurn:
    """A turn: the streams of one are inserted one after the other, each all or none."""

    freshness = -1

    def __init__(
        self, recorder: ApplicationRecorder, watch: Watch, lock: threading.Lock, *, wait: bool
    ) -> None:
        self._recorder = recorder
        self._watch = watch
        self._lock = lock
        self._wait = wait
        self._events: dict[bytes, list[StoredEvent]] = {}

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
        event = StoredEvent(_text(stream), version - 1, _TOPIC, stored)
        self._events.setdefault(stream, []).append(event)

    def register_writer(self, prefix: bytes) -> None:
        """Keep nothing: each event carries its writer's prefix."""

    def keep_snapshot(self, stream: bytes, version: int, stored: bytes) -> None:
        """Keep nothing: not every persistence module has a place for snapshots."""

    def drop_derived(self, stream: bytes) -> None:
        """There is nothing."""

    def cut(self, stream: bytes, begins: int, span: tuple[int, int], event: int) -> None:
        raise InputError("only a store in a SQLite file can be archived")

    def __enter__(self) -> PortableTurn:
        if not self._lock.acquire(blocking=self._wait):
            raise StoreBusy("another thread has the turn")
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        self._watch.notify_all()

    def commit(self) -> set[bytes]:
        written = set()
        for stream, events in self._events.items():
            try:
                with _translated():
                    self._recorder.insert_events(events)
            except StoreFailure as error:
                if isinstance(error.__cause__, IntegrityError):
                    continue  # another writer was faster in this stream
                raise
            written.add(stream)
        return written


def _text(stream: bytes) -> str:
    return str(UUID(bytes=stream))


def _log_row(notification: Notification) -> LogRow:
    stream = UUID(str(notification.originator_id)).bytes
    return notification.id, stream, notification.originator_version + 1, notification.state
