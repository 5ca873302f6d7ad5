"""Conflicts as values: what can't be reconciled is kept, both sides and the base, until resolved.

The algebra is Jujutsu's (https://jj-vcs.github.io/jj/latest/technical/conflicts/): a conflict is a
sum of terms, what sides made of a value added, what they started from taken away. Merging
conflicts with more only adds terms; those that are both added and taken away cancel, and a sum of
one term is that value. Terms stand in canonical order, so that merging is symmetric.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

from statecore.errors import Path
from statecore.packed import Packed, lay_open
from statecore.values import Unresolved, Value, pack_exposed

Term: TypeAlias = bytes | None
"""A packed value in canonical form, ``None`` where the key is not there."""

_EXT: Final = 5
_TYPE_AT: Final = {0xC7: 2, 0xC8: 3, 0xC9: 5} | dict.fromkeys(range(0xD4, 0xD9), 1)


def is_unresolved(packed: Packed | None) -> bool:
    """Tell whether a packed value is itself a conflict."""
    if not isinstance(packed, bytes):
        return False
    at = _TYPE_AT.get(packed[0])
    return at is not None and packed[at] == _EXT


def sum_terms(adds: Iterable[Packed | None], removes: Iterable[Packed | None]) -> Packed | None:
    """Return the value of a sum of terms: a plain one where all others cancel, or a conflict."""
    left: list[Term] = []
    right: list[Term] = []
    for packed in adds:
        more, fewer = _terms(packed)
        left += more
        right += fewer
    for packed in removes:
        fewer, more = _terms(packed)
        left += more
        right += fewer
    for term in list(right):
        if term in left:
            left.remove(term)
            right.remove(term)
    if not right:
        return left[0]
    return pack_exposed(Unresolved(_ordered(left), _ordered(right)))


def find_unresolved(packed: Packed, path: Path = ()) -> Iterator[tuple[Path, Unresolved]]:
    """Yield the conflicts in a value, with the path to each."""
    yield from _find(lay_open(packed), path)


def _find(value: Value, path: Path) -> Iterator[tuple[Path, Unresolved]]:
    if isinstance(value, Unresolved):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _find(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _find(item, (*path, at))


def _terms(packed: Packed | None) -> tuple[list[Term], list[Term]]:
    """Return what a value adds and takes away: itself, or the terms of a conflict."""
    if packed is None:
        return [None], []
    value = lay_open(packed)
    if isinstance(value, Unresolved):
        return list(value.adds), list(value.removes)
    return [pack_exposed(_canonical(value))], []


def _canonical(value: Value) -> Value:
    """Return a value whose maps have their keys in order, so that same values are same bytes."""
    if isinstance(value, dict):
        return {key: _canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value


def _ordered(terms: list[Term]) -> tuple[Term, ...]:
    return tuple(sorted(terms, key=lambda term: (term is None, term or b"")))
