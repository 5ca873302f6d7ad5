"""The security of single states: sealed to be kept elsewhere, handed to others, and read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from statecore import handover, sealing
from statecore.access import Context, Decision, validate_access
from statecore.agent_state import AgentState
from statecore.engine import Engine
from statecore.handover import ImportedState
from statecore.policy import Permission
from statecore.warden import StoreAccess

__all__ = ["ImportedState", "StateSecurityManager"]


class StateSecurityManager:
    """Seals states and opens them, under either face. Made by ``StateStore.security``."""

    def __init__(self, engine: Engine, access: StoreAccess) -> None:
        self._engine = engine
        self._access = access

    @staticmethod
    def validate_access(operation: Permission | str, context: Context) -> Decision:
        """Decide whether an operation is allowed in a context, with the rules that decide it. Pure.

        What a store's policy says now, or said, is asked with ``store.access.decide``.
        """
        return validate_access(operation, context)

    def encrypt_state(self, state: AgentState) -> bytes:
        """Return a whole state as sealed bytes, to be kept anywhere.

        Only this store, with its key, opens them again. They are bound to agent, branch and
        version, and are under the state's own data key: once that is erased they don't open any
        more, wherever they are.

        Raises:
            InputError: the state was never written to in this store.
            AccessDenied: the state shows only a part, and the whole may not be read.
            Erased, Expired: it has ended meanwhile.
        """
        if state.is_filtered:  # the seal would hold all of it
            self._access.require(Permission.READ, state.id)
        return sealing.encrypt_state(self._engine, state)

    def decrypt_state(
        self, sealed: bytes, *, agent_id: str | None = None, version: int | None = None
    ) -> AgentState:
        """Return the state that ``encrypt_state`` sealed.

        Args:
            sealed: the bytes.
            agent_id: whose it must be.
            version: of which version it must be.

        Raises:
            InputError: it is another's, or of another version.
            Erased, Expired: the state has ended since.
            DamagedRecord: it was changed, is another store's, or no sealed state.
            AccessDenied: the whole state may not be read.
        """
        state = sealing.decrypt_state(self._engine, sealed, agent_id, version)
        self._access.require(Permission.READ, state.id)
        return state

    def export_state(self, state: AgentState, target: BinaryIO, recipients: Sequence[str]) -> None:
        """Write a state for other parties: an age file (c2sp.org/age) that only they can read.

        What it holds is lines of JSON; any implementation of age opens it. It does not end with the
        state: what was handed over can't be erased from here. Written key by key; it is whole once
        this returned.

        Args:
            state: what to hand over.
            target: a binary stream, such as a file opened with ``"xb"``.
            recipients: public keys, ``age1...``.

        Raises:
            InvalidKey: one of the recipients is none.
            InputError: there is none, or ``statecore[age]`` is not installed.
            AccessDenied: ``export`` is not permitted.
        """
        self._access.require(Permission.EXPORT, state.id)
        handover.export_state(state, target, recipients)

    @staticmethod
    def import_state(source: BinaryIO, identity: str) -> ImportedState:
        """Read what ``export_state`` wrote, here or elsewhere; nothing is recorded by it.

        Args:
            source: a binary stream.
            identity: ``AGE-SECRET-KEY-1...``, or the text of an identity file.

        Raises:
            InvalidKey, WrongKey: the identity is none, or the file is to others.
            DamagedRecord, NewerFormat: it was changed, is no state, or a newer statecore's.
        """
        return handover.import_state(source, identity)
