"""A store's file as it is to be looked at without any key: what its headers in the clear tell."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn, Self, Unpack

from statecore.audit_record import AuditRecord, NoKeys, Selection, SelectionOptions
from statecore.errors import InputError, KeyMissing
from statecore.projections.audit_tree import AuditTree
from statecore.recorders.sqlite.reading import StoreFile


class SealedStore:
    """One moment of a store's file, without a key. Nothing is written to it, nor signed."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            StoreNotFound, ForeignSchema, NewerFormat, Damage: as named.
        """
        self._file = StoreFile(path)

    def audit(self, **selection: Unpack[SelectionOptions]) -> AuditRecord:
        """Return the audit record: when, which stream, which writer, how large.

        Raises:
            InputError: the selection asks for what only a key tells.
        """
        chosen, tree = Selection(**selection), self._file.tree
        if chosen.needs_key:
            raise InputError("agents, branches, actors and keys are sealed: only a key tells them")
        index_of = AuditTree(tree).index_of
        return AuditRecord(tree.rows, self._last_position, index_of, NoKeys(), chosen)

    def signed_head(self) -> bytes:
        """Return the last signed head that is there.

        Raises:
            InputError: nothing was signed yet.
        """
        head = self._file.tree.last_head()
        if head is None:
            raise InputError(f"{self._file.path} has no signed head yet")
        return head[1]

    def audit_policy(self) -> NoReturn:
        """Say that whom to trust is not to be learned from the file.

        Raises:
            KeyMissing: always.
        """
        raise KeyMissing("the policy takes the store's key; or give one that you have")

    def _last_position(self) -> int:
        return self._file.all("SELECT max(position) FROM events")[0][0] or 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
