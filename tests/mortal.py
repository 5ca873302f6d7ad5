"""A disk, as SQLite sees one, whose process is killed at the nth step that changes a file."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import apsw

_BASE = apsw.vfs_names()[0]  # the default until we are


class MortalDisk(apsw.VFS):
    """The disk that this process uses from now on."""

    def __init__(self, steps: int) -> None:
        super().__init__("mortal", _BASE, makedefault=True)
        self._steps_left = steps

    def step(self) -> None:
        """Take one more step, or none any more."""
        self._steps_left -= 1
        if self._steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's names
        if not Path(name if isinstance(name, str) else name.filename()).exists():
            self.step()
        return _MortalFile(self, name, flags)

    def xDelete(self, name: str, sync: bool) -> None:  # noqa: N802
        self.step()
        super().xDelete(name, sync)


class _MortalFile(apsw.VFSFile):
    def __init__(self, disk: MortalDisk, name: Any, flags: list[int]) -> None:
        super().__init__(_BASE, name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.step()
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.step()
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.step()
        super().xTruncate(size)
