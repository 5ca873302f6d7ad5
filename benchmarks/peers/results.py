"""How long everything takes everybody, and the table of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, Final, TypeAlias

from benchmarks.harness import Row, pace, spread
from benchmarks.peers.contender import Cant, Contender

US: Final = "statecore"

Took: TypeAlias = list[float] | Cant


class Results:
    """How long everything takes everybody."""

    def __init__(self) -> None:
        self._took: dict[str, dict[str, Took]] = {}
        self._paces: dict[str, list[float]] = {}
        self._pace = 0.0

    def begin_turn(self) -> None:
        """Take the machine's pace, which may change between any two turns.

        What others left to the operating system is written first: nobody's sync is to wait for it.
        """
        os.sync()
        self._pace = pace()

    def time(self, title: str, who: Contender, ask: Callable[..., Any], *about: Any) -> Any:
        """Ask, note how long the answer takes, and return it.

        Raises:
            Cant: there is none; noted, too.
        """
        took = self._took.setdefault(title, {}).setdefault(who.name, [])
        if isinstance(took, Cant):
            raise took
        started = time.perf_counter()
        try:
            answer = ask(*about)
        except Cant as why:
            self.give_up(title, who, why)
            raise
        took.append(time.perf_counter() - started)
        self._paces.setdefault(title, []).append(self._pace)
        return answer

    def give_up(self, title: str, who: Contender, why: Cant) -> None:
        """Note that there is no answer."""
        self._took.setdefault(title, {})[who.name] = why

    def rows(self, expected: Mapping[tuple[str, str], str]) -> list[Row]:
        """Return the table, ours first, with what is expected of a title and a name."""
        rows = []
        for title, took in self._took.items():
            for name, seconds in took.items():
                row: Row = {"what": f"{title}, {name}"}
                if isinstance(seconds, Cant):
                    row["note"] = f"can't: {seconds}"
                else:
                    pace_ms = round(median(self._paces[title]), 1)
                    row |= {**_spread(seconds), "times": len(seconds), "pace_ms": pace_ms}
                    if name != US:
                        row["to_statecore"] = round(row["p50"] / _spread(took[US])["p50"], 2)
                kind = name.split()[0]
                if (title, kind) in expected:
                    row["expected"] = expected[title, kind]
                rows.append(row)
        return rows


def _spread(took: Took) -> Row:
    assert not isinstance(took, Cant), "we answer everything"
    return spread(took)
