"""LangGraph's checkpointer: both its faces, over one open store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final, Self

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from statecore.errors import InputError, StatecoreError
from statecore.integrations.langgraph.deltas import delta_history
from statecore.integrations.langgraph.flusher import Flusher
from statecore.integrations.langgraph.listing import Criteria, listed
from statecore.integrations.langgraph.noted import Step
from statecore.integrations.langgraph.objects import Objects
from statecore.integrations.langgraph.opening import OpeningOver
from statecore.integrations.langgraph.thread import Memory, New, Thread
from statecore.integrations.langgraph.tidying import copy_thread, hide_runs, prune
from statecore.integrations.langgraph.writes import written
from statecore.opening import open as open_store
from statecore.store import BlockingStore, StateStore
from statecore.waiting import run, run_each

LINGER_SECONDS: Final = 0.05
_DURABILITY: Final = "__pregel_durability"  # where the framework says when it puts checkpoints
_AT_HAND: Final = 16  # threads; of more, their states are kept as the store's own limit says


class StatecoreSaver(BaseCheckpointSaver[Any]):
    """A checkpointer that keeps each thread as an agent's state, and each super-step as an event.

    A checkpoint and what tasks wrote since the one before are one durable event when ``put``
    returns. Until then, what a task wrote is held for ``linger_seconds`` at most; an error, an
    interrupt or a resumption is recorded at once, with all that is held. Safe from any thread and
    any event loop; several processes may share a store.

    It raises the errors of ``statecore``. ``WrongExpectedVersion`` says that another process went
    on from the checkpoint that this one took for the last.
    """

    def __init__(
        self,
        store: StateStore | BlockingStore,
        *,
        serde: SerializerProtocol | None = None,
        actor: str | None = None,
        prefix: str = "",
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        """Keep checkpoints in an open store, which stays the caller's to close.

        Args:
            store: the store, of either face.
            serde: serializes what JSON has no name for; LangGraph's own, which never unpickles
                unless told so, where left out.
            actor: who the events say wrote them.
            prefix: of the agents' ids, before the thread's.
            linger_seconds: how long what a task wrote may wait for its step's checkpoint; with 0
                it is durable when ``put_writes`` returns, as an event of its own.
        """
        super().__init__(serde=serde)
        self._tasks = store.for_tasks()
        self._blocking = store.blocking().store
        self._manager = lru_cache(_AT_HAND)(partial(StateStore.manager, actor=actor))
        self._prefix = prefix
        self._linger = linger_seconds
        self._memory = Memory()
        self._flusher = Flusher(self._flush_due, linger_seconds)

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str,
        *,
        serde: SerializerProtocol | None = None,
        actor: str | None = None,
        linger_seconds: float = LINGER_SECONDS,
        **options: Any,
    ) -> OpeningOver[Self]:
        """Open a store and a saver over it: ``with``, or ``async with``.

        Args:
            conn_string: a SQLite file, or ``":memory:"``.
            serde: as in the constructor.
            actor: as in the constructor.
            linger_seconds: as in the constructor.
            options: of ``statecore.open``, such as ``key`` or ``passphrase``.
        """
        location = "memory:" if conn_string == ":memory:" else conn_string
        make = partial(cls, serde=serde, actor=actor, linger_seconds=linger_seconds)
        return OpeningOver(open_store(location, **options), make)

    def flush(self) -> None:
        """Record all that is held.

        Raises:
            StatecoreError: some of it can't be recorded, which stays held; all else is.
        """
        self._record(self._memory.buffer.due(0))

    def _record(self, steps: Sequence[Step]) -> None:
        failed: list[StatecoreError] = []
        for thread_id, namespace, checkpoint_id in steps:
            try:
                run(self._thread(thread_id, self._blocking).record_writes(namespace, checkpoint_id))
            except StatecoreError as error:  # too large, say: the others go on
                failed.append(error)
        if failed:
            raise failed[0]

    def close(self) -> None:
        """Record all that is held, and hold nothing any more. The store stays open."""
        self._flusher.close()
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Getting

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, or a thread's last one; ``None`` where there is none."""
        return run(self._get(config, self._blocking))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint, or a thread's last one; ``None`` where there is none."""
        return await self._get(config, self._tasks)

    async def _get(self, config: RunnableConfig, store: StateStore) -> CheckpointTuple | None:
        thread = self._thread(_thread_id(config), store)
        return await thread.get(_namespace(config), get_checkpoint_id(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the framework's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, the last one first; a paused iteration blocks nobody.

        The tuples share the items of lists that grew out of one another.
        """
        yield from run_each(self._list(self._blocking, config, filter, before, limit))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - the framework's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints, as ``list`` does."""
        async for each in self._list(self._tasks, config, filter, before, limit):
            yield each

    def _list(
        self,
        store: StateStore,
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,  # noqa: A002 - the framework's name
        before: RunnableConfig | None,
        limit: int | None,
    ) -> AsyncIterator[CheckpointTuple]:
        given = config["configurable"] if config else {}
        if config and "thread_id" not in given:
            raise InputError("a config names its thread_id; list(None) lists all threads")
        criteria = Criteria(
            namespace=given.get("checkpoint_ns"),
            checkpoint_id=given.get("checkpoint_id"),
            before=get_checkpoint_id(before) if before else None,
            metadata=filter or {},
            limit=limit,
        )
        thread_id = given.get("thread_id")
        return listed(self._threads(store, None if thread_id is None else str(thread_id)), criteria)

    async def _threads(
        self, store: StateStore, thread_id: str | None = None
    ) -> AsyncIterator[Thread]:
        """Yield a thread, or all."""
        if thread_id is not None:
            yield self._thread(thread_id, store)
            return
        for birth in await store.agents():
            if birth.agent_id.startswith(self._prefix):
                yield self._thread(birth.agent_id.removeprefix(self._prefix), store)

    # Putting

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Record a checkpoint; it is durable when the call returns.

        Raises:
            WrongExpectedVersion: another process went on from what was read as the last one.
            LimitExceeded: it is too large.
        """
        return run(self._put(self._blocking, config, checkpoint, metadata))

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Record a checkpoint; as ``put`` does."""
        return await self._put(self._tasks, config, checkpoint, metadata)

    async def _put(
        self,
        store: StateStore,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
    ) -> RunnableConfig:
        thread, namespace = self._thread(_thread_id(config), store), _namespace(config)
        said: Any = get_checkpoint_metadata(config, metadata)
        given = config["configurable"]
        new = New(checkpoint, said, given.get("branch"), given.get(_DURABILITY) != "exit")
        await thread.put(namespace, get_checkpoint_id(config), new)
        made: RunnableConfig = thread.config(namespace, checkpoint["id"])
        return made

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Take what a task wrote since a checkpoint; see the class for when it is durable."""
        run(self._put_writes(self._blocking, config, writes, task_id, task_path))

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Take what a task wrote since a checkpoint; as ``put_writes`` does."""
        await self._put_writes(self._tasks, config, writes, task_id, task_path)

    async def _put_writes(
        self,
        store: StateStore,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> None:
        checkpoint_id = get_checkpoint_id(config)
        if checkpoint_id is None:
            raise InputError("writes belong to a checkpoint: the config needs its checkpoint_id")
        thread_id, namespace = _thread_id(config), _namespace(config)
        made = written(writes, task_id, task_path, Objects(self.serde))
        step = (thread_id, namespace, checkpoint_id)
        for dropped in self._memory.notes.add(step, writes, task_id):
            self._memory.growth.forget(dropped)  # what tasks wrote there is not known any more
        self._memory.buffer.add(step, made)
        if not self._linger or any(at < 0 for _, at in made):
            await self._thread(thread_id, store).record_writes(namespace, checkpoint_id)
        else:
            self._flusher.attend()

    # Deleting and copying

    def delete_thread(self, thread_id: str) -> None:
        """Destroy a thread's data keys: nothing of it can be read any more, by anybody."""
        run(self._delete(self._blocking, thread_id))

    async def adelete_thread(self, thread_id: str) -> None:
        """Destroy a thread's data keys; as ``delete_thread`` does."""
        await self._delete(self._tasks, thread_id)

    async def _delete(self, store: StateStore, thread_id: str) -> None:
        thread_id = str(thread_id)
        self._memory.forget(thread_id)
        await store.erase(self._prefix + thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Hide the checkpoints of some runs, and what their tasks wrote, in all threads.

        They stay in the log, as all history does; ``delete_thread`` destroys.
        """
        run(hide_runs(self._threads(self._blocking), run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Hide the checkpoints of some runs; as ``delete_for_runs`` does."""
        await hide_runs(self._threads(self._tasks), run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints of a thread, and what its tasks wrote, to another.

        Oldest first; where it is interrupted, copying again goes on.
        """
        run(self._copy(self._blocking, source_thread_id, target_thread_id))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread; as ``copy_thread`` does."""
        await self._copy(self._tasks, source_thread_id, target_thread_id)

    async def _copy(self, store: StateStore, source: str, target: str) -> None:
        threads = self._thread(str(source), store), self._thread(str(target), store)
        await copy_thread(*threads, self._memory.buffer)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Hide all but each namespace's last checkpoint, or ``"delete"`` whole threads.

        What is hidden stays in the log, so that delta channels can still be rebuilt from it.
        """
        run(self._prune(self._blocking, thread_ids, strategy))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Hide all but the last checkpoints; as ``prune`` does."""
        await self._prune(self._tasks, thread_ids, strategy)

    async def _prune(self, store: StateStore, thread_ids: Sequence[str], strategy: str) -> None:
        if strategy not in ("keep_latest", "delete"):
            raise InputError(f"strategy is keep_latest or delete, not {strategy!r}")
        for thread_id in thread_ids:
            if strategy == "delete":
                await self._delete(store, thread_id)
            else:
                await prune(self._thread(str(thread_id), store))

    # Delta channels

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what was written to channels since their last whole value, oldest first."""
        return run(self._deltas(self._blocking, config, channels))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what was written to channels; as ``get_delta_channel_history`` does."""
        return await self._deltas(self._tasks, config, channels)

    async def _deltas(
        self, store: StateStore, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        thread = self._thread(_thread_id(config), store)
        return await delta_history(thread, _namespace(config), get_checkpoint_id(config), channels)

    # Versions

    def get_next_version(self, current: Any, channel: None) -> Any:
        """Return the version after another: of the same type, whoever made that one."""
        if isinstance(current, str):
            return f"{int(current.split('.')[0]) + 1:032}.{0:016}"
        return 1 if current is None else int(current) + 1

    def _thread(self, thread_id: str, store: StateStore) -> Thread:
        manager = self._manager(store, self._prefix + thread_id)
        return Thread(thread_id, manager, Objects(self.serde), self._memory)

    def _flush_due(self) -> bool:
        """Record what was held for long enough; tell whether anything is still held."""
        self._record(self._memory.buffer.due(self._linger))
        return bool(self._memory.buffer.due(0))


def _thread_id(config: RunnableConfig) -> str:
    return str(config["configurable"]["thread_id"])


def _namespace(config: RunnableConfig) -> str:
    return str(config["configurable"].get("checkpoint_ns") or "")
