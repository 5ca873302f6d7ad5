"""All images of the pages of a SQLite file, in it and in the write-ahead log beside it.

They are read as bytes, and nothing else is done to the files: no lock taken, nothing rolled back.
A process that has the store open must not do this (sqlite.org/howtocorrupt.html, section 2.2).
The write-ahead log is that of sqlite.org/walformat.html.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_SIZES: Final = tuple(1 << bits for bits in range(9, 17))
_USUAL_SIZE: Final = 4096
_LOG_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_MAGIC: Final = 0x377F0682  # the last bit says in which byte order its sums are made


class Frame(NamedTuple):
    """A page in the write-ahead log."""

    page: int
    pages_after: int
    """How many pages the file has after the transaction that this ends; 0 where it ends none."""
    salts: bytes
    offset: int
    is_whole: bool
    """Whether its checksum goes on from that of the frame before."""


class Images:
    """The images of the pages of a store, the newest first."""

    def __init__(self, path: Path) -> None:
        """Open the files for reading.

        Raises:
            OSError: the file can't be read.
        """
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        log = path.with_name(path.name + "-wal")
        try:
            self._log = os.open(log, os.O_RDONLY | os.O_CLOEXEC) if log.exists() else None
        except BaseException:
            os.close(self._file)
            raise
        self.size = self._page_size()
        length = os.fstat(self._file).st_size
        self.in_file = -(-length // self.size)
        """Pages in the file itself, the last of which may be cut."""
        self.frames = [] if self._log is None else list(self._frames(self._log))
        self.current, self.before = _committed(self.frames, self._log_salts())
        self._newest = {frame.page: frame for frame in self.current}

    def _page_size(self) -> int:
        said = int.from_bytes(self._read(self._file, 16, 2), "big")
        sizes = [65536 if said == 1 else said]
        if self._log is not None:
            sizes.append(int.from_bytes(self._read(self._log, 8, 4), "big"))
        usable = [size for size in sizes if size in _SIZES]
        if len(set(usable)) > 1 and _USUAL_SIZE in usable:
            return _USUAL_SIZE
        return usable[0] if usable else _USUAL_SIZE

    def _log_salts(self) -> bytes:
        return b"" if self._log is None else self._read(self._log, 16, 8)

    def _frames(self, log: int) -> Iterator[Frame]:
        header = self._read(log, 0, _LOG_HEADER)
        order = "big" if header[3:4] == bytes(((_MAGIC + 1) & 0xFF,)) else "little"
        before = header[24:32]
        offset = _LOG_HEADER
        while len(data := self._read(log, offset, _FRAME_HEADER + self.size)) == (
            _FRAME_HEADER + self.size
        ):
            said = data[16:24]
            summed = _checksum(data[:8] + data[_FRAME_HEADER:], before, order)
            yield Frame(
                int.from_bytes(data[:4], "big"),
                int.from_bytes(data[4:8], "big"),
                data[8:16],
                offset + _FRAME_HEADER,
                summed == said,
            )
            before = said  # so that one damaged frame does not condemn those behind it
            offset += len(data)

    def newest(self, number: int) -> bytes | None:
        """Return a page as it was last committed, ``None`` where there is none."""
        frame = self._newest.get(number)
        return self.in_store(number) if frame is None else self._of(frame)

    def in_store(self, number: int) -> bytes | None:
        """Return a page as it is in the file itself; the last may be cut short."""
        data = self._read(self._file, (number - 1) * self.size, self.size) if number > 0 else b""
        return data or None

    @property
    def pages(self) -> int:
        """How many pages there are to be: as the last commit has it, or the file."""
        if self.current:
            return self.current[-1].pages_after
        said = int.from_bytes(self._read(self._file, 28, 4), "big")
        return said or self.in_file

    def is_cut(self) -> bool:
        """Tell whether pages are missing at the end, or transactions behind a damaged frame."""
        return self.pages > max(self.in_file, *self._newest, 0) or self.hidden() > 0

    def hidden(self) -> int:
        """Return how many transactions SQLite does not see, for a damaged frame before them."""
        whole = [frame.is_whole for frame in self.current]
        broken = whole.index(False) if False in whole else len(whole)
        return sum(1 for frame in self.current[broken:] if frame.pages_after)

    def current_pages(self) -> Iterator[tuple[int, bytes]]:
        """Yield all pages as they were last committed."""
        for number in sorted({*range(1, self.in_file + 1), *self._newest}):
            image = self.newest(number)
            if image is not None:
                yield number, image

    def older(self) -> Iterator[tuple[int, bytes]]:
        """Yield what pages were before, as far as it is still there, the newest first."""
        for frame in reversed(self.current):
            if self._newest[frame.page] is not frame:
                yield frame.page, self._of(frame)
        for number in self._newest:
            image = self.in_store(number)
            if image is not None:
                yield number, image
        for frame in reversed(self.before):
            yield frame.page, self._of(frame)

    def _of(self, frame: Frame) -> bytes:
        assert self._log is not None, "frames come from a log"
        return self._read(self._log, frame.offset, self.size)

    @staticmethod
    def _read(file: int, offset: int, length: int) -> bytes:
        """Return the bytes at a place; none where the disk does not give them."""
        try:
            return os.pread(file, length, offset)
        except OSError:
            return b""

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._file)
        if self._log is not None:
            os.close(self._log)


def _committed(frames: list[Frame], salts: bytes) -> tuple[list[Frame], list[Frame]]:
    """Return the frames of the current write-ahead log, and those of older ones, each as far as
    transactions were committed.

    A log is written over from its beginning; salts tell its frames from what is left behind them.
    """
    known = {frame.salts for frame in frames}
    if frames and salts not in known:
        salts = frames[0].salts
    ours = [at for at, frame in enumerate(frames) if frame.salts == salts]
    end = ours[-1] + 1 if ours else 0
    return _to_last_commit(frames[:end]), _to_last_commit(frames[end:])


def _to_last_commit(frames: list[Frame]) -> list[Frame]:
    commits = [at for at, frame in enumerate(frames) if frame.pages_after]
    return frames[: commits[-1] + 1] if commits else []


def _checksum(data: bytes, before: bytes, order: str) -> bytes:
    """Return the checksum of a frame that goes on from another, as section 4.2 of the file format
    has it."""
    first = int.from_bytes(before[:4], "big")
    second = int.from_bytes(before[4:], "big")
    words = memoryview(data).cast("I")
    if (order == "little") != _IS_LITTLE:
        words = [int.from_bytes(word.to_bytes(4, "little"), "big") for word in words]  # type: ignore[assignment]
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & 0xFFFFFFFF
        second = (second + words[at + 1] + first) & 0xFFFFFFFF
    return first.to_bytes(4, "big") + second.to_bytes(4, "big")


_IS_LITTLE: Final = memoryview(b"\1\0\0\0").cast("I")[0] == 1
