"""Train the compression dictionary that is shipped: ``python -m benchmarks.train_dictionary``.

Reproducible to the byte with the same zstandard: a fixed seed, one thread, fixed parameters. The
result is stored with every store's first format; a better one would become a second dictionary.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import zstandard

from benchmarks.synthetic import Synthetic
from benchmarks.words import PEOPLE
from statecore.change import EMPTY, Change
from statecore.codec.record import make_body, pack_body
from statecore.codec.wire import STRIDE, write_operations

TARGET = Path(__file__).parent.parent / "statecore" / "codec" / "dictionary-1.zdict"
SEED = 20260101
SAMPLES = 20_000
DICTIONARY_BYTES = 160 * 1024
FOREIGN = 0.5  # of the samples: text like nothing else here, so that any text gains a little


def body(make: Synthetic) -> bytes:
    """The packed body of one synthetic event."""
    wire = list(write_operations(change(make)))
    for at in range(2, len(wire), STRIDE):
        wire[at] = make.random.choice((0, 1, 1, 2, 3, make.random.randint(1, 5000)))
    actor = make.random.choice((None, None, "agent", "planner", "user", make.pick(PEOPLE)))
    reason = make.random.choice((None, None, None, "tool result", "user message", make.sentence()))
    return pack_body(make_body(tuple(wire), actor, reason))


def change(make: Synthetic) -> Change:
    """A change such as one step of an agent makes, or one with values like no other."""
    if make.random.random() < FOREIGN:
        return EMPTY.put(make.words(8), foreign(make))
    kinds = (step, record, message, tool, plan, profile, small)
    return make.random.choices(kinds, (4, 4, 3, 2, 2, 1, 3))[0](make)


def step(make: Synthetic) -> Change:
    return (
        EMPTY.extend("messages", [make.message()])
        .put(make.key(), make.small())
        .put(make.key(), make.small())
    )


def record(make: Synthetic) -> Change:
    return EMPTY.put(make.key(), make.record())


def message(make: Synthetic) -> Change:
    return EMPTY.extend("messages", [make.message(make.random.randint(20, 900))])


def tool(make: Synthetic) -> Change:
    return EMPTY.put(make.key(), make.tool_result(make.random.choice((300, 1000, 3000))))


def plan(make: Synthetic) -> Change:
    return EMPTY.put("plan", make.plan(make.random.randint(1, 8)))


def profile(make: Synthetic) -> Change:
    return EMPTY.put("profile", make.profile())


def small(make: Synthetic) -> Change:
    return EMPTY.put(make.key(), make.small())


def foreign(make: Synthetic) -> Any:
    """A value that shares no phrase with any other."""
    kind = make.random.random()
    if kind < 0.6:
        return make.words(make.random.randint(20, 500))
    if kind < 0.75:
        return {make.words(8): make.words(40) for _ in range(make.random.randint(2, 8))}
    if kind < 0.85:
        return make.random.randbytes(make.random.choice((4, 6, 16, 20, 32))).hex()
    if kind < 0.9:
        return make.identifier("")
    return [round(make.random.uniform(0, 1000), 2) for _ in range(make.random.randint(1, 20))]


def train() -> bytes:
    """Train the dictionary."""
    make = Synthetic(SEED)
    samples: list[Any] = [body(make) for _ in range(SAMPLES)]
    trained = zstandard.train_dictionary(
        DICTIONARY_BYTES, samples, k=200, d=8, f=20, accel=1, level=5, threads=0, dict_id=0x5C000001
    )
    return trained.as_bytes()


if __name__ == "__main__":
    TARGET.write_bytes(train())
    sys.stdout.write(
        f"{TARGET.name}: {TARGET.stat().st_size:,} bytes, zstd {zstandard.ZSTD_VERSION}\n"
    )
