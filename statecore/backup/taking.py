"""A backup taken: what is new in a store's file, as segments, while others go on writing to it.

Needs no key. What is read is hashed as it is read and held against the audit tree that the store
keeps, so that damage is not carried off as if it were whole; and what was written is read back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from statecore.backup.chain import Backup, Listing
from statecore.backup.destination import Destination
from statecore.backup.leaves import Leaves
from statecore.backup.segment import (
    BYTES_MAX,
    EVENTS_MAX,
    Content,
    Extent,
    head_name,
    write_segment,
    writers_of,
)
from statecore.codec import read_time
from statecore.errors import Damage, InputError
from statecore.projections.audit_tree import TILE_LEAVES, AuditTree, link_up
from statecore.recorders import KeptTree
from statecore.recorders.sqlite.copying import Copied, CopySource
from statecore.recorders.sqlite.reading import StoreFile
from statecore.transparency.merkle import EMPTY_ROOT, Frontier, covering

Progress = Callable[[int, int], None]
"""Told how many events are done, of how many."""

_EARLIEST: Final = 0


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What a backup came to."""

    events: int
    """Events that were new."""
    segments: int
    """Segments that were made of them."""
    bytes: int
    """Bytes of those."""
    position: int
    """The position of the last event in the backup."""
    size: int
    """Events in the audit tree up to there."""
    signed: int
    """How many of those the last signed head covers."""
    last_time: int
    """When the last event was recorded, in microseconds since 1970, UTC."""


def take(
    path: Path,
    place: str | Path | Destination,
    *,
    on_progress: Progress = lambda _, __: None,
    events_max: int = EVENTS_MAX,
) -> BackupResult:
    """Bring to a destination what is new in a store's file as of now; go on where one ended.

    Each segment is durable, and was read back, before the next one is begun: a backup that was
    interrupted is one that holds less. Two at once to one destination do no harm.

    Raises:
        StoreNotFound, ForeignSchema, NewerFormat: there is no store.
        InputError: the destination holds the backup of another store, or of another history; or
            there is no backup, but something else.
        Damage: events are not those that the store's audit tree was made of; or the destination's
            last segment is not whole.
        StoreFull, StoreReadOnly, StoreFailure, StoreUnsupported: it can't be written there.
    """
    backup = Backup(place)
    file = StoreFile(path)
    try:
        return _Taking(file, backup, events_max).run(on_progress)
    finally:
        file.close()


class _Taking:
    def __init__(self, file: StoreFile, backup: Backup, events_max: int) -> None:
        self._file = file
        self._source = CopySource(file)
        self._backup = backup
        self._events_max = events_max
        self._heads = dict(file.tree.heads())

    def run(self, on_progress: Progress) -> BackupResult:
        """Take what is new."""
        listing = self._backup.listing()
        extent = self._go_on(listing)
        total, events, segments, size = self._source.events_after(extent.last), 0, 0, 0
        check = _Check(self._file.tree, extent) if total else None
        while check is not None and events < total:
            found = self._source.read(extent.last, self._events_max, BYTES_MAX)
            if not found:
                break
            extent, data = self._segment(extent, found, check)
            self._put(extent, data)
            events, segments, size = events + len(found), segments + 1, size + len(data)
            on_progress(events, total)
        signed = self._keep_head(extent.size, listing)
        return BackupResult(
            events, segments, size, extent.last, extent.size, signed, extent.last_time
        )

    def _go_on(self, listing: Listing) -> Extent:
        """Return the extent to go on from, which must be of this log."""
        extent = self._backup.last_extent(listing, self._file.log_id)
        if extent is None:
            self._backup.require_free()
            return _nothing(self._file.log_id)
        view = AuditTree(self._file.tree)
        if (
            extent.last > self._source.last_position()
            or extent.size > view.size()
            or view.root(extent.size) != extent.root
        ):
            raise InputError(
                f"{self._backup} has {extent.size:,} events that the store does not go on from: "
                "the store went back, or is another copy of it; take another destination"
            )
        return extent

    def _segment(self, before: Extent, events: list[Copied], check: _Check) -> tuple[Extent, bytes]:
        """Return the next segment."""
        ours = [event for event in events if event.is_ours]
        root = check.take(events)
        extent = Extent(
            log_id=before.log_id,
            after=before.last,
            last=events[-1].position,
            size_before=before.size,
            size=before.size + len(ours),
            first_time=read_time(ours[0].stored) if ours else before.last_time,
            last_time=read_time(ours[-1].stored) if ours else before.last_time,
            root_before=before.root,
            root=root,
        )
        heads = [
            (size, self._heads[size])
            for size in sorted(self._heads)
            if extent.size_before < size <= extent.size
        ]
        writers = self._source.writers(writers_of(events))
        content = Content(events, writers, heads, self._source.tracking())
        return extent, write_segment(extent, content)

    def _put(self, extent: Extent, data: bytes) -> None:
        """Make a segment's file, unless somebody who was faster did, and read it back."""
        name = str(extent.name)
        destination = self._backup.destination
        if destination.create(name, data) and destination.read(name) == data:
            return
        # Not every store that says it makes a file once does so when two ask at the same moment:
        # then it is somebody else's that is there, which is as good if it is whole and the same.
        there, _ = self._backup.read(extent.name)
        if there != extent:
            raise InputError(f"{self._backup}: {name} is there already, of another history")

    def _keep_head(self, size: int, listing: Listing) -> int:
        """Keep the last head that the backup has the events of; return how many it covers."""
        signed = max((head for head in self._heads if head <= size), default=_EARLIEST)
        if signed and signed not in listing.heads:
            self._backup.destination.create(head_name(signed), self._heads[signed])
        return signed


class _Check:
    """Hashes what is read, from some size of the tree on, and holds it against the tree."""

    def __init__(self, tree: KeptTree, extent: Extent) -> None:
        self._kept = tree
        view = AuditTree(tree)
        nodes = [view.hash_at(*node) for node in covering(0, extent.size)]
        tile, begun = divmod(extent.size, TILE_LEAVES)
        links: dict[bytes, bytes] = {}
        link_up(view.rows(tile)[:begun], links, tree, tile)
        self._leaves = Leaves(
            Frontier(extent.size, nodes),
            lambda stream: links.get(stream) or tree.link(stream, tile),
        )

    def take(self, events: list[Copied]) -> bytes:
        """Return the root of the tree after more events.

        Raises:
            Damage: it is not the one that the store keeps.
        """
        self._leaves.take(events)
        size, root = self._leaves.frontier.size, self._leaves.frontier.root()
        view = AuditTree(self._kept)
        if size > view.size():
            raise InputError("the store's audit tree is not kept up to its end: open it once")
        if view.root(size) != root:
            raise Damage(
                f"some event up to position {events[-1].position:,} is not what the store's audit "
                "tree was made of: `statecore verify` says which"
            )
        return root


def _nothing(log_id: bytes) -> Extent:
    """Return the extent before the first event."""
    return Extent(log_id, 0, 0, 0, 0, 0, 0, EMPTY_ROOT, EMPTY_ROOT)


def lag(path: Path, position: int, now: int) -> tuple[int, float]:
    """Return how many events a backup is behind its store, and how many seconds.

    Args:
        path: the store.
        position: up to which the backup reaches.
        now: microseconds since 1970, UTC.
    """
    file = StoreFile(path)
    try:
        source = CopySource(file)
        behind = source.events_after(position)
        if not behind:
            return 0, 0.0
        first = next(_ours(source, position), None)
    finally:
        file.close()
    since = read_time(first.stored) if first else now
    return behind, max(0, now - since) / 1e6


def _ours(source: CopySource, after: int) -> Iterator[Copied]:
    yield from (event for event in source.read(after, 1, 1) if event.is_ours)
