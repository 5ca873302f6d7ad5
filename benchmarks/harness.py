"""What all benchmarks share: the machine, the clock, the statistics, the report."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import apsw

import statecore

Row = dict[str, Any]

KEY: Final = bytes(range(32))  # no secret: a store that was kept must open again
AGENT: Final = "agent"
_TASKS: Final = 512


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that is gone afterwards, on the disk that TMPDIR names."""
    path = Path(tempfile.mkdtemp(prefix="statecore-benchmark-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def pace() -> float:
    """Return how many milliseconds a fixed piece of plain Python takes now.

    Shared machines change their speed between and within runs; a figure of CPU time means little
    without the pace it was taken at.
    """
    started = time.perf_counter()
    total = 0
    for number in range(200_000):
        total += number * number
    return (time.perf_counter() - started) * 1e3


def pace_since(before: float) -> float:
    """Return the pace around what was measured: the mean of what it was and of what it is now."""
    return round((before + pace()) / 2, 1)


def sync_microseconds(folder: Path, count: int = 200) -> float:
    """Return how long the disk takes to make 4 KiB durable, at the median."""
    descriptor = os.open(folder / "sync", os.O_RDWR | os.O_CREAT)
    block, took = os.urandom(4096), []
    for at in range(count):
        started = time.perf_counter()
        os.pwrite(descriptor, block, at * 4096)
        os.fdatasync(descriptor)
        took.append(time.perf_counter() - started)
    os.close(descriptor)
    return statistics.median(took) * 1e6


def machine(folder: Path) -> Row:
    """Say on what this runs."""
    packages = ("statecore", "eventsourcing", "cryptography", "zstandard", "msgpack", "immutables")
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "sqlite": apsw.sqlite_lib_version(),
        "sync_us": round(sync_microseconds(folder)),
        "pace_ms": round(pace(), 1),
        **{package: _version(package) for package in packages},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:
        return "from this folder"


def timed(action: Callable[[], object], count: int) -> list[float]:
    """Return the seconds each of so many calls takes."""
    took = []
    for _ in range(count):
        started = time.perf_counter()
        action()
        took.append(time.perf_counter() - started)
    return took


def spread(seconds: Sequence[float]) -> Row:
    """Return median and percentiles, in microseconds."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        name: round(cuts[at - 1] * 1e6, 1) for name, at in (("p50", 50), ("p90", 90), ("p99", 99))
    }


def fill(path: Path, pairs: Iterable[tuple[str, Any]]) -> None:
    """Set a key to a value for each pair, one event each, from many tasks on one agent."""

    async def run() -> None:
        async with statecore.open(path, key=KEY) as store:
            agent = store.manager(AGENT)
            rest = iter(pairs)

            async def work() -> None:
                for key, value in rest:
                    await agent.set_state(key, value)

            await asyncio.gather(*(work() for _ in range(_TASKS)))

    asyncio.run(run())


def settle() -> None:
    """Begin with little garbage, as a server that has been up for a while."""
    gc.collect()


def main(
    title: str,
    measure: Callable[[Path, argparse.Namespace], list[Row]],
    **options: int | str,
) -> None:
    """Run a benchmark from the command line and print what it measured."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--json", action="store_true", help="print JSON")
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    arguments = parser.parse_args()
    with scratch() as folder:
        host = machine(folder)
        rows = measure(folder, arguments)
    if arguments.json:
        sys.stdout.write(json.dumps({"benchmark": title, "machine": host, "rows": rows}) + "\n")
    else:
        _print(title, host, rows)


def _print(title: str, host: Row, rows: list[Row]) -> None:
    print(title)
    print("  " + ", ".join(f"{name} {value}" for name, value in host.items()))
    for row in rows:
        name = row.pop("what")
        print(f"  {name:<52} " + "  ".join(f"{key} {_show(value)}" for key, value in row.items()))


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_show(part)}" for key, part in value.items()) + ")"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
