"""How callers wait: tasks on a future, plain threads on a lock. One engine serves both faces.

Every operation is a coroutine. Under the blocking face nothing in it ever suspends, so that
``run`` drives it to its end with a single step and no event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, Protocol, TypeVar

from statecore.appends import Append
from statecore.errors import StoreBusy
from statecore.log import Sequencer

_Result = TypeVar("_Result")

# A sync this short is no longer than what a busy event loop does between two turns anyway;
# handing it to a thread and back would cost as much again.
_INLINE_SECONDS_MAX: Final = 0.001


class Bell(Protocol):
    """Something happened: look again."""

    def ring(self) -> None:
        """Ring, from any thread."""

    async def wait(self) -> None:
        """Wait until it has rung since the last wait."""


class Waiter(Protocol):
    """Waits in the caller's own way."""

    def write(self, append: Append, seconds: float) -> Awaitable[int]:
        """Hand an append to the sequencer and return its version when it is durable.

        Raises:
            StoreBusy: it could not be written within so many seconds, and was not.
            StatecoreError: as the sequencer says.
        """

    async def away(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """Return what a function returns that may take a while, without holding others up."""

    def bell(self) -> Bell:
        """Return a new bell."""


def run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Drive a coroutine that never suspends to its end, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as finished:
        return finished.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("the blocking face can't wait for other coroutines; use `async with`")


def run_each(items: AsyncIterator[_Result]) -> Iterator[_Result]:
    """Yield what an asynchronous iterator yields that never suspends."""
    while True:
        try:
            yield run(anext(items))  # type: ignore[arg-type]
        except StopAsyncIteration:
            return


class BlockingWaiter:
    """Waits by blocking the thread."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer

    async def write(self, append: Append, seconds: float) -> int:
        if self._sequencer.try_alone(append):
            return append.outcome()
        gate = threading.Lock()
        gate.acquire()
        append.notify = lambda _: gate.release()
        self._sequencer.submit(append)
        if self._sequencer.contended:
            self._sequencer.wake()
        else:
            self._sequencer.pump(append)  # usually writes it here and now
        if not append.done and not gate.acquire(timeout=seconds):
            if self._sequencer.withdraw(append):
                raise StoreBusy(f"not written within {seconds} seconds: another process writes")
            gate.acquire()  # too late to withdraw: it is being written
        return append.outcome()

    async def away(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        return work(*arguments)

    def bell(self) -> BlockingBell:
        return BlockingBell()


class BlockingBell:
    """A bell that blocks the thread."""

    def __init__(self) -> None:
        self._rung = threading.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self) -> None:
        self._rung.wait()
        self._rung.clear()


class AsyncWaiter:
    """Waits on futures of whichever event loop the caller runs in."""

    def __init__(self, sequencer: Sequencer) -> None:
        self._sequencer = sequencer
        self._desks: dict[asyncio.AbstractEventLoop, _Desk] = {}

    def write(self, append: Append, seconds: float) -> Awaitable[int]:
        loop = asyncio.get_running_loop()
        desk = self._desks.get(loop) or self._open_desk(loop)
        return desk.hand_in(append, seconds)

    def _open_desk(self, loop: asyncio.AbstractEventLoop) -> _Desk:
        for closed in [other for other in self._desks if other.is_closed()]:
            del self._desks[closed]
        return self._desks.setdefault(loop, _Desk(loop, self._sequencer))

    async def away(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        return await asyncio.to_thread(work, *arguments)

    def bell(self) -> AsyncBell:
        return AsyncBell()


class AsyncBell:
    """A bell that suspends the task."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self) -> None:
        await self._rung.wait()
        self._rung.clear()


class _Desk:
    """Where the tasks of one event loop hand in appends and get their answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sequencer: Sequencer) -> None:
        self._loop = loop
        self._sequencer = sequencer
        self._waiting: set[Append] = set()
        self._handed_in = 0
        self._answered: list[Append] = []
        self._lock = threading.Lock()  # over the answers
        self._inline = False  # whether the loop's own thread is writing
        self._watching = False

    async def hand_in(self, append: Append, seconds: float) -> int:
        """Hand in an append, and return its version when it is durable."""
        append.future = self._loop.create_future()
        append.until = time.monotonic() + seconds
        append.notify = self._answer
        self._sequencer.submit(append)
        if self._handed_in == 0:
            # Other tasks that are ready run first, and what they hand in shares the sync.
            self._loop.call_soon(self._write)
        self._handed_in += 1
        if not self._watching:
            self._watching = True
            self._loop.call_later(1.0, self._watch)
        self._waiting.add(append)
        try:
            await append.future
        finally:
            self._waiting.discard(append)
        return append.outcome()

    def _write(self) -> None:
        alone, self._handed_in = self._handed_in == 1, 0
        sequencer = self._sequencer
        if alone and sequencer.turn_seconds < _INLINE_SECONDS_MAX and not sequencer.contended:
            self._inline = True
            sequencer.pump()
            self._inline = False
            self._hand_out()
        else:
            sequencer.wake()

    def _answer(self, append: Append) -> None:
        """Take an answer, from the thread that wrote; wake the loop once for many."""
        with self._lock:
            self._answered.append(append)
            first = len(self._answered) == 1
        if first and not self._inline and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        with self._lock:
            answered, self._answered = self._answered, []
        for append in answered:
            if not append.future.done():  # else its task was cancelled
                append.future.set_result(None)

    def _watch(self) -> None:
        """Give up appends whose time is over, as long as any are waiting."""
        now = time.monotonic()
        for append in list(self._waiting):
            over = now > append.until and not append.future.done()
            if over and self._sequencer.withdraw(append):
                busy = StoreBusy("not written in time: another process writes")
                append.future.set_exception(busy)
        self._watching = bool(self._waiting)
        if self._watching:
            self._loop.call_later(1.0, self._watch)
