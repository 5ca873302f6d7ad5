"""Cause faults for real, many times over, and say what was proved: ``python -m tests.faults``."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.faults.campaign import FAULTS, Outcome, cause


def main(arguments: Sequence[str]) -> int:
    """Run a campaign; return 1 if anything was violated."""
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, help="these faults, not all")
    parser.add_argument("--times", type=int, help="how often each is caused, at most")
    parser.add_argument("--seconds", type=float, default=0, help="begin no case of a fault later")
    parser.add_argument("--seed", type=int, help="of all that is random")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left behind
    seed = random.randrange(1 << 32) if asked.seed is None else asked.seed
    outcomes = []
    for fault in FAULTS:
        if asked.only and fault.name not in asked.only:
            continue
        with tempfile.TemporaryDirectory(prefix="statecore-fault-") as folder:
            outcome = cause(fault, Path(folder), asked.times or fault.times, asked.seconds, seed)
        outcomes.append(outcome)
        if not asked.json:
            say(outcome)
    if asked.json:
        sys.stdout.write(json.dumps([asdict(outcome) for outcome in outcomes]) + "\n")
    else:
        say_all(outcomes)
    return int(any(outcome.violations for outcome in outcomes))


def say(outcome: Outcome) -> None:
    """Say what was done and proved, as soon as it is known."""
    lines = [f"{outcome.name}: {outcome.title}."]
    if outcome.skipped:
        lines.append(f"  not caused here: {outcome.skipped}")
    else:
        lines.append(f"  {outcome.done:,} times in {outcome.seconds:,} s, seed {outcome.seed}")
    lines += [f"  {number:>11,} {what}" for what, number in outcome.proved.items()]
    lines += [f"  VIOLATED: {violation}" for violation in outcome.violations]
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.flush()


def say_all(outcomes: Sequence[Outcome]) -> None:
    """Print the table."""
    rows = [("fault", "times", "seconds", "violations")]
    for each in outcomes:
        violations = "not caused" if each.skipped else str(len(each.violations))
        rows.append((each.name, f"{each.done:,}", f"{each.seconds:,}", violations))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        shown = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        sys.stdout.write("  ".join([name.ljust(widths[0]), *shown]) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
