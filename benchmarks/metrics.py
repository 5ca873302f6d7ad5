"""What counting costs: reading a current key and appending, with the counting and without.

    python -m benchmarks.metrics --before FOLDER

FOLDER holds the sources of a statecore to compare with, such as ``git worktree add`` makes of the
commit before metrics. Each runs in a process of its own, and the two take turns, so that a machine
that changes its speed slows both. Without it, this one alone is measured. CPU time is told beside
the time that passed: on a busy machine it is the steadier of the two.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.harness import Row, main

_PROGRAM = """
import json, sys, time
import statecore
path, count = sys.argv[1], int(sys.argv[2])
with statecore.open(path, key=bytes(range(32))) as store:
    agent = store.manager("agent")
    agent.set_state("n", 1)
    get = agent.get_state
    def measured(action, count):
        wall, cpu = time.perf_counter(), time.process_time()
        for n in range(count):
            action(n)
        return (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count
    measured(lambda n: get("n"), 10_000)
    read = measured(lambda n: get("n"), count)
    append = measured(lambda n: agent.set_state("n", n), count // 200)
print(json.dumps({"read": read, "append": append}))
"""


def measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """Measure in turns; return the medians, and their ratio."""
    sources = {"now": str(Path.cwd())}
    if arguments.before:
        sources["before"] = arguments.before
    took: dict[str, list[dict[str, list[float]]]] = {name: [] for name in sources}
    for turn in range(arguments.turns):
        for name, source in sources.items():
            path = folder / f"{name}-{turn}.db"
            took[name].append(_run(source, path, arguments.count))
    rows: list[Row] = []
    for what, scale, unit in (("read", 1e9, "ns"), ("append", 1e6, "us")):
        for at, clock in enumerate(("wall", "cpu")):
            medians = {
                name: statistics.median(run[what][at] for run in runs) * scale
                for name, runs in took.items()
            }
            row: Row = {"what": f"{what}, {clock}"}
            row |= {f"{name}_{unit}": round(value, 1) for name, value in medians.items()}
            if "before" in medians:
                row["ratio"] = round(medians["now"] / medians["before"], 3)
            rows.append(row)
    return rows


def _run(source: str, path: Path, count: int) -> dict[str, list[float]]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path), str(count)],
        env={**os.environ, "PYTHONPATH": source},
        cwd=source,
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, list[float]] = json.loads(done.stdout)
    return answer


if __name__ == "__main__":
    main("What counting costs", measure, before="", turns=9, count=200_000)
