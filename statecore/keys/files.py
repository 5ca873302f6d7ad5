"""Private files made whole or not at all, and never over another."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

_PRIVATE: Final = 0o600


def write_private(
    path: Path, content: bytes, check: Callable[[bytes], None] = lambda _: None
) -> bool:
    """Make a file that only its owner can read, durably; tell whether its name was free.

    Whoever sees the file sees all of it. It is read back before it gets its name.

    Args:
        path: where.
        content: all of it.
        check: gets what was read back, and raises if that is not as it should be.

    Raises:
        OSError: it can't be made.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        check(draft.read_bytes())
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return publish(draft, path)


def restoring_draft(path: Path) -> Path:
    """Return the name under which a key store is put back, until all of it is there."""
    return path.with_name(f"{path.name}.restoring")


def drop_restoring_draft(path: Path) -> None:
    """Take away what a kill left of putting a key store back: it has wrapped keys in it.

    Raises:
        OSError: it can't be taken away.
    """
    draft = restoring_draft(path)
    for left in (draft, draft.with_name(f"{draft.name}-journal")):
        left.unlink(missing_ok=True)


def publish(draft: Path, path: Path) -> bool:
    """Give a file its name, durably, unless the name is taken; tell whether it was free.

    The draft's own name is gone either way.
    """
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)  # whoever opens what has its name by now, drops drafts
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return True
