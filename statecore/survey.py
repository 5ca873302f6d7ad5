"""What of a store's file is intact, and by what that is known; nothing is written to it.

Each event is proven *by seal*, which nobody makes without the key; else *by tree*: it fits the hash
tree that the file itself keeps; else it has the *structure* of an event, and nothing speaks against
it. What a seal or the tree speaks against is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, TypeAlias

import apsw

from statecore.codec import Record, Sealer, read_epoch, read_time
from statecore.codec.cut import is_cut, read_cut
from statecore.errors import (
    Archived,
    Damage,
    DamagedRecord,
    Erased,
    ForeignSchema,
    NewerFormat,
    StoreNotFound,
)
from statecore.events import to_time
from statecore.keys import DataKey, KeyRing
from statecore.keys.ring import LOG_EPOCH
from statecore.projections.tree_evidence import TreeEvidence, ask_tree
from statecore.recorders.sqlite.evidence import Candidate, Evidence, Kept
from statecore.recorders.sqlite.images import Images
from statecore.recorders.sqlite.scan import Scan
from statecore.recorders.sqlite.schema import FORMAT
from statecore.stream import Stream, StreamName

BY_SEAL: Final = "seal"
BY_TREE: Final = "tree"
BY_STRUCTURE: Final = "structure"
_UNPROVEN: Final = "unproven"
_SEAL_BYTES: Final = 32  # at least, of a header and a body


@dataclass(frozen=True, slots=True)
class Run:
    """Versions of a stream in a row, each proven by the same."""

    stream: str
    first: int
    last: int
    proof: str


@dataclass(frozen=True, slots=True)
class Loss:
    """Versions of a stream in a row that are not there."""

    stream: str
    first: int
    last: int
    positions: tuple[int, int] | None
    """Where in the log they were, as far as that is known."""
    after: datetime | None
    """When the event before them was recorded."""
    before: datetime | None
    """When the event behind them was."""


@dataclass(slots=True)
class Survey:
    """What there is of a log, and what is missing."""

    log_id: bytes = b""
    events: dict[str, int] = field(default_factory=dict)
    """How many events are proven by what."""
    runs: list[Run] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    refused: int = 0
    """Records that claim to be events, and are not: their seal or the tree speaks against them."""
    has_key: bool = False
    is_damaged: bool = False
    """Whether any page of the file is not what it should be."""
    pages_cut: int = 0
    """Pages that the file lacks at its end: of what was on them alone nothing is known."""
    gone: list[str] = field(default_factory=list)
    """Streams that there are keys of, and neither an event nor a trace of one."""
    agents: dict[str, str] = field(default_factory=dict)
    """Whose each stream is, by its pseudonym, where its first event could be opened."""
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many events there are."""
        return sum(self.events.values())

    @property
    def is_whole(self) -> bool:
        """Whether nothing is known to be missing."""
        return not (self.losses or self.refused or self.gone or self.pages_cut)


class Surveyor:
    """Looks through one file."""

    def __init__(self, path: Path, scratch: apsw.Connection) -> None:
        """Read all of a file.

        Raises:
            StoreNotFound: there is none, or it can't be read.
        """
        try:
            scan = Scan(path, scratch)
        except OSError as error:
            raise StoreNotFound(f"{path} can't be read: {error.strerror}") from error
        scan.run()
        self.path = path
        self.evidence = Evidence(scratch)
        self.survey = Survey(is_damaged=scan.is_damaged)
        if scan.is_damaged:
            with closing(Images(path)) as images:
                self.survey.pages_cut = pages_cut(images)
        self.tree = TreeEvidence()
        self.names: dict[int, bytes] = {}
        found = self.evidence.prefixes()
        self.prefixes = {number: prefixes[0] for number, prefixes in found.items() if number > 0}
        self._rivals = {number: each for number, each in found.items() if len(each) > 1}
        self._ring: KeyRing | None = None
        self._keys: dict[bytes, dict[int, DataKey | None]] = {}
        self._sealers: dict[bytes, Sealer] = {}

    def run(self, ring: KeyRing | None, streams: list[bytes]) -> Survey:
        """Judge all that was found.

        Args:
            ring: the keys, where they are at hand.
            streams: all streams that there are keys of, in case that their names were lost.

        Raises:
            Damage: it is not known which log it was, or there is nothing of a log.
            NewerFormat: a newer statecore wrote it.
        """
        survey, evidence = self.survey, self.evidence
        ids = evidence.log_ids()
        if any(number > FORMAT for number in evidence.formats()) and not ring:
            raise NewerFormat(f"{self.path} has a newer format than {FORMAT}; upgrade to read it")
        if not ids and ring is None:
            raise ForeignSchema(f"nothing in {self.path} says which log it is")
        survey.log_id = ring.log_id if ring else ids[0]
        survey.has_key = ring is not None
        self._ring = ring
        self._resolve_names(streams)
        for candidates in evidence.candidates():
            self._judge(candidates)
        self.tree = ask_tree(evidence)
        evidence.promote(self.tree.proven, BY_TREE)
        before = evidence.count()
        evidence.drop(self.tree.refuted)
        sealed = {number for number, name in self.names.items() if self._has_keys(name)}
        evidence.drop_unproven(sealed)
        survey.refused += before - evidence.count()
        self._tell()
        self._tell_gone(streams)
        return survey

    def _resolve_names(self, streams: list[bytes]) -> None:
        """Find out which stream each number stands for: by the seal of an event, if need be."""
        names = self.evidence.names()
        for candidates in self.evidence.candidates():
            number = candidates[0].stream
            if number in self.names:
                continue
            known = names.get(number, [])
            if len(known) == 1 and not self._ring:
                self.names[number] = known[0]
                continue
            for name in [*known, *streams]:
                if any(self._open(name, candidate) is not None for candidate in candidates):
                    self.names[number] = name
                    break
        for number, known in names.items():
            likely = [name for name in known if name in streams]
            self.names.setdefault(number, [*likely, *known][0])

    def _judge(self, candidates: list[Candidate]) -> None:
        """Choose the event of a version, if any of the candidates can be it."""
        name = self.names.get(candidates[0].stream)
        if name is None:
            return
        waiting = None
        for candidate in candidates:
            record = self._open(name, candidate)
            if record is not None:
                if self._choose(candidate, name, BY_SEAL):
                    self._note_agent(name, record)
                    return
            elif waiting is None and self._may_be(name, candidate):
                waiting = candidate
        if waiting is not None:
            self._choose(waiting, name, _UNPROVEN)
        elif any(self.evidence.was_among_events(candidate) for candidate in candidates):
            self.survey.refused += 1

    def _choose(self, candidate: Candidate, name: bytes, proof: str) -> bool:
        kept = Kept(candidate.position, candidate.stream, name, *candidate[1::2], proof)
        return self.evidence.choose(kept, read_time(candidate.state))

    def _note_agent(self, name: bytes, record: Record) -> None:
        birth = record.birth
        if birth is not None:
            at = f"{birth.agent_id}@{birth.branch}"
            self.survey.agents[name.hex()] = birth.agent_id if birth.branch == "main" else at

    def sealer(self, name: bytes) -> Sealer:
        """Return what opens the events of a stream, as far as its keys are there."""
        sealer = self._sealers.get(name)
        if sealer is None:
            keys = self._keys_of(name)
            sealer = Sealer(self.survey.log_id, name, keys, self.prefixes.get)
            self._sealers[name] = sealer
        return sealer

    def stream(self, name: bytes) -> Stream | None:
        """Return a stream with its keys; ``None`` where none of these is there."""
        if self._ring is None or not self._has_keys(name):
            return None
        stream = Stream(StreamName(""), name, {LOG_EPOCH: self._ring.log_key})
        stream.load_keys({e: key for e, key in self._keys_of(name).items() if e != LOG_EPOCH})
        stream.sealer = self.sealer(name)
        return stream

    def _keys_of(self, name: bytes) -> Mapping[int, DataKey | None]:
        keys = self._keys.get(name)
        if keys is None:
            keys = {}
            if self._ring is not None:
                try:
                    keys = self._ring.keys(name)
                except (DamagedRecord, Damage):
                    self.survey.notes.append(f"a key of stream {name.hex()} is damaged")
                keys = {LOG_EPOCH: self._ring.log_key, **keys}
            self._keys[name] = keys
        return keys

    def _has_keys(self, name: bytes) -> bool:
        return any(key for epoch, key in self._keys_of(name).items() if epoch != LOG_EPOCH)

    def _open(self, name: bytes, candidate: Candidate) -> Record | None:
        if self._ring is None or len(name) != 16 or not 0 < candidate.version < 1 << 63:
            return None
        try:
            return self.sealer(name).open(candidate.version, candidate.state)
        except Archived:
            return None
        except (Damage, Erased):
            return self._open_otherwise(name, candidate) if self._rivals else None

    def _open_otherwise(self, name: bytes, candidate: Candidate) -> Record | None:
        """Open a record with another prefix of its writer, where the file has several of one."""
        for number, prefixes in self._rivals.items():
            for prefix in prefixes:
                tried = {**self.prefixes, number: prefix}
                sealer = Sealer(self.survey.log_id, name, self._keys_of(name), tried.get)
                with suppress(Archived, Damage, Erased):
                    record = sealer.open(candidate.version, candidate.state)
                    self.prefixes[number] = prefix
                    del self._rivals[number]
                    self._sealers.clear()
                    return record
        return None

    def _may_be(self, name: bytes, candidate: Candidate) -> bool:
        """Tell whether a record that does not open can be an event all the same."""
        state, keys = candidate.state, self._keys_of(name)
        try:
            epoch = read_epoch(state)
            if is_cut(state):
                state = read_cut(state).header + bytes(_SEAL_BYTES)
            has_form = state[0] >> 4 == FORMAT and read_time(state) > 0 and len(state) > 32
        except (LookupError, ValueError, DamagedRecord):
            return False
        is_sealed_here = keys.get(epoch) and not is_cut(candidate.state)
        if not has_form or candidate.version < 1 or candidate.position < 1 or is_sealed_here:
            return False
        was_erased = epoch in keys and not keys[epoch]
        at_home = self.evidence.was_among_events(candidate) or self.evidence.is_known(candidate)
        return was_erased or at_home

    def _tell(self) -> None:
        """Take down what there is, and what is missing."""
        for number, group in groupby(self.evidence.places(), itemgetter(0)):
            name = self.names[number].hex() if number in self.names else f"number {number}"
            places = [(version, at, time, proof) for _, version, at, time, proof in group]
            self._tell_runs(name, places)
            self._tell_losses(name, places)

    def _tell_runs(self, name: str, places: list[_Place]) -> None:
        survey = self.survey
        for version, _, time, said in places:
            if time is None:
                continue
            proof = BY_STRUCTURE if said == _UNPROVEN else said
            survey.events[proof] = survey.events.get(proof, 0) + 1
            last = survey.runs[-1] if survey.runs else None
            if last and (last.stream, last.last, last.proof) == (name, version - 1, proof):
                survey.runs[-1] = Run(name, last.first, version, proof)
            else:
                survey.runs.append(Run(name, version, version, proof))

    def _tell_losses(self, name: str, places: list[_Place]) -> None:
        """Tell of the versions between those that are there, and of those the index knows."""
        lost = {version: at for version, at, time, _ in places if time is None}
        there = [(version, time) for version, _, time, _ in places if time is not None]
        before, time_before = places[0][0] - 1, None
        for version, time in [*there, (places[-1][0] + 1, None)]:
            if version - before > 1:
                known = [at for each, at in lost.items() if before < each < version]
                span = (min(known), max(known)) if known else None
                after, until = _moment(time_before), _moment(time)
                self.survey.losses.append(Loss(name, before + 1, version - 1, span, after, until))
            before, time_before = version, time

    def _tell_gone(self, streams: list[bytes]) -> None:
        """Take down the streams that only keys tell of.

        A key is made before the first event that it seals: who was killed in between leaves one to
        a file that lacks nothing, where its stream is not named either.
        """
        survey = self.survey
        found = {run.stream for run in survey.runs} | {loss.stream for loss in survey.losses}
        named = {*streams} if survey.is_damaged else {*streams} & {*self.names.values()}
        survey.gone = sorted({name.hex() for name in named} - found)


def pages_cut(images: Images) -> int:
    """Return how many pages a store's file lacks at its end, and no write-ahead log has."""
    return 0 if images.frames else max(0, images.pages - images.in_file)


_Place: TypeAlias = tuple[int, int, int | None, str]


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else to_time(microseconds)
