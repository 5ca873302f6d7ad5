"""A peer that keeps a state in files: git, by way of libgit2."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgpack

from benchmarks.peers.contender import Contender, Pairs, bytes_in, load, titled

pygit2: Any = load("pygit2")

_FOLDERS: Final = 32  # of a tree, so that a commit rewrites two small trees and not a large one


class Git(Contender):
    """libgit2: a blob per key in 32 folders, a commit per set, packed before it is asked."""

    name = titled("pygit2")

    def __init__(self, folder: Path, pairs: Pairs) -> None:
        self._path = folder / "repository"
        self._git = pygit2.init_repository(str(self._path), bare=False)
        self._who = pygit2.Signature("benchmark", "benchmark@example.com", 1, 0)
        empty = self._git.TreeBuilder().write()
        self._commits = [self._git.create_commit(None, self._who, self._who, "", empty, [])]
        for key, value in pairs:
            self._commits.append(self._commit(self._commits[-1], key, value))
        self._git.create_reference("refs/heads/main", self._commits[-1])
        self._pack()
        self._heads: dict[str, Any] = {}

    def _pack(self) -> None:
        """Do what ``git gc`` does: all objects into one pack."""
        self._git.pack()
        objects = self._path / ".git" / "objects"
        for loose in [each for each in objects.iterdir() if len(each.name) == 2]:
            shutil.rmtree(loose)
        self._git = pygit2.Repository(str(self._path))

    def _commit(self, parent: Any, key: str, value: Any) -> Any:
        git, folder = self._git, _folder(key)
        tree = git[parent].tree
        inner = git.TreeBuilder(tree[folder]) if folder in tree else git.TreeBuilder()
        blob = git.create_blob(msgpack.packb(value))
        inner.insert(key, blob, pygit2.enums.FileMode.BLOB)
        outer = git.TreeBuilder(tree)
        outer.insert(folder, inner.write(), pygit2.enums.FileMode.TREE)
        return git.create_commit(None, self._who, self._who, "", outer.write(), [parent])

    def value(self, key: str, version: int) -> Any:
        return self._value(self._commits[version], key)

    def _value(self, commit: Any, key: str) -> Any:
        blob = self._blob(commit, key)
        return None if blob is None else msgpack.unpackb(blob.data)

    def _blob(self, commit: Any, key: str) -> Any:
        try:
            return self._git[commit].tree[_folder(key)][key]
        except KeyError:
            return None

    def state(self, version: int) -> dict[str, Any]:
        tree = self._git[self._commits[version]].tree
        return {blob.name: blob.data for folder in tree for blob in folder}

    def values(self, version: int) -> dict[str, Any]:
        return {key: msgpack.unpackb(packed) for key, packed in self.state(version).items()}

    def diff(self, before: int, after: int) -> dict[str, Any]:
        git = self._git
        trees = (git[self._commits[version]].tree for version in (before, after))
        found = next(trees).diff_to_tree(next(trees))
        changed = (delta.new_file for delta in found.deltas)
        return {file.path.split("/")[1]: git[file.id].data for file in changed}

    def history(self, key: str) -> list[int]:
        found, last = [], None
        for version, commit in enumerate(self._commits):
            blob = self._blob(commit, key)
            if blob is not None and blob.id != last:
                last = blob.id
                found.append((version, blob.data))
        return [version for version, _ in found]

    def fork(self, name: str, version: int | None = None) -> str:
        commit = self._commits[-1 if version is None else version]
        self._git.create_reference(f"refs/heads/{name}", commit)
        self._heads[name] = commit
        return name

    def read(self, branch: str, key: str) -> Any:
        return self._value(self._git.references[f"refs/heads/{branch}"].target, key)

    def write(self, branch: str, key: str, value: Any) -> None:
        head = self._commit(self._heads[branch], key, value)
        self._git.references[f"refs/heads/{branch}"].set_target(head)
        self._heads[branch] = head

    def prepare(self, ours: str) -> None:
        """Have our branch in the working tree, as everybody has who merges."""
        force = pygit2.enums.CheckoutStrategy.FORCE
        self._git.checkout(f"refs/heads/{ours}", strategy=force)

    def rehearse(self, ours: str, theirs: str) -> Any:
        return self._git.merge_commits(self._heads[ours], self._heads[theirs])

    def merge(self, ours: str, theirs: str) -> None:
        """Merge into the index and the working tree: with conflicts, no commit can be made."""
        self._git.merge(self._heads[theirs])

    def lost(self, ours: str, side: Mapping[str, Any]) -> set[str]:
        index = self._git.index
        blobs = {entry.path: [entry] for entry in index}
        blobs |= {each[0].path: each for each in index.conflicts or ()}
        return {
            key
            for key, value in side.items()
            if pygit2.hash(msgpack.packb(value))
            not in [blob.id for blob in blobs[f"{_folder(key)}/{key}"]]
        }

    def end_merge(self) -> None:
        self._git.state_cleanup()

    def size_bytes(self) -> int:
        return bytes_in(self._path / ".git" / "objects")


def _folder(key: str) -> str:
    return f"{int(key[1:]) % _FOLDERS:02}"
