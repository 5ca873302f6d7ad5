"""A thread that records what was held for too long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from statecore.errors import StatecoreError, StoreClosed

_logger = logging.getLogger("statecore")
_AGAIN_SECONDS: Final = 1.0  # after a failure


class Flusher:
    """Calls a function while something is held; begins its thread when that first happens."""

    def __init__(self, flush: Callable[[], bool], seconds: float) -> None:
        """Make one.

        Args:
            flush: records what is due, and tells whether anything is still held.
            seconds: between two calls.
        """
        self._flush = flush
        self._seconds = seconds
        self._held = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def attend(self) -> None:
        """Something is held from now on."""
        if self._held.is_set():
            return
        self._held.set()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="statecore-flusher", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Call no more."""
        self._closed.set()
        self._held.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        seconds = self._seconds
        while self._held.wait():
            self._held.clear()  # before the look whether all is closed, which says so first
            if self._closed.wait(seconds):
                return
            seconds = self._seconds
            try:
                if self._flush():
                    self._held.set()
            except StoreClosed:
                return  # with what is held: whoever closes the store first is told so
            except StatecoreError as error:
                _logger.warning("what tasks wrote could not be recorded yet: %s", error)
                self._held.set()
                seconds = _AGAIN_SECONDS
