"""The whole log as files: hash tiles and bundles of entries, as c2sp.org/tlog-tiles has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from statecore.errors import Unproven
from statecore.exporting.folder import Folder
from statecore.projections.audit_tree import AuditTree
from statecore.transparency.checkpoint import Checkpoint
from statecore.transparency.merkle import HASH_BYTES, Frontier, leaf_hash, root_of
from statecore.transparency.tiles import (
    WIDTH,
    Tile,
    bundles_of,
    pack_bundle,
    tile_path,
    tiles_of,
)

CHECKPOINT: Final = "checkpoint"


def write_log(
    folder: Folder,
    tree: AuditTree,
    size: int,
    since: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write the files of the tree of a size; those that the tree of an earlier size has are kept.

    Args:
        folder: where they go.
        tree: what they are made of.
        size: how many events.
        since: how many the folder holds, and was verified to hold; 0 for none.
        on_progress: called with how many events are there.
    """
    for bundle in bundles_of(size):
        name = tile_path(bundle)
        if bundle.first + WIDTH > since or not folder.has(name):
            entries = tree.entries(bundle.index)[: bundle.width]
            folder.put(name, pack_bundle(entries))
            leaves = b"".join(map(leaf_hash, entries))
            folder.put(tile_path(Tile(0, bundle.index, bundle.width)), leaves)
        on_progress(bundle.first + bundle.width)
    for tile in tiles_of(size, since):
        if tile.level:
            below = (Tile(tile.level - 1, tile.first + each) for each in range(tile.width))
            hashes = [root_of(_hashes(folder, each)) for each in below]
            folder.put(tile_path(tile), b"".join(hashes))


def _hashes(folder: Folder, tile: Tile) -> list[bytes]:
    """Return what a tile in the folder holds."""
    data = folder.read(tile_path(tile)) or b""
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def drop_outgrown(folder: Folder, size: int) -> None:
    """Drop partial tiles that the tree of a size has larger, or full."""
    wanted = {tile_path(tile) for tile in (*tiles_of(size), *bundles_of(size))}
    for name in list(folder.names("tile/**/*.p/*")):
        if name not in wanted:
            folder.drop(name)


def require_root(folder: Folder, head: Checkpoint, why: str) -> None:
    """Hold the tiles of leaves that are in the folder against a head.

    Raises:
        Unproven: they are not of its tree; for the reason given.
    """
    frontier = Frontier()
    for bundle in bundles_of(head.size):
        leaves = _hashes(folder, Tile(0, bundle.index, bundle.width))
        if len(leaves) != bundle.width or len(leaves[-1]) != HASH_BYTES:
            raise Unproven(why)
        frontier.extend(leaves)
    if frontier.root() != head.root:
        raise Unproven(why)
