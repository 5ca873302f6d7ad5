"""An old database of checkpoints brought into a store, and compared with what came of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from langgraph.checkpoint.base import CheckpointTuple, PendingWrite
from langgraph.checkpoint.serde.base import CipherProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from statecore.errors import Damage, InputError, InvalidKey, KeyMissing
from statecore.integrations.langgraph.noted import Step
from statecore.integrations.langgraph.objects import Objects
from statecore.integrations.langgraph.source import Row, Source, WriteRow, source
from statecore.integrations.langgraph.stored import AsStored, Reader
from statecore.integrations.langgraph.thread import Memory, New, Thread
from statecore.integrations.langgraph.thread import Step as ThreadStep
from statecore.integrations.langgraph.writes import Buffer, Write, Writes, in_order
from statecore.store import BlockingStore
from statecore.waiting import run, run_each

_ACTOR: Final = "import"
_HELD_MAX: Final = 64  # checkpoints, of whose tasks' writes no child has come yet
_NAMESPACES_MAX: Final = 256
_NAMED_MAX: Final = 5
_KEY_VARIABLE: Final = "LANGGRAPH_AES_KEY"


@dataclass(slots=True)
class Counts:
    """What was found, brought in and compared."""

    threads: int = 0
    checkpoints: int = 0
    writes: int = 0
    added: int = 0  # of the checkpoints, those that were not there yet
    orphans: int = 0  # writes of checkpoints that are not there, left out
    equal: int = 0  # of the checkpoints, once compared
    different: list[str] = field(default_factory=list)  # some of the others, by name


class Import:
    """Brings an old database into a store; doing so again goes on, and adds nothing twice."""

    def __init__(self, old: Source, cipher: CipherProtocol | None) -> None:
        """Bring in a database; see ``importing``."""
        self.old = old
        self.counts = Counts(orphans=old.orphans())
        self._cipher = cipher
        self._objects = Objects(AsStored())

    def bring(self, store: BlockingStore) -> Iterator[int]:
        """Put each checkpoint into a store, parents first; yield how many bytes each had.

        Raises:
            InputError: one was serialized in a way that can't be read without running its code.
            WrongKey: the key does not open it.
            Damage: it is not what it says.
        """
        for thread_id in self.old.threads():
            self.counts.threads += 1
            buffer = Buffer()
            thread = self._thread(store, thread_id, buffer)
            inlet = _Inlet(self.old, thread, buffer, self._unpack(), self.counts)
            for place in self.old.places(thread_id):
                yield inlet.take(*place)
            inlet.finish()

    def compare(self, store: BlockingStore) -> Iterator[int]:
        """Compare each checkpoint with what a store has; yield how many bytes each had."""
        for thread_id in self.old.threads():
            thread, unpack = self._thread(store, thread_id, Buffer()), self._unpack()
            now, compared = run(thread.hidden()), 0
            shelf = thread.shelf()
            for found in run_each(thread.found(None)):
                place = (thread_id, found.namespace, found.envelope.id)
                row = self.old.row(*place)
                if now is None or row is None:
                    continue  # it came after the import
                theirs = unpack.tuple_of(thread, place, row, self.old.writes(*place))
                ours = thread.tuple_of(found, now[0], shelf)
                self._judge(place, is_same=_is_same(theirs, ours))
                compared += 1
                yield row.size
            missing = self.old.count(thread_id) - compared
            if missing:
                self._judge((thread_id, f"{missing:,} missing"), is_same=False)

    def require_equal(self) -> None:
        """Do nothing where every checkpoint is as it was.

        Raises:
            Damage: one is not, or is missing; names some.
        """
        counts = self.counts
        if counts.equal != counts.checkpoints:
            raise Damage(
                f"{counts.checkpoints - counts.equal:,} checkpoints did not come through as they "
                f"were, such as {', '.join(counts.different)}; keep the old database"
            )

    def _judge(self, place: tuple[str, ...], *, is_same: bool) -> None:
        self.counts.equal += is_same
        if not is_same and len(self.counts.different) < _NAMED_MAX:
            self.counts.different.append("/".join(filter(None, place)))

    def _thread(self, store: BlockingStore, thread_id: str, buffer: Buffer) -> Thread:
        manager = store.store.manager(thread_id, actor=_ACTOR)
        return Thread(thread_id, manager, self._objects, Memory(buffer))

    def _unpack(self) -> _Unpack:
        return _Unpack(Reader(self._cipher), self._objects)


class _Inlet:
    """Takes the checkpoints of one thread, the least id first."""

    def __init__(
        self, old: Source, thread: Thread, buffer: Buffer, unpack: _Unpack, counts: Counts
    ) -> None:
        self._old = old
        self._thread = thread
        self._buffer = buffer
        self._unpack = unpack
        self._counts = counts
        self._last: dict[str, str] = {}  # by namespace: the checkpoint put last

    def take(self, namespace: str, checkpoint_id: str) -> int:
        """Put a checkpoint, behind its parents, and return how many bytes it had."""
        line = [checkpoint_id]
        parent = self._old.parent(self._thread.id, namespace, checkpoint_id)
        if parent is not None and parent > checkpoint_id:  # a clock was set back
            while parent and parent not in line and not self._step(namespace, parent):
                line.append(parent)
                parent = self._old.parent(self._thread.id, namespace, parent)
        size = 0
        for each in reversed(line):
            size = self._take(namespace, each)
        for _, *place in self._buffer.due(0)[:-_HELD_MAX]:
            run(self._thread.record_writes(*place))
        self._counts.checkpoints += 1
        return size

    def finish(self) -> None:
        """Record the writes of checkpoints that have no child."""
        for _, *place in self._buffer.due(0):
            run(self._thread.record_writes(*place))

    def _step(self, namespace: str, checkpoint_id: str) -> ThreadStep | None:
        return run(self._thread.step_at(namespace, checkpoint_id))

    def _take(self, namespace: str, checkpoint_id: str) -> int:
        """Put a checkpoint, unless it is there; hold what tasks wrote since, unless that is.

        What is held goes with the checkpoint's child, as it does when a graph runs.
        """
        place = (self._thread.id, namespace, checkpoint_id)
        row, step = self._old.row(*place), self._step(namespace, checkpoint_id)
        if row is None:
            return 0
        if step is None:
            checkpoint, metadata = self._unpack.checkpoint(place, row)
            if row.parent is not None and row.parent != self._last.get(namespace):
                # A fork would take the writes along to where its parent is not.
                run(self._thread.record_writes(namespace, row.parent))
            if len(self._last) > _NAMESPACES_MAX:
                self._last.clear()
            self._last[namespace] = checkpoint_id
            run(self._thread.put(namespace, row.parent, New(checkpoint, metadata)))
            self._counts.added += 1
        writes = self._unpack.writes(place, self._old.writes(*place))
        self._counts.writes += len(writes)
        there = [] if step is None else step.writes
        if any(write not in there for write in in_order(writes, self._unpack.objects)):
            self._buffer.add(place, writes)
        return row.size


class _Unpack:
    """Takes the rows of one thread apart."""

    def __init__(self, reader: Reader, objects: Objects) -> None:
        self._reader = reader
        self.objects = objects

    def checkpoint(self, place: Step, row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a checkpoint and its metadata."""
        what = _name("checkpoint", place)
        made = self._reader.checkpoint(what, place[1], row.parent, row.type, row.checkpoint)
        return made, self._metadata(what, row)

    def tuple_of(self, thread: Thread, place: Step, row: Row, rows: list[WriteRow]) -> Any:
        """Return what the old saver shows: each list made anew, objects as they were stored."""
        what = _name("checkpoint", place)
        made = self._reader.value(what, row.type, row.checkpoint)
        _, namespace, checkpoint_id = place
        return CheckpointTuple(
            thread.config(namespace, checkpoint_id),
            made,
            self._metadata(what, row),
            None if row.parent is None else thread.config(namespace, row.parent),
            in_order(self.writes(place, rows), self.objects),
        )

    def writes(self, place: Step, rows: list[WriteRow]) -> Writes:
        """Return what tasks wrote since a checkpoint."""
        what = _name("a write since checkpoint", place)
        return {
            (row.task_id, row.at): Write(
                row.path,
                row.channel,
                self.objects.both(self._reader.value(what, row.type, row.value))[0],
            )
            for row in rows
        }

    @staticmethod
    def _metadata(what: str, row: Row) -> dict[str, Any]:
        try:
            metadata = json.loads(row.metadata or "{}")
        except ValueError as error:
            raise Damage(f"the metadata of {what} does not parse") from error
        if type(metadata) is not dict:
            raise Damage(f"the metadata of {what} is not a map")
        return metadata


def _is_same(old: CheckpointTuple, ours: CheckpointTuple) -> bool:
    """Tell whether two tuples say the same, in type as well; a field left out says ``None``."""
    names = old.checkpoint.keys() | ours.checkpoint.keys()
    pairs = [
        *((old.checkpoint.get(name), ours.checkpoint.get(name)) for name in names),
        (old.metadata, ours.metadata),
        (old.config, ours.config),
        (old.parent_config, ours.parent_config),
        (_lists(old.pending_writes), _lists(ours.pending_writes)),
    ]
    return all(_is_strictly(*pair) for pair in pairs)


def _lists(writes: list[PendingWrite] | None) -> list[list[Any]]:
    return list(map(list, writes or []))


def _is_strictly(old: Any, ours: Any) -> bool:
    kind = type(old)
    if kind is not type(ours):
        return False
    if kind is dict:
        return old.keys() == ours.keys() and all(_is_strictly(old[key], ours[key]) for key in old)
    if kind is list:
        return len(old) == len(ours) and all(map(_is_strictly, old, ours))
    return bool(old == ours) if kind is not float else old.hex() == ours.hex()


def _name(kind: str, place: Step) -> str:
    return f"{kind} {'/'.join(filter(None, place))}"


@contextmanager
def importing(path: Path) -> Iterator[Import]:
    """Open an old database of LangGraph's SqliteSaver or AsyncSqliteSaver, only to read it.

    Where it was encrypted, the key is LANGGRAPH_AES_KEY of the environment, as for LangGraph.

    Raises:
        StoreNotFound: there is no file.
        ForeignSchema: it is not such a database.
        KeyMissing: it was encrypted, and there is no key.
        InvalidKey: what is given is no key.
        Damage: SQLite can't read it.
    """
    with source(path) as old:
        yield Import(old, _cipher() if old.is_encrypted() else None)


def _cipher() -> CipherProtocol:
    if not os.environ.get(_KEY_VARIABLE):
        raise KeyMissing(f"the old database is encrypted: set {_KEY_VARIABLE}, as for LangGraph")
    try:
        return EncryptedSerializer.from_pycryptodome_aes().cipher
    except ImportError as error:
        raise InputError("the old database is encrypted: install pycryptodome") from error
    except ValueError as error:
        raise InvalidKey(str(error)) from error
