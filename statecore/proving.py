"""What an open store proves, tells auditors, and guards: its record, its keys, who may do what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Unpack

from statecore.access import FULL, Authority
from statecore.audit_opener import StreamsOpener
from statecore.audit_record import AuditRecord, Selection, SelectionOptions
from statecore.backup import BackupResult
from statecore.custody import KeyCustody
from statecore.manager import StateManager
from statecore.parts import Parts
from statecore.policy import Permission
from statecore.security import StateSecurityManager
from statecore.stream import MAIN, StreamName
from statecore.warden import StoreAccess
from statecore.went_back import WentBack, restores


class StoreProofs:
    """The part of a store that is for its owner and for auditors."""

    def __init__(self, parts: Parts, authority: Authority = FULL) -> None:
        self._parts = parts
        self._authority = authority
        self._engine = parts.engine

    @property
    def access(self) -> StoreAccess:
        """Who may do what, and what was denied."""
        return StoreAccess(self._engine, self._authority)

    async def signed_head(self) -> bytes:
        """Return a signed head of all that was recorded so far: a signed checkpoint, in a note.

        Kept elsewhere, it proves later that nothing of it was edited, removed or reordered:
        ``statecore.verify(..., anchors=[...])``. Formats: c2sp.org/tlog-checkpoint and signed-note.

        Raises:
            Damage: the log does not go on from the head that was signed before.
        """
        return await self._engine.waiter.away(self._parts.heads.head)

    async def prove(self, agent_id: str, version: int, *, branch: str = MAIN) -> bytes:
        """Return the proof that an event is in the log, for ``.tlog-proof`` (c2sp.org/tlog-proof).

        It is verified offline and without any key of the store, and says nothing of any other event
        but how many there are. Its extra data is the event's entry in the tree.

        Raises:
            VersionNotFound, BranchNotFound, Erased: there is no such event.
            InputError: this store does not tell positions.
            Damage: the tree in the store does not lead from the event to the signed head.
        """
        self.access.require(Permission.AUDIT)
        main = StateManager(self._engine, StreamName(agent_id), authority=self._authority)
        manager = main if branch == MAIN else await main.branch(branch, create=False)
        position = await manager.position_of(version)
        return await self._engine.waiter.away(self._parts.heads.prove, position)

    async def audit_policy(self) -> bytes:
        """Return the policy that trusts the key of this log: what an auditor is to be given once.

        Format: c2sp.org/tlog-policy; witnesses are added by hand.
        """
        return self._parts.heads.policy()

    async def backup(
        self, place: str | Path, *, on_progress: Callable[[int, int], None] = lambda _, __: None
    ) -> BackupResult:
        """Bring to a backup what is new since the last one, under a head signed now.

        Others go on writing meanwhile. What returns is durable there, and was read back; what an
        interrupted one has done already is not done again. Data keys are not in it.

        Args:
            place: a folder, or a URL that ``fsspec`` knows (``statecore[backup]``), of this store
                alone.
            on_progress: called, from any thread, with how many events are done, of how many.

        Raises:
            AccessDenied: ``audit`` is not permitted.
            InputError: the store is in no SQLite file, or the place holds another's backup.
            Damage: an event is not what the audit tree was made of, or the backup is damaged.
            StoreFull, StoreReadOnly, StoreFailure, StoreUnsupported: it can't be written there.
        """
        self.access.require(Permission.AUDIT)
        return await self._engine.waiter.away(self._parts.backup, place, on_progress)

    async def restores(self) -> list[WentBack]:
        """Return when this store was restored to an earlier moment, and from what; oldest first.

        Raises:
            AccessDenied: ``audit`` is not permitted.
        """
        self.access.require(Permission.AUDIT)
        return await restores(self._engine)

    @property
    def keys(self) -> KeyCustody:
        """What can be done with the store's keys.

        Raises:
            AccessDenied: ``keys`` is not permitted.
        """
        self.access.require(Permission.KEYS)
        return KeyCustody(self._engine, self._parts.births, self._authority)

    @property
    def security(self) -> StateSecurityManager:
        """What seals states to be kept elsewhere, or to be handed to others."""
        return StateSecurityManager(self._engine, self.access)

    def audit(self, **selection: Unpack[SelectionOptions]) -> AuditRecord:
        """Return the audit record: who did what, when, from where and why, in the log's order.

        To iterate over with ``async for``; nothing is read before. It holds the events of all
        agents and branches, those that were erased as such, and none of runtime states. Of keys
        whose history may not be seen, only who did something and when is told;
        ``statecore/audit_record.py`` says what a selection may ask for. Whatever reads or exports
        the record with a key comes by here.

        Raises:
            InputError: the selection makes no sense.
            AccessDenied: ``audit`` is not permitted.
        """
        self.access.require(Permission.AUDIT)
        chosen, log = Selection(**selection), self._engine.streams.log
        engine = self._engine
        opener = StreamsOpener(engine.streams, engine.gate, self._authority, chosen.agent)
        index_of, away = self._parts.heads.index_of, self._engine.waiter.away
        rows = log.tree.rows if log.tree else log.read_log  # the former takes what is damaged
        return AuditRecord(rows, log.last_position, index_of, opener, chosen, away)
