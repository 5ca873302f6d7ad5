"""The segments that lie in a destination, and the chain they make from the first event on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from statecore.backup.destination import Destination, destination_of
from statecore.backup.segment import (
    PREFIX_BYTES,
    Content,
    Extent,
    Name,
    head_name,
    parse_name,
    read_extent,
    read_segment,
)
from statecore.errors import Damage, InputError, NotFound

_HEAD: Final = ".head"


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a destination, by name."""

    sizes: dict[str, int]
    segments: list[Name]
    heads: list[int]
    """The sizes of the trees that signed heads lie there of, the smallest first."""

    @property
    def chain(self) -> list[Name]:
        """The fewest segments that lead from the first event to the furthest one."""
        return chain_of(self.segments)

    @property
    def behind(self) -> list[Name]:
        """Segments that no others lead to: some before them are missing."""
        end = self.end
        return [name for name in self.segments if name.last > end]

    @property
    def end(self) -> int:
        """The position that the chain comes to; 0 where nothing is there."""
        chain = self.chain
        return chain[-1].last if chain else 0


def chain_of(names: Iterable[Name]) -> list[Name]:
    """Return the fewest segments that lead from position 0 as far as any do, in order."""
    reached: dict[int, tuple[int, Name | None]] = {0: (0, None)}
    for name in sorted(names):  # each leads further than it begins, so this order is enough
        if name.after in reached:
            steps = reached[name.after][0] + 1
            if name.last not in reached or steps < reached[name.last][0]:
                reached[name.last] = steps, name
    chain = []
    last = reached[max(reached)][1]
    while last is not None:
        chain.append(last)
        last = reached[last.after][1]
    return chain[::-1]


class Backup:
    """A backup in a destination, to be read."""

    def __init__(self, place: str | Path | Destination) -> None:
        self.destination: Destination = (
            destination_of(place) if isinstance(place, str | Path) else place
        )

    def __str__(self) -> str:
        return str(self.destination)

    def listing(self) -> Listing:
        """Return what lies there now."""
        sizes = self.destination.sizes()
        found = [name for text in sizes if (name := parse_name(text)) is not None]
        heads = [text.removesuffix(_HEAD) for text in sizes if text.endswith(_HEAD)]
        known = sorted(int(text) for text in heads if text.isdecimal() and len(text) == 20)
        return Listing(sizes, sorted(found), known)

    def require_listing(self) -> Listing:
        """Return what lies there.

        Raises:
            NotFound: there is no backup.
        """
        listing = self.listing()
        if not listing.segments:
            raise NotFound(f"there is no backup at {self}")
        return listing

    def require_free(self) -> None:
        """Refuse a destination where others keep something; one where a backup begins is free.

        Raises:
            InputError: names what lies there.
        """
        for name in sorted(self.destination.names()):
            if parse_name(name) is None and not name.endswith(_HEAD):
                raise InputError(
                    f"{self} is not empty, and holds no backup, but {name}: take another folder"
                )

    def last_extent(self, listing: Listing, log_id: bytes) -> Extent | None:
        """Return what the chain comes to, unproven; nothing where no event was brought there.

        Raises:
            InputError: it is of another log.
            Damage: its first segment is missing, or the last one is none.
        """
        if not listing.chain:
            if listing.segments:
                raise Damage(f"{self} lacks its first segment: `backup verify` tells more")
            return None
        extent = self.extent(listing.chain[-1])
        if extent.log_id != log_id:
            raise InputError(f"{self} holds the backup of another store")
        return extent

    def position(self, log_id: bytes) -> int:
        """Return up to which position of its log it reaches, unproven; see ``last_extent``."""
        extent = self.last_extent(self.listing(), log_id)
        return extent.last if extent else 0

    def extent(self, name: Name) -> Extent:
        """Return what a segment says of itself, unproven.

        Raises:
            Damage: it is none, or another one than its name says.
        """
        extent = _named(name, self.destination.read(str(name), PREFIX_BYTES), read_extent)
        return _require_name(name, extent)

    def read(self, name: Name) -> tuple[Extent, Content]:
        """Return a segment, whole.

        Raises:
            Damage: it is none, not as it was written, or another one than its name says.
        """
        extent, content = _named(name, self.destination.read(str(name)), read_segment)
        _require_name(name, extent)
        return extent, content

    def head(self, size: int) -> bytes:
        """Return a signed head that lies there."""
        return self.destination.read(head_name(size))

    def segments(self, listing: Listing | None = None) -> Iterator[tuple[Extent, Content]]:
        """Yield the chain, each segment whole and going on from the one before.

        Raises:
            Damage: one is not as it was written, or does not go on from the one before.
        """
        before: Extent | None = None
        chain = (listing or self.require_listing()).chain
        if not chain:
            raise Damage(f"{self} lacks its first segment")
        for name in chain:
            extent, content = self.read(name)
            require_chained(before, extent)
            yield extent, content
            before = extent


def require_chained(before: Extent | None, extent: Extent) -> None:
    """Refuse a segment that does not go on from the one before it.

    Raises:
        Damage: it is of another log, or of another history of it.
    """
    where = f"the segment {extent.name}"
    if before is None:
        if extent.after or extent.size_before:
            raise Damage(f"{where} is not the first one")
        return
    if extent.log_id != before.log_id:
        raise Damage(f"{where} is of another store, {extent.log_id.hex()}")
    if (extent.size_before, extent.root_before) != (before.size, before.root):
        raise Damage(f"{where} does not go on from {before.name}: it is of another history")


def _require_name(name: Name, extent: Extent) -> Extent:
    if extent.name != name:
        raise Damage(f"the segment {name} is {extent.name}: it was moved or copied there")
    return extent


_Found = TypeVar("_Found")


def _named(name: Name, data: bytes, read: Callable[[bytes], _Found]) -> _Found:
    try:
        return read(data)
    except Damage as error:
        raise Damage(f"the segment {name} {error}") from error
