"""Events with all that is kept of each, in the order of the log: out of a file, and into a new one.

What an event has in the indexes (the tags of the keys it touches, the tag of its caller's id) can't
be made again without keys, so it travels with the event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import apsw

from statecore.codec import read_epoch
from statecore.codec.cut import is_cut, read_cut
from statecore.database import DATABASE_ERRORS, connect, explain
from statecore.errors import Archived, Damage, StatecoreError
from statecore.recorders.port import EVERYTHING
from statecore.recorders.sqlite.archive import cut_bodies
from statecore.recorders.sqlite.log import KEEP_POSTINGS, POSTINGS, Key
from statecore.recorders.sqlite.order import require_order, require_types
from statecore.recorders.sqlite.reading import StoreFile
from statecore.recorders.sqlite.schema import SCHEMA, TOPIC, create
from statecore.recorders.sqlite.touches import Postings, add_posting, read_postings, versions
from statecore.recorders.sqlite.tree import SqliteTree

_EVENTS: Final = (
    "SELECT position, name, version, topics.topic, CAST(state AS BLOB) FROM events"
    " JOIN streams ON streams.id = stream JOIN topics ON topics.id = events.topic"
    " WHERE position > ? ORDER BY position LIMIT ?"
)
# Only rows that can hold one of the versions asked for: the last one to begin before them, if it
# goes on, and those that begin among them.
_TOUCHES: Final = (
    "SELECT tag, first, count, distances FROM (SELECT tag, first, count, distances,"
    " lead(first) OVER (PARTITION BY tag ORDER BY first) AS next FROM touches"
    " WHERE stream = (SELECT id FROM streams WHERE name = ?1) AND first <= ?3)"
    " WHERE first >= ?2 OR (count > 1 AND (next IS NULL OR next > ?2))"
)
_IDS: Final = (
    "SELECT tag, version FROM ids WHERE stream = (SELECT id FROM streams WHERE name = ?)"
    " AND version BETWEEN ? AND ?"
)
_ROWS: Final = 4096
_POSTINGS_MAX: Final = 200_000
_LOG_EPOCH: Final = 0


_Row: TypeAlias = tuple[int, bytes | str, int, str, bytes]
_TYPES: Final = frozenset((int, name, int, str, bytes) for name in (bytes, str))


class Copied(NamedTuple):
    """An event of any application in the file, with what the indexes say of it."""

    position: int
    stream: bytes | str
    version: int
    topic: str
    stored: bytes
    tags: Sequence[bytes] = ()
    id_tag: bytes | None = None

    @property
    def is_ours(self) -> bool:
        """Whether statecore wrote it."""
        return self.topic == TOPIC


class CopySource:
    """Reads events to be copied, as of when the file was opened."""

    def __init__(self, file: StoreFile) -> None:
        self._all = file.all

    def last_position(self) -> int:
        """Return the position of the last event; 0 for an empty log."""
        last: int = self._all("SELECT coalesce(max(position), 0) FROM events")[0][0]
        return last

    def events_after(self, position: int) -> int:
        """Return how many events there are behind a position."""
        count: int = self._all("SELECT count(*) FROM events WHERE position > ?", (position,))[0][0]
        return count

    def read(self, after: int, events_max: int, bytes_max: int) -> list[Copied]:
        """Return the next events, one at least where there is any."""
        found: list[_Row] = []
        size = 0
        while size < bytes_max and len(found) < events_max:
            limit = min(_ROWS, events_max - len(found))
            rows: list[_Row] = self._all(_EVENTS, (after, limit))
            require_order(rows, after)
            require_types(rows, _TYPES, after)
            found += rows
            size += sum(len(row[4]) for row in rows)
            if len(rows) < limit:
                break
            after = rows[-1][0]
        return self._with_indexes(found)

    def _with_indexes(self, rows: list[_Row]) -> list[Copied]:
        spans: dict[bytes | str, tuple[int, int]] = {}
        for _, stream, version, _, _ in rows:
            first, last = spans.get(stream, (version, version))
            spans[stream] = min(first, version), max(last, version)
        tags: dict[tuple[bytes | str, int], list[bytes]] = defaultdict(list)
        ids: dict[tuple[bytes | str, int], bytes] = {}
        for stream, (first, last) in spans.items():
            for tag, *touches in self._all(_TOUCHES, (stream, first, last)):
                for version in versions(*touches):
                    if first <= version <= last:
                        tags[stream, version].append(tag)
            ids |= {(stream, at): tag for tag, at in self._all(_IDS, (stream, first, last))}
        return [Copied(*row, tags.get(row[1:3], ()), ids.get(row[1:3])) for row in rows]

    def writers(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Return the prefixes of writers, by number; of those that are there."""
        found = {}
        for number in numbers:
            for (prefix,) in self._all("SELECT prefix FROM writers WHERE id = ?", (number,)):
                found[number] = prefix
        return found

    def tracking(self) -> list[tuple[str, int]]:
        """Return how far projections of ``eventsourcing`` have come."""
        return self._all("SELECT application, notification FROM tracking ORDER BY application")


class CopyTarget:
    """A new log's file, filled in one go. It counts once ``finish`` has returned, and not before.

    Nothing is synced on the way: a file that was not finished is to be thrown away.
    """

    def __init__(self, path: Path, log_id: bytes) -> None:
        self.path = path
        self._streams: dict[bytes | str, int] = {}
        self._topics: dict[str, int] = {}
        self._postings: dict[Key, Postings] = {}
        self._has_written_postings = False
        self._cuts: dict[bytes | str, tuple[int, int]] = {}
        self._begun: dict[bytes | str, int] = {}
        try:
            self._database = connect(path, create=True)
            create(self._database, log_id)
            for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "cache_size = -131072"):
                self._database.execute(f"PRAGMA {pragma}")
            # Made again at the end: by then it is sorted once, and not looked up for each event.
            self._database.execute("DROP INDEX events_of_stream")
            self._database.execute("BEGIN")
        except DATABASE_ERRORS as error:
            raise explain(error, path) from error

    @property
    def tree(self) -> SqliteTree:
        """The audit tree, to be kept."""
        return SqliteTree(self._ask, self._database)

    def add(self, events: Sequence[Copied], *, indexed: bool = True) -> None:
        """Add events behind those that are there, with what the indexes say of them, or without.

        Raises:
            Damage: they don't fit those before.
        """
        try:
            rows = [
                (position, self._stream(stream), version, self._topic(topic), stored)
                for position, stream, version, topic, stored, _, _ in events
            ]
            self._database.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", rows)
            if indexed:
                self._index(events)
            if len(self._postings) > _POSTINGS_MAX:
                self._write_postings()
        except (LookupError, ValueError) as error:
            raise Damage(f"an event of the backup does not parse: {error}") from error
        except DATABASE_ERRORS as error:
            raise self._explain(error) from error

    def _index(self, events: Sequence[Copied]) -> None:
        ids = []
        for event in events:
            stream = self._stream(event.stream)
            if event.is_ours and read_epoch(event.stored) == _LOG_EPOCH:
                self._forget(stream)
                self._begun[event.stream] = event.version
                self._cuts.pop(event.stream, None)
            if event.is_ours and is_cut(event.stored):
                _, said_by = self._cuts.get(event.stream, (0, 0))
                said_by = max(said_by, read_cut(event.stored).event)
                self._cuts[event.stream] = event.version, said_by
            for tag in event.tags:
                self._touch((stream, tag), event.version)
            if event.id_tag is not None:
                ids.append((stream, event.id_tag, event.version))
        self._database.executemany("INSERT OR REPLACE INTO ids VALUES (?, ?, ?)", ids)

    def add_writers(self, writers: dict[int, bytes]) -> None:
        """Add the prefixes of writers."""
        sql = "INSERT OR IGNORE INTO writers VALUES (?, ?)"
        self._database.executemany(sql, list(writers.items()))

    def keep_tracking(self, tracking: Sequence[Sequence[Any]]) -> None:
        """Have it say how far projections have come."""
        sql = "INSERT OR REPLACE INTO tracking VALUES (?, ?)"
        self._database.executemany(sql, [tuple(each) for each in tracking])

    def index(self) -> None:
        """Make the indexes: all is there."""
        try:
            self._write_postings()
            self._database.execute(SCHEMA["index events_of_stream"])
        except DATABASE_ERRORS as error:
            raise self._explain(error) from error

    def cut(self, position: int, size: int) -> None:
        """Take off what is behind a position; it was only there to prove what is before.

        Args:
            position: of the last event that stays.
            size: how many leaves of the audit tree stay.
        """
        self._database.execute("DELETE FROM events WHERE position > ?", (position,))
        self._database.execute("DELETE FROM tree WHERE upto > ?", (position,))
        self._database.execute("DELETE FROM links WHERE tile >= ?", (size >> 8,))
        self._database.execute(
            "DELETE FROM streams WHERE id NOT IN (SELECT DISTINCT stream FROM events)"
        )

    def even_out(self) -> None:
        """Have every stream be as it was, where some of its events were archived by the time that
        they were copied, and others before them not yet.

        Raises:
            Archived: the event that says so is not among those that stay.
        """
        for name, (last, said_by) in self._cuts.items():
            stream = self._stream(name)
            sql = "SELECT 1 FROM events WHERE stream = ? AND version = ?"
            if not self._ask(sql, (stream, said_by)):
                raise Archived(
                    "events of that moment were archived before they came into the backup, and "
                    f"version {said_by} of their state says where: restore to a moment after it"
                )
            begins = self._begun.get(name, 0) + 1
            cut_bodies(self._database, stream, begins, last + 1, said_by)

    def streams_among(self, names: Iterable[bytes | str]) -> list[bytes]:
        """Return those of our streams that are there."""
        sql = "SELECT 1 FROM streams WHERE name = ?"
        return [name for name in names if isinstance(name, bytes) and self._ask(sql, (name,))]

    def finish(self) -> None:
        """Make it whole; the file is not synced yet."""
        try:
            self._database.execute("COMMIT")
        except DATABASE_ERRORS as error:
            raise self._explain(error) from error
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file, finished or not."""
        self._database.close()

    def _explain(self, error: apsw.Error | UnicodeDecodeError) -> StatecoreError:
        if isinstance(error, apsw.ConstraintError):
            return Damage("the backup holds two events at one place")
        return explain(error, self.path)

    def _ask(self, sql: str, bindings: tuple[Any, ...]) -> list[Any]:
        return self._database.execute(sql, bindings).fetchall()

    def _stream(self, name: bytes | str) -> int:
        return self._intern(self._streams, "streams", "name", name)

    def _topic(self, topic: str) -> int:
        return self._intern(self._topics, "topics", "topic", topic)

    def _intern(self, known: dict[Any, int], table: str, column: str, name: bytes | str) -> int:
        number = known.get(name)
        if number is None:
            found = self._ask(f"SELECT id FROM {table} WHERE {column} = ?", (name,))
            insert = f"INSERT INTO {table}({column}) VALUES (?) RETURNING id"
            number = known[name] = (found or self._ask(insert, (name,)))[0][0]
        return number

    def _touch(self, key: Key, version: int) -> None:
        known = self._postings.get(key)
        if known is None and self._has_written_postings:
            rows = self._ask(POSTINGS, (*key, EVERYTHING))
            known = read_postings(*rows[0]) if rows else None
        postings = self._postings[key] = add_posting(known, version)
        if known is not None and postings[0] != known[0]:
            self._keep([(key, known)])

    def _forget(self, stream: int) -> None:
        """Drop what indexes say of a stream that was erased: its keys are gone."""
        for key in [key for key in self._postings if key[0] == stream]:
            del self._postings[key]
        for table in ("touches", "ids"):
            self._database.execute(f"DELETE FROM {table} WHERE stream = ?", (stream,))

    def _write_postings(self) -> None:
        self._keep(sorted(self._postings.items()))
        self._postings.clear()
        self._has_written_postings = True

    def _keep(self, rows: Iterable[tuple[Key, Postings]]) -> None:
        kept = [(*key, row[0], row[2], row[3]) for key, row in rows]
        self._database.executemany(KEEP_POSTINGS, kept)
