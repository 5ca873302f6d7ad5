"""How callers wait: tasks on a future, plain threads on a lock. One engine serves both faces.

Every operation is a coroutine. Under the blocking face nothing in it ever suspends, so that
``run`` drives it to its end with a single step and no event loop.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

from statecore.appends import Append
from statecore.errors import StoreBusy
from statecore.log import Sequencer

_Result = TypeVar("_Result")


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
