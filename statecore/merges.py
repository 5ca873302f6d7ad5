"""Asking for a merge, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

from statecore.appends import Source
from statecore.change import EMPTY, Change
from statecore.conflict import sum_terms
from statecore.errors import InputError, MergeConflict, Path
from statecore.events import Moment
from statecore.merging import Merged, Rules, Settle, Strategy, keep_both
from statecore.packed import Packed, thaw, to_bytes
from statecore.strategies import by_function, named
from statecore.values import Unresolved, Value, pack

OnConflict: TypeAlias = (
    Literal["record", "raise", "ours", "theirs"] | Callable[[Path, Value, Value, Value], Value]
)
"""What to do where sides can't be reconciled: record both, raise ``MergeConflict``, take a side's,
or record what a function of path, base, ours and theirs returns."""

Strategies: TypeAlias = Mapping[str, str | Callable[[Value, Value, Value], Value]]
"""By pattern of key: the name of a strategy, or a function of base, ours and theirs."""


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge, or a taking back, came to, or would come to."""

    version: int | None
    """The version it made; ``None`` where nothing was recorded."""
    change: Change
    """What it does to the state it was merged into."""
    conflicts: Mapping[Path, Unresolved] = field(default_factory=dict)
    """What both sides changed and can't be reconciled, by path."""
    bases: tuple[Moment, ...] = ()
    """What both sides have in common: one moment, or several after a criss-cross of merges."""
    keys_ours: int = 0
    """How many keys our side changed since."""
    keys_theirs: int = 0
    """How many keys their side changed since."""
    keys_both: tuple[str, ...] = ()
    """The keys that both changed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to append to a state at a version, and what to tell of it."""

    version: int
    result: MergeResult
    source: Source | None  # ``None``: nothing is to be recorded

    @property
    def reads(self) -> set[str]:
        """The keys that the plan looked at."""
        return {*self.result.change.operations, *self.result.keys_both}


def seen_of(result: MergeResult, sees: Callable[[str], bool] | None) -> MergeResult:
    """Return what may be seen of a result."""
    if sees is None:
        return result
    change = result.change
    return replace(
        result,
        change=Change({k: op for k, op in change.operations.items() if sees(k)}, change.cleared),
        conflicts={path: each for path, each in result.conflicts.items() if sees(str(path[0]))},
        keys_both=tuple(filter(sees, result.keys_both)),
    )


def plan(
    version: int, merged: Merged, source: Source, on_conflict: OnConflict, *, is_needed: bool
) -> Plan:
    """Return the plan of a change that was made for a version.

    Raises:
        MergeConflict: something can't be reconciled, and ``on_conflict`` is ``"raise"``.
    """
    if on_conflict == "raise" and merged.conflicts:
        paths = ", ".join("/".join(map(str, path)) for path in merged.conflicts)
        raise MergeConflict(f"both sides changed {paths}", merged.conflicts)
    result = MergeResult(None, merged.change, merged.conflicts, keys_both=merged.both)
    return Plan(version, result, source if is_needed else None)


def nothing(version: int) -> Plan:
    """Return the plan to do nothing."""
    return Plan(version, MergeResult(None, EMPTY), None)


_SETTLERS: Final[dict[str, Settle]] = {
    "record": keep_both,
    "raise": keep_both,
    "ours": lambda *sides: sides[2],
    "theirs": lambda *sides: sides[3],
}


def rules_for(
    on_conflict: OnConflict,
    strategies: Strategies,
    recorded: Iterable[tuple[str, str]] = (),
    remembered: Mapping[str, Packed] | None = None,
) -> Rules:
    """Return the rules of a merge: those given with it before those recorded for the agent.

    Args:
        on_conflict: what to do in the end.
        strategies: given with this merge.
        recorded: patterns and names of strategies recorded for the agent.
        remembered: how conflicts were resolved before, by their fingerprint.

    Raises:
        InputError: there is no such strategy, or no such way.
    """
    given: list[tuple[str, Strategy]] = [
        (pattern, named(way) if isinstance(way, str) else by_function(way))
        for pattern, way in strategies.items()
    ]
    named_before = [(pattern, named(name)) for pattern, name in recorded]
    return Rules((*given, *named_before), _settler(on_conflict, remembered or {}))


def _settler(on_conflict: OnConflict, remembered: Mapping[str, Packed]) -> Settle:
    if callable(on_conflict):
        settle = _by_asking(on_conflict)
    elif on_conflict in _SETTLERS:
        settle = _SETTLERS[on_conflict]
    else:
        ways = ", ".join(sorted(_SETTLERS))
        raise InputError(f"on_conflict is {ways} or a function, not {on_conflict!r}")
    if not remembered:
        return settle

    def recall(
        path: Path, base: Packed | None, ours: Packed | None, theirs: Packed | None
    ) -> Packed | None:
        known = remembered.get(fingerprint(sum_terms((ours, theirs), (base,))))
        return settle(path, base, ours, theirs) if known is None else known

    return recall


def _by_asking(function: Callable[[Path, Value, Value, Value], Value]) -> Settle:
    def ask(path: Path, *sides: Packed | None) -> Packed:
        return pack(function(path, *(None if side is None else thaw(side) for side in sides)))

    return ask


def fingerprint(conflict: Packed | None) -> str:
    """Return what tells a conflict again, wherever it comes up."""
    return blake2b(b"" if conflict is None else to_bytes(conflict), digest_size=16).hexdigest()
