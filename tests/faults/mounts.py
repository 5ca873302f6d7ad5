"""Small disks of one's own, and what is done to them."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MEBIBYTE = 1024 * 1024


def mount(*arguments: str | Path) -> None:
    """Mount something, or skip the test where that is not allowed."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"can't mount here: {done.stderr.strip()}")


@contextmanager
def small_disk(kind: str, parent: Path) -> Iterator[Path]:
    """Give a disk of 12 MiB or so: tmpfs gives out its space at once, ext4 as late as it can."""
    if not hasattr(os, "getuid") or os.getuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root and mount")
    folder = parent / "disk"
    folder.mkdir()
    if kind == "tmpfs":
        mount("-t", "tmpfs", "-o", "size=12m", "none", folder)
    elif not shutil.which("mkfs.ext4"):
        pytest.skip("needs mkfs.ext4")
    else:
        image = parent / "image"
        with image.open("wb") as file:
            file.truncate(16 * MEBIBYTE)
        # Blocks as large as pages, as on any larger disk: in smaller ones SQLite's own shared
        # memory has holes, and writing to one on a full disk ends the process (bus error).
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", image], check=True)
        mount("-o", "loop", image, folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def unmount_below(folder: Path) -> None:
    """Unmount what somebody who was killed had mounted below a folder."""
    mounts = Path("/proc/self/mountinfo")
    lines = mounts.read_text().splitlines() if mounts.exists() else []
    for point in reversed([line.split()[4] for line in lines]):
        if Path(point).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", point], check=True)


class Filler:
    """A file that takes the space of a disk."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "filler"

    def fill(self, left_bytes: int = 0) -> None:
        """Take all the space there is, but for so many bytes."""
        with self.path.open("ab", buffering=0) as file:
            for size in (64 * 1024, 4096, 1):
                self._append(file.fileno(), size)
            os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size - left_bytes)
            os.fsync(file.fileno())

    @staticmethod
    def _append(file: int, size: int) -> None:
        while True:
            try:
                os.write(file, bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return

    def free(self) -> None:
        """Give it all back."""
        self.path.unlink()
