"""Checks of an open store: states, references, histories and indexes, made again and compared.

Each says what it proved, in numbers: a check that looked at nothing proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Final

from statecore.codec import Record, read_epoch
from statecore.codec.record import TAKES_BACK
from statecore.codec.wire import rows
from statecore.errors import Archived, DamagedRecord, Erased, NewerFormat
from statecore.events import EventType, Past
from statecore.keys.ring import LOG_EPOCH
from statecore.projections.audit_tree import MemoryTree
from statecore.recorders import EVERYTHING, Indexes
from statecore.recount import Recount, compare_rows, differences
from statecore.root_image import unpack_root
from statecore.state import Root
from statecore.stream import Stream, StreamName
from statecore.streams import Streams

_PAGE = 500
_LOOKS: Final = 3  # while others go on writing


class Check(StrEnum):
    """What can be checked."""

    STATE = "state"
    """Each state folded from its first event, against what is current and every snapshot."""
    REFERENCE = "reference"
    """Forks, merges, tags and what was taken back, and the references of rules: all lead to what
    is there."""
    HISTORY = "history"
    """Each event opened; versions and times in order; each operation leads to the one before."""
    INDEX = "index"
    """The key history, the ids and the audit tree, against the events."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something that is not as it should be."""

    check: Check
    where: str
    """A state, by its agent and branch, or what else it is about."""
    text: str


@dataclass(slots=True)
class CheckReport:
    """What was checked, what that proved, and what was found."""

    checks: tuple[Check, ...]
    proved: dict[str, int] = field(default_factory=dict)
    """How many of what were looked at: events, states, snapshots, references, rows, ..."""
    complaints: list[Complaint] = field(default_factory=list)
    seconds: float = 0.0
    time: int = 0
    """When it ended, in microseconds since 1970, UTC."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.complaints

    def count(self, what: str, number: int = 1) -> None:
        """Note that so many were looked at."""
        self.proved[what] = self.proved.get(what, 0) + number

    def find(self, check: Check, where: str, text: str) -> None:
        """Take down what is not as it should be."""
        self.complaints.append(Complaint(check, where, text))


class Checker:
    """Checks one open log, while others go on writing to it.

    What it compares is read one after the other. So whatever does not fit, where something was
    written meanwhile, is looked at again, in the end while nobody writes: it may be that of two
    moments.
    """

    def __init__(
        self, begin: Callable[[], Streams], live: Streams, checks: Collection[Check | str]
    ) -> None:
        """Check a log.

        Args:
            begin: returns its streams, none of them open yet, folded from their events alone,
                without snapshots.
            live: its streams as everybody reads them.
            checks: which to do; all where empty.
        """
        self._begin = begin
        self._live = live
        wanted = tuple(Check(each) for each in checks) or tuple(Check)
        self.report = CheckReport(wanted)
        self._renew()

    def _renew(self) -> None:
        """Have streams that know of nothing yet."""
        self._position = self._live.log.last_position()  # first: what comes after shows
        self._plain = self._begin()

    def run(self) -> CheckReport:
        """Check all states, one after the other."""
        for stream_id in self._plain.log.streams():
            self._settle(partial(self._look_at, stream_id))
        if Check.INDEX in self.report.checks:
            tree = MemoryTree(self._plain.log)
            self._settle(partial(self._look_at_tree, tree))
        return self.report

    def _settle(self, look: Callable[[], _Look]) -> None:
        """Take down what is found in one moment."""
        for _ in range(_LOOKS):
            found = look()
            if found.is_whole or self._live.log.last_position() == self._position:
                break
            self._renew()
        else:
            with self._live.log.turn():  # others wait until it is left
                self._renew()
                found = look()
        for what, number in found.report.proved.items():
            self.report.count(what, number)
        self.report.complaints += found.report.complaints

    def _look_at(self, stream_id: bytes) -> _Look:
        look = _Look(self._plain, self._live, self.report.checks)
        look.at_stream(stream_id)
        return look

    def _look_at_tree(self, tree: MemoryTree) -> _Look:
        look = _Look(self._plain, self._live, self.report.checks)
        look.at_tree(tree)
        return look


class _Look:
    """One look at a stream, or at the tree, as far as it got."""

    def __init__(self, plain: Streams, live: Streams, checks: tuple[Check, ...]) -> None:
        self._plain = plain
        self._live = live
        self._is_cut_short = False
        self.report = CheckReport(checks)

    @property
    def is_whole(self) -> bool:
        """Whether it came to its end, and found nothing."""
        return self.report.is_sound and not self._is_cut_short

    def at_stream(self, stream_id: bytes) -> None:
        """Check a stream."""
        where = f"stream {stream_id.hex()}"
        try:
            name = name_of(self._plain, stream_id)
            where = spell(name) if name else where
            if name is not None:
                self._check(name)
            else:
                self._check_end(stream_id)
        except Archived:
            self._is_cut_short = True
            self.report.count("forks of what is archived")
        except (DamagedRecord, Erased, NewerFormat) as error:
            # Of what was erased nothing is read: a key is gone, and no event says so. Or not yet.
            self.report.find(Check.HISTORY, where, str(error))

    def at_tree(self, tree: MemoryTree) -> None:
        """Check what is kept of the audit tree, against one that knows of events so far."""
        for text, count in compare_tree(self._plain, tree):
            self.report.count("tree nodes and links", count)
            if text:
                self.report.find(Check.INDEX, "the audit tree", text)

    def _check_end(self, stream_id: bytes) -> None:
        if Check.HISTORY in self.report.checks:
            require_end(self._plain, stream_id)
            # Salvage may leave the name of a state, and its key, and nothing else.
            is_ended = self._plain.log.version(stream_id) > 0
            was_lost = not is_ended and self._plain.ring.has_keys(stream_id, EVERYTHING)
            self.report.count("states without an event" if was_lost else "erased states")

    def _check(self, name: StreamName) -> None:
        stream = self._plain.open(name)
        root = self._plain.refresh(stream)
        if stream.is_erased:
            self.report.count("erased states")
            return
        checks = self.report.checks
        if Check.STATE in checks:
            self._check_state(stream, root)
        if Check.HISTORY in checks:
            self._check_history(stream, root)
        if Check.REFERENCE in checks:
            self._check_references(stream, root)
        if Check.INDEX in checks:
            for text, count in compare_indexes(self._plain, stream):
                self.report.count("rows", count)
                if text:
                    self.report.find(Check.INDEX, spell(name), text)

    def _check_state(self, stream: Stream, root: Root) -> None:
        report, name = self.report, spell(stream.name)
        live = self._live.refresh(self._live.open(stream.name))
        if live.version == root.version and (wrong := differences(live, root)):
            text = f"the current state is not what its events make: {wrong}"
            report.find(Check.STATE, name, text)
        report.count("states")
        upkeep = self._plain.log.upkeep
        for version, stored in upkeep.snapshots(stream.id) if upkeep is not None else ():
            if version < stream.horizon:
                continue  # it was being kept while that was archived, and is never used
            report.count("snapshots")
            if not holds(self._plain, stream, version, stored):
                report.find(Check.STATE, name, f"the snapshot at version {version} does not hold")

    def _check_history(self, stream: Stream, root: Root) -> None:
        report, name, horizon = self.report, spell(stream.name), stream.horizon
        touched: dict[str, int] = {}
        base = self._plain.replay.horizon_root(stream, stream.horizon)
        if base is not None:
            touched = {key: version for key, (version, _) in base.cells.items()}
            report.count("archived events", _archived(stream))
        time = 0
        after = max(stream.first_version - 1, horizon)
        for record in self._plain.replay.records(stream, after, root.version):
            is_own = record.version >= stream.first_own
            if is_own and record.time < time:
                report.find(Check.HISTORY, name, f"version {record.version} is before its last")
            time = record.time
            if record.type == EventType.ERASED:
                touched.clear()
            for key, _, distance, _ in rows(record.operations):
                before = record.version - distance if distance else 0
                is_beyond = key not in touched and before <= horizon
                if is_own and before != touched.get(key, 0) and not is_beyond:
                    report.find(
                        Check.HISTORY,
                        name,
                        f"version {record.version} says that version {before} touched one of its "
                        f"keys last, which version {touched.get(key, 0)} did",
                    )
                touched[key] = record.version
            report.count("events", int(is_own))
        report.count("histories")

    def _check_references(self, stream: Stream, root: Root) -> None:
        """Follow what events say of other events."""
        report, name = self.report, spell(stream.name)
        for record in self._own(stream, root):
            for text in self._dangling(stream, record):
                report.find(Check.REFERENCE, name, f"version {record.version} {text}")
        for tag, version in root.tags.items():
            report.count("references")
            if not 0 <= version <= root.version:
                report.find(Check.REFERENCE, name, f"the tag {tag!r} names version {version}")

    def _own(self, stream: Stream, root: Root) -> Iterator[Record]:
        after = max(stream.first_own - 1, stream.horizon)
        return self._plain.replay.records(stream, after, root.version)

    def _dangling(self, stream: Stream, record: Record) -> Iterator[str]:
        """Yield which references of an event lead nowhere."""
        for version in record.extras.get(TAKES_BACK, ()):
            self.report.count("references")
            if not 0 < version < record.version:
                yield f"takes back version {version}, which was not there"
        fork = [record.birth.fork] if record.birth and record.birth.fork else []
        moments: Past = {moment.line: moment.version for moment in (*record.parents, *fork)}
        for (branch, generation), version in {**record.past, **moments}.items():
            self.report.count("references")
            other = StreamName(stream.name.agent_id, branch, generation)
            there = self._plain.log.version(self._plain.id_of(other))
            # A branch without an event of its own yet has those of its parent.
            if there and version > there:
                yield f"builds on version {version} of {spell(other)}, which ends at {there}"


def name_of(streams: Streams, stream_id: bytes) -> StreamName | None:
    """Return the name that the first event of a stream gives; ``None`` where it was erased.

    There may be a key of a new beginning all the same: made by who was killed before its first
    event, or had since by a store that went back to before it.

    Raises:
        DamagedRecord: that event does not open, or tells no name.
    """
    birth = streams.birth_of(stream_id)
    if birth is not None:
        return StreamName(birth.agent_id, birth.branch, birth.generation)
    stream = streams.adopt(StreamName(""), stream_id)
    stream.load_keys(streams.ring.keys(stream_id))
    last = streams.log.version(stream_id)
    if stream.key is not None and last:
        if last >= stream.first_own:
            raise DamagedRecord("its first event is missing")
        require_end(streams, stream_id)
    return None


def require_end(streams: Streams, stream_id: bytes) -> None:
    """Hold the last event of a stream without readable ones to say why.

    Raises:
        DamagedRecord: it does not, or does not open.
    """
    stream = streams.adopt(StreamName(""), stream_id)
    for version, _, stored in streams.log.read(stream_id, 0, EVERYTHING, 1, back=True):
        if read_epoch(stored) != LOG_EPOCH:
            raise DamagedRecord("its key is gone, and no event says why")
        stream.sealer.open(version, stored)


def holds(streams: Streams, stream: Stream, version: int, stored: bytes) -> bool:
    """Tell whether the snapshot of a version is what the events make."""
    try:
        kept = unpack_root(version, stream.sealer.open_snapshot(version, stored))
        if version > stream.root.version or version < max(stream.first_own, stream.horizon):
            return False
        return not differences(kept, streams.replay.root_at(stream, version))
    except (DamagedRecord, Erased, NewerFormat, ValueError):
        return False


def compare_indexes(streams: Streams, stream: Stream) -> Iterator[tuple[str, int]]:
    """Yield what is wrong with a stream's indexes, nothing of what holds, and how many rows."""
    upkeep = streams.log.upkeep
    if upkeep is None or stream.key is None:
        return
    kept, made = upkeep.indexes(stream.id), count_anew(streams, stream)
    for _, wrong, count in compare_rows(kept, made, stream.first_own):
        yield wrong, count


def count_anew(streams: Streams, stream: Stream) -> Indexes:
    """Return what a stream's indexes are to hold; of what is archived, what they do hold.

    Raises:
        DamagedRecord: an event does not open, or is missing.
    """
    made, version = Recount(stream), max(stream.first_own - 1, stream.horizon)
    if stream.horizon and streams.log.upkeep is not None:
        made.go_on(streams.log.upkeep.indexes(stream.id), stream.first_own, version)
    while found := streams.log.read(stream.id, version, EVERYTHING, _PAGE):
        for at, _, stored in found:
            version += 1
            if at != version:
                raise DamagedRecord(f"{stream.name}: version {version} is missing")
            made.take_in([stream.sealer.open(version, stored)])
    return made.indexes()


def _archived(stream: Stream) -> int:
    """Return how many events of a stream itself are archived, and not at hand."""
    return max(0, stream.horizon - stream.first_own) if stream.parent is None else 0


def compare_tree(streams: Streams, tree: MemoryTree) -> Iterator[tuple[str, int]]:
    """Yield what is wrong with what is kept of the audit tree, and how much was compared.

    Args:
        streams: of the log.
        tree: one made of its events, which is brought up to date.
    """
    upkeep = streams.log.upkeep
    if upkeep is None:
        return
    tree.catch_up()
    nodes, links = tree.kept()
    kept_nodes, kept_links = upkeep.nodes(), upkeep.links()
    wrong = len({*nodes.items()} ^ {*kept_nodes.items()})
    yield f"{wrong} nodes are not those of the events" if wrong else "", len(nodes)
    wrong = len({*links.items()} ^ {*kept_links.items()})
    yield f"{wrong} links are not those of the events" if wrong else "", len(links)


def spell(name: StreamName) -> str:
    """Spell a stream for people."""
    return str(name) if name.branch else f"the register of {name.agent_id}"
