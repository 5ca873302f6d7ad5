"""Rows read off the pages of a SQLite file, one by one, where SQLite itself can't read it any more.

The format is that of sqlite.org/fileformat2.html. A page says by its first byte what it is, and by
an array of pointers where its cells are; where these are damaged, the records of events are looked
for by what they look like. Nothing that is found here is believed: who asks proves it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

TABLE_LEAF: Final = 0x0D
TABLE_INNER: Final = 0x05
INDEX_LEAF: Final = 0x0A
INDEX_INNER: Final = 0x02
_KINDS: Final = (TABLE_LEAF, TABLE_INNER, INDEX_LEAF, INDEX_INNER)
_FIRST_PAGE_HEADER: Final = 100
_PAYLOAD_BYTES_MAX: Final = 64 * 1024 * 1024
_INTEGER_BYTES: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_TEXT: Final = 13

# What the record of an event begins with: the length of its header, no position (it is the row's
# number), stream and version, topic 1 (SQLite has a type for that), and the type of a blob.
_EVENT: Final = re.compile(rb"[\x06-\x08]\x00[\x01-\x06\x09][\x01-\x06\x09]\x09[\x0c-\xff]")
_NUMBERS_BEFORE_MAX: Final = 14  # bytes of a cell before its record: its length and row number

Load: TypeAlias = Callable[[int], bytes | None]
"""Gives a page by its number, ``None`` where there is none."""


class Row(NamedTuple):
    """A record, and the number of its row; 0 in an index, and in a table without such numbers."""

    number: int
    columns: tuple[Any, ...]


class Page:
    """One image of a page, which may be cut short."""

    def __init__(self, number: int, image: bytes, size: int) -> None:
        """Look at an image.

        Args:
            number: of the page, from 1 on.
            image: its bytes.
            size: how many there should be.
        """
        self._image = image
        self._size = size
        self._at = _FIRST_PAGE_HEADER if number == 1 else 0
        self.kind = image[self._at] if len(image) > self._at else 0
        self.is_tree = self.kind in _KINDS

    def children(self) -> list[int]:
        """Return the pages below this one."""
        if self.kind not in (TABLE_INNER, INDEX_INNER):
            return []
        image, last = self._image, self._at + 8
        cells = [at for at in self._pointers() if at + 4 <= len(image)]
        below = [int.from_bytes(image[at : at + 4], "big") for at in cells]
        return [*below, int.from_bytes(image[last : last + 4], "big")]

    def _pointers(self) -> list[int]:
        image, count_at = self._image, self._at + 3
        begin = self._at + (12 if self.kind in (TABLE_INNER, INDEX_INNER) else 8)
        count = min(int.from_bytes(image[count_at : count_at + 2], "big"), len(image) // 2)
        places = range(begin, min(begin + 2 * count, len(image) - 1), 2)
        return [int.from_bytes(image[at : at + 2], "big") for at in places]

    def rows(self, load: Load) -> tuple[list[Row], bool]:
        """Return the rows on the page that parse, and whether all did.

        Args:
            load: gives pages that long rows go on in.
        """
        if self.kind == TABLE_INNER:
            return [], True
        pointers = self._pointers()
        found = [self._cell(at, load) for at in pointers]
        rows = [row for row in found if row is not None]
        return rows, len(rows) == len(pointers)

    def events(self, load: Load) -> Iterator[Row]:
        """Yield what looks like the row of an event, wherever it stands on the page."""
        for match in _EVENT.finditer(self._image):
            for at in range(max(match.start() - _NUMBERS_BEFORE_MAX, 0), match.start() - 1):
                _, middle = _varint(self._image, at)
                if middle and _varint(self._image, middle)[1] == match.start():
                    row = self._cell(at, load, kind=TABLE_LEAF)
                    if row is not None:
                        yield row

    def _cell(self, at: int, load: Load, kind: int | None = None) -> Row | None:
        """Return the row of the cell at a place, if it is one."""
        kind = kind or self.kind
        if not 0 < at < len(self._image):
            return None
        if kind == INDEX_INNER:
            at += 4
        length, at = _varint(self._image, at)
        number = 0
        if kind == TABLE_LEAF and at:
            number, at = _varint(self._image, at)
        if not at or not 0 < length <= _PAYLOAD_BYTES_MAX:
            return None
        payload = self._payload(at, length, load, is_table=kind == TABLE_LEAF)
        columns = None if payload is None else read_record(payload)
        return None if columns is None else Row(_signed(number), columns)

    def _payload(self, at: int, length: int, load: Load, *, is_table: bool) -> bytes | None:
        """Return the bytes of a record, those on other pages too."""
        image = self._image
        here = local_bytes(self._size, length, is_table=is_table)
        parts = [image[at : at + here]]
        if len(parts[0]) < here:
            return None
        left = length - here
        following = int.from_bytes(image[at + here : at + here + 4], "big") if left else 0
        seen: set[int] = set()
        while left:
            page = load(following) if following and following not in seen else None
            if page is None:
                return None
            seen.add(following)
            part = page[4 : 4 + left]
            if len(part) < min(left, self._size - 4):
                return None
            parts.append(part)
            left -= len(part)
            following = int.from_bytes(page[:4], "big")
        return b"".join(parts)


def local_bytes(size: int, length: int, *, is_table: bool) -> int:
    """Return how many bytes of a record stand on its page, as section 1.6 of the format says.

    Args:
        size: of a page.
        length: of the record.
        is_table: whether the page is a leaf of a table with row numbers.
    """
    most = size - 35 if is_table else (size - 12) * 64 // 255 - 23
    if length <= most:
        return length
    least = (size - 12) * 32 // 255 - 23
    fitting = least + (length - least) % (size - 4)
    return fitting if fitting <= most else least


def read_record(payload: bytes) -> tuple[Any, ...] | None:
    """Return the columns of a record; ``None`` where it is none."""
    end, at = _varint(payload, 0)
    if not at or end > len(payload):
        return None
    columns: list[Any] = []
    body = end
    while at < end:
        kind, at = _varint(payload, at)
        if not at or at > end:
            return None
        size = _INTEGER_BYTES.get(kind, 8 if kind == 7 else max(kind - 12, 0) // 2)
        part = payload[body : body + size]
        if kind in (10, 11) or len(part) < size:
            return None
        columns.append(_column(kind, part))
        body += size
    return tuple(columns) if body == len(payload) else None


def _column(kind: int, part: bytes) -> Any:
    if kind in _INTEGER_BYTES:
        return int.from_bytes(part, "big", signed=True)
    if kind in (8, 9):
        return kind - 8
    if kind >= _TEXT and kind % 2:
        return part.decode(errors="surrogateescape")  # so that the bytes can be had again
    return part if kind >= 12 else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length integer and where it ends; 0 as the end where it is none."""
    number = 0
    for place in range(at, at + 8):
        if place >= len(data):
            return 0, 0
        byte = data[place]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, place + 1
    if at + 8 >= len(data):
        return 0, 0
    return number << 8 | data[at + 8], at + 9


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
