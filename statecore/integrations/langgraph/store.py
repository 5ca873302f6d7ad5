"""A LangGraph store: long-term memory with versions, history, time to live and search.

All items lie in the state of one agent, one stream. Another layout, a stream for each namespace,
was put aside: an event is of one stream, so what a batch puts could not be one event, all or none;
searching a prefix and listing namespaces would open every stream and show each at another moment.
Within one stream they read one root, which is a consistent state of all items, now or at any
moment. It costs no concurrency: puts never conflict, whatever their namespace, and all streams of a
file share its writer anyway. A search looks only at what is in its namespace and below. Who wants
users apart, with data keys of their own that can be destroyed, gives each an ``agent_id``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

try:
    from langgraph.store.base import BaseStore, GetOp, ListNamespacesOp, PutOp, SearchOp
except ImportError as error:
    raise ImportError("this needs LangGraph: pip install 'statecore[langgraph]'") from error

from statecore.change import Change, Patch
from statecore.errors import InputError
from statecore.events import Event, to_microseconds
from statecore.integrations.langgraph.items import (
    EXPIRES,
    Items,
    fields_of,
    is_over,
    item_of,
    prolonged,
)
from statecore.integrations.langgraph.keys import Place, SortedKeys, key_of
from statecore.integrations.langgraph.opening import OpeningOver
from statecore.integrations.langgraph.sweeper import Sweeper
from statecore.integrations.langgraph.vectors import (
    AsyncEmbedder,
    BlockingEmbedder,
    Embedder,
    Index,
)
from statecore.manager import StateManager
from statecore.moments import Point
from statecore.opening import MEMORY
from statecore.opening import open as open_store
from statecore.operations import REMOVE, Operation
from statecore.packed import Packed
from statecore.policy import Permission
from statecore.store import BlockingStore, StateStore
from statecore.transaction import Transaction
from statecore.values import check_key
from statecore.waiting import run

if TYPE_CHECKING:
    from concurrent.futures import Future

    from langchain_core.embeddings import Embeddings
    from langgraph.store.base import IndexConfig, Item, Op, Result, TTLConfig

AGENT_ID: Final = "langgraph-store"

_SWEPT_AT_ONCE: Final = 1_000  # items, in one event
_SWEEP_MINUTES: Final = 5.0


@dataclass(frozen=True, slots=True)
class ItemVersion:
    """What an event made of an item: how it was then, and who did it, when and why."""

    item: Item | None
    """The item, as it was from then on; ``None`` where it was deleted."""
    event: Event
    """The event; its ``version``, ``time`` and ``actor`` say which, when and who."""


@dataclass(frozen=True, slots=True)
class _Face:
    """The state, and how to embed, in the way that one face waits."""

    manager: StateManager
    embedder: Callable[[Embeddings], Embedder]


class StatecoreStore(BaseStore):
    """LangGraph's store over an open statecore store, for plain functions and for coroutines.

    Both faces work over either kind of open store. The store is not closed by this; see
    ``from_conn_string`` for one that is.
    """

    supports_ttl = True

    def __init__(
        self,
        store: StateStore | BlockingStore,
        *,
        agent_id: str = AGENT_ID,
        actor: str | None = None,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
    ) -> None:
        """Keep items in an open store.

        Args:
            store: as ``statecore.open`` gives it.
            agent_id: whose state holds the items, and nothing else; any store over the same agent
                of the same file has the same items.
            actor: who puts and deletes, as history tells it.
            index: what of items to embed, and how, for searches by meaning; none without it.
            ttl: how long items live where a put does not say, and whether reading prolongs that.

        Raises:
            InputError: the agent or the index make no sense.
        """
        self.ttl_config = ttl
        self._index = None if index is None else Index(index)
        manager = store.for_tasks().manager(agent_id, actor=actor)
        plain = store.blocking().manager(agent_id, actor=actor).manager
        self._plain = _Face(plain, BlockingEmbedder)
        self._tasks = _Face(manager, AsyncEmbedder)
        self._clock = manager._engine.clock
        self._keys = SortedKeys(manager)
        self._point: Point | None = None
        self._sweeper = Sweeper(self.sweep_ttl)

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str,
        *,
        agent_id: str = AGENT_ID,
        actor: str | None = None,
        index: IndexConfig | None = None,
        ttl: TTLConfig | None = None,
        **options: Any,
    ) -> OpeningOver[StatecoreStore]:
        """Open a file for items: ``with StatecoreStore.from_conn_string("memory.db") as store``.

        Or ``async with``. The file is closed, and a sweeper stopped, when the block ends.

        Args:
            conn_string: the file, or ``":memory:"``.
            agent_id, actor, index, ttl: as the class takes them.
            options: as ``statecore.open`` takes them, ``key`` and ``passphrase`` for instance.

        Raises, on entering:
            StatecoreError: as ``statecore.open`` does, and the class.
        """
        location = MEMORY if conn_string == ":memory:" else conn_string
        make = partial(cls, agent_id=agent_id, actor=actor, index=index, ttl=ttl)
        return OpeningOver(open_store(location, **options), make)

    def close(self) -> None:
        """End the sweeper, if there is one. The store below stays open."""
        self.stop_ttl_sweeper()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Return the answer to each operation, in their order, when all is durable.

        What is asked is answered as of before the batch. All that it puts and deletes is one event:
        all of it is there, or none. Where it puts a key twice, the later counts.

        Raises:
            UnsupportedValue, LimitExceeded: a value can't be recorded; names the place in it.
            InvalidNamespaceError: a label of a namespace is not text, or empty.
            InputError: an operation makes no sense, or puts into the past.
        """
        return run(self._execute(self._plain, list(ops)))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Return the answer to each operation; as ``batch``, without holding up other tasks."""
        return await self._execute(self._tasks, list(ops))

    # Beyond LangGraph's own interface

    def at(self, point: Point) -> StatecoreStore:
        """Return the store as it was at a moment, to read: a version, a time, a tag, a position.

        An item whose time to live was over by then is not there. Reading raises what
        ``StateManager.at`` does where there is no such moment.
        """
        past = copy.copy(self)
        past._point = point
        return past

    def history(self, namespace: tuple[str, ...], key: str) -> list[ItemVersion]:
        """Return what became of an item, oldest first: each put and each deletion.

        That reading prolonged its time to live is left out.
        """
        return run(self._history(self._plain, namespace, key))

    async def ahistory(self, namespace: tuple[str, ...], key: str) -> list[ItemVersion]:
        """Return what became of an item, oldest first: each put and each deletion."""
        return await self._history(self._tasks, namespace, key)

    def sweep_ttl(self) -> int:
        """Delete the items whose time to live is over; return how many there were.

        They are not found anyway. Their history stays.
        """
        return run(self._sweep(self._plain))

    async def asweep_ttl(self) -> int:
        """Delete the items whose time to live is over; return how many there were."""
        return await self._sweep(self._tasks)

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> Future[None]:
        """Sweep every so many minutes, in a thread; 5 where neither this nor the settings say.

        Cancel what comes back, or call ``stop_ttl_sweeper``, to end it. It is done once it ended.
        One that runs already goes on as it is.
        """
        configured = (self.ttl_config or {}).get("sweep_interval_minutes")
        return self._sweeper.start(60 * (sweep_interval_minutes or configured or _SWEEP_MINUTES))

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """Stop sweeping; tell whether it ended within so many seconds, or did not run."""
        return self._sweeper.stop(timeout)

    # Both faces

    async def _execute(self, face: _Face, ops: list[Op]) -> list[Result]:
        for op in ops:
            if not isinstance(op, GetOp | SearchOp | ListNamespacesOp | PutOp):
                raise InputError(f"a store has no operation {type(op).__name__}")
        puts = {(op.namespace, op.key): op for op in ops if isinstance(op, PutOp)}
        if puts:
            self._require_present()
        vectors: dict[Place, dict[str, bytes]] = {}
        queries: dict[str, bytes] = {}
        if self._index is not None:
            embedder = face.embedder(self._index.embeddings)
            vectors = await self._index.of_items(puts.values(), embedder)
            for text in {op.query for op in ops if isinstance(op, SearchOp) and op.query}:
                queries[text] = await self._index.of_query(text, embedder)
        items = await self._items(face)
        change = _change(items, puts, vectors)
        if items.are_many and any(isinstance(op, SearchOp | ListNamespacesOp) for op in ops):
            away = face.manager._engine.waiter.away
            results: list[Result] = await away(_answers, items, ops, queries)
        else:
            results = _answers(items, ops, queries)
        if items.accessed and self._point is None:
            await self._prolong(face, items)
        if change.touches_anything:
            await face.manager.apply(change)
        return results

    async def _items(self, face: _Face) -> Items:
        """Return the items now, or at the moment this looks at.

        Raises:
            AccessDenied: not all of them may be read; a part of them would answer wrongly.
        """
        reading = Permission.READ if self._point is None else Permission.HISTORY
        face.manager._guard.require(reading, whole=True)
        root = (await face.manager.at(self._point))._root
        if self._point is None:
            # Never earlier than what was recorded, whatever the clock does.
            now = max(root.time, self._clock())
            return Items(root.cells, partial(self._keys.of, root), now)
        at = self._point
        then = to_microseconds(at) if isinstance(at, datetime) else root.time
        return Items(root.cells, partial(sorted, root.cells), then)

    def _require_present(self) -> None:
        if self._point is not None:
            raise InputError("the past can't be changed: put into the store itself")

    async def _prolong(self, face: _Face, items: Items) -> None:
        """Record that items were accessed and live longer, unless they were put anew since."""

        def prolong(tx: Transaction) -> None:
            for state_key in sorted(items.accessed):
                fields = tx.get(state_key)
                end = None if fields is None else prolonged(fields, items.now)
                if end is not None:
                    tx.patch(state_key, {EXPIRES: end})

        await face.manager.atomic_transaction(prolong)

    async def _sweep(self, face: _Face) -> int:
        self._require_present()
        swept = 0
        while True:
            items = await self._items(face)
            expired = list(islice(items.expired(), _SWEPT_AT_ONCE))
            if not expired:
                return swept
            delete = partial(_delete_expired, state_keys=expired, now=items.now)
            swept += await face.manager.atomic_transaction(delete, reason="time to live over")

    async def _history(
        self, face: _Face, namespace: tuple[str, ...], key: str
    ) -> list[ItemVersion]:
        state_key = key_of(namespace, key)
        await face.manager.version()  # loads the state, in its own way of waiting
        versions: list[ItemVersion] = []
        packed: Packed | None = None
        async for event in face.manager.history(state_key, until=self._point):
            operation = event.change.operations.get(state_key)
            if _is_access(operation):
                continue
            if event.change.cleared:
                packed = None
            if operation is not None:
                packed = operation.apply(packed)
            item = None if packed is None else item_of((namespace, key), fields_of(packed))
            versions.append(ItemVersion(item, event))
        return versions


def _answers(items: Items, ops: list[Op], queries: dict[str, bytes]) -> list[Result]:
    """Return the answer to each operation."""

    def answer(op: Op) -> Result:
        if isinstance(op, GetOp):
            return items.get(op)
        if isinstance(op, SearchOp):
            return items.search(op, queries.get(op.query or ""))
        if isinstance(op, ListNamespacesOp):
            return items.list_namespaces(op)
        return None

    return [answer(op) for op in ops]


def _change(
    items: Items, puts: dict[Place, PutOp], vectors: dict[Place, dict[str, bytes]]
) -> Change:
    """Return the change that all puts and deletions come to."""
    operations: dict[str, Operation] = {}
    for place, op in puts.items():
        state_key = key_of(*place)
        check_key(state_key)
        if op.value is not None:
            operations[state_key] = items.change_of(state_key, op, vectors.get(place))
        elif state_key in items:
            operations[state_key] = REMOVE
    return Change(operations)


def _delete_expired(tx: Transaction, state_keys: list[str], now: int) -> int:
    """Delete those items that are still over; return how many there were."""
    over = [key for key in state_keys if (fields := tx.get(key)) and is_over(fields, now)]
    for state_key in over:
        tx.delete(state_key)
    return len(over)


def _is_access(operation: Operation | None) -> bool:
    """Tell whether all that an operation did is to prolong an item's time to live."""
    return isinstance(operation, Patch) and operation.change.operations.keys() == {EXPIRES}
