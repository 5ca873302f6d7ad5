"""A root as bytes, and back: column by column, since keys resemble keys and values values."""

from __future__ import annotations

from typing import Final

import msgpack
from immutables import Map

from statecore.packed import to_bytes
from statecore.state import NO_PAST, Root

FORMAT: Final = 1  # On disk. Never renumber.


def pack_root(root: Root) -> bytes:
    """Pack a root."""
    keys = sorted(root.cells)
    cells = [root.cells[key] for key in keys]
    image = [
        FORMAT,
        root.time,
        root.weight,
        dict(root.tags),
        keys,
        [version for version, _ in cells],
        [to_bytes(packed) for _, packed in cells],
    ]
    if root.past:
        image.append([[*line, version] for line, version in root.past.items()])
    return msgpack.packb(image)  # type: ignore[no-any-return]


def unpack_root(version: int, packed: bytes) -> Root:
    """Unpack a root.

    Raises:
        ValueError: the bytes are no root, or of another format; replay from the events instead.
    """
    try:
        number, time, weight, tags, keys, versions, values, *more = msgpack.unpackb(packed)
    except (msgpack.UnpackException, TypeError) as error:
        raise ValueError("not a packed root") from error
    if number != FORMAT:
        raise ValueError(f"snapshot format {number}")
    cells = Map(zip(keys, zip(versions, values, strict=True), strict=True))
    past = {(branch, generation): at for branch, generation, at in more[0]} if more else NO_PAST
    return Root(version, time, cells, weight, tags, None, past)
