"""One thread: its checkpoints put, found and listed, on as many branches as it was forked into.

A checkpoint is one event on the branch that it goes on with. Where that went on already, the
thread is forked; unless somebody else went on with what we took for the last one: then nothing is
written, since who continues a conversation must know how it went on.

Every method is a coroutine that never suspends under the blocking face.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final, NamedTuple, TypeAlias

from langgraph.checkpoint.base import CheckpointTuple, PendingWrite

from statecore.agent_state import AgentState
from statecore.change import Change
from statecore.errors import Conflict, RetriesExhausted, WrongExpectedVersion
from statecore.integrations.langgraph import layout
from statecore.integrations.langgraph.changes import Growth, change_of, says_nothing
from statecore.integrations.langgraph.layout import Envelope, Hidden
from statecore.integrations.langgraph.noted import Notes
from statecore.integrations.langgraph.objects import Copies, Library, Objects, Shelf
from statecore.integrations.langgraph.places import Found, Place, Places, event_id
from statecore.integrations.langgraph.writes import (
    Buffer,
    Held,
    Writes,
    as_value,
    in_order,
    joined,
    kept,
    late,
    pending,
)
from statecore.manager import StateManager
from statecore.operations import REMOVE, Put
from statecore.values import pack

_ATTEMPTS_MAX: Final = 1_000

Head: TypeAlias = tuple[StateManager, AgentState]


class New(NamedTuple):
    """A checkpoint to put."""

    checkpoint: Mapping[str, Any]
    metadata: Mapping[str, Any]
    branch: str | None = None  # the name of the fork, if it is one
    is_next: bool = True  # its tasks' writes were told; else it is the last of several steps


class Step(NamedTuple):
    """A checkpoint, and what tasks wrote since."""

    found: Found
    writes: list[PendingWrite]
    objects: Objects

    @property
    def parent(self) -> str | None:
        """The checkpoint before."""
        return self.found.envelope.parent

    @property
    def channels(self) -> list[str]:
        """Those that have a value."""
        return self.found.envelope.channels

    def value(self, channel: str) -> Any:
        """Return the value of a channel."""
        packed = self.found.state.packed(layout.channel_key(self.found.namespace, channel))
        assert packed is not None, "a checkpoint's channels are recorded with it"
        return self.objects.thing(packed)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of threads beside what is recorded."""

    buffer: Buffer = field(default_factory=Buffer)  # holds writes that are not recorded yet
    notes: Notes = field(default_factory=Notes)  # knows again which objects were written
    growth: Growth = field(default_factory=Growth)  # knows lists again that grew
    library: Library = field(default_factory=Library)  # has long lists at hand
    served: dict[tuple[str, str], str] = field(default_factory=dict)
    """The checkpoint we last took for a thread's last one, by thread and namespace."""
    serving: Lock = field(default_factory=Lock)  # held to set it
    going_on: list[tuple[str, str, str | None]] = field(default_factory=list)  # from these, now

    def forget(self, thread_id: str) -> None:
        """Know nothing of a thread any more."""
        for known in (self.buffer, self.notes, self.growth, self.library):
            known.forget(thread_id)
        for place in [place for place in list(self.served) if place[0] == thread_id]:
            self.served.pop(place, None)


class Thread:
    """The checkpoints of one thread."""

    def __init__(
        self,
        thread_id: str,
        manager: StateManager,
        objects: Objects,
        memory: Memory,
    ) -> None:
        """Read and write a thread.

        Args:
            thread_id: what the framework calls it.
            manager: of its agent, on the branch main.
            objects: turns objects into values and back.
            memory: what is known of it beside what is recorded.
        """
        self._id = thread_id
        self._places = Places(manager)
        self._objects = objects
        self._memory = memory
        self._held = memory.buffer.peek(thread_id)  # before anything of the thread is read

    @property
    def id(self) -> str:
        """What the framework calls it."""
        return self._id

    def found(self, namespace: str | None, expected: int = 0) -> AsyncIterator[Found]:
        """Yield checkpoints, hidden ones too, the greatest id first; see ``Places.found``."""
        return self._places.found(namespace, expected)

    # Putting

    async def _place_for(self, namespace: str, parent: str | None, branch: str | None) -> Place:
        """Return where the child of a checkpoint goes: behind it, or on a fork.

        Raises:
            WrongExpectedVersion: somebody else went on from what we took for the last checkpoint.
        """
        if parent is not None and (place := await self._places.head_with(namespace, parent)):
            return place
        heads = await self._places.heads()
        known = None if parent is None else await self._places.find(namespace, parent)
        if known is None or parent is None:
            state = heads[0][1] if heads else await self._places.main.to_change()
            return Place(self._places.main, state, None)
        # Looked at before what was served, which is set before it ends.
        is_ours = self._memory.going_on.count((self._id, namespace, parent)) > 1
        if not is_ours and self._memory.served.get((self._id, namespace)) == parent:
            raise WrongExpectedVersion(
                f"thread {self._id!r} went on from checkpoint {parent} elsewhere: read its latest "
                "checkpoint again, or give this checkpoint_id to fork from it"
            )
        return await self._places.fork(namespace, known, branch, len(heads))

    async def put(self, namespace: str, parent: str | None, new: New) -> None:
        """Record a checkpoint and what tasks wrote since its parent, as one event.

        Raises:
            WrongExpectedVersion: somebody else went on from what we took for the last checkpoint.
        """
        step = (self._id, namespace, parent or "")
        going_on = self._id, namespace, parent
        self._memory.going_on.append(going_on)
        try:
            with self._memory.buffer.taken(step) as held:
                await self._put(namespace, parent, new, held)
            self._memory.notes.drop([step])
            with self._memory.serving:
                self._memory.served[self._id, namespace] = str(new.checkpoint["id"])
        finally:
            self._memory.going_on.remove(going_on)

    async def _put(self, namespace: str, parent: str | None, new: New, held: Held) -> None:
        again, values = 0, new.checkpoint["channel_values"]
        envelope = Envelope(
            id=new.checkpoint["id"],
            parent=parent,
            channels=list(values),
            rest=self._objects.value(layout.rest_of(new.checkpoint)),
            metadata=self._objects.value(dict(new.metadata)),
        )
        noted = self._memory.notes.of((self._id, namespace, parent or "")) if new.is_next else None
        for _ in range(_ATTEMPTS_MAX):
            place = await self._place_for(namespace, parent, new.branch)
            if held.writes and parent is not None:
                await self._leave_behind(namespace, parent, place, held)
            before = Envelope.of(place.state, namespace)
            made = envelope.following(before)
            growing = self._memory.growth.of(self._id, place.manager.branch_name, noted)
            change = change_of(namespace, made, before, place, values, self._objects, growing)
            if parent is not None and place.envelope is not None:
                change = self._with_writes(change, namespace, parent, place, held.writes)
            name = event_id(namespace, made.id, again)
            try:
                version = await place.manager.apply(
                    change, event_id=name, expected_version=place.state.version
                )
            except Conflict:
                continue  # somebody was faster: it may still be only their tasks' writes
            if version > place.state.version:
                after = await place.manager.at(version)
                growing.learn(after)
                layout.remember(after, namespace, made)
                return
            known = await place.manager.at(version)
            there = Place(place.manager, known, None)
            told = Envelope.of(known, namespace)
            change = change_of(namespace, made, told, there, values, self._objects, growing)
            if says_nothing(change):
                return  # put before: a retry
            again += 1  # put before with other content, which this replaces
        raise RetriesExhausted(f"thread {self._id!r}: others were faster {_ATTEMPTS_MAX} times")

    async def _leave_behind(self, namespace: str, parent: str, place: Place, held: Held) -> None:
        """Record what is held where the parent is, if the child goes elsewhere."""
        on = None if place.envelope is None else place.manager
        if on is None or not await self._places.is_from(on, namespace, parent):
            await self._record(namespace, parent, held.writes)
            held.writes = {}

    def _with_writes(
        self, change: Change, namespace: str, parent: str, place: Place, writes: Writes
    ) -> Change:
        late_key, key = layout.late_key(namespace, parent), layout.writes_key(namespace)
        more = joined(late(place.state, namespace, parent), writes)
        if not more:
            return change
        if place.state.packed(late_key) is not None:
            change = change.operate(late_key, REMOVE)
        all_of_them = joined(kept(place.state, namespace, parent), more)
        return change.operate(key, Put(pack(as_value(all_of_them, parent))))

    async def record_writes(self, namespace: str, checkpoint_id: str) -> None:
        """Record what is held of a checkpoint's tasks as an event of its own."""
        step = (self._id, namespace, checkpoint_id)
        with self._memory.buffer.taken(step) as held:
            if held.writes:
                await self._record(namespace, checkpoint_id, held.writes)

    async def _record(self, namespace: str, checkpoint_id: str, writes: Writes) -> None:
        for _ in range(_ATTEMPTS_MAX):
            heads = await self._places.heads()
            manager, state = (
                self._places.main,
                heads[0][1] if heads else await self._places.main.to_change(),
            )
            key, before_next = layout.late_key(namespace, checkpoint_id), False
            before = late(state, namespace, checkpoint_id)
            for branch, head in heads:
                envelope = Envelope.of(head, namespace)
                # Where some are late already, newer ones must not stand below them.
                if before or envelope is None or envelope.id != checkpoint_id:
                    continue
                if await self._places.is_from(branch, namespace, checkpoint_id):
                    manager, state, key = branch, head, layout.writes_key(namespace)
                    before_next = True
                    before = kept(head, namespace, checkpoint_id)
            all_of_them = joined(before, writes)
            change = Change({key: Put(pack(as_value(all_of_them, checkpoint_id)))})
            try:
                version = await manager.apply(change, expected_version=state.version)
            except Conflict:
                continue
            if not before_next or await self._is_last(manager, version, namespace, checkpoint_id):
                return
        raise RetriesExhausted(f"thread {self._id!r}: others were faster {_ATTEMPTS_MAX} times")

    async def _is_last(
        self, manager: StateManager, version: int, namespace: str, checkpoint_id: str
    ) -> bool:
        """Tell whether a checkpoint was still the last when something was recorded behind it.

        The next one may have come in between, and nobody looks behind that for writes before it.
        """
        envelope = Envelope.of(await manager.at(version), namespace)
        return envelope is not None and envelope.id == checkpoint_id

    # Getting

    async def get(self, namespace: str, checkpoint_id: str | None) -> CheckpointTuple | None:
        """Return a checkpoint, or the last one; ``None`` where there is none."""
        heads = await self._places.heads()
        if not heads:
            return None
        hidden = Hidden.of(heads[0][1])
        if checkpoint_id is None:
            place = await self._places.latest(namespace, heads, hidden)
        else:
            self._memory.served.pop((self._id, namespace), None)
            place = await self._places.find(namespace, checkpoint_id)
        if place is None or place.envelope is None or (namespace, place.envelope.id) in hidden:
            return None
        if checkpoint_id is None:
            self._serve(namespace, place, heads)
        last = await self._places.last_with(place, namespace)
        found = Found(namespace, place.envelope, place.state, last)
        on = (self._id, place.manager.branch_name)
        growing = self._memory.growth.of(*on, None)
        made = self.tuple_of(found, heads[0][1], Copies(self._memory.library, on, self._objects))
        if last is place.state or checkpoint_id is None:
            for name, thing in made.checkpoint["channel_values"].items():
                key = layout.channel_key(namespace, name)
                if type(thing) is list and not growing.knows(key, place.state.packed(key)):
                    growing.see(key, thing.copy())  # the caller may change it
            growing.learn(place.state)
        return made

    def _serve(self, namespace: str, place: Place, heads: Sequence[Head]) -> None:
        """Know what we took for the last checkpoint, unless we put a later one meanwhile."""
        assert place.envelope is not None
        on, served = (self._id, namespace), self._memory.served
        with self._memory.serving:
            if not any(state is place.state for _, state in heads):
                served.pop(on, None)  # going on from there is a fork, nobody else's doing
            elif served.get(on, "") <= place.envelope.id:
                served[on] = place.envelope.id

    def tuple_of(self, found: Found, head: AgentState, shelf: Shelf | Copies) -> CheckpointTuple:
        """Return a checkpoint as the framework wants it."""
        namespace, envelope, state, last = found
        writes = pending(namespace, envelope.id, last, head, self.held(found))
        values = {}
        for name in envelope.channels:
            key = layout.channel_key(namespace, name)
            packed = state.packed(key)
            assert packed is not None, "a checkpoint's channels are recorded with it"
            values[name] = shelf.thing(key, packed)
        checkpoint: Any = {
            **self._objects.restored(envelope.rest),
            "id": envelope.id,
            "channel_values": values,
        }
        return CheckpointTuple(
            self.config(namespace, envelope.id),
            checkpoint,
            self._objects.restored(envelope.metadata),
            None if envelope.parent is None else self.config(namespace, envelope.parent),
            in_order(writes, self._objects),
        )

    def shelf(self) -> Shelf:
        """Return a shelf for checkpoints that are handed out together."""
        return Shelf(self._objects)

    def metadata_of(self, found: Found) -> Mapping[str, Any]:
        """Return what a checkpoint's metadata says."""
        metadata: Mapping[str, Any] = self._objects.restored(found.envelope.metadata)
        return metadata

    def held(self, found: Found) -> Writes:
        """Return what is held of a checkpoint's tasks."""
        return self._held.get((self._id, found.namespace, found.envelope.id), {})

    async def parent_of(self, namespace: str, checkpoint_id: str | None) -> str | None:
        """Return the parent of a checkpoint, or of the last one."""
        if checkpoint_id is None:
            heads = await self._places.heads()
            hidden = Hidden.of(heads[0][1]) if heads else Hidden()
            place = await self._places.latest(namespace, heads, hidden)
        else:
            place = await self._places.find(namespace, checkpoint_id)
        return place.envelope.parent if place and place.envelope else None

    async def step_at(self, namespace: str, checkpoint_id: str) -> Step | None:
        """Return a checkpoint's part in the history of delta channels; hidden ones too."""
        place = await self._places.find(namespace, checkpoint_id)
        if place is None or place.envelope is None:
            return None
        last, (_, head) = (
            await self._places.last_with(place, namespace),
            (await self._places.heads())[0],
        )
        found = Found(namespace, place.envelope, place.state, last)
        writes = pending(namespace, checkpoint_id, last, head, self.held(found))
        return Step(found, in_order(writes, self._objects), self._objects)

    def config(self, namespace: str, checkpoint_id: str) -> Any:
        """Return the config that names a checkpoint."""
        return {
            "configurable": {
                "thread_id": self._id,
                "checkpoint_ns": namespace,
                "checkpoint_id": checkpoint_id,
            }
        }

    async def hidden(self) -> tuple[AgentState, Hidden] | None:
        """Return the thread's state now, and which checkpoints are hidden; ``None`` of none."""
        heads = await self._places.heads()
        return (heads[0][1], Hidden.of(heads[0][1])) if heads else None

    # Hiding

    async def hide(self, hidden: Hidden) -> None:
        """Record which checkpoints are hidden."""
        await self._places.main.set_state(layout.HIDDEN, hidden.value(), reason="deleted or pruned")
