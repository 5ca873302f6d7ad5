"""The folder of an exported audit record: files that are there whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from statecore.errors import StoreBusy

_DRAFT: Final = ".draft"


class Folder:
    """A folder that one process at a time exports to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.written = 0
        """How many files were written."""
        self._lock = -1

    def __enter__(self) -> Self:
        """Make the folder if it is not there, and keep other processes out.

        Raises:
            StoreBusy: another process exports to it.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise StoreBusy(f"another process exports to {self.path}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def names(self, pattern: str = "**/*") -> Iterator[str]:
        """Yield the files there, but for drafts that a kill left."""
        for path in self.path.glob(pattern):
            if path.is_file() and path.suffix != _DRAFT:
                yield path.relative_to(self.path).as_posix()

    def has(self, name: str) -> bool:
        """Tell whether a file is there."""
        return self.path.joinpath(name).is_file()

    def read(self, name: str) -> bytes | None:
        """Return what is in a file; ``None`` where there is none."""
        path = self.path / name
        return path.read_bytes() if path.is_file() else None

    def put(self, name: str, data: bytes) -> None:
        """Have a file hold these bytes, durably; one that holds them is left alone."""
        if self.read(name) == data:
            return
        path = self.path / name
        draft = path.with_name(path.name + _DRAFT)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        self.written += 1

    def drop(self, name: str) -> None:
        """Have a file, and folders that it leaves empty, not be there."""
        path = self.path / name
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
