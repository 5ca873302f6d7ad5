"""The record of access: who was denied what, what was done that is always recorded, who read what.

It is a stream of the store like any other. What is the same within a window is counted, not
written each time, so that a program that is denied in a loop fills no disk: the first of its kind
is written at once, the number of the others when the window ends. Nobody waits for it but who reads
it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from statecore.access import Authority, Decision
from statecore.appends import Append
from statecore.change import EMPTY
from statecore.errors import StatecoreError, StoreClosed
from statecore.events import Birth, Event, Kind, to_time
from statecore.gate import AUDIT_STREAM, Request
from statecore.log import Sequencer
from statecore.streams import Streams

WINDOW_SECONDS: Final = 60.0
DENIED, DONE, READ = "denied", "done", "read"

_AT_ONCE_MAX: Final = 16  # written each by itself within a window; later ones wait for its end
_TALLIES_MAX: Final = 64  # told apart within a window; the others are counted together
_READS_MAX: Final = 4096  # told apart before they are written, whenever that is
_KEYS_MAX: Final = 4  # named in one entry
_NAME_MAX: Final = 128  # characters of a name, which whoever is denied may choose
_ENTRIES: Final = "access"
_OTHERS: Final = "(others)"
_WAIT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """What happened within a window, once or often."""

    what: str
    """``denied``, ``done`` or ``read``."""
    principals: tuple[str, ...]
    operation: str
    agent_id: str | None
    branch: str | None
    keys: tuple[str, ...]
    """The keys concerned, the first four of them; long names are cut, here and elsewhere."""
    rules: tuple[str, ...]
    """The rules that forbade it; without, nothing permitted what was denied."""
    count: int
    """How often it happened, beside what older records tell."""
    since: datetime
    until: datetime


@dataclass(slots=True)
class _Tally:
    """How often the same happened within a window."""

    since: int
    until: int
    rules: tuple[str, ...] = ()
    count: int = 0
    written: int = 0
    keys: dict[str, None] = field(default_factory=dict)


_Same = tuple[str, tuple[str, ...], str, str | None, str | None, tuple[str, ...] | str | None]


class Ledger:
    """Counts and writes what the gate decided. Safe to use from any thread; never waits."""

    def __init__(
        self,
        streams: Streams,
        sequencer: Sequencer,
        clock: Callable[[], int],
        on_failure: Callable[[StatecoreError], None],
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        self._stream = streams.open(AUDIT_STREAM)
        self._sequencer = sequencer
        self._clock = clock
        self._on_failure = on_failure
        self._window_seconds = window_seconds
        self._lock = threading.Lock()
        self._tallies: dict[_Same, _Tally] = {}
        self._at_once = 0
        self._under_way = 0
        self._idle = threading.Condition(self._lock)
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def denied(self, authority: Authority, request: Request, decision: Decision) -> None:
        """Take note of a denial; the first of its kind is written at once."""
        # By the rule and not by the key, which whoever loops may vary.
        self._note(DENIED, authority, request, decision.rules, decision.rules, at_once=True)

    def done(self, authority: Authority, request: Request) -> None:
        """Take note of what is always recorded; written at once."""
        self._note(DONE, authority, request, request.key, at_once=True)

    def read(self, authority: Authority, request: Request, *, by_key: bool) -> None:
        """Take note of a reading; written when the window ends."""
        same = request.key if by_key else None
        self._note(READ, authority, request if by_key else request._replace(key=None), same)

    def _note(
        self,
        what: str,
        authority: Authority,
        request: Request,
        same: tuple[str, ...] | str | None,
        rules: tuple[str, ...] = (),
        *,
        at_once: bool = False,
    ) -> None:
        operation, agent_id, branch, key = request
        principals, now = tuple(authority.names), self._clock()
        entries: list[dict[str, Any]] = []
        with self._lock:
            kind: _Same = (what, principals, operation, agent_id, branch, same)
            if what != READ and kind not in self._tallies and len(self._tallies) >= _TALLIES_MAX:
                kind = (what, (_OTHERS,), operation, None, None, None)
            tally = self._tallies.get(kind)
            if tally is None:
                tally = self._tallies[kind] = _Tally(now, now, rules)
            tally.count += 1
            tally.until = max(tally.until, now)
            if key is not None and len(tally.keys) < _KEYS_MAX:
                tally.keys[key] = None
            if at_once and tally.written == 0 and self._at_once < _AT_ONCE_MAX:
                self._at_once += 1
                entries = [_entry(kind, tally)]
                tally.written = tally.count
            elif len(self._tallies) > _READS_MAX:
                entries = self._take_all()
            self._attend()
        self._write(entries)

    def flush(self) -> None:
        """Write what was counted, and wait until it is durable, 30 seconds at most."""
        with self._lock:
            entries = self._take_all()
        self._write(entries)
        with self._idle:
            self._idle.wait_for(lambda: self._under_way == 0, _WAIT_SECONDS)

    def close(self) -> None:
        """Write what was counted, and end the thread."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _take_all(self) -> list[dict[str, Any]]:
        """Begin a new window; return what of the old one was not written."""
        tallies, self._tallies, self._at_once = self._tallies, {}, 0
        return [
            _entry(kind, tally) for kind, tally in tallies.items() if tally.count > tally.written
        ]

    def _write(self, entries: list[dict[str, Any]]) -> None:
        if not entries:
            return
        append = Append(
            self._stream,
            lambda: Birth(*AUDIT_STREAM[:2], Kind.PERSISTENT),
            EMPTY,
            {"metadata": {_ENTRIES: entries}},
        )
        append.notify = self._written
        with self._lock:
            self._under_way += 1
        try:
            self._sequencer.submit(append)
            self._sequencer.wake()
        except StoreClosed as error:
            append.fail(error)
            self._written(append)

    def _written(self, append: Append) -> None:
        with self._idle:
            self._under_way -= 1
            self._idle.notify_all()
        if isinstance(append.error, StatecoreError):
            self._on_failure(append.error)

    def _attend(self) -> None:
        """See to it that the window ends."""
        if self._thread is None and not self._end.is_set():
            self._thread = threading.Thread(target=self._run, name="statecore-access", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(self._window_seconds):
            with self._lock:
                entries = self._take_all()
            self._write(entries)


def _entry(kind: _Same, tally: _Tally) -> dict[str, Any]:
    what, principals, operation, agent_id, branch, _ = kind
    return {
        "what": what,
        "principals": list(map(_cut, principals)),
        "operation": str(operation),
        "agent": agent_id and _cut(agent_id),
        "branch": branch and _cut(branch),
        "keys": list(map(_cut, tally.keys)),
        "rules": list(tally.rules),
        "count": tally.count - tally.written,
        "since": tally.since,
        "until": tally.until,
    }


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_MAX else name[:_NAME_MAX] + "…"


def records_of(event: Event) -> Iterator[AccessRecord]:
    """Yield what an event of the record tells."""
    entries: list[Mapping[str, Any]] = event.metadata.get(_ENTRIES, [])
    for entry in entries:
        yield AccessRecord(
            entry["what"],
            tuple(entry["principals"]),
            entry["operation"],
            entry["agent"],
            entry["branch"],
            tuple(entry["keys"]),
            tuple(entry["rules"]),
            entry["count"],
            to_time(entry["since"]),
            to_time(entry["until"]),
        )
