"""What can be read of a store's file that SQLite can't, or not wholly, read: each page on its own.

All that looks like a row of one of our tables is put down in a database of its own, unproven, with
where it was found. Rows stand twice in a store, more often than not: in a table and in an index, in
the file and in the write-ahead log.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import apsw

from statecore.recorders.sqlite.images import Images
from statecore.recorders.sqlite.pages import (
    INDEX_INNER,
    INDEX_LEAF,
    TABLE_LEAF,
    Load,
    Page,
    Row,
)
from statecore.recorders.sqlite.schema import TOPIC_ID

_LEVELS_MAX: Final = 20  # of a tree of pages; a deeper one is damaged
_SCRATCH: Final = """
    CREATE TABLE found(stream, version, position, home, state, digest,
        UNIQUE(stream, version, position, home, digest));
    CREATE TABLE known(stream, version, position, UNIQUE(stream, version, position));
    CREATE TABLE streams(number, name, UNIQUE(number, name));
    CREATE TABLE writers(number, prefix, UNIQUE(number, prefix));
    CREATE TABLE logs(format, id, UNIQUE(id));
    CREATE TABLE tree(level, number, hash, upto, UNIQUE(level, number));
    CREATE TABLE links(stream, tile, hash, UNIQUE(stream, tile));
    CREATE TABLE heads(size, note, UNIQUE(size));
"""

_TABLES: Final = {"sqlite_autoindex_streams_1": "streams", "sqlite_autoindex_writers_1": "writers"}


class Scan:
    """Reads a store page by page into a scratch database."""

    def __init__(self, path: Path, scratch: apsw.Connection) -> None:
        """Begin.

        Args:
            path: the damaged file, which is only read.
            scratch: an empty database, to be filled.
        """
        self._images = Images(path)
        self._scratch = scratch
        self.is_damaged = False
        """Whether any page is not what it should be."""
        self.homes: dict[int, str] = {}
        """What each page belongs to, as far as the trees of pages can be followed."""

    def run(self) -> None:
        """Read all there is."""
        self._scratch.execute(_SCRATCH)
        self._scratch.execute("BEGIN")
        try:
            self._follow_trees()
            self._take(self._images.current_pages(), self._images.newest)
            if self.is_damaged or self._images.is_cut():
                self.is_damaged = True
                self._take(self._images.current_pages(), self._images.in_store)
                self._take(self._images.older(), self._images.in_store)
                self._take(self._images.older(), self._images.newest)
            self._scratch.execute("COMMIT")
        finally:
            self._images.close()

    def _page(self, number: int, image: bytes) -> Page:
        return Page(number, image, self._images.size)

    def _follow_trees(self) -> None:
        """Find out which table or index each page belongs to."""
        roots: dict[str, int] = {"sqlite_schema": 1}
        self._follow("sqlite_schema", 1)
        for number, home in list(self.homes.items()):
            image = self._images.newest(number) if home == "sqlite_schema" else None
            if image is not None:
                for row in self._page(number, image).rows(self._images.newest)[0]:
                    match row.columns:
                        case (_, str(name), _, int(root), *_):
                            roots[name] = root
        self.is_damaged |= len(roots) == 1
        for name, root in roots.items():
            if name != "sqlite_schema":
                self._follow(name, root)

    def _follow(self, home: str, root: int) -> None:
        level, depth = [root], 0
        while level and depth < _LEVELS_MAX:
            below: list[int] = []
            for number in level:
                image = self._images.newest(number)
                page = self._page(number, image) if image is not None else None
                if page is None or not page.is_tree or number in self.homes:
                    self.is_damaged = True
                    continue
                self.homes[number] = home
                below += page.children()
            level, depth = below, depth + 1

    def _take(self, images: Iterable[tuple[int, bytes]], load: Load) -> None:
        """Put down what rows there are on some images of pages."""
        for number, image in images:
            page = self._page(number, image)
            home = self.homes.get(number, "")
            is_whole = False
            if page.is_tree:
                rows, is_whole = page.rows(load)
                for row in rows:
                    self._put(page.kind, home, row)
                self.is_damaged |= not is_whole
            if not is_whole:
                for row in page.events(load):
                    self._put(TABLE_LEAF, home, row)

    def _put(self, kind: int, home: str, row: Row) -> None:
        """Put a row down as what it looks like."""
        if kind == TABLE_LEAF:
            self._put_row(home, row)
        elif kind in (INDEX_LEAF, INDEX_INNER):
            self._put_entry(home, row.columns)

    def _put_row(self, home: str, row: Row) -> None:
        match row.columns:
            case (None, int(stream), int(version), int(topic), (str() | bytes()) as stored):
                if topic == TOPIC_ID and home in ("events", "snapshots", ""):
                    state = _bytes(stored)
                    digest = blake2b(state, digest_size=16).digest()
                    self._add("found", stream, version, row.number, home, state, digest)
            case (None, bytes(name)) if home in ("streams", "writers", ""):
                self._name(row.number, name, home)
            case (None, bytes(note)) if home == "heads":
                self._add("heads", row.number, note)
            case (int(number), bytes(log_id)) if len(log_id) == 16:
                self._add("logs", number, log_id)

    def _put_entry(self, home: str, columns: tuple[Any, ...]) -> None:
        """Put an entry of an index down, or a row of a table that is one."""
        match columns:
            case (bytes(name), int(number)):
                self._name(number, name, _TABLES.get(home, home))
            case (int(stream), int(version), int(position)) if home == "events_of_stream":
                self._add("known", stream, version, position)
            case (int(level), int(number), bytes(node), int(upto)) if len(node) == 32:
                self._add("tree", level, number, node, upto)
            case (int(stream), int(tile), bytes(link)) if len(link) == 32:
                self._add("links", stream, tile, link)

    def _name(self, number: int, name: bytes, home: str) -> None:
        if len(name) == 16 and home in ("streams", ""):
            self._add("streams", number, name)
        elif len(name) == 12 and home in ("writers", ""):
            self._add("writers", number, name)

    def _add(self, table: str, *row: Any) -> None:
        places = ", ".join("?" * len(row))
        self._scratch.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", row)


def _bytes(stored: str | bytes) -> bytes:
    """Return what SQLite's ``CAST(... AS BLOB)`` does."""
    return stored.encode(errors="surrogateescape") if isinstance(stored, str) else stored
