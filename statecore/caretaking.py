"""The caretaker of one open log: checks it, also every so often, rebuilds, measures, compacts."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection
from typing import Final

from statecore.checking import Check, Checker, CheckReport
from statecore.errors import InputError, StatecoreError
from statecore.rebuilding import Rebuilt, rebuild
from statecore.sizing import KeySize, StoreSizes, measure, measure_keys
from statecore.snapshots import NoSnapshots, WarmRoots, WarmValues
from statecore.stream import StreamName
from statecore.streams import Streams

_LOWEST_PRIORITY: Final = 19

_logger = logging.getLogger("statecore")


class Caretaker:
    """Cares for one log. Safe to use from any thread."""

    def __init__(self, streams: Streams, cache_bytes: int, clock: Callable[[], int]) -> None:
        self._streams = streams
        self._clock = clock
        self._cache_bytes = cache_bytes
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_check: CheckReport | None = None
        """Of the last check, whoever asked for it."""

    def _plain(self) -> Streams:
        """Return the streams, folded from their events alone."""
        live, few = self._streams, self._cache_bytes
        aids = live.aids._replace(
            snapshots=NoSnapshots(), roots=WarmRoots(few), values=WarmValues(few)
        )
        return Streams(live.log, live.ring, aids, few, live.body_of)

    def check(self, checks: Collection[Check | str]) -> CheckReport:
        started = time.monotonic()
        report = Checker(self._plain, self._streams, checks).run()
        report.seconds, report.time = time.monotonic() - started, self._clock()
        self.last_check = report
        return report

    def rebuild(self, *, only_check: bool) -> Rebuilt:
        return rebuild(self._plain(), only_check=only_check)

    def sizes(self) -> StoreSizes:
        return measure(self._streams)

    def key_sizes(self, name: StreamName) -> list[KeySize]:
        return measure_keys(self._streams, name)

    def compact(self) -> tuple[int, int]:
        upkeep = self._streams.log.upkeep
        if upkeep is None:
            raise InputError("this store has no file to compact")
        return upkeep.compact()

    def check_every(self, seconds: float) -> None:
        """Check all there is every so often, in a thread that gives way to everything else.

        What is found is logged.
        """
        if seconds <= 0:
            raise InputError(f"check_seconds is more than nothing, not {seconds}")

        def run() -> None:
            if hasattr(os, "setpriority"):  # on Linux a thread has a priority of its own
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
            while not self._closed.wait(seconds):
                try:
                    for complaint in self.check(()).complaints:
                        _logger.warning("a check found: %s: %s", complaint.where, complaint.text)
                except StatecoreError:
                    if self._closed.is_set():
                        return  # closed while it was looking

        self._thread = threading.Thread(target=run, name="statecore-checks", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, after the check that is under way."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()
