"""One fault, caused in this process: ``python -m tests.faults.one ORDER FOLDER``."""

from __future__ import annotations

import faulthandler
import json
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import pytest

from tests.faults.campaign import FAULTS
from tests.faults.fault import Trial


def main() -> None:
    """Do as ordered; print what came of it, a line of JSON."""
    order = json.loads(sys.argv[1])
    (fault,) = (fault for fault in FAULTS if fault.name == order["fault"])
    trial = Trial(Path(sys.argv[2]), order["times"], random.Random(order["seed"]))
    started = time.monotonic()
    if order["seconds"]:
        trial.until = started + order["seconds"]
    trial.case_seconds_max = order["case_seconds_max"]
    faulthandler.register(signal.SIGALRM, chain=True)  # say where it hangs, then end by it
    trial.watch()
    skipped = ""
    try:
        fault.cause(trial)
    except pytest.skip.Exception as reason:
        skipped = str(reason)
    except Exception:
        trial.violations.append(traceback.format_exc())
    outcome = {
        "done": trial.done,
        "seconds": round(time.monotonic() - started, 1),
        "proved": dict(trial.proved),
        "violations": trial.violations,
        "skipped": skipped,
    }
    sys.stdout.write("\n" + json.dumps(outcome) + "\n")


if __name__ == "__main__":
    main()
