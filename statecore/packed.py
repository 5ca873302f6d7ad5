"""Packed lists and maps taken apart and put together without unpacking what they hold.

msgpack writes a list as a header followed by its packed items, one after the other, and a map as
a header followed by keys and values in turn (https://github.com/msgpack/msgpack/blob/master/spec.md).
So a list grows by appending bytes, and a map's fields can be replaced one by one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias

import msgpack

from statecore.errors import DamagedRecord
from statecore.values import expose, pack, same, unpack

_ROPE_BYTES_MIN: Final = 4096
_SPLIT_FIELDS_MAX: Final = 64  # of more, remembering them would weigh too much
_tip = threading.Lock()


class Rope:
    """A packed list kept as the chunks it grew by, so that growing costs only what is new.

    Ropes that grew out of one another share one list of chunks, and each sees its own length of it.
    """

    __slots__ = ("_chunks", "_length", "count", "weight")

    def __init__(self, chunks: list[bytes], length: int, count: int, weight: int) -> None:
        self._chunks = chunks
        self._length = length
        self.count = count
        self.weight = weight

    def extended(self, count: int, items: bytes) -> Rope:
        """Return a rope with these packed items behind its own."""
        with _tip:  # two threads may grow the same rope in different directions
            chunks, length = self._chunks, self._length
            if len(chunks) > length and chunks[length] != items:
                chunks = chunks[:length]
            if len(chunks) == length:  # else it grew so before, and is replayed
                chunks.append(items)
        return Rope(chunks, self._length + 1, self.count + count, self.weight + len(items))

    def items(self) -> bytes:
        """Return the packed items, one behind the other."""
        return b"".join(self._chunks[: self._length])

    def is_grown_from(self, older: Rope) -> bool:
        """Tell whether this is an older rope, of the same chunks, with items behind it or none."""
        return self._chunks is older._chunks and self._length >= older._length

    def grown_from(self, older: Rope) -> bytes | None:
        """Return the items added since an older rope of the same chunks; ``None`` of others."""
        if not self.is_grown_from(older):
            return None
        return b"".join(self._chunks[older._length : self._length])

    def __len__(self) -> int:
        return self.weight


class SplitMap(bytes):
    """A packed map that still knows the packed fields it was joined of, for the next patch."""

    fields: Mapping[str, Packed]


Packed: TypeAlias = bytes | Rope
"""A packed value; ``len`` is its weight in bytes."""


def to_bytes(packed: Packed) -> bytes:
    """Return the packed value as bytes."""
    return packed if isinstance(packed, bytes) else join_list(packed.count, packed.items())


def thaw(packed: Packed) -> object:
    """Unpack a fresh value, owned by the caller.

    Raises:
        DamagedRecord: it is none; only who has the key can have sealed it.
    """
    return _parse(unpack, packed)


def lay_open(packed: Packed) -> object:
    """Unpack a value in which conflicts show as ``Unresolved``; raises as ``thaw`` does."""
    return _parse(expose, packed)


def _parse(read: Callable[[bytes], object], packed: Packed) -> object:
    try:
        return read(to_bytes(packed))
    except ValueError as error:
        raise DamagedRecord(f"a value does not parse: {error}") from error


def same_packed(left: Packed | None, right: Packed | None) -> bool:
    """Tell whether both hold the same value; maps may differ in the order of their keys."""
    if left is right:
        return True
    if left is None or right is None:
        return False
    one, other = to_bytes(left), to_bytes(right)
    return one == other or (len(one) == len(other) and same(expose(one), expose(other)))


def is_list(packed: Packed) -> bool:
    """Tell whether the packed value is a list."""
    if isinstance(packed, Rope):
        return True
    return 0x90 <= packed[0] <= 0x9F or packed[0] in (0xDC, 0xDD)


def is_map(packed: Packed) -> bool:
    """Tell whether the packed value is a map."""
    if isinstance(packed, Rope):
        return False
    return 0x80 <= packed[0] <= 0x8F or packed[0] in (0xDE, 0xDF)


def list_items(packed: Packed) -> tuple[int, bytes]:
    """Return how many items a packed list has, and the packed items one behind the other."""
    if isinstance(packed, Rope):
        return packed.count, packed.items()
    first = packed[0]
    if first == 0xDC:
        return int.from_bytes(packed[1:3], "big"), packed[3:]
    if first == 0xDD:
        return int.from_bytes(packed[1:5], "big"), packed[5:]
    return first & 0x0F, packed[1:]


def list_count(packed: Packed) -> int:
    """Return how many items a packed list has."""
    if isinstance(packed, Rope):
        return packed.count
    return list_items(packed[:5])[0]  # a header has five bytes at most


def join_list(count: int, items: bytes) -> bytes:
    """Return the packed list of these packed items."""
    return _header(count, 0x90, 0xDC) + items


def extend_list(packed: Packed, count: int, items: bytes) -> Packed:
    """Return the packed list with these packed items behind its own."""
    if isinstance(packed, Rope):
        return packed.extended(count, items)
    had, old = list_items(packed)
    if len(old) < _ROPE_BYTES_MIN:
        return join_list(had + count, old + items)
    return Rope([old, items], 2, had + count, len(packed) + len(items))


def split_list(packed: Packed) -> list[bytes]:
    """Return each item of a packed list, packed."""
    count, items = list_items(packed)
    reader = _reader(items)
    return [_skip(reader, items) for _ in range(count)]


def split_map(packed: bytes) -> dict[str, bytes]:
    """Return each field of a packed map, packed."""
    return {key: to_bytes(field) for key, field in fields_of(packed).items()}


def fields_of(packed: bytes) -> dict[str, Packed]:
    """Return each field of a packed map, packed in whatever way is at hand."""
    if type(packed) is SplitMap:
        return dict(packed.fields)
    reader = _reader(packed)
    return {reader.unpack(): _skip(reader, packed) for _ in range(reader.read_map_header())}


def join_map(fields: Mapping[str, Packed]) -> bytes:
    """Return the packed map of these packed fields."""
    parts = [_header(len(fields), 0x80, 0xDE)]
    for key, value in fields.items():
        parts += (_pack_key(key), value if type(value) is bytes else to_bytes(value))
    if len(fields) > _SPLIT_FIELDS_MAX:
        return b"".join(parts)
    joined = SplitMap(b"".join(parts))
    joined.fields = fields
    return joined


@lru_cache(maxsize=4096)
def _pack_key(key: str) -> bytes:
    return pack(key)


def _header(count: int, short: int, long: int) -> bytes:
    if count < 16:
        return bytes((short | count,))
    if count < 1 << 16:
        return bytes((long,)) + count.to_bytes(2, "big")
    return bytes((long + 1,)) + count.to_bytes(4, "big")


def _reader(packed: bytes) -> msgpack.Unpacker:
    reader = msgpack.Unpacker(max_buffer_size=len(packed) or 1, strict_map_key=True)
    reader.feed(packed)
    return reader


def _skip(reader: msgpack.Unpacker, packed: bytes) -> bytes:
    start = reader.tell()
    reader.skip()
    return packed[start : reader.tell()]
