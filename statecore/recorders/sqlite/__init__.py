"""SQLite as a persistence module of ``eventsourcing``.

Settings: ``PERSISTENCE_MODULE``, this module's name; ``SQLITE_DBNAME``, the path of the file;
``SQLITE_DURABILITY``, ``full`` (default) or ``relaxed``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    ProcessRecorder,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic

from statecore.recorders.sqlite.datastore import Datastore, create_datastore
from statecore.recorders.sqlite.log import SqliteLog
from statecore.recorders.sqlite.recorder import (
    SqliteAggregateRecorder,
    SqliteApplicationRecorder,
    SqliteProcessRecorder,
    SqliteTrackingRecorder,
)

_Recorder = TypeVar("_Recorder")

_TABLES = {"events": "events", "snapshots": "snapshots"}


class Factory(InfrastructureFactory[SqliteTrackingRecorder]):
    """Makes recorders that share one SQLite file."""

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        name = self.env.get("SQLITE_DBNAME")
        if not name:
            keys = ", ".join(self.env.create_keys("SQLITE_DBNAME"))
            raise OSError(f"SQLite database name not found in environment with keys: {keys}")
        durability = self.env.get("SQLITE_DURABILITY") or "full"
        if durability not in ("full", "relaxed"):
            raise OSError(f"SQLITE_DURABILITY is full or relaxed, not {durability}")
        create_datastore(Path(name), lambda: secrets.token_bytes(16))
        self.datastore = Datastore(Path(name), durability=durability)

    def log_store(self) -> SqliteLog:
        """Return the log, native: what statecore itself works with."""
        return SqliteLog(self.datastore)

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        if purpose not in _TABLES:
            raise ValueError(f"there are tables for {' and '.join(_TABLES)}, not for {purpose}")
        return SqliteAggregateRecorder(self.datastore, _TABLES[purpose])

    def application_recorder(self) -> ApplicationRecorder:
        return self._recorder("APPLICATION_RECORDER_TOPIC", SqliteApplicationRecorder)

    def tracking_recorder(
        self, tracking_recorder_class: type[SqliteTrackingRecorder] | None = None
    ) -> SqliteTrackingRecorder:
        if tracking_recorder_class is not None:
            return tracking_recorder_class(self.datastore)
        return self._recorder("TRACKING_RECORDER_TOPIC", SqliteTrackingRecorder)

    def process_recorder(self) -> ProcessRecorder:
        return self._recorder("PROCESS_RECORDER_TOPIC", SqliteProcessRecorder)

    def _recorder(self, setting: str, default: Callable[[Datastore], _Recorder]) -> _Recorder:
        """Return a recorder of the class that a setting names."""
        topic = self.env.get(setting)
        make: Callable[[Datastore], _Recorder] = resolve_topic(topic) if topic else default
        return make(self.datastore)

    def close(self) -> None:
        self.datastore.close()
