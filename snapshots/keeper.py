"""When to keep a snapshot, and keeping it without making a writer wait.

A snapshot of the whole state is kept when the events since the last one weigh as much as the
state itself. So all snapshots together weigh no more than the log, whatever the state's size or
shape, and reading any version cold costs about its state once over. Snapshots are a cache: they
are sealed like events, and may be deleted at any time.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable
from typing import Final

from statecore.codec import Writer
from statecore.errors import DamagedRecord, Erased, NewerFormat, StatecoreError
from statecore.recorders import EVERYTHING, LogStore
from statecore.root_image import pack_root, unpack_root
from statecore.state import Root
from statecore.stream import Stream
from statecore.xaes import PREFIX_BYTES

_WEIGHT_MIN: Final = 512 * 1024  # less is replayed in about ten milliseconds


class SnapshotKeeper:
    """Keeps snapshots in a thread of its own, once there is one to keep."""

    def __init__(self, log: LogStore, on_failure: Callable[[StatecoreError], None]) -> None:
        self._log = log
        self._on_failure = on_failure
        self._work: queue.SimpleQueue[tuple[Stream, Root, int] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._writer: Writer | None = None
        self._closed = False

    def load(self, stream: Stream, until: int) -> Root | None:
        """Return the latest snapshot up to a version that opens; a damaged one is passed over."""
        found = self._log.snapshot(stream.id, until)
        while found is not None:
            version, stored = found
            try:
                return unpack_root(version, stream.sealer.open_snapshot(version, stored))
            except (DamagedRecord, Erased, NewerFormat, ValueError):
                found = self._log.snapshot(stream.id, version - 1)
        return None

    def consider(self, stream: Stream) -> None:
        """Have the stream's current root kept, if it is time."""
        root = stream.root
        if stream.weight_since_snapshot < max(root.weight, _WEIGHT_MIN) or self._closed:
            return
        since, stream.snapshot_version = stream.snapshot_version, root.version
        stream.weight_since_snapshot = 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="statecore-snapshots")
            self._thread.daemon = True
            self._thread.start()
        self._work.put((stream, root, since))

    def close(self) -> None:
        """Keep what is still to be kept, and end."""
        self._closed = True
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                self._keep(*work)
            except StatecoreError as error:
                self._on_failure(error)  # answers are as right without it, only slower

    def _keep(self, stream: Stream, root: Root, since: int = 0) -> None:
        key = stream.key
        if key is None:
            return  # erased meanwhile
        body = pack_root(root)
        with self._log.turn() as turn:
            newest = self._log.snapshot(stream.id, EVERYTHING)
            if newest is not None and newest[0] > since:
                return  # another process kept one meanwhile
            writer = self._writer
            if writer is None:
                prefix = secrets.token_bytes(PREFIX_BYTES)
                writer = Writer(prefix, turn.register_writer(prefix))
            stored = stream.sealer.seal_snapshot(key, root.version, root.time, body, writer)
            turn.keep_snapshot(stream.id, root.version, stored)
            turn.commit()
            self._writer = writer  # only now is it registered


class NoSnapshots:
    """Keeps nothing: the same answers, slower."""

    def load(self, stream: Stream, until: int) -> Root | None:
        return None

    def consider(self, stream: Stream) -> None:
        """Keep nothing."""
