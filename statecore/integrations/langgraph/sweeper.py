"""Deletes the items of a LangGraph store whose time is over, every now and then, in a thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from statecore.errors import StatecoreError, StoreClosed

_logger = logging.getLogger("statecore")


class Sweeper:
    """A thread that sweeps at intervals, while it is wanted."""

    def __init__(self, sweep: Callable[[], int]) -> None:
        self._sweep = sweep
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended: Future[None] = Future()
        self._stop = threading.Event()

    def start(self, interval_seconds: float) -> Future[None]:
        """Sweep after each interval; return what is done once that ended, and ends it if cancelled.

        One that runs already goes on as it is.
        """
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._stop = stop = threading.Event()
                self._ended = Future()
                self._ended.add_done_callback(lambda _: stop.set())
                arguments = (interval_seconds, self._stop, self._ended)
                self._thread = threading.Thread(
                    target=self._run, args=arguments, name="statecore-item-sweeper", daemon=True
                )
                self._thread.start()
            return self._ended

    def stop(self, timeout_seconds: float | None = None) -> bool:
        """End it; tell whether it ended within so many seconds, or did not run."""
        with self._lock:
            if self._thread is None:
                return True
            self._stop.set()
            self._thread.join(timeout_seconds)
            return not self._thread.is_alive()

    def _run(self, interval_seconds: float, stop: threading.Event, ended: Future[None]) -> None:
        while not stop.wait(interval_seconds):
            try:
                self._sweep()
            except StoreClosed:
                break
            except StatecoreError as error:  # what has expired is not found all the same
                _logger.warning("a sweep failed: %s", error)
        if ended.set_running_or_notify_cancel():
            ended.set_result(None)
