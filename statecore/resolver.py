"""Conflicts: which there may be, which there are, and how they are decided."""

from __future__ import annotations

from typing import Unpack

from statecore.ancestry import Ancestry
from statecore.appends import Source, WriteOptions
from statecore.change import Change
from statecore.errors import InputError, Path
from statecore.events import EventType
from statecore.merger import NO_STRATEGIES, StateMerger
from statecore.merges import fingerprint
from statecore.merging import done_to
from statecore.operations import Put
from statecore.packed import Packed, to_bytes
from statecore.policy import Permission
from statecore.register import RESOLUTION
from statecore.stream import MAIN
from statecore.values import Unresolved, Value, pack


class StateResolver(StateMerger):
    """The part of ``StateManager`` that decides conflicts."""

    async def contested(self) -> dict[str, list[str]]:
        """Return the keys that this branch and others changed since they parted, with those others.

        Only keys for which no strategy is recorded: merging them may end in conflicts.
        """
        sees = self._guard.sight(Permission.READ)
        rules = await self._rules("record", NO_STRATEGIES)
        ancestry = Ancestry(self._engine.streams, self._engine.timeline, self.agent_id)
        others = [MAIN, *await self.branch_names()]
        found: dict[str, list[str]] = {}
        for name in others:
            other = await self.branch(name, create=False)
            if other._stream is not self._stream:
                fork = ancestry.fork(
                    (self._stream, self._root()), (other._stream, (await other._loaded()))
                )
                mine, theirs = done_to(fork.state, fork.ours), done_to(fork.state, fork.theirs)
                for key in sorted(mine.keys() & theirs.keys()):
                    if rules.strategy(key) is None and (sees is None or sees(key)):
                        found.setdefault(key, []).append(name)
        return found

    async def conflicts(self) -> dict[Path, Unresolved]:
        """Return what is in conflict in the state now, by path."""
        state = await self.at()
        return state.conflicts

    async def resolve(
        self,
        key: str,
        value: Value = None,
        *,
        path: Path = (),
        pick: int | None = None,
        remember: bool = False,
        **options: Unpack[WriteOptions],
    ) -> int:
        """Decide a conflict, and return the version this made.

        Args:
            key: the key.
            value: what it is to be.
            path: the path to the conflict within the key's value, where it is in a nested one.
            pick: take the side of this number, as ``conflicts`` lists them, instead of a value.
            remember: decide the same conflict likewise when a merge with ``reuse`` meets it.

        Raises:
            InputError: there is no such conflict, or side.
        """
        self._guard.require(Permission.READ, key)
        if remember:
            self._guard.require(Permission.MERGE, key)  # now, not when half of it is done
        state = await self.at()
        found = state.conflicts.get((key, *path))
        if found is None:
            raise InputError(f"nothing is in conflict at {'/'.join(map(str, (key, *path)))}")
        packed: Packed | None
        if pick is None:
            packed = pack(value, (key, *path))
        elif 0 <= pick < len(found.adds):
            packed = found.adds[pick]
        else:
            raise InputError(f"there are {len(found.adds)} sides, counted from 0")
        change = state.decided(key, path, packed)
        options.setdefault("expected_version", state.version)
        version = await self._write(change, options, {key}, source=Source(EventType.RESOLVED))
        if remember and packed is not None:
            register = self._register()
            await register.apply(
                Change({RESOLUTION + fingerprint(found.packed): Put(to_bytes(packed))}),
                actor=self.actor,
            )
        return version
