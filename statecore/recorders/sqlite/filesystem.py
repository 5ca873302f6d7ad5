"""Which file system a path is on, and whether SQLite's write-ahead log is safe there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from statecore.errors import StoreUnsupported

# The write-ahead log needs memory shared between all that have the file open, which these don't
# give across machines (https://sqlite.org/wal.html), or locks that hold, which many of them lack.
_UNSAFE: Final = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|9p|ceph|glusterfs|lustre|afs|ncpfs|virtiofs|vboxsf|fuse)(\..*)?"
)
_MOUNTS: Final = Path("/proc/self/mountinfo")
_PROCESSES: Final = Path("/proc")


def require_safe(path: Path) -> None:
    """Refuse a file system on which acknowledged events could be lost.

    ``STATECORE_UNSAFE_FILE_SYSTEM=1`` in the environment allows it, for tests of failures.

    Raises:
        StoreUnsupported: names the file system.
    """
    kind = kind_of(path)
    allowed = os.environ.get("STATECORE_UNSAFE_FILE_SYSTEM") == "1"
    if _UNSAFE.fullmatch(kind) and not allowed:
        raise StoreUnsupported(
            f"{path} is on {kind}, where SQLite can't promise durability; use a local disk, or "
            "PostgreSQL for several machines"
        )


def kind_of(path: Path) -> str:
    """Return the type of the file system of a path; empty where the system does not tell."""
    try:
        lines = _MOUNTS.read_text().splitlines()
        target = path.parent.stat().st_dev
    except OSError:
        return ""
    wanted = f"{os.major(target)}:{os.minor(target)}"
    for line in lines:
        mount, _, filesystem = line.partition(" - ")
        if mount.split()[2] == wanted:
            return filesystem.split()[0]
    return ""


def holders(path: Path) -> list[int]:
    """Return the other processes that have a file open, as far as the system tells this account.

    Only Linux does; the file itself is not opened for it.
    """
    try:
        wanted = path.stat()
        processes = [int(each.name) for each in _PROCESSES.iterdir() if each.name.isdecimal()]
    except OSError:
        return []
    return [
        process
        for process in sorted(processes)
        if process != os.getpid() and _has_open(process, (wanted.st_dev, wanted.st_ino))
    ]


def _has_open(process: int, wanted: tuple[int, int]) -> bool:
    try:
        files = list((_PROCESSES / str(process) / "fd").iterdir())
    except OSError:
        return False  # it has ended, or is somebody else's
    for file in files:
        try:
            said = file.stat()
        except OSError:
            continue  # closed meanwhile
        if (said.st_dev, said.st_ino) == wanted:
            return True
    return False
