"""A tree cut in tiles, files that anybody can serve and cache, as c2sp.org/tlog-tiles has them.

A tile holds up to 256 hashes of one level of the tree, of each eighth one: what is between is
hashed again by the reader. A bundle holds the entries under a tile of leaves. What is full never
changes; at the right edge are partial tiles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from statecore.errors import InputError, Malformed
from statecore.transparency.lines import decode_decimal
from statecore.transparency.merkle import HASH_BYTES, Node, root_of

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
ENTRIES: Final = -1
"""The level of a bundle of entries."""
LEVEL_MAX: Final = 63
ENTRY_BYTES_MAX: Final = 2**16 - 1

_LENGTH_BYTES: Final = 2
_ENTRIES_NAME: Final = "entries"
_PATH: Final = re.compile(
    r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([0-9]{1,3}))?"
)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """The place of a tile: its level (``ENTRIES`` for a bundle), its index there, its width.

    Raises:
        Malformed: there is no such tile.
    """

    level: int
    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        if not (
            ENTRIES <= self.level <= LEVEL_MAX and 1 <= self.width <= WIDTH and self.index >= 0
        ):
            raise Malformed("tile: no such level, index or width")

    @property
    def first(self) -> int:
        """The index, at the tile's level, of the first hash; of a bundle, of the first entry."""
        return self.index * WIDTH


def tile_path(tile: Tile) -> str:
    """Return where a tile is, below the address of a log: ``tile/0/x001/234.p/5``."""
    groups = [f"{tile.index % 1000:03}"]
    rest = tile.index // 1000
    while rest:
        groups.append(f"x{rest % 1000:03}")
        rest //= 1000
    level = _ENTRIES_NAME if tile.level == ENTRIES else str(tile.level)
    partial = f".p/{tile.width}" if tile.width < WIDTH else ""
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def parse_tile_path(path: str) -> Tile:
    """Return the tile that is at a path.

    Raises:
        Malformed: none is; or it is at another spelling of the path.
    """
    found = _PATH.fullmatch(path)
    if not found:
        raise Malformed("path of a tile: tile, a level or entries, and an index in groups of three")
    level = ENTRIES if found[1] == _ENTRIES_NAME else int(found[1])
    digits = found[2].replace("/", "").replace("x", "")
    index = decode_decimal(digits.lstrip("0") or "0", "path of a tile, index")
    tile = Tile(level, index, int(found[3]) if found[3] else WIDTH)
    if tile_path(tile) != path:
        raise Malformed("path of a tile: not spelled the one way")
    return tile


def tiles_of(size: int, since: int = 0) -> Iterator[Tile]:
    """Yield the tiles of hashes that a tree of a size has, by level and index, partial ones last.

    Args:
        since: leave out those that a tree of this size has, too.
    """
    level = 0
    while hashes := size >> HEIGHT * level:
        yield from _row(level, hashes, since >> HEIGHT * level)
        level += 1


def bundles_of(size: int, since: int = 0) -> Iterator[Tile]:
    """Yield the bundles of entries that a tree of a size has, in order, a partial one last."""
    yield from _row(ENTRIES, size, since)


def nodes_of(tile: Tile) -> list[Node]:
    """Return the full subtrees whose hashes a tile holds, in its order."""
    return [(HEIGHT * tile.level, tile.first + each) for each in range(tile.width)]


def tile_with(node: Node, size: int) -> Tile:
    """Return the tile of a tree of a size that holds a full subtree's hash, or what it is made of.

    Raises:
        InputError: the tree has no such subtree.
    """
    level, index = node
    if level < 0 or index < 0 or (index + 1) << level > size:
        raise InputError(f"a tree of {size} leaves has no full subtree {index} at level {level}")
    row, height = divmod(level, HEIGHT)
    number = index << height >> HEIGHT
    return Tile(row, number, min(WIDTH, (size >> HEIGHT * row) - number * WIDTH))


def hash_in(tile: Tile, data: bytes, node: Node) -> bytes:
    """Return a full subtree's hash from the tile that holds it.

    Raises:
        Malformed: the data is not that of a tile of this width, or holds no such hash.
    """
    level, index = node
    height = level - HEIGHT * tile.level
    begin, count = (index << height) - tile.first, 1 << height
    if len(data) != tile.width * HASH_BYTES:
        raise Malformed(f"tile: {len(data)} bytes are not {tile.width} hashes")
    if not (0 <= height < HEIGHT and begin >= 0 and begin + count <= tile.width):
        raise Malformed("tile: the subtree is in another one")
    starts = range(begin * HASH_BYTES, (begin + count) * HASH_BYTES, HASH_BYTES)
    return root_of(data[at : at + HASH_BYTES] for at in starts)


def pack_bundle(entries: Sequence[bytes]) -> bytes:
    """Return a bundle of entries, each with its length before it in two bytes.

    Raises:
        Malformed: there are none, or over 256, or one has over 65,535 bytes.
    """
    if not 1 <= len(entries) <= WIDTH:
        raise Malformed(f"bundle: {len(entries)} entries, not 1 to {WIDTH}")
    if any(len(entry) > ENTRY_BYTES_MAX for entry in entries):
        raise Malformed(f"bundle: an entry of over {ENTRY_BYTES_MAX} bytes")
    return b"".join(len(entry).to_bytes(_LENGTH_BYTES) + entry for entry in entries)


def unpack_bundle(data: bytes, width: int) -> list[bytes]:
    """Return the entries of a bundle that has so many.

    Raises:
        Malformed: it has not.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(data) and len(entries) < width:
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(data[at:begin])
        entries.append(data[begin:at])
    if at != len(data) or len(entries) != width:
        raise Malformed(f"bundle: {len(data)} bytes are not {width} entries")
    return entries


def _row(level: int, hashes: int, since: int) -> Iterator[Tile]:
    """Yield a level's tiles, given how many hashes it has and had."""
    if hashes == since:
        return
    for index in range(since // WIDTH, hashes // WIDTH):
        yield Tile(level, index)
    if width := hashes % WIDTH:
        yield Tile(level, hashes // WIDTH, width)
