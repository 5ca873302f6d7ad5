"""Telling listeners that somebody appended: at once in this process, by looking for others."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Watch:
    """Calls listeners. Looks for the appends of other processes only while there are any."""

    def __init__(self, probe: Callable[[], int], poll_seconds: float) -> None:
        """Make a watch.

        Args:
            probe: returns another number after each append, whoever made it.
            poll_seconds: how often to ask.
        """
        self._probe = probe
        self._poll_seconds = poll_seconds
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def subscribe(self, notify: Callable[[], None]) -> Callable[[], None]:
        """Call ``notify`` after appends, from any thread; return what ends it."""
        with self._lock:
            self._listeners.append(notify)
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._look, name="statecore-watch")
                self._thread.daemon = True
                self._thread.start()
        return lambda: self._unsubscribe(notify)

    def _unsubscribe(self, notify: Callable[[], None]) -> None:
        with self._lock:
            if notify in self._listeners:
                self._listeners.remove(notify)

    def notify_all(self) -> None:
        """Call all listeners."""
        for notify in list(self._listeners):
            notify()

    def close(self) -> None:
        """Call all listeners once more, so that they notice, then nobody, and never probe again."""
        with self._lock:
            self._closed.set()
            listeners, self._listeners = self._listeners, []
        for notify in listeners:
            notify()

    def _look(self) -> None:
        seen = None
        while True:
            with self._lock:  # closing waits here, so that a closed store is not asked
                if self._closed.is_set() or not self._listeners:
                    self._thread = None
                    return
                now = self._probe()
            if seen is not None and now != seen:
                self.notify_all()
            seen = now
            self._closed.wait(self._poll_seconds)
