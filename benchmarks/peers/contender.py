"""What everybody who is compared is asked, and may have no answer to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

Pairs: TypeAlias = Sequence[tuple[str, Any]]
"""Sets: keys and values."""


class Cant(Exception):  # it is an answer
    """Says why a contender can't answer a question."""


class Contender:
    """Answers questions about sets. A branch is whatever a contender makes of it."""

    name: ClassVar[str] = ""

    def value(self, key: str, version: int) -> Any:
        """Return the value of a key as of a version; ``None`` where it was not there."""
        raise Cant("")

    def state(self, version: int) -> Any:
        """Return the whole state as of a version, its values as they come."""
        raise Cant("")

    def values(self, version: int) -> Mapping[str, Any]:
        """Return every key and value as of a version."""
        raise Cant("")

    def diff(self, before: int, after: int) -> Mapping[str, Any]:
        """Return what changed between two versions, by key."""
        raise Cant("")

    def history(self, key: str) -> list[int]:
        """Return the versions that set a key, having read what they set it to."""
        raise Cant("")

    def fork(self, name: str, version: int | None = None) -> Any:
        """Return a new branch that begins at a version, or at the head."""
        raise Cant("")

    def read(self, branch: Any, key: str) -> Any:
        """Return the value of a key on a branch."""
        raise Cant("")

    def write(self, branch: Any, key: str, value: Any) -> None:
        """Set a key on a branch."""
        raise Cant("")

    def prepare(self, ours: Any) -> None:
        """Do what has to be done before merging that is no part of it."""

    def rehearse(self, ours: Any, theirs: Any) -> Any:
        """Work out a merge of theirs into ours, and record nothing."""
        raise Cant("")

    def merge(self, ours: Any, theirs: Any) -> Any:
        """Merge theirs into ours."""
        raise Cant("")

    def lost(self, ours: Any, side: Mapping[str, Any]) -> set[str]:
        """Return the keys of which a side's value can't be had any more after the merge."""
        return {key for key, value in side.items() if self.read(ours, key) != value}

    def end_merge(self) -> None:
        """Give up a merge that could not be recorded."""

    def size_bytes(self) -> int:
        """Return how many bytes it all takes."""
        raise Cant("")


def load(name: str) -> Any:
    """Return a module, or ``None`` where it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


def titled(package: str) -> str:
    """Return the name of a package and its version, where it is installed."""
    try:
        return f"{package} {version_of(package)}"
    except PackageNotFoundError:
        return package


def bytes_in(folder: Path) -> int:
    """Return the length of every file in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
