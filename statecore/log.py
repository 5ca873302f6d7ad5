"""The sequencer: gives every append its version, seals it, and writes all that wait at once.

Whoever has something to write puts it in the queue; one thread at a time takes all that is there
and writes it in one transaction with one sync (group commit). A lone blocking caller does so
itself, since handing over to a thread would cost as much as the sync; tasks leave it to the
writer's thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Final

from statecore.appends import Append
from statecore.errors import Conflict, StatecoreError, StoreBusy, StoreClosed
from statecore.gate import Gate
from statecore.scribe import Scribe
from statecore.streams import Streams

_BATCH_MAX: Final = 4096
_CONTENDED_SECONDS: Final = 1.0
_HOLD_SECONDS: Final = 0.02
_LINGER_SECONDS: Final = 0.002


def now() -> int:
    """Return the wall clock's time, in microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class Sequencer:
    """The one place where events get their versions. Safe to use from any thread."""

    def __init__(self, streams: Streams, gate: Gate, clock: Callable[[], int] = now) -> None:
        self._log = streams.log
        self._tally = streams.tally
        self._scribe = Scribe(streams, clock, gate)
        self._queue: deque[Append] = deque()
        self._lock = threading.Lock()  # held by whoever writes
        self._signal: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._contended_until = 0.0
        self._closed = False
        self.turn_seconds = 0.0  # a running mean of what a turn takes

    @property
    def contended(self) -> bool:
        """Whether another process wrote within the last second."""
        return time.monotonic() < self._contended_until

    def submit(self, append: Append) -> int:
        """Put an append in the queue, and return the queue's length.

        Somebody must then ``pump`` or ``wake``.

        Raises:
            StoreClosed: the store was closed.
            StoreFailure: the log can't be used any more; says why.
        """
        if self._closed:
            raise StoreClosed("the store was closed")
        self._log.freshness()  # raises in the child of a fork, where no thread is that could answer
        self._queue.append(append)
        return len(self._queue)

    def try_alone(self, append: Append) -> bool:
        """Write an append here and now, if nobody else is writing or waiting; tell whether so.

        A lone caller spends as little as possible between its call and the sync.
        """
        if self._queue or self._closed or self.contended or not self._lock.acquire(blocking=False):
            return False
        started = time.perf_counter()
        try:
            if self._scribe.write([append], wait=False):
                return False
        except StoreBusy:
            return False
        except Exception as error:
            append.fail(error)
        finally:
            self._lock.release()
            if self._queue:
                self.wake()  # who came meanwhile found the lock taken
        self._note_turn(time.perf_counter() - started)
        return True

    def withdraw(self, append: Append) -> bool:
        """Take an append back out of the queue; tell whether that came in time."""
        try:
            self._queue.remove(append)
        except ValueError:
            return False
        return True

    def pump(self, until: Append | None = None) -> None:
        """Write what is in the queue, unless somebody is doing so, or another process is.

        Stops after a batch, or once ``until`` is done: a caller need not serve all others for as
        long as they come; the writer's thread does.
        """
        while self._queue and self._lock.acquire(blocking=False):
            try:
                self._drain_once(wait=False)
            except StoreBusy:
                self.wake()  # let the thread wait for the other process
                return
            finally:
                self._lock.release()
            if self._queue and (until is None or until.done):
                self.wake()
                return

    def wake(self) -> None:
        """Have the writer's thread write what is in the queue."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="statecore-writer", daemon=True)
            self._thread.start()
        self._signal.put(True)

    def erase(
        self,
        choose: Callable[[], Collection[bytes]],
        actor: str | None = None,
        reason: str | None = None,
    ) -> Collection[bytes]:
        """Destroy the data keys of streams, after events that say so; return which were.

        They are chosen when nobody else can write.
        """
        try:
            with self._lock:
                return self._scribe.erase(choose, actor, reason)
        finally:
            if self._queue:
                self.wake()  # who came meanwhile found the lock taken

    def close(self) -> None:
        """Write what is still in the queue, and take nothing more."""
        self._closed = True
        while self._queue:
            with self._lock:
                self._drain_holding()
        if self._thread is not None:
            self._signal.put(False)
            self._thread.join()

    def _run(self) -> None:
        while self._signal.get():
            while self._queue:  # looked at without the lock: who came last may not have got it
                with self._lock:
                    self._drain_holding()

    def _drain_holding(self) -> None:
        """Write what is in the queue, again for those who lose while others compete for turns.

        Who loses reads anew and tries again at once. Were the turn given away in between, another
        process could be first every time.
        """
        try:
            with self._log.hold():
                until = time.monotonic() + _HOLD_SECONDS
                while True:
                    lost = self._drain_once(wait=True)
                    if not self._queue and not (lost and self.contended and self._await_retry()):
                        return
                    if time.monotonic() > until:
                        return
        except StatecoreError as error:
            self._fail_waiting(error)

    def _await_retry(self) -> bool:
        """Wait a little for those who lost; tell whether any came back."""
        until = time.monotonic() + _LINGER_SECONDS
        while not self._queue:
            try:
                goes_on = self._signal.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return False
            if not goes_on:
                self._signal.put(False)  # for the thread's own loop to see
                return False
        return True

    def _drain_once(self, *, wait: bool) -> bool:
        """Write one batch; tell whether anybody lost against others."""
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), _BATCH_MAX))]
        started = time.perf_counter()
        try:
            again = self._scribe.write(batch, wait=wait)
        except StoreBusy:
            self._queue.extendleft(reversed(batch))
            raise
        except BaseException as error:
            self._finish(batch, error)  # whatever it was, nobody is left waiting
            if not isinstance(error, Exception):
                raise
            return False
        self._note_turn(time.perf_counter() - started)
        self._queue.extendleft(reversed(again))
        self._finish(batch, None, set(map(id, again)))
        return any(isinstance(append.error, Conflict) for append in batch)

    def _note_turn(self, seconds: float) -> None:
        self.turn_seconds += (seconds - self.turn_seconds) / 8
        self._tally.turn_seconds.note(seconds)
        if self._scribe.others_wrote:
            self._contended_until = time.monotonic() + _CONTENDED_SECONDS

    def _finish(
        self, batch: list[Append], error: BaseException | None, again: Collection[int] = ()
    ) -> None:
        """Let callers go on, all but those that are tried again."""
        for append in batch:
            if error is not None and append.error is None:
                append.fail(error)
            if id(append) not in again:
                append.finish()

    def _fail_waiting(self, error: StatecoreError) -> None:
        batch = list(self._queue)
        self._queue.clear()
        self._finish(batch, error)
