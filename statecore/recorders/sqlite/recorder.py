"""The recorders of ``eventsourcing`` over the same tables, for its own applications.

An originator id that is a UUID is stored as its 16 bytes, any other as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import apsw
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    IntegrityError,
    ListenNotifySubscription,
    Notification,
    OperationalError,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)

from statecore.errors import StoreFailure
from statecore.recorders.port import EVERYTHING
from statecore.recorders.sqlite.datastore import Datastore
from statecore.recorders.sqlite.order import require_order

_SELECT: Final = (
    "SELECT version, topics.topic, state FROM {table} JOIN topics ON topics.id = {table}.topic"
    " WHERE stream = (SELECT id FROM streams WHERE name = ?) AND version > ? AND version <= ?"
    " ORDER BY version {order} LIMIT ?"
)
_NOTIFICATIONS: Final = (
    "SELECT position, name, version, topics.topic, state FROM events"
    " JOIN topics ON topics.id = events.topic JOIN streams ON streams.id = stream"
    " WHERE position >= ? AND position <= ? {topics} ORDER BY position LIMIT ?"
)
_BEFORE_ALL: Final = -(1 << 62)


@contextmanager
def _translated() -> Iterator[None]:
    """Say what goes wrong in the words of eventsourcing."""
    try:
        yield
    except apsw.ConstraintError as error:
        raise IntegrityError(str(error)) from error
    except StoreFailure as error:
        constraint = isinstance(error.__cause__, apsw.ConstraintError)
        raise (IntegrityError if constraint else OperationalError)(str(error)) from error


def _name(originator_id: UUID | str) -> bytes | str:
    return originator_id.bytes if isinstance(originator_id, UUID) else originator_id


def _originator_id(name: bytes | str) -> UUID | str:
    return UUID(bytes=name) if isinstance(name, bytes) else name


class SqliteAggregateRecorder(AggregateRecorder):
    """Events of aggregates, or snapshots of them."""

    def __init__(self, datastore: Datastore, table: str = "events") -> None:
        self.datastore = datastore
        self._insert = f"INSERT INTO {table}(stream, version, topic, state) VALUES (?, ?, ?, ?)"
        self._select = _SELECT.replace("{table}", table)

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        self._write(stored_events, kwargs.get("tracking"))
        return None

    def _write(self, stored_events: Sequence[StoredEvent], tracking: Tracking | None) -> list[int]:
        if not stored_events and tracking is None:
            return []
        with _translated(), self.datastore.turn() as writer:
            positions = [self._insert_event(writer, event) for event in stored_events]
            if tracking is not None:
                _track(writer, tracking)
            self.datastore.commit()
        self.datastore.watch.notify_all()
        return positions

    def _insert_event(self, writer: apsw.Connection, event: StoredEvent) -> int:
        stream = _intern(writer, "streams", "name", _name(event.originator_id))
        topic = _intern(writer, "topics", "topic", event.topic)
        writer.execute(self._insert, (stream, event.originator_version, topic, event.state))
        return writer.last_insert_rowid()

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        bounds = (
            _name(originator_id),
            _BEFORE_ALL if gt is None else gt,
            EVERYTHING if lte is None else lte,
            -1 if limit is None else limit,
        )
        with _translated():
            rows = self.datastore.all(
                self._select.replace("{order}", "DESC" if desc else "ASC"), bounds
            )
        return [StoredEvent(originator_id, *row) for row in rows]


class SqliteApplicationRecorder(SqliteAggregateRecorder, ApplicationRecorder):
    """Events of aggregates in the order of the whole application."""

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        return self._write(stored_events, kwargs.get("tracking"))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        first = 0 if start is None else start if inclusive_of_start else start + 1
        among = f"AND topics.topic IN ({', '.join('?' * len(topics))})" if topics else ""
        bindings = (first, EVERYTHING if stop is None else stop, *topics, limit)
        with _translated():
            rows = self.datastore.all(_NOTIFICATIONS.replace("{topics}", among), bindings)
            require_order(rows, first - 1)
        return [
            Notification(_originator_id(name), version, topic, state, position)
            for position, name, version, topic, state in rows
        ]

    def max_notification_id(self) -> int | None:
        with _translated():
            return self.datastore.all("SELECT max(position) FROM events")[0][0]  # type: ignore[no-any-return]

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        return SqliteSubscription(self, gt, topics)


class SqliteSubscription(ListenNotifySubscription[SqliteApplicationRecorder]):
    """Notifications as they come: at once from this process, within 50 ms from others."""

    def __init__(
        self, recorder: SqliteApplicationRecorder, gt: int | None, topics: Sequence[str]
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._end: Callable[[], None] = recorder.datastore.watch.subscribe(
            self._has_been_notified.set
        )

    def stop(self) -> None:
        super().stop()
        self._end()


class SqliteTrackingRecorder(TrackingRecorder):
    """How far projections of other applications have come."""

    def __init__(self, datastore: Datastore) -> None:
        self.datastore = datastore

    def insert_tracking(self, tracking: Tracking) -> None:
        with _translated(), self.datastore.turn() as writer:
            _track(writer, tracking)
            self.datastore.commit()

    def max_tracking_id(self, application_name: str) -> int | None:
        with _translated():
            sql = "SELECT notification FROM tracking WHERE application = ?"
            rows = self.datastore.all(sql, (application_name,))
        return rows[0][0] if rows else None


class SqliteProcessRecorder(SqliteTrackingRecorder, SqliteApplicationRecorder, ProcessRecorder):
    """Events and tracking, in one transaction."""

    def __init__(self, datastore: Datastore) -> None:
        SqliteApplicationRecorder.__init__(self, datastore)


def _intern(writer: apsw.Connection, table: str, column: str, name: bytes | str) -> int:
    found = writer.execute(f"SELECT id FROM {table} WHERE {column} = ?", (name,)).get
    if found is None:
        insert = f"INSERT INTO {table}({column}) VALUES (?) RETURNING id"
        found = writer.execute(insert, (name,)).get
    assert isinstance(found, int)
    return found


def _track(writer: apsw.Connection, tracking: Tracking) -> None:
    row = (tracking.application_name, tracking.notification_id)
    writer.execute(
        "INSERT INTO tracking VALUES (?, ?) ON CONFLICT DO UPDATE"
        " SET notification = excluded.notification WHERE notification < excluded.notification",
        row,
    )
    if not writer.changes():
        raise IntegrityError(f"{row[0]} has already come to {row[1]} or further")
