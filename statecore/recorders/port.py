"""The port between the engine and whatever holds the log.

The engine asks little: append rows whose versions are contiguous, read them back in order, notice
that others wrote. What else a store can keep beside the log (the key history, snapshots, ids)
only makes answers faster; one that can't says so and the engine does without.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol, Self, TypeAlias

from statecore.errors import DamagedRecord

Row: TypeAlias = tuple[int, int, bytes]
"""A stored event of one stream: version, position in the log, stored bytes."""

LogRow: TypeAlias = tuple[int, bytes, int, bytes]
"""A stored event of any stream: position in the log, stream, version, stored bytes."""

EVERYTHING: Final = (1 << 63) - 1


def last_of(versions: Sequence[int], at: int) -> tuple[int, int]:
    """Return the last of ascending versions up to ``at``, 0 for none, and until when it is."""
    place = bisect_right(versions, at)
    until = versions[place] - 1 if place < len(versions) else at
    return (versions[place - 1] if place else 0), until


class KeptTree(Protocol):
    """The part of the audit tree that is kept beside the log. What is kept counts with the turn.

    Levels count tiles: at level 1 stand the roots of each 256 leaves, at level 2 of each 256 of
    those. A position stands for the last leaf up to it.
    """

    def rows(self, after: int, limit: int) -> list[LogRow]:
        """Return events of the whole log, as ``LogStore.read_log`` does."""

    def missing(self, after: int, before: int) -> int:
        """Return how many positions between two hold no event, not even another application's; 0
        where positions may be skipped."""

    def last(self) -> tuple[int, int]:
        """Return how many tiles of leaves are full and kept, and the position of their last."""

    def hashes(self, level: int, first: int, count: int) -> list[bytes]:
        """Return the nodes there are of so many numbers in a row."""

    def nodes(self) -> int:
        """Return how many nodes are kept, of all levels."""

    def upto(self, tile: int) -> int:
        """Return the position of the last leaf of a tile; 0 of none."""

    def link(self, stream: bytes, tile: int) -> bytes | None:
        """Return the last leaf hash of a stream before a tile, where there is any."""

    def links_before(self, tile: int, streams: Collection[bytes]) -> dict[bytes, bytes]:
        """Return what ``link`` does for many streams at once, of those that have any."""

    def links(self, stream: bytes) -> list[tuple[int, bytes]]:
        """Return the last leaf hash of a stream in each tile that has any, by tile."""

    def keep(self, level: int, number: int, node: bytes, upto: int) -> None:
        """Keep a node, and the position of the last leaf under it."""

    def keep_links(self, tile: int, links: dict[bytes, bytes]) -> None:
        """Keep the last leaf hash in a tile of each stream that has any there."""

    def heads(self, since: int = 0) -> list[tuple[int, bytes]]:
        """Return signed heads by the size of their trees, the smallest first."""

    def last_head(self) -> tuple[int, bytes] | None:
        """Return the signed head of the largest tree."""

    def keep_head(self, size: int, note: bytes) -> None:
        """Keep a signed head."""

    def drop_head(self, size: int) -> None:
        """Drop a signed head."""


class Turn(Protocol):
    """One transaction of the only writer. What it appends is durable once the turn has ended."""

    freshness: int
    """The log's freshness, which can't change while this is the turn."""

    @property
    def tree(self) -> KeptTree | None:
        """The audit tree, to be kept; ``None`` where the log keeps nothing of it."""

    def append(
        self,
        stream: bytes,
        version: int,
        stored: bytes,
        tags: Sequence[bytes],
        id_tag: bytes | None,
    ) -> None:
        """Append an event to the end of its stream.

        Args:
            stream: 16 bytes.
            version: the stream's version plus one; a new stream may begin at any.
            stored: the event.
            tags: the tags of the keys it touches, for the key history.
            id_tag: the tag of an id that its caller chose, to be found again.
        """

    def register_writer(self, prefix: bytes) -> int | None:
        """Keep a writer's nonce prefix and return its number; ``None`` where none is kept."""

    def keep_snapshot(self, stream: bytes, version: int, stored: bytes) -> None:
        """Keep a snapshot, unless there is one of this version."""

    def drop_derived(self, stream: bytes) -> None:
        """Drop what is kept of a stream beside its events: snapshots, key history, ids."""

    def cut(self, stream: bytes, begins: int, span: tuple[int, int], event: int) -> None:
        """Cut the bodies of a stream's events, which are in an archive, and older snapshots.

        Args:
            stream: 16 bytes.
            begins: the version that the stream begins with, which names the last such event.
            span: from which version, before which.
            event: the version of the event that says so, to be appended in this turn.

        Raises:
            InputError: this log can't.
            WrongExpectedVersion: one of them was cut already.
        """

    def commit(self) -> set[bytes]:
        """Make it all durable; return the streams appended to.

        A stream that another writer was faster in is left out: nothing of it was written. Where the
        log keeps a history and the id of an event is there already, nothing is written at all.
        """

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(self, *exception: object) -> None:
        """End; what was not committed is not written."""


def row_of(log: LogStore, stream: bytes, version: int) -> Row:
    """Return the row of a version that must be there.

    Raises:
        DamagedRecord: it is not.
    """
    rows = log.read(stream, version - 1, version)
    if not rows:
        raise DamagedRecord(f"version {version} is missing")
    return rows[0]


class KeptHistory(Protocol):
    """Indexes kept in the same transactions as the events."""

    def touched(self, stream: bytes, tag: bytes, after: int, until: int) -> list[int]:
        """Return the versions that touched a key, oldest first."""

    def last_touched(self, stream: bytes, tag: bytes, at: int) -> tuple[int, int]:
        """Return the last version up to ``at`` that touched a key, 0 for none, and a version from
        ``at`` on until which it certainly is the last."""

    def find_id(self, stream: bytes, id_tag: bytes) -> int:
        """Return the version of the event with an id; 0 for none."""


class Indexes(NamedTuple):
    """The rows of the indexes of one stream."""

    touches: dict[tuple[bytes, int], tuple[int, bytes]]
    """By tag and first version: how many versions touched the key, and the distances between."""
    ids: dict[bytes, int]
    """The versions of events by the tags of their ids."""


Nodes: TypeAlias = dict[tuple[int, int], tuple[bytes, int]]
"""Of the audit tree, by level and number: the node, and the position of the last leaf under it."""

Links: TypeAlias = dict[tuple[bytes, int], bytes]
"""Of the audit tree, by stream and tile: the last leaf hash of the stream in the tile."""


class FileSizes(NamedTuple):
    """What takes how many bytes in a log's file."""

    tables: dict[str, int]
    free: int
    """In pages that are not used."""
    streams: dict[bytes, tuple[int, ...]]
    """Of each stream: how many events, how many of them archived, and bytes of events, of
    snapshots, of the key history."""


class Mending(Protocol):
    """One transaction that replaces what can be made again of the log."""

    def indexes(self, stream: bytes, since: int, made: Indexes) -> None:
        """Replace the rows of a stream's indexes from a version on."""

    def tree(self, nodes: Nodes, links: Links) -> None:
        """Replace what is kept of the audit tree, but not the heads."""

    def drop_snapshot(self, stream: bytes, version: int) -> None:
        """Drop a snapshot."""

    def commit(self) -> None:
        """Make it durable; without, nothing is changed."""


class Upkeep(Protocol):
    """What a log's file is asked and told by those who care for it."""

    def indexes(self, stream: bytes) -> Indexes:
        """Return the rows of a stream's indexes."""

    def snapshots(self, stream: bytes) -> list[tuple[int, bytes]]:
        """Return a stream's snapshots by version, the oldest first."""

    def nodes(self) -> Nodes:
        """Return the kept nodes of the audit tree."""

    def links(self) -> Links:
        """Return the kept links of the audit tree."""

    def mending(self) -> AbstractContextManager[Mending]:
        """Be the only writer, and replace what can be made again."""

    def sizes(self) -> FileSizes:
        """Return what takes how many bytes."""

    def compact(self) -> tuple[int, int]:
        """Give back what space is not used; return the bytes before and after."""


class LogStore(Protocol):
    """Holds one log: streams of events in one order. Safe to use from any thread.

    Not promised: that positions have no gaps.
    """

    log_id: bytes

    @property
    def history(self) -> KeptHistory | None:
        """The indexes it keeps beside the log; without, the engine keeps them in memory."""

    @property
    def tree(self) -> KeptTree | None:
        """What it keeps of the audit tree, to be read; ``None`` where it keeps nothing."""

    @property
    def upkeep(self) -> Upkeep | None:
        """What cares for its file; ``None`` where it has none."""

    on_commit: Callable[[KeptTree, int], None] | None
    """Called within each turn that appended, once all is written and before it is durable, with
    the tree, to be kept, and the position of the last event. Only where there is a tree."""

    def hold(self) -> AbstractContextManager[None]:
        """Keep other processes from taking turns, over several of one's own."""

    def turn(self, *, wait: bool = True) -> Turn:
        """Return the only writer's next turn, to be entered.

        Raises, on entering:
            StoreBusy: somebody else has the turn, and ``wait`` is false.
        """

    def freshness(self) -> int:
        """Return a number that stays the same while nobody else appends; negative when in doubt."""

    def prefix_of(self, number: int) -> bytes | None:
        """Return the nonce prefix of the writer of a number."""

    def version(self, stream: bytes) -> int:
        """Return the version of a stream; 0 where there is none."""

    def last_position(self) -> int:
        """Return the position of the last event; 0 for an empty log."""

    def read(
        self,
        stream: bytes,
        after: int,
        until: int = EVERYTHING,
        limit: int = -1,
        *,
        back: bool = False,
    ) -> list[Row]:
        """Return events of a stream, ``after`` exclusive, ``until`` inclusive, oldest first.

        ``back`` gives the newest first, and so the newest ``limit`` of them.
        """

    def read_log(self, after: int, limit: int) -> list[LogRow]:
        """Return events of the whole log in its order, ``after`` exclusive."""

    def streams(self) -> list[bytes]:
        """Return every stream, oldest first."""

    def snapshot(self, stream: bytes, until: int) -> tuple[int, bytes] | None:
        """Return the latest snapshot of a stream up to a version, where any is kept."""

    def subscribe(self, notify: Callable[[], None]) -> Callable[[], None]:
        """Call ``notify``, from any thread, after appends: at once after those of this process,
        within 50 ms after those of others; return what ends it."""

    def size_bytes(self) -> dict[str, int]:
        """Return the bytes each file takes, by name."""

    def close(self) -> None:
        """Let go of everything. Closing twice is fine."""
