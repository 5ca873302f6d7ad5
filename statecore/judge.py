"""The judge: holds what a write would make of a state against the agent's rules, as they are then.

It sits in the sequencer's turn, where nothing can come between its decision and the event, and
reads the rules from the agent's register as that is at this point of the log, whoever wrote it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, TypeAlias

from statecore.change import Change
from statecore.diff import difference
from statecore.errors import ValidationFailed, Violation
from statecore.packed import Packed, thaw
from statecore.references import names_in, without
from statecore.register import REGISTER, RULES
from statecore.rulebook import Rulebook, is_of_rules
from statecore.state import Cell, Root
from statecore.stream import MAIN, Stream, StreamName
from statecore.streams import Streams
from statecore.validation import Checks, Names, has_conflict
from statecore.values import pack

Cells: TypeAlias = Mapping[str, Cell]
RootOf: TypeAlias = Callable[[Stream], Root]

_AGENTS_MAX: Final = 1024  # whose rules are kept ready


def checks_of(root: Root, streams: Streams, agent_id: str) -> Checks:
    """Return the checks of an agent, by its register's root."""
    told = {key: thaw(cell[1]) for key, cell in root.cells.items() if is_of_rules(key)}
    return Checks(Rulebook.read(told), streams.local_rules_of(agent_id))


@dataclass(slots=True)
class _Docket:
    """What is at hand of one agent."""

    register: Stream
    stamp: Cell | None = None  # of the rules that the checks are of: itself, not one that is equal,
    # since a version that was never committed may be another's in the end
    checks: Checks | None = None


class Judge:
    """Judges all writes to one log. Only the one who writes may ask it."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._dockets: OrderedDict[str, _Docket] = OrderedDict()

    def judge(
        self, stream: Stream, change: Change, before: Cells, after: Cells, root_of: RootOf
    ) -> Change:
        """Return the change to record: this one, or one that also clears references.

        Args:
            stream: whose state it changes.
            change: what is to be recorded.
            before: the state it meets.
            after: what it makes of it.
            root_of: returns the root of a stream as it is now, empty once it has ended.

        Raises:
            ValidationFailed: it violates rules; says all of it.
        """
        agent_id, branch, _ = stream.name
        if branch == REGISTER or not change.touches_anything:
            return change
        docket = self._dockets.get(agent_id) or self._open(agent_id)
        rules = root_of(docket.register)
        stamp = rules.cells.get(RULES)
        if stamp is None:
            return change
        if docket.checks is None or docket.stamp is not stamp:
            docket.checks = checks_of(rules, self._streams, agent_id)
            docket.stamp = stamp
        self._dockets.move_to_end(agent_id)
        names = names_by(after, self._streams, root_of)
        return _hold(docket.checks, change, before, after, names)

    def _open(self, agent_id: str) -> _Docket:
        docket = _Docket(self._streams.open(StreamName(agent_id, REGISTER)))
        self._dockets[agent_id] = docket
        if len(self._dockets) > _AGENTS_MAX:
            self._dockets.popitem(last=False)
        return docket


def names_by(here: Names, streams: Streams, root_of: RootOf) -> Callable[[str | None], Names]:
    """Return what returns the keys of this state, or of another agent's."""

    def names(agent_id: str | None) -> Names:
        return here if agent_id is None else root_of(streams.open(StreamName(agent_id, MAIN))).cells

    return names


def whole(checks: Checks, cells: Cells, names: Callable[[str | None], Names]) -> list[Violation]:
    """Return all that is wrong with a state."""
    found = (
        violation
        for key in cells
        for violation in _of_key(checks, key, cells[key][1], cells[key][1], names)
    )
    return sorted(found, key=lambda each: each.place)


def _hold(
    checks: Checks,
    change: Change,
    before: Cells,
    after: Cells,
    names: Callable[[str | None], Names],
) -> Change:
    touched = {*(before if change.cleared else ()), *change.operations}
    gone = {key for key in touched if key in before and key not in after}
    cleared: dict[str, Packed] = {}
    violations = list(_take_back(checks, gone, after, cleared)) if gone else []
    for key in {*touched, *cleared}:
        if key in after:
            old = before[key][1] if key in before else None
            violations += _of_key(checks, key, cleared.get(key, after[key][1]), old, names)
    if violations:
        raise ValidationFailed(violations)
    if not cleared:
        return change
    steps = {key: difference(after[key][1], packed) for key, packed in cleared.items()}
    return change.then(Change(steps))


def _of_key(
    checks: Checks,
    key: str,
    packed: Packed,
    before: Packed | None,
    names: Callable[[str | None], Names],
) -> list[Violation]:
    return [*checks.violations(key, packed), *checks.dangling(key, packed, before, names)]


def _take_back(
    checks: Checks, gone: set[str], after: Cells, cleared: dict[str, Packed]
) -> Iterator[Violation]:
    """Clear the references to keys that are gone, or yield those that forbid that they go.

    Looks at every key that may refer to them: deleting is what references make dear, not writing.
    """
    for each in checks.rules.references:
        aimed_at = {key for key in gone if fnmatchcase(key, each.to)}
        if each.agent is not None or each.on_delete == "keep" or not aimed_at:
            continue
        for key in after:
            packed = cleared.get(key, after[key][1])
            if not fnmatchcase(key, each.pattern) or has_conflict(packed):
                continue
            value = thaw(packed)
            named = [(at, name) for at, name in names_in(value, each.path) if type(name) is str]
            found = [(at, name) for at, name in named if name in aimed_at]
            if each.on_delete == "refuse":
                for place, name in found:
                    message = f"names {name!r}, which is to be removed"
                    yield Violation((key, *place), message, str(each))
            elif found:
                cleared[key] = pack(without(value, each.path, aimed_at), (key,))
