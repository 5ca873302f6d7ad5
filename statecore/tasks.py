"""How tasks wait: on futures of their event loop. Apart, since asyncio takes long to import."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from statecore.appends import Append
from statecore.errors import StoreBusy
from statecore.log import Sequencer

_Result = TypeVar("_Result")

# A sync this short is no longer than what a busy event loop does between two turns anyway;
# handing it to a thread and back would cost as much again.
_INLINE_SECONDS_MAX: Final = 0.001


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
