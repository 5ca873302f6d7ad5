"""Peers that are documents made to be merged: loro, and pycrdt, which is Yjs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.peers.contender import Cant, Contender, Pairs, load, titled

loro: Any = load("loro")
pycrdt: Any = load("pycrdt")

_BY_STATES: Final = "it gives whole states only"


class Loro(Contender):
    """A loro document with one map; the last writer of a key wins."""

    name = titled("loro")

    def __init__(self, folder: Path, pairs: Pairs) -> None:
        self._document = loro.LoroDoc()
        self._versions = [self._document.oplog_frontiers]
        for key, value in pairs:
            self.write(self._document, key, value)
            self._versions.append(self._document.oplog_frontiers)
        self._traveller = self._document.fork()  # a document can be at one version at a time

    def value(self, key: str, version: int) -> Any:
        found = self.state(version).get(key)
        return None if found is None else found.value

    def state(self, version: int) -> Any:
        self._traveller.checkout(self._versions[version])
        return self._traveller.get_map("state")

    def values(self, version: int) -> Mapping[str, Any]:
        values: Mapping[str, Any] = self.state(version).get_deep_value()
        return values

    def diff(self, before: int, after: int) -> Mapping[str, Any]:
        found = self._traveller.diff(self._versions[before], self._versions[after]).get_diff()
        changed: Mapping[str, Any] = found[0][1].diff.updated
        return changed

    def history(self, key: str) -> list[int]:
        raise Cant(_BY_STATES)

    def fork(self, name: str, version: int | None = None) -> Any:
        if version is None:
            return self._document.fork()
        return self._document.fork_at(self._versions[version])

    def read(self, branch: Any, key: str) -> Any:
        return branch.get_map("state").get(key).value

    def write(self, branch: Any, key: str, value: Any) -> None:
        branch.get_map("state").insert(key, value)
        branch.commit()

    def rehearse(self, ours: Any, theirs: Any) -> Any:
        raise Cant("it has no way to try a merge")

    def merge(self, ours: Any, theirs: Any) -> None:
        ours.import_(theirs.export(loro.ExportMode.Updates(ours.oplog_vv)))

    def size_bytes(self) -> int:
        return len(self._document.export(loro.ExportMode.Snapshot()))


class Pycrdt(Contender):
    """A Yjs document with one map, and a snapshot after each set: it knows no other versions."""

    name = titled("pycrdt")

    def __init__(self, folder: Path, pairs: Pairs) -> None:
        self._document = pycrdt.Doc(skip_gc=True)
        self._document["state"] = pycrdt.Map()
        self._snapshots = [pycrdt.Snapshot.from_doc(self._document)]
        for key, value in pairs:
            self.write(self._document, key, value)
            self._snapshots.append(pycrdt.Snapshot.from_doc(self._document))

    def value(self, key: str, version: int) -> Any:
        return self.state(version).get(key)

    def state(self, version: int) -> Any:
        return _map(pycrdt.Doc.from_snapshot(self._snapshots[version], self._document))

    def values(self, version: int) -> Mapping[str, Any]:
        return self.state(version).to_py() or {}

    def diff(self, before: int, after: int) -> Mapping[str, Any]:
        raise Cant(_BY_STATES)

    def history(self, key: str) -> list[int]:
        raise Cant(_BY_STATES)

    def fork(self, name: str, version: int | None = None) -> Any:
        if version is not None:
            return pycrdt.Doc.from_snapshot(self._snapshots[version], self._document)
        branch = pycrdt.Doc(skip_gc=True)
        branch.apply_update(self._document.get_update())
        return branch

    def read(self, branch: Any, key: str) -> Any:
        return _map(branch).get(key)

    def write(self, branch: Any, key: str, value: Any) -> None:
        _map(branch)[key] = value

    def rehearse(self, ours: Any, theirs: Any) -> Any:
        raise Cant("it has no way to try a merge")

    def merge(self, ours: Any, theirs: Any) -> None:
        ours.apply_update(theirs.get_update(ours.get_state()))

    def size_bytes(self) -> int:
        snapshots = sum(len(snapshot.encode()) for snapshot in self._snapshots)
        return len(self._document.get_update()) + snapshots


def _map(document: Any) -> Any:
    return document.get("state", type=pycrdt.Map)
