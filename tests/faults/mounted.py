"""The disk that forgets, mounted through FUSE: ``python -m tests.faults.mounted FOLDER``.

Its power is switched by orders, a line of JSON each on standard input; each is answered by a line.
"""

from __future__ import annotations

import errno
import json
import os
import random
import stat
import subprocess
import sys
import threading
from pathlib import Path, PurePosixPath
from typing import Any, Self

from tests.conftest import environment
from tests.faults.forgetful import Disk, File, Folder

PATIENCE_SECONDS = 30


class Power:
    """The disk's plug: pulled after some steps, each a change of a file or a directory."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.lock = threading.Lock()
        self.off = threading.Event()
        self._steps_left = 0
        self.steps = 0

    def require(self) -> None:
        """Refuse to do anything once the power is gone."""
        if self.off.is_set():
            raise OSError(errno.EIO, "the power is off")

    def step(self) -> None:
        """Take one more step, or none any more."""
        self.require()
        self.steps += 1
        self._steps_left -= 1
        if self._steps_left == 0:
            self.off.set()
            self.require()

    def obey(self, order: dict[str, Any]) -> object:
        """Follow an order: pull the plug after some steps, wait for that, put it back in."""
        match order:
            case {"pull_after": steps}:
                with self.lock:
                    self._steps_left = steps
                return True
            case {"wait": seconds}:
                return self.off.wait(seconds)
            case {"restore": seed}:
                with self.lock:
                    self.off.set()
                    lost = self.disk.lose_power(random.Random(seed))
                    self._steps_left = 0
                    self.off.clear()
                return lost
        with self.lock:
            return self.steps


class Mounted:
    """What FUSE asks of a file system, of a disk that may lose its power."""

    use_ns = True

    def __init__(self, disk: Disk, power: Power) -> None:
        self._disk = disk
        self._power = power
        self._open: dict[int, File] = {}

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        with self._power.lock:
            self._power.require()
            node = self._open[fh] if fh in self._open else self._disk.find(path)
            kind = stat.S_IFDIR if isinstance(node, Folder) else stat.S_IFREG
            size = len(node.now)
            return {"st_mode": kind | node.mode, "st_nlink": 1, "st_size": size} | {
                "st_ino": node.number,
                "st_uid": os.getuid(),
                "st_gid": os.getgid(),
            }

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        with self._power.lock:
            self._power.require()
            folder = self._disk.find(path)
            assert isinstance(folder, Folder)
            nodes = {".": folder, "..": folder, **folder.now}
            return [(name, {"st_ino": node.number}, 0) for name, node in nodes.items()]

    def mkdir(self, path: str, mode: int) -> int:
        with self._power.lock:
            self._power.step()
            self._disk.make_folder(path, stat.S_IMODE(mode))
        return 0

    def create(self, path: str, mode: int, flags: int) -> int:
        with self._power.lock:
            self._power.step()
            return self._hold(self._disk.make_file(path, stat.S_IMODE(mode)))

    def open(self, path: str, flags: int) -> int:
        with self._power.lock:
            self._power.require()
            return self._hold(self._file(path))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._power.lock:
            self._power.require()
            return bytes(self._open[fh].now[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._power.lock:
            self._power.step()
            self._open[fh].write(data, offset)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        with self._power.lock:
            self._power.step()
            (self._open[fh] if fh in self._open else self._file(path)).resize(length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        with self._power.lock:
            self._power.step()
            self._open[fh].sync()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        with self._power.lock:
            self._power.step()
            folder = self._disk.find(path)
            assert isinstance(folder, Folder)
            folder.sync()
        return 0

    def unlink(self, path: str) -> int:
        with self._power.lock:
            self._power.step()
            self._disk.folder(path).change({PurePosixPath(path).name: None})
        return 0

    rmdir = unlink

    def rename(self, old: str, new: str) -> int:
        with self._power.lock:
            self._power.step()
            folder, node = self._disk.folder(old), self._disk.find(old)
            if folder is not self._disk.folder(new):
                raise OSError(errno.EXDEV, "one directory only")
            folder.change({PurePosixPath(old).name: None, PurePosixPath(new).name: node})
        return 0

    def link(self, target: str, source: str) -> int:
        with self._power.lock:
            self._power.step()
            node = self._disk.find(source)
            self._disk.folder(target).change({PurePosixPath(target).name: node})
        return 0

    def chmod(self, path: str, mode: int) -> int:
        with self._power.lock:
            self._disk.find(path).mode = stat.S_IMODE(mode)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_blocks": 1 << 20, "f_bavail": 1 << 20, "f_namemax": 255}

    def release(self, path: str, fh: int) -> int:
        with self._power.lock:
            self._open.pop(fh, None)
        return 0

    def _file(self, path: str) -> File:
        node = self._disk.find(path)
        if not isinstance(node, File):
            raise IsADirectoryError(errno.EISDIR, path)
        return node

    def _hold(self, file: File) -> int:
        handle = max(self._open, default=0) + 1
        self._open[handle] = file
        return handle


def serve(folder: Path) -> None:
    """Mount the disk until it is unmounted, following orders meanwhile."""
    from mfusepy import FUSE  # here: who only gives orders need not have it

    disk = Disk()
    power = Power(disk)

    def follow_orders() -> None:
        for line in sys.stdin:
            sys.stdout.write(json.dumps(power.obey(json.loads(line))) + "\n")
            sys.stdout.flush()

    threading.Thread(target=follow_orders, daemon=True).start()
    FUSE(
        Mounted(disk, power),
        str(folder),
        foreground=True,
        nothreads=True,
        hard_remove=True,
        use_ino=True,
        attr_timeout=0,  # what the kernel remembers of a disk that lost its power is not so
        entry_timeout=0,
        negative_timeout=0,
    )


class PulledPlug:
    """The other end: mounts the disk, and has its power pulled and restored."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.mounted", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)
        self._server.communicate(timeout=PATIENCE_SECONDS)

    def pull_after(self, steps: int) -> None:
        """Pull the plug after so many steps more; 0 for never."""
        self._order(pull_after=steps)

    def wait(self, seconds: float) -> bool:
        """Wait until the power is gone; tell whether it is."""
        return bool(self._order(wait=seconds))

    def restore(self, seed: int) -> int:
        """Put the plug back in; return how many writes and names are gone or torn."""
        return self._order(restore=seed)

    def steps(self) -> int:
        """Return how many steps the disk has taken."""
        return self._order()

    def _order(self, **order: float) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(json.loads(self._server.stdout.readline()))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
