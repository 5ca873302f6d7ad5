"""A backup tidied: small segments made into larger ones, and what nothing needs any more removed.

Every event stays: each is part of what the states are now, so that no point of the backup is lost
by it. A larger segment is there, and was read back, before those it was made of are removed, so it
may be interrupted at any moment, and taken up again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from statecore.backup.chain import Backup, Listing, require_chained
from statecore.backup.destination import Destination
from statecore.backup.segment import (
    BYTES_MAX,
    EVENTS_MAX,
    Content,
    Extent,
    Name,
    head_name,
    write_segment,
)
from statecore.errors import InputError, StoreFailure

HEAD_EVENTS: Final = 1024  # heads at multiples of it are kept, as a store keeps them
SEGMENTS_KEPT: Final = 1
HEADS_KEPT: Final = 100


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What was done, or would be."""

    merged: int
    """Segments that were made into larger ones."""
    made: int
    """How many larger ones those are."""
    removed: list[str]
    """Files that were removed, the merged ones included."""
    bytes_freed: int
    """Bytes of those files; what was made of them is not taken off."""


def prune_backup(
    place: str | Path | Destination,
    *,
    keep_segments: int = SEGMENTS_KEPT,
    keep_heads: int = HEADS_KEPT,
    dry_run: bool = False,
) -> PruneResult:
    """Tidy a backup. Backups may be taken meanwhile; restoring from it may have to begin anew.

    Args:
        place: where the backup lies.
        keep_segments: how many of the newest segments are left as they are, at least one.
        keep_heads: how many of the newest signed heads stay in files of their own; the segments
            have those at each 1,024 events anyway.
        dry_run: only say what would be done.

    Raises:
        NotFound: there is no backup.
        InputError: less than one is to be kept.
        Damage: a segment is not whole, or does not fit those around it. Nothing it is part of was
            removed.
        StoreFull, StoreReadOnly, StoreFailure: a file can't be made or removed.
    """
    if keep_segments < 1 or keep_heads < 1:
        raise InputError("at least one segment and one head are kept")
    backup = Backup(place)
    listing = backup.require_listing()
    chain = listing.chain
    merging = groups([(name, *_weight(backup, listing, name)) for name in chain[:-keep_segments]])
    merged = [_merge(backup, group, dry_run=dry_run) for group in merging]
    parts = [name for group in merging for name in group]
    spare = [name for name in listing.segments if name not in chain and name.last <= listing.end]
    for name in chain if spare else ():
        if name not in parts:
            backup.read(name)  # what others are left out for must be whole
    useless = [
        *map(str, [*parts, *spare]),
        *map(head_name, listing.heads[:-keep_heads]),
        *backup.destination.leftovers(),
    ]
    if not dry_run:
        for file in useless:
            backup.destination.remove(file)
    freed = sum(listing.sizes.get(file, 0) for file in useless)
    return PruneResult(len(parts), len(merged), useless, freed)


def _weight(backup: Backup, listing: Listing, name: Name) -> tuple[int, int]:
    """Return the events and the bytes of a segment."""
    extent = backup.extent(name)
    return extent.size - extent.size_before, listing.sizes[str(name)]


def groups(segments: Sequence[tuple[Name, int, int]]) -> list[list[Name]]:
    """Return which segments in a row are to be made into one: two or more, up to a size.

    Args:
        segments: each with its events and its bytes.
    """
    found: list[list[Name]] = []
    events_in, bytes_in = EVENTS_MAX, BYTES_MAX
    for name, events, size in segments:
        if events_in + events > EVENTS_MAX or bytes_in + size > BYTES_MAX:
            found.append([])
            events_in = bytes_in = 0
        found[-1].append(name)
        events_in, bytes_in = events_in + events, bytes_in + size
    return [group for group in found if len(group) > 1]


def _merge(backup: Backup, group: Sequence[Name], *, dry_run: bool) -> Extent:
    """Make a segment of several."""
    read = [backup.read(name) for name in group]
    for (before, _), (extent, _) in pairwise(read):
        require_chained(before, extent)
    first, last = read[0][0], read[-1][0]
    extent = replace(
        last,
        after=first.after,
        size_before=first.size_before,
        first_time=first.first_time,
        root_before=first.root_before,
    )
    if dry_run:
        return extent
    name, data = str(extent.name), write_segment(extent, join([content for _, content in read]))
    destination = backup.destination
    if destination.create(name, data) and destination.read(name) != data:
        raise StoreFailure(f"{backup}: what was written to {name} reads otherwise")
    backup.read(extent.name)  # whoever made it, it is whole
    return extent


def join(contents: Sequence[Content]) -> Content:
    """Return the contents of segments in a row as that of one."""
    heads = sorted(head for content in contents for head in content.heads)
    return Content(
        events=[event for content in contents for event in content.events],
        writers={number: of for content in contents for number, of in content.writers.items()},
        heads=[head for head in heads if not head[0] % HEAD_EVENTS or head == heads[-1]],
        tracking=contents[-1].tracking,
    )
