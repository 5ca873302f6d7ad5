"""Merging branches of one agent's state, and taking back what was done."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any, Final, Self, TypeAlias, Unpack

from statecore.ancestry import Ancestry, moment_of, past_of
from statecore.appends import Source, WriteOptions
from statecore.errors import Conflict, InputError, MergeConflict
from statecore.events import EventType
from statecore.gate import Guard
from statecore.merges import (
    MergeResult,
    OnConflict,
    Plan,
    Strategies,
    nothing,
    plan,
    rules_for,
    seen_of,
)
from statecore.merging import Merged, Rules, done_to, merge3
from statecore.moments import Point
from statecore.packed import Packed
from statecore.policy import Permission
from statecore.register import RESOLUTION, branch_key
from statecore.sight import Sees
from statecore.state import Root
from statecore.stream import MAIN, StreamName
from statecore.taking_back import Past, last_act
from statecore.validator import StateValidator
from statecore.values import Value, pack
from statecore.writer import ATTEMPTS_MAX

NO_STRATEGIES: Final[Strategies] = {}

_Origin: TypeAlias = tuple[Guard, Permission]
"""Where values come from, and what it takes to see them there."""


class StateMerger(StateValidator):
    """The part of ``StateManager`` that merges and takes back."""

    # Merging

    async def merge(
        self,
        source: StateMerger | str,
        at: Point | None = None,
        *,
        on_conflict: OnConflict = "record",
        strategies: Strategies = NO_STRATEGIES,
        reuse: bool = False,
        dry_run: bool = False,
        **options: Unpack[WriteOptions],
    ) -> MergeResult:
        """Bring in what another branch of the agent did since both had a state in common.

        One event holds the result; by default nothing is refused and no side is lost. What both
        sides changed and can't be reconciled becomes a conflict value; see ``conflicts``.

        Args:
            source: the other branch.
            at: up to which moment of it; all of it where left out.
            on_conflict: what to do with conflicts.
            strategies: how to bring values together, before those recorded for the agent.
            reuse: decide conflicts as ``resolve(..., remember=True)`` decided the same before.
            dry_run: return what would come of it, and record nothing. It takes the same
                permissions.

        Raises:
            AccessDenied: a key that it changes may not be read there, or changed here.
            MergeConflict: with ``on_conflict="raise"``: says all that can't be reconciled.
        """
        source = await self._other(source)
        reading = Permission.READ if at is None else Permission.HISTORY
        self._require_told(on_conflict, strategies, (self, source), reading)
        other = source._stream, source._engine.timeline.root_at(source._stream, source._version(at))
        rules = await self._rules(on_conflict, strategies, reuse=reuse)
        make = partial(self._plan_merge, other=other, rules=rules, on_conflict=on_conflict)
        return await self._carry_out(make, options, (source._guard, reading), dry_run=dry_run)

    async def _other(self, source: StateMerger | str) -> StateMerger:
        """Return another branch, by its name or its manager, loaded.

        Raises:
            InputError: it is another agent's.
        """
        if isinstance(source, str):
            source = await self.branch(source, create=False)
        if source.agent_id != self.agent_id:
            raise InputError(f"{source.agent_id} is another agent; name a branch of this one")
        await source._load()
        return source

    def _plan_merge(self, root: Root, other: Any, rules: Rules, on_conflict: OnConflict) -> Plan:
        ours, theirs = past_of(self._stream, root), past_of(*other)
        if all(ours.get(line, 0) >= version for line, version in theirs.items()):
            return nothing(root.version)
        ancestry = Ancestry(self._engine.streams, self._engine.timeline, self.agent_id)
        fork = ancestry.fork((self._stream, root), other)
        when = self._when(self._stream, root), self._when(*other)
        merged = merge3(fork.state, fork.ours, fork.theirs, rules, when)
        source = Source(EventType.MERGED, (moment_of(*other),), theirs)
        made = plan(root.version, merged, source, on_conflict, is_needed=True)
        result = replace(
            made.result,
            bases=fork.bases,
            keys_ours=len(done_to(fork.state, fork.ours)),
            keys_theirs=len(done_to(fork.state, fork.theirs)),
        )
        return replace(made, result=result)

    def _when(self, stream: Any, root: Root) -> Callable[[str], tuple[int, str]]:
        """Return what tells when a key was last changed, and by which event."""

        def when(key: str) -> tuple[int, str]:
            version, _ = self._engine.streams.aids.history.last_touched(stream, key, root.version)
            if not version:
                return 0, ""
            record = self._engine.timeline.record(stream, version)
            return record.time, record.event_id

        return when

    # Taking back

    async def revert(
        self,
        version: int | None = None,
        *,
        since: Point | None = None,
        until: Point | None = None,
        by: str | None = None,
        on_conflict: OnConflict = "record",
        dry_run: bool = False,
        **options: Unpack[WriteOptions],
    ) -> MergeResult:
        """Take back what an event did, or all events of a range, or one actor's; as one new event.

        What others built on the same values since is kept, or becomes a conflict.

        Args:
            version: the event.
            since: the events after this moment, ...
            until: ... up to this one.
            by: of this actor only.
            on_conflict, dry_run: as for ``merge``.

        Raises:
            AccessDenied: of a key that it changes the history may not be seen, or it may not be
                changed.
        """
        self._guard.require(Permission.HISTORY)
        self._require_told(on_conflict, NO_STRATEGIES, (self,), Permission.HISTORY)
        versions = [version] if version is not None else await self._versions(since, until, by)
        if version is not None and not 0 < version <= (await self._loaded()).version:
            raise InputError(f"{self._stream.name} has no event {version}")
        rules = await self._rules(on_conflict, NO_STRATEGIES)
        source = Source(EventType.REVERTED, takes_back=tuple(versions))
        make = partial(self._plan_taking_back, source=source, rules=rules, on_conflict=on_conflict)
        return await self._carry_out(make, options, self._own_past, dry_run=dry_run)

    async def undo(
        self, by: str | None = None, **options: Unpack[WriteOptions]
    ) -> MergeResult | None:
        """Take back the last act of an actor, of this manager's by default, not undone before.

        Returns ``None`` where there is nothing left to undo.
        """
        return await self._undo(by, EventType.UNDONE, options)

    async def redo(
        self, by: str | None = None, **options: Unpack[WriteOptions]
    ) -> MergeResult | None:
        """Take back the actor's last ``undo``, unless the actor acted anew since.

        Returns ``None`` where there is nothing to redo.
        """
        return await self._undo(by, EventType.REDONE, options)

    async def _undo(
        self, by: str | None, kind: EventType, options: WriteOptions
    ) -> MergeResult | None:
        whose = by or options.get("actor") or self.actor
        options.setdefault("actor", self.actor or by)
        await self._load()
        self._guard.require(Permission.HISTORY)
        records = self._history(self._span(newest_first=True)).records()

        def actor_of(version: int) -> str | None:
            return self._engine.timeline.record(self._stream, version).actor

        found = last_act(records, whose, actor_of, undone=kind == EventType.REDONE)
        if not found:
            return None
        rules = await self._rules("record", NO_STRATEGIES)
        source = Source(kind, takes_back=(found,))
        make = partial(self._plan_taking_back, source=source, rules=rules, on_conflict="record")
        return await self._carry_out(make, options, self._own_past)

    def _plan_taking_back(
        self, root: Root, source: Source, rules: Rules, on_conflict: OnConflict
    ) -> Plan:
        merged = self._past(root).take_back(source.takes_back, rules)
        # An act that had no effect is undone, too: else the next undo would find it again.
        is_needed = merged.change.touches_anything or source.type != EventType.REVERTED
        return plan(root.version, merged, source, on_conflict, is_needed=is_needed)

    async def restore(
        self, at: Point, *, keys: Collection[str] | None = None, **options: Unpack[WriteOptions]
    ) -> MergeResult:
        """Make the state, or only these keys, what it was at a moment, by one new event.

        Raises:
            AccessDenied: of a key that it changes, or of one that is named, the history may not be
                seen, or it may not be changed.
        """
        await self._load()
        for key in (None,) if keys is None else keys:
            self._guard.require(Permission.HISTORY, key)
        version = self._version(at)

        def make(root: Root) -> Plan:
            change = self._past(root).back_to(version, keys)
            source = Source(EventType.RESTORED, (self._moment(version),))
            is_needed = change.touches_anything
            return plan(root.version, Merged(change), source, "record", is_needed=is_needed)

        return await self._carry_out(make, options, self._own_past)

    async def cherry_pick(
        self,
        source: StateMerger | str,
        *versions: int,
        on_conflict: OnConflict = "record",
        dry_run: bool = False,
        **options: Unpack[WriteOptions],
    ) -> MergeResult:
        """Do here what single events of another branch did, as one new event.

        Additions, and items for a list, build on what is here; other changes are merged.
        """
        source = await self._other(source)
        self._require_told(on_conflict, NO_STRATEGIES, (self, source), Permission.HISTORY)
        other_root = source._root()
        if not versions or not all(0 < version <= other_root.version for version in versions):
            raise InputError(f"{source._stream.name} has events 1 to {other_root.version}")
        other = source._past(other_root)
        rules = await self._rules(on_conflict, NO_STRATEGIES)
        origin = Source(EventType.PICKED, tuple(source._moment(version) for version in versions))

        def make(root: Root) -> Plan:
            merged = self._past(root).do_again(other, versions, rules)
            is_needed = merged.change.touches_anything
            return plan(root.version, merged, origin, on_conflict, is_needed=is_needed)

        return await self._carry_out(make, options, source._own_past, dry_run=dry_run)

    async def rebase(self, onto: StateMerger | str = MAIN, **options: Unpack[WriteOptions]) -> Self:
        """Begin this branch anew at the end of another, its own events done again one by one.

        Each keeps its actor and reason. The name is the new branch's from the moment on when all is
        done; until then, and under the manager that one has, the old one is as it was.

        Raises:
            InputError: ``"main"`` itself can't be rebased.
        """
        key = branch_key(self.branch_name)
        if isinstance(onto, str):
            onto = await self.branch(onto, create=False)
        onto._guard.require_fork(self.branch_name)
        fork = onto._moment((await onto._loaded()).version)
        generation = self._unused(self.branch_name, self._stream.name.generation + 1)
        new = self._on(StreamName(self.agent_id, self.branch_name, generation), fork)
        await self._load()
        async for event in self._history(self._span(since=self._stream.fork)):
            if event.change.touches_anything:
                await new.cherry_pick(
                    self,
                    event.version,
                    actor=event.actor,
                    reason=event.reason,
                    cause=event.cause,
                    metadata=event.metadata,
                )

        def move(old: Value) -> Value:
            return {**old, "fork": list(fork), "generation": generation}

        await self._sign(options)
        await self._register().atomic_update(key, move, **options)
        return new

    def _require_told(
        self,
        on_conflict: OnConflict,
        strategies: Strategies,
        sides: tuple[StateMerger, ...],
        operation: Permission,
    ) -> None:
        """Refuse functions that would be told of values that may not be read."""
        if callable(on_conflict) or any(map(callable, strategies.values())):
            for side in sides:
                side._guard.require(operation, whole=True)

    async def _loaded(self) -> Root:
        await self._load()
        return self._root()

    def _past(self, root: Root) -> Past:
        engine = self._engine
        return Past(engine.timeline, engine.streams.aids.history, self._stream, root)

    async def _rules(
        self, on_conflict: OnConflict, strategies: Strategies, *, reuse: bool = False
    ) -> Rules:
        recorded = list((await self._strategies()).items())
        remembered: dict[str, Packed] = {}
        if reuse:
            kept = await self._register().at()
            remembered = {
                key.removeprefix(RESOLUTION): pack(kept[key])
                for key in kept
                if key.startswith(RESOLUTION)
            }
        return rules_for(on_conflict, strategies, recorded, remembered)

    async def _versions(
        self, since: Point | None, until: Point | None, by: str | None
    ) -> list[int]:
        if since is None and until is None and by is None:
            raise InputError("say what to revert: a version, a range, or whose")
        await self._load()
        history = self._history(self._span(actor=by, since=since, until=until))
        return [event.version async for event in history]

    @property
    def _own_past(self) -> _Origin:
        return self._guard, Permission.HISTORY

    async def _carry_out(
        self,
        make: Callable[[Root], Plan],
        options: WriteOptions,
        origin: _Origin,
        *,
        dry_run: bool = False,
    ) -> MergeResult:
        """Make a plan for the state as it is and record it; anew where others changed its keys.

        Each key that it changes must be permitted at its origin, whether it is recorded or not.
        """
        there, reading = origin
        for attempt in range(ATTEMPTS_MAX):
            await self._load()
            sees = _both(
                self._guard.sight(Permission.READ, blind=True), there.sight(reading, blind=True)
            )
            try:
                made = await self._engine.waiter.away(make, self._root())
            except MergeConflict as conflict:
                raise (conflict if sees is None else conflict.narrowed(sees)) from None
            for key in made.result.change.operations:
                there.require(reading, key)
            if dry_run and made.source is not None:
                self._rehearse(made.result.change, options, made.source)
            if dry_run or made.source is None:
                return seen_of(made.result, sees)
            try:
                version = await self._write(
                    made.result.change,
                    {"expected_version": made.version, **options},
                    made.reads,
                    source=made.source,
                )
            except Conflict:
                if "expected_version" in options or attempt == ATTEMPTS_MAX - 1:
                    raise
            else:
                return replace(seen_of(made.result, sees), version=version)
        raise AssertionError  # the last attempt returned or raised


def _both(one: Sees | None, other: Sees | None) -> Sees | None:
    """Return what tells which keys may be seen by both."""
    if one is None or other is None:
        return one or other
    return lambda key: one(key) and other(key)
