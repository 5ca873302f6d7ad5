"""Ends temporary states on time: destroys their data keys when their time to live is over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from statecore.errors import StatecoreError
from statecore.events import EXPIRED
from statecore.keys import KeyRing
from statecore.log import Sequencer

_WAIT_SECONDS_MAX: Final = 3600.0


class Sweeper:
    """A thread that sleeps until the next state expires; there is none while nothing can."""

    def __init__(
        self,
        ring: KeyRing,
        sequencer: Sequencer,
        clock: Callable[[], int],
        on_failure: Callable[[StatecoreError], None],
    ) -> None:
        self._ring = ring
        self._sequencer = sequencer
        self._clock = clock
        self._on_failure = on_failure
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def sweep(self) -> int:
        """End what has expired; return how many states that were."""
        if not self._ring.expired(self._clock()):
            return 0
        # The clock is looked at anew within the turn: it may have been set back meanwhile, and
        # what began since is not to end by what it said before.
        return len(self._sequencer.erase(lambda: self._ring.expired(self._clock()), reason=EXPIRED))

    def attend(self) -> None:
        """Look anew at what will expire next, in a thread from now on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="statecore-sweeper", daemon=True)
            self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        if self._thread is not None:
            self._wake.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            try:
                self.sweep()
                next_expiry = self._ring.next_expiry()
            except StatecoreError as error:
                self._on_failure(error)  # reading an expired state is refused all the same
                return
            seconds = _WAIT_SECONDS_MAX
            if next_expiry is not None:
                seconds = min(seconds, max(0.0, (next_expiry - self._clock()) / 1e6))
            self._wake.wait(seconds)
