"""Where a backup lies: a folder, or whatever ``fsspec`` reaches. A file is made once.

A file is there whole or not at all, and making one that is there already fails: of two who make
the same one, one wins. In a folder that is a link made after the file was synced; on S3 a PUT with
``If-None-Match: *``.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from statecore.errors import (
    InputError,
    NotFound,
    StatecoreError,
    StoreFailure,
    StoreFull,
    StoreReadOnly,
    StoreUnsupported,
)

DRAFT: Final = ".draft-"
_LOST: Final = "lost+found"  # in the topmost folder of a disk that holds nothing yet
_DRAFT_SECONDS: Final = 24 * 3600  # nobody writes one file for so long
_PRECONDITION: Final = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_PART_BYTES_MAX: Final = 1 << 30  # one PUT, never parts: only a whole one is made once


class Destination(Protocol):
    """Holds files by name. Not promised: that a file just made by others is listed at once."""

    def create(self, name: str, data: bytes) -> bool:
        """Make a file, durably; say whether it was made, and not there already.

        Raises:
            StoreFull, StoreReadOnly, StoreFailure: it was not.
        """

    def read(self, name: str, size: int | None = None) -> bytes:
        """Return a file, or how it begins.

        Raises:
            NotFound: there is none.
        """

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file, by name; none where nothing was ever made."""

    def names(self) -> list[str]:
        """Return the names of all that lies there, folders too, but drafts."""

    def leftovers(self) -> list[str]:
        """Return drafts that those who were killed left behind, a day ago or longer."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


def destination_of(place: str | Path) -> Destination:
    """Return a destination: a folder, or what a URL such as ``s3://bucket/folder`` names.

    Raises:
        InputError: nothing is named.
        StoreUnsupported: the URL needs an extra that is not installed.
    """
    text = str(place)
    if text in ("", "file://"):
        raise InputError("an empty path names no place for a backup")
    if text.startswith("file://"):
        return Folder(Path(text.removeprefix("file://")))
    return Remote(text) if "://" in text else Folder(Path(place).expanduser())


class Folder:
    """A folder; it is made with the first file, for its owner only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def create(self, name: str, data: bytes) -> bool:
        draft = self._path / f"{DRAFT}{secrets.token_hex(8)}"
        try:
            _make_folder(self._path)
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with os.fdopen(os.open(draft, flags, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                try:
                    (self._path / name).hardlink_to(draft)
                except FileExistsError:
                    return False
            finally:
                draft.unlink(missing_ok=True)
            sync_folder(self._path)
        except OSError as error:
            raise _explain(error, f"{self._path / name}") from error
        return True

    def read(self, name: str, size: int | None = None) -> bytes:
        try:
            with (self._path / name).open("rb") as file:
                return file.read(-1 if size is None else size)
        except FileNotFoundError as error:
            raise NotFound(f"there is no {self._path / name}") from error
        except OSError as error:
            raise _explain(error, f"{self._path / name}") from error

    def sizes(self) -> dict[str, int]:
        found = {}
        try:
            for file in os.scandir(self._path):
                with suppress(FileNotFoundError):  # others removed it meanwhile
                    if file.is_file(follow_symlinks=False):
                        found[file.name] = file.stat().st_size
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise _explain(error, str(self._path)) from error
        return found

    def names(self) -> list[str]:
        try:
            found = [each.name for each in os.scandir(self._path)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _explain(error, str(self._path)) from error
        return [name for name in found if name != _LOST and not name.startswith(DRAFT)]

    def leftovers(self) -> list[str]:
        long_ago = time.time() - _DRAFT_SECONDS
        drafts = [self._path / name for name in self.sizes() if name.startswith(DRAFT)]
        return [draft.name for draft in drafts if draft.stat().st_mtime < long_ago]

    def remove(self, name: str) -> None:
        try:
            (self._path / name).unlink(missing_ok=True)
            sync_folder(self._path)
        except OSError as error:
            raise _explain(error, f"{self._path / name}") from error


def _make_folder(path: Path) -> None:
    """Make a folder and those above it; a power cut that took its name would take what is in it."""
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Have what a folder lists be on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Remote:
    """What ``fsspec`` reaches: S3, and anything that can make a file only if it is not there."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec

            self._files, self._root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise StoreUnsupported(
                f'{url} needs an extra: pip install "statecore[backup]" ({error})'
            ) from error
        except ValueError as error:
            raise InputError(f"{url} can't be reached: {error}") from error
        self._url = url.rstrip("/")

    def __str__(self) -> str:
        return self._url

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def create(self, name: str, data: bytes) -> bool:
        options: dict[str, Any] = {}
        if "s3" in _protocols(self._files):
            options["chunksize"] = _PART_BYTES_MAX
        try:
            self._files.pipe_file(self._path(name), data, mode="create", **options)
        except FileExistsError:
            return False
        except Exception as error:
            if _says_exists(error):
                return False
            raise _translated(error, f"{self._url}/{name}") from error
        return True

    def read(self, name: str, size: int | None = None) -> bytes:
        try:
            data: bytes = self._files.cat_file(self._path(name), start=None, end=size)
        except FileNotFoundError as error:
            raise NotFound(f"there is no {self._url}/{name}") from error
        except Exception as error:
            raise _translated(error, f"{self._url}/{name}") from error
        return data

    def sizes(self) -> dict[str, int]:
        files = [each for each in self._entries() if each.get("type") == "file"]
        return {each["name"].rsplit("/", 1)[-1]: each["size"] or 0 for each in files}

    def names(self) -> list[str]:
        # An empty object may stand for the folder itself: consoles make one.
        found = {each["name"].rstrip("/") for each in self._entries()} - {self._root.rstrip("/")}
        return [name.rsplit("/", 1)[-1] for name in found]

    def _entries(self) -> list[dict[str, Any]]:
        try:
            self._files.invalidate_cache()
            found: list[dict[str, Any]] = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise _translated(error, self._url) from error
        return found

    def leftovers(self) -> list[str]:
        return []

    def remove(self, name: str) -> None:
        try:
            self._files.rm_file(self._path(name))
        except FileNotFoundError:
            return
        except Exception as error:
            raise _translated(error, f"{self._url}/{name}") from error


def _protocols(files: Any) -> tuple[str, ...]:
    protocol = files.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _says_exists(error: BaseException) -> bool:
    """Tell whether a store said that the file is there already; each has its own way to."""
    told: BaseException | None = error
    while told is not None:
        response = getattr(told, "response", None)
        if isinstance(response, dict):
            code = str(response.get("Error", {}).get("Code"))
            if code in _PRECONDITION:
                return True
        if isinstance(told, OSError) and told.errno == errno.EEXIST:
            return True
        told = told.__cause__ or told.__context__
    return False


def _explain(error: OSError, where: str) -> StatecoreError:
    """Return the error of ours for one of the operating system."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"no space left to write {where}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreReadOnly(f"{where} can't be written or read: {error.strerror}")
    if error.errno == errno.ENOTDIR:
        return InputError(f"{where} is not a folder")
    return StoreFailure(f"{where}: {error.strerror or error}")


def _translated(error: Exception, where: str) -> StatecoreError:
    """Return the error of ours for one of a library that ``fsspec`` found; those have no tree."""
    if isinstance(error, OSError):
        return _explain(error, where)
    return StoreFailure(f"{where}: {type(error).__name__}: {error}")
