"""Bisection: the first version for which something no longer holds, in as few looks as possible.

As ``git bisect`` does it: halve what lies between a good and a bad version, pass over versions
that can't be judged. What a judgement looked at is noted: as long as none of those keys was
touched, the judgement is the same, so whole stretches are settled at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from statecore.errors import InputError
from statecore.values import Value


@dataclass(frozen=True, slots=True)
class Bisection:
    """What a bisection found."""

    first_bad: int
    """The first bad version; where some could not be judged, the first known to be bad."""
    last_good: int
    """The last version known to be good: the one before, unless some could not be judged."""
    steps: tuple[tuple[int, bool | None], ...]
    """Each version looked at with its judgement, in order; ``None`` where it was passed over."""

    @property
    def is_certain(self) -> bool:
        """Whether no version between good and bad is left that could not be judged."""
        return self.first_bad == self.last_good + 1


class States(Protocol):
    """The states that are judged."""

    def value_at(self, key: str, version: int) -> tuple[bool, Value]:
        """Return whether a key is there at a version, and its value."""

    def state_at(self, version: int) -> Mapping[str, Value]:
        """Return the whole state at a version."""

    def unchanged(self, keys: set[str] | None, version: int) -> tuple[int, int]:
        """Return from when until when, around a version, none of these keys was touched.

        ``None`` stands for all keys.
        """


class Look(Mapping[str, Value]):
    """A state at a version, read key by key until all of it is asked for; notes what was read."""

    def __init__(self, states: States, version: int) -> None:
        self._states = states
        self._whole: Mapping[str, Value] | None = None
        self.version = version
        self.read: set[str] | None = set()

    def __getitem__(self, key: str) -> Value:
        if self._whole is not None:
            return self._whole[key]
        assert self.read is not None, "only a whole state notes no keys"
        self.read.add(key)
        is_there, value = self._states.value_at(key, self.version)
        if not is_there:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._take_all())

    def __len__(self) -> int:
        return len(self._take_all())

    def _take_all(self) -> Mapping[str, Value]:
        self.read = None
        if self._whole is None:
            self._whole = self._states.state_at(self.version)
        return self._whole


Judge = Callable[[Look], bool | None]


def bisect(
    states: States,
    good: int,
    bad: int,
    judge: Judge,
    known: Mapping[int, bool | None],
) -> Bisection:
    """Return where a judgement turns from good to bad.

    Args:
        states: what is judged.
        good: a version for which it holds.
        bad: a later one for which it does not.
        judge: tells whether it holds; ``None`` where that can't be told.
        known: judgements made before, by version.

    Raises:
        InputError: it does not hold at ``good``, or holds at ``bad``.
    """
    if not good < bad:
        raise InputError(f"version {good} is not before version {bad}")
    steps: list[tuple[int, bool | None]] = []

    def look(version: int) -> tuple[bool | None, int, int]:
        if version in known:
            verdict = known[version]
            steps.append((version, verdict))
            return verdict, version, version
        state = Look(states, version)
        verdict = judge(state)
        steps.append((version, verdict))
        return (verdict, *states.unchanged(state.read, version))

    for version, expected in ((good, True), (bad, False)):
        verdict, first, last = look(version)
        if verdict is not expected:
            raise InputError(f"version {version} is not {'good' if expected else 'bad'}")
        good, bad = (min(last, bad - 1), bad) if expected else (good, max(first, good + 1))
    passed_over: list[tuple[int, int]] = []
    while (middle := _middle(good, bad, passed_over)) is not None:
        verdict, first, last = look(middle)
        if verdict is None:
            passed_over.append((first, last))
        elif verdict:
            good = max(good, min(last, bad - 1))
        else:
            bad = min(bad, max(first, good + 1))
    return Bisection(bad, good, tuple(steps))


def _middle(good: int, bad: int, passed_over: list[tuple[int, int]]) -> int | None:
    """Return the version nearest to the middle that is still to be judged."""
    middle = (good + bad) // 2
    below = above = middle
    for first, last in sorted(passed_over, reverse=True):
        if first <= below <= last:
            below = first - 1
    for first, last in sorted(passed_over):
        if first <= above <= last:
            above = last + 1
    left = [version for version in (below, above) if good < version < bad]
    return min(left, key=lambda version: abs(version - middle), default=None)
