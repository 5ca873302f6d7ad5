"""A disk that forgets, when the power goes, what nobody had it keep.

It promises what POSIX does and no more: ``fsync`` of a file keeps the file's content, and that of
a directory its names. Of the rest a power cut leaves whatever it likes: of each file no write since
then, all of them, or some, torn at sectors, in any order; of each directory the names up to some
moment, since a file system that keeps a journal changes them in order.
"""

from __future__ import annotations

import errno
import random
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, TypeAlias

SECTOR_BYTES: Final = 512

Node: TypeAlias = "File | Folder"


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes written to a place; without any, the length a file was cut or grown to."""

    offset: int
    data: bytes | None


@dataclass(slots=True)
class File:
    """A file: what is read back of it, what is kept of it, and what lies between."""

    number: int
    mode: int
    now: bytearray = field(default_factory=bytearray)
    kept: bytearray = field(default_factory=bytearray)
    pending: list[Write] = field(default_factory=list)

    def write(self, data: bytes, offset: int) -> None:
        """Write, so that it is read back; it is not kept yet."""
        self._do(Write(offset, data))

    def resize(self, length: int) -> None:
        """Cut the file, or grow it by zeros."""
        self._do(Write(length, None))

    def sync(self) -> None:
        """Keep all that was written."""
        for each in self.pending:
            _apply(self.kept, each)
        self.pending.clear()

    def lose(self, chance: random.Random) -> int:
        """Lose what was not kept, or some of it; return how many writes are gone or torn."""
        liking = chance.choice((0.0, 0.5, 0.9, 1.0))
        lost = 0
        for each in self.pending:
            survivors = list(_survivors(each, liking, chance))
            lost += survivors != [each]
            for survivor in survivors:
                _apply(self.kept, survivor)
        self.pending.clear()
        self.now = bytearray(self.kept)
        return lost

    def _do(self, write: Write) -> None:
        _apply(self.now, write)
        self.pending.append(write)


@dataclass(slots=True)
class Folder:
    """A directory: its names, those that are kept, and the changes in between."""

    number: int
    mode: int
    now: dict[str, Node] = field(default_factory=dict)
    kept: dict[str, Node] = field(default_factory=dict)
    pending: list[dict[str, Node | None]] = field(default_factory=list)

    def change(self, names: dict[str, Node | None]) -> None:
        """Give names, and take away those given to nothing; all or none of it will be kept."""
        _rename(self.now, names)
        self.pending.append(names)

    def sync(self) -> None:
        """Keep the names as they are."""
        self.kept = dict(self.now)
        self.pending.clear()

    def lose(self, chance: random.Random) -> int:
        """Lose the last changes that were not kept; return how many."""
        survivors = chance.randint(0, len(self.pending))
        lost = len(self.pending) - survivors
        for names in self.pending[:survivors]:
            _rename(self.kept, names)
        self.pending.clear()
        self.now = dict(self.kept)
        return lost + sum(node.lose(chance) for node in self.now.values())


def _rename(held: dict[str, Node], names: dict[str, Node | None]) -> None:
    for name, node in names.items():
        if node is None:
            held.pop(name, None)
        else:
            held[name] = node


def _apply(content: bytearray, write: Write) -> None:
    missing = write.offset - len(content)
    if missing > 0:
        content.extend(bytes(missing))
    if write.data is None:
        del content[write.offset :]
    else:
        content[write.offset : write.offset + len(write.data)] = write.data


def _survivors(write: Write, liking: float, chance: random.Random) -> list[Write]:
    """Return what is left of a write: each of its sectors, or not."""
    if write.data is None or liking in (0.0, 1.0):
        return [write] if chance.random() < liking else []
    parts = []
    at = 0
    while at < len(write.data):
        end = (write.offset + at) // SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - write.offset
        if chance.random() < liking:
            parts.append(Write(write.offset + at, write.data[at:end]))
        at = end
    return [write] if sum(len(part.data or b"") for part in parts) == len(write.data) else parts


class Disk:
    """All of it: a tree of directories, found by their paths."""

    def __init__(self) -> None:
        self._numbers = 1
        self.root = Folder(1, 0o755)

    def find(self, path: str) -> Node:
        """Return what is at a path.

        Raises:
            FileNotFoundError: nothing is.
        """
        node: Node = self.root
        for part in PurePosixPath(path).parts[1:]:
            if not isinstance(node, Folder) or part not in node.now:
                raise FileNotFoundError(errno.ENOENT, "no such name", path)
            node = node.now[part]
        return node

    def folder(self, path: str) -> Folder:
        """Return the directory that a path's last name is in."""
        folder = self.find(str(PurePosixPath(path).parent))
        assert isinstance(folder, Folder)
        return folder

    def make_file(self, path: str, mode: int) -> File:
        """Make an empty file; its name is not kept yet."""
        self._numbers += 1
        file = File(self._numbers, mode)
        self.folder(path).change({PurePosixPath(path).name: file})
        return file

    def make_folder(self, path: str, mode: int) -> None:
        """Make an empty directory; its name is not kept yet."""
        self._numbers += 1
        node = Folder(self._numbers, mode)
        self.folder(path).change({PurePosixPath(path).name: node})

    def lose_power(self, chance: random.Random) -> int:
        """Be as a power cut leaves it; return how many writes and names are gone or torn."""
        return self.root.lose(chance)
