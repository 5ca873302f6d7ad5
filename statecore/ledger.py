"""The record of access: who was denied what, what was done that is always recorded, who read what.

It is a stream of the store like any other. What is always recorded is written at once, each time:
it takes a permission. A denial takes none, so the same ones within a window are counted: the first
of a kind is written at once, the number of the others when the window ends. Each principal has room
of their own for it, so that who is denied in a loop neither fills the disk nor hides what others
are denied. Readings are counted by themselves. Nobody waits for it but who reads it.
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
from statecore.errors import StatecoreError
from statecore.events import Birth, Event, Kind, to_time
from statecore.gate import AUDIT_STREAM, Request
from statecore.log import Sequencer
from statecore.streams import Streams

WINDOW_SECONDS: Final = 60.0
DENIED, DONE, READ = "denied", "done", "read"

_KINDS_MAX: Final = 8  # of one principal, told apart within a window; then only by operation
_PRINCIPALS_MAX: Final = 32  # told apart within a window; all others are one
_READS_MAX: Final = 4096  # told apart before they are written, whenever that is
_TOGETHER_MAX: Final = 256  # entries in one event, which has a greatest size
_WAITING_MAX: Final = 4096  # entries not written yet, before who does more waits for the disk
_KEYS_MAX: Final = 4  # named in one entry
_NAMES_MAX: Final = 16  # of principals, in one entry
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
    """Whose state; ``None`` where it is the store, or many states counted together."""
    branch: str | None
    keys: tuple[str, ...]
    """The keys concerned, the first four of them; long names are cut, here and elsewhere."""
    rules: tuple[str, ...]
    """The rules that forbade it; without, nothing permitted what was denied, or it is many."""
    count: int
    """How often it happened, beside what older records tell."""
    since: datetime
    until: datetime


@dataclass(slots=True)
class _Tally:
    """How often the same happened within a window."""

    since: int
    until: int
    count: int = 0
    written: int = 0
    keys: dict[str, None] = field(default_factory=dict)


_Same = tuple[str, tuple[str, ...], str, str | None, str | None, tuple[str, ...] | str | None]
_Tallies = dict[_Same, _Tally]
_Entry = dict[str, Any]


class Ledger:
    """Counts and writes what the gate decided. Safe to use from any thread."""

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
        self._denials: dict[str | None, _Tallies] = {}  # by principal; None is all the others
        self._reads: _Tallies = {}
        self._waiting: list[_Entry] = []
        self._is_writing = False
        self._idle = threading.Condition(self._lock)
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def denied(self, authority: Authority, request: Request, decision: Decision) -> None:
        """Take note of a denial; the first of its kind is written at once. Never waits."""
        names = tuple(authority.names)
        with self._lock:
            # By the first: others are added to a handle by whoever holds it, and only narrow it.
            known = names[0] in self._denials or len(self._denials) < _PRINCIPALS_MAX
            principal = names[0] if known else None
            tallies = self._denials.setdefault(principal, {})
            # By the rule and not by the key, which whoever loops may vary.
            kind: _Same = (DENIED, names, *request[:3], decision.rules)
            if not known or (kind not in tallies and len(tallies) >= _KINDS_MAX):
                kind = (DENIED, (principal or _OTHERS,), request.operation, None, None, None)
            tally = self._count(tallies, kind, request.key)
            entries = [] if tally.written else [_entry(kind, tally)]
            tally.written = tally.written or tally.count
        self._write(entries)

    def done(self, authority: Authority, request: Request) -> None:
        """Take note of what is always recorded; written at once, each by itself.

        Waits only where the disk has not taken some thousands yet.
        """
        kind: _Same = (DONE, tuple(authority.names), *request[:3], None)
        with self._idle:
            self._idle.wait_for(lambda: len(self._waiting) < _WAITING_MAX, _WAIT_SECONDS)
            tally = self._count({}, kind, request.key)
        self._write([_entry(kind, tally)])

    def read(self, authority: Authority, request: Request, *, by_key: bool) -> None:
        """Take note of a reading; written when the window ends. Never waits."""
        key = request.key if by_key else None
        entries: list[_Entry] = []
        with self._lock:
            self._count(self._reads, (READ, tuple(authority.names), *request[:3], key), key)
            if len(self._reads) > _READS_MAX:
                entries, self._reads = _entries(self._reads), {}
        self._write(entries)

    def _count(self, tallies: _Tallies, kind: _Same, key: str | None) -> _Tally:
        """Count one more of a kind, and see to it that the window ends."""
        now = self._clock()
        tally = tallies.get(kind)
        if tally is None:
            tally = tallies[kind] = _Tally(now, now)
        tally.count += 1
        tally.until = max(tally.until, now)
        if key is not None and len(tally.keys) < _KEYS_MAX:
            tally.keys[_cut(key)] = None
        if self._thread is None and not self._end.is_set():
            self._thread = threading.Thread(target=self._run, name="statecore-access", daemon=True)
            self._thread.start()
        return tally

    def flush(self) -> None:
        """Write what was counted, and wait until it is durable, 30 seconds at most."""
        self._write(self._take_all())
        with self._idle:
            self._idle.wait_for(lambda: not (self._is_writing or self._waiting), _WAIT_SECONDS)

    def close(self) -> None:
        """Write what was counted, and end the thread."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        self.flush()

    def _take_all(self) -> list[_Entry]:
        """Begin a new window; return what of the old one was not written."""
        with self._lock:
            counted = [*self._denials.values(), self._reads]
            self._denials, self._reads = {}, {}
        return [entry for tallies in counted for entry in _entries(tallies)]

    def _write(self, entries: list[_Entry]) -> None:
        """Have entries written; those that come while others are being written go together."""
        with self._lock:
            self._waiting += entries
            if self._is_writing or not self._waiting:
                return
            entries, self._waiting = self._waiting[:_TOGETHER_MAX], self._waiting[_TOGETHER_MAX:]
            self._is_writing = True
        append = Append(
            self._stream,
            lambda: Birth(*AUDIT_STREAM[:2], Kind.PERSISTENT),
            EMPTY,
            {"metadata": {_ENTRIES: entries}},
        )
        append.notify = self._written
        try:
            self._sequencer.submit(append)
            self._sequencer.wake()
        except StatecoreError as error:
            append.fail(error)
            self._written(append)

    def _written(self, append: Append) -> None:
        with self._idle:
            self._is_writing = False
            self._idle.notify_all()
        if isinstance(append.error, StatecoreError):
            self._on_failure(append.error)
        self._write([])

    def _run(self) -> None:
        while not self._end.wait(self._window_seconds):
            self._write(self._take_all())


def _entries(tallies: _Tallies) -> list[_Entry]:
    return [_entry(kind, tally) for kind, tally in tallies.items() if tally.count > tally.written]


def _entry(kind: _Same, tally: _Tally) -> _Entry:
    what, principals, operation, agent_id, branch, same = kind
    return {
        "what": what,
        "principals": list(map(_cut, principals[:_NAMES_MAX])),
        "operation": str(operation),
        "agent": agent_id and _cut(agent_id),
        "branch": branch and _cut(branch),
        "keys": list(tally.keys),
        "rules": list(same) if isinstance(same, tuple) else [],
        "count": tally.count - tally.written,
        "since": tally.since,
        "until": tally.until,
    }


def _cut(name: str) -> str:
    """Return what goes into the record of a name, which is whatever somebody tried."""
    text = str(name)[: _NAME_MAX + 1].encode(errors="backslashreplace").decode()
    return text if len(text) <= _NAME_MAX else text[:_NAME_MAX] + "…"


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
