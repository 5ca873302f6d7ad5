"""Care for a store's file: its indexes and its tree read as they are and replaced, sizes, space."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import apsw

from statecore.database import DATABASE_ERRORS, explain
from statecore.recorders.port import FileSizes, Indexes, Links, Nodes
from statecore.recorders.sqlite.datastore import Datastore
from statecore.recorders.sqlite.indexing import read_indexes, write_indexes

_STREAM_SIZES = """
    SELECT CAST(name AS BLOB), count(*), sum(state >= x'80'), sum(length(state)),
        coalesce((SELECT sum(length(state)) FROM snapshots WHERE snapshots.stream = events.stream),
            0),
        coalesce((SELECT sum(length(distances) + length(tag)) FROM touches
            WHERE touches.stream = events.stream), 0)
    FROM events JOIN streams ON streams.id = events.stream GROUP BY events.stream
"""
_LINKS = (
    "SELECT CAST(name AS BLOB), tile, CAST(hash AS BLOB) FROM links"
    " JOIN streams ON streams.id = stream"
)


class SqliteUpkeep:
    """What a SQLite file is asked and told by those who care for it."""

    def __init__(self, datastore: Datastore) -> None:
        self._datastore = datastore

    def indexes(self, stream: bytes) -> Indexes:
        return read_indexes(self._datastore.all, self._number(stream))

    def snapshots(self, stream: bytes) -> list[tuple[int, bytes]]:
        sql = "SELECT version, CAST(state AS BLOB) FROM snapshots WHERE stream = ? ORDER BY version"
        return self._datastore.all(sql, (self._number(stream),))

    def nodes(self) -> Nodes:
        rows = self._datastore.all("SELECT level, number, CAST(hash AS BLOB), upto FROM tree")
        return {(level, number): (node, upto) for level, number, node, upto in rows}

    def links(self) -> Links:
        return {(stream, tile): link for stream, tile, link in self._datastore.all(_LINKS)}

    @contextmanager
    def mending(self) -> Iterator[SqliteMending]:
        with self._datastore.turn() as writer:
            yield SqliteMending(self._datastore, writer, self._number)

    def sizes(self) -> FileSizes:
        ask = self._datastore.all
        tables = dict(ask("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
        page, free = (ask(f"PRAGMA {each}")[0][0] for each in ("page_size", "freelist_count"))
        streams = {name: tuple(sizes) for name, *sizes in ask(_STREAM_SIZES)}
        return FileSizes(tables, page * free, streams)

    def compact(self) -> tuple[int, int]:
        before = self._bytes()
        self._datastore.acquire()
        try:
            self._datastore.vacuum()
        finally:
            self._datastore.release()
        return before, self._bytes()

    def _bytes(self) -> int:
        path = self._datastore.path
        files = [path, path.with_name(path.name + "-wal")]
        return sum(os.stat(file).st_size for file in files if file.exists())  # noqa: PTH116 - not opened

    def _number(self, stream: bytes) -> int:
        rows = self._datastore.all("SELECT id FROM streams WHERE name = ?", (stream,))
        return rows[0][0] if rows else 0


class SqliteMending:
    """One transaction that replaces what can be made again."""

    def __init__(self, datastore: Datastore, writer: apsw.Connection, number_of: Any) -> None:
        self._datastore = datastore
        self._writer = writer
        self._number_of = number_of

    def indexes(self, stream: bytes, since: int, made: Any) -> None:
        write_indexes(self._writer, self._number_of(stream), made, since)

    def tree(self, nodes: Mapping[tuple[int, int], tuple[bytes, int]], links: Links) -> None:
        write = self._writer
        write.execute("DELETE FROM tree")
        write.execute("DELETE FROM links")
        rows = [(*place, *node) for place, node in nodes.items()]
        write.executemany("INSERT INTO tree VALUES (?, ?, ?, ?)", rows)
        sql = "INSERT INTO links SELECT id, ?, ? FROM streams WHERE name = ?"
        write.executemany(sql, [(tile, link, stream) for (stream, tile), link in links.items()])

    def drop_snapshot(self, stream: bytes, version: int) -> None:
        sql = "DELETE FROM snapshots WHERE stream = ? AND version = ?"
        self._writer.execute(sql, (self._number_of(stream), version))

    def commit(self) -> None:
        try:
            # What is known of it in this process, too, may be of what was wrong.
            self._datastore.commit(is_own=False)
        except DATABASE_ERRORS as error:
            raise explain(error, self._datastore.path) from error
