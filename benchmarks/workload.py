"""The agent runs that everybody is compared by.

``steps``: one agent; each step appends a message of about 400 bytes and changes 2 of 20 small keys.
``errands``: nested plans, tool results of 1 to 200 KB, counters, deletions.
``calls``: single keys, at random, set to whatever values are given.

The messages are written in a made-up language, so that no dictionary trained on anything knows
their words: what compresses them is what is in them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

from benchmarks.synthetic import Synthetic
from statecore.change import EMPTY, Change

SMALL_KEYS = tuple(f"slot_{number:02}" for number in range(20))
_SYLLABLES = "ka re mi to su lo ven dra pi qu es an dor fel ya ni bru cha zo ith um gar el".split()


class Storyteller:
    """Text in a language of 3,000 words, the frequent ones short, as in any language."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        longer = sorted(self.random.randint(1, 4) for _ in range(3000))
        self._words = ["".join(self.random.choices(_SYLLABLES, k=length)) for length in longer]
        self._ranks = [1 / (rank + 2) for rank in range(3000)]

    def text(self, length: int) -> str:
        """Return text of about this many characters."""
        words = self.random.choices(self._words, self._ranks, k=length // 4 + 2)
        return " ".join(words)[:length]


def steps(count: int, seed: int = 1) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the message and the changed keys of each step."""
    teller = Storyteller(seed)
    for number in range(count):
        role = ("user", "assistant", "tool")[number % 3]
        message = {"role": role, "content": teller.text(360), "id": f"msg-{number}"}
        keys = teller.random.sample(SMALL_KEYS, 2)
        yield message, {key: _small(teller, number) for key in keys}


def _small(teller: Storyteller, number: int) -> Any:
    return teller.random.choice((number, round(teller.random.random(), 3), teller.text(12), True))


def errands(count: int, seed: int = 2) -> Iterator[Change]:
    """Yield the change of each step of a run with large and nested values."""
    make = Synthetic(seed)
    for number in range(count):
        change = EMPTY.extend("messages", [make.message(make.random.randint(50, 900))])
        change = change.add("tokens", make.random.randint(50, 4000)).add("cost", Decimal("0.003"))
        if number % 10 == 0:
            change = change.put("plan", make.plan(8))
        else:
            step = make.random.randint(0, 7)
            change = change.patch("plan", EMPTY.splice("steps", step, 1, [make.step()]))
        if number % 3 == 0:
            size = int(1000 * 200 ** make.random.random())
            change = change.put(f"result/{number % 30}", make.tool_result(size))
        if number % 7 == 0:
            change = change.remove(f"result/{make.random.randrange(30)}")
        yield change.patch("profile", {"last_seen": make.moment()})


def calls(count: int, keys: int, values: Iterable[Any], seed: int = 3) -> Iterator[tuple[str, Any]]:
    """Yield so many random keys, each with the next value."""
    chance = random.Random(seed)
    for value in islice(values, count):
        yield f"k{chance.randrange(keys)}", value
