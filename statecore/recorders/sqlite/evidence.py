"""What a scan found of a log, put in order: candidates for its events, and what speaks for them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

import apsw

from statecore.errors import InputError
from statecore.recorders.sqlite.schema import FORMAT
from statecore.transparency.checkpoint import parse_checkpoint
from statecore.transparency.note import parse_note

_CANDIDATES: Final = (
    "SELECT stream, version, position, state FROM found WHERE home IN ('events', '')"
    " ORDER BY stream, version, home = '', rowid"
)
_SNAPSHOTS: Final = (
    "SELECT stream, version, position, state, home FROM found WHERE home IN ('snapshots', '')"
    " ORDER BY stream, version, home = '', rowid"
)
_CHOSEN: Final = """
    CREATE TABLE chosen(position INTEGER PRIMARY KEY, stream, name, version, state, proof, time,
        UNIQUE(stream, version))
"""


class Candidate(NamedTuple):
    """What may be an event."""

    stream: int
    version: int
    position: int
    state: bytes


class Kept(NamedTuple):
    """An event that is kept, and what it is proven by."""

    position: int
    stream: int
    name: bytes
    version: int
    state: bytes
    proof: str


class Evidence:
    """Questions of what a scan put down, and the events chosen from it."""

    def __init__(self, scratch: apsw.Connection) -> None:
        self._scratch = scratch
        scratch.execute(_CHOSEN)

    def log_ids(self) -> list[bytes]:
        """Return what may be the log's id, the likeliest first."""
        ids = self._all("SELECT id FROM logs ORDER BY format != ?, rowid", FORMAT)
        found = [each for (each,) in ids]
        for _, note in self.heads():
            try:
                origin = parse_checkpoint(parse_note(note).text).origin
                found.append(bytes.fromhex(origin.rpartition("/")[2]))
            except (InputError, ValueError):
                continue
        return [each for each in dict.fromkeys(found) if len(each) == 16]

    def formats(self) -> list[int]:
        """Return the formats that the log says it has."""
        return [number for (number,) in self._all("SELECT DISTINCT format FROM logs")]

    def names(self) -> dict[int, list[bytes]]:
        """Return what may be the name of each stream, by its number."""
        names: dict[int, list[bytes]] = {}
        for number, name in self._all("SELECT number, name FROM streams ORDER BY rowid"):
            names.setdefault(number, []).append(name)
        return names

    def prefixes(self) -> dict[int, list[bytes]]:
        """Return what may be the prefix of each writer, by its number."""
        prefixes: dict[int, list[bytes]] = {}
        for number, prefix in self._all("SELECT number, prefix FROM writers ORDER BY rowid"):
            prefixes.setdefault(number, []).append(prefix)
        return prefixes

    def heads(self) -> list[tuple[int, bytes]]:
        """Return the signed heads, the smallest first."""
        return self._all("SELECT size, note FROM heads ORDER BY size")

    def candidates(self) -> Iterator[list[Candidate]]:
        """Yield what may be the event of a version, the likeliest first, for each version."""
        rows = self._scratch.cursor().execute(_CANDIDATES)
        for _, group in groupby(rows, itemgetter(0, 1)):
            yield [Candidate(*row) for row in group]

    def snapshots(self) -> Iterator[tuple[int, int, int, bytes, str]]:
        """Yield what may be a snapshot: stream, version, number, bytes, and whether it was found
        among the snapshots."""
        yield from self._scratch.cursor().execute(_SNAPSHOTS)

    def is_known(self, candidate: Candidate) -> bool:
        """Tell whether the index of events knows it."""
        sql = "SELECT 1 FROM known WHERE stream = ? AND version = ? AND position = ?"
        return bool(self._all(sql, *candidate[:3]))

    def was_among_events(self, candidate: Candidate) -> bool:
        """Tell whether it was found on a page that belongs to the events."""
        sql = (
            "SELECT 1 FROM found WHERE stream = ? AND version = ? AND position = ?"
            " AND state = ? AND home = 'events'"
        )
        return bool(self._all(sql, *candidate))

    def choose(self, kept: Kept, time: int) -> bool:
        """Take an event for the one of its version; tell whether nothing else has its place."""
        sql = "INSERT OR IGNORE INTO chosen VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._scratch.execute(sql, (*kept[:5], kept.proof, time))
        return self._scratch.changes() > 0

    def promote(self, positions: list[int], proof: str) -> None:
        """Note what events are proven by, where nothing better is known."""
        self._scratch.executemany(
            "UPDATE chosen SET proof = ? WHERE position = ? AND proof = 'unproven'",
            [(proof, position) for position in positions],
        )

    def drop(self, positions: list[int]) -> None:
        """Take back what is refuted, but not what a seal proves."""
        self._scratch.executemany(
            "DELETE FROM chosen WHERE position = ? AND proof != 'seal'",
            [(position,) for position in positions],
        )

    def drop_unproven(self, streams: set[int]) -> int:
        """Take back what is proven by nothing, of some streams; return how many events.

        What is left of an archived event stays: its seal is elsewhere.
        """
        before = self.count()
        self._scratch.executemany(
            "DELETE FROM chosen WHERE stream = ? AND proof = 'unproven' AND state < x'80'",
            [(number,) for number in streams],
        )
        return before - self.count()

    def drop_from(self, stream: int, version: int) -> None:
        """Take back all of a stream from a version on."""
        sql = "DELETE FROM chosen WHERE stream = ? AND version >= ?"
        self._scratch.execute(sql, (stream, version))

    def count(self) -> int:
        """Return how many events are chosen."""
        return int(self._all("SELECT count(*) FROM chosen")[0][0])

    def chosen(self, after: int = 0, until: int = (1 << 63) - 1) -> Iterator[Kept]:
        """Yield what was chosen, in the order of positions."""
        sql = (
            "SELECT position, stream, name, version, state, proof FROM chosen"
            " WHERE position > ? AND position <= ? ORDER BY position"
        )
        for row in self._scratch.cursor().execute(sql, (after, until)):
            yield Kept(*row)

    def tiles(self) -> dict[int, tuple[bytes, int]]:
        """Return what was kept of the tree: node and last position of each full tile."""
        rows = self._all("SELECT number, hash, upto FROM tree WHERE level = 1")
        return {number: (node, upto) for number, node, upto in rows}

    def link(self, stream: int, tile: int) -> bytes | None:
        """Return the last leaf hash of a stream in a tile."""
        rows = self._all("SELECT hash FROM links WHERE stream = ? AND tile = ?", stream, tile)
        return rows[0][0] if rows else None

    def link_before(self, stream: int, tile: int) -> bytes | None:
        """Return the last leaf hash of a stream that was kept of the tiles before one."""
        sql = "SELECT hash FROM links WHERE stream = ? AND tile < ? ORDER BY tile DESC LIMIT 1"
        rows = self._all(sql, stream, tile)
        return rows[0][0] if rows else None

    def places(self) -> list[tuple[int, int, int, int | None, str]]:
        """Return stream, version, position, time and proof of what was chosen, and, without a time,
        of what the index of events knows and was not found; in the order of versions."""
        return self._all(
            "SELECT stream, version, position, time, proof FROM chosen UNION ALL"
            " SELECT stream, version, position, NULL, '' FROM known WHERE NOT EXISTS (SELECT 1 FROM"
            " chosen WHERE chosen.stream = known.stream AND chosen.version = known.version)"
            " ORDER BY 1, 2"
        )

    def _all(self, sql: str, *bindings: Any) -> list[Any]:
        return self._scratch.execute(sql, bindings).fetchall()
