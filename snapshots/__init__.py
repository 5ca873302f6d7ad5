"""Roots kept to shorten replay: sealed ones beside the log, warm ones in memory."""

from statecore.snapshots.keeper import NoSnapshots, SnapshotKeeper
from statecore.snapshots.warm import WarmRoots, WarmValues

__all__ = ["NoSnapshots", "SnapshotKeeper", "WarmRoots", "WarmValues"]
