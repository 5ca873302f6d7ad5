"""The ticket that writers of one file queue for, and the counter that tells readers who wrote.

SQLite's own busy handler starves some processes while others write thousands of times; a lock
file in front of it serves them in turn. In the same file, mapped into memory, a counter is odd
while a commit is under way and moves on with each one: that nobody wrote since costs a reader a
look at eight bytes (a sequence lock, as in Lameter 2005). The counter only ever saves work: a
writer that dies in between leaves it odd, and readers look into the database itself until the
next commit.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from pathlib import Path
from typing import Final

from statecore.database import explain_os

_COUNTER: Final = struct.Struct("=Q")
_BYTES: Final = 4096


def _take_space(descriptor: int) -> None:
    """Have the file's bytes on the disk: on a full one, writing to a mapped hole ends the process
    with a bus error."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, _BYTES)
    elif os.fstat(descriptor).st_size < _BYTES:
        os.ftruncate(descriptor, _BYTES)


class Ticket:
    """One open lock file."""

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _take_space(self._descriptor)
        except OSError as error:
            raise explain_os(error, path, "written") from error
        self._map = mmap.mmap(self._descriptor, _BYTES)

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the ticket; say whether that worked, where not waiting."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Give the ticket to whoever waits."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def counter(self) -> int:
        """Return the counter; it is odd while a commit is under way."""
        return _COUNTER.unpack_from(self._map, 0)[0]  # type: ignore[no-any-return]

    def begin_commit(self) -> int:
        """Tell readers that what they know may be out of date from now on; return the counter."""
        counter: int = (_COUNTER.unpack_from(self._map, 0)[0] + 1) | 1
        _COUNTER.pack_into(self._map, 0, counter)
        return counter

    def end_commit(self, counter: int) -> None:
        """Tell readers that the commit is complete, or was taken back."""
        _COUNTER.pack_into(self._map, 0, counter + 1)

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()
        os.close(self._descriptor)
