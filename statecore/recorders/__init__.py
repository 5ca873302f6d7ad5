"""All contact with ``eventsourcing``: what holds the log, behind one port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventsourcing.persistence import InfrastructureFactory
from eventsourcing.utils import strtobool

from statecore.errors import StoreUnsupported
from statecore.recorders.memory import MemoryLog
from statecore.recorders.port import (
    EVERYTHING,
    FileSizes,
    Indexes,
    KeptHistory,
    KeptTree,
    Links,
    LogRow,
    LogStore,
    Nodes,
    Row,
    Turn,
    Upkeep,
    last_of,
    row_of,
)
from statecore.recorders.portable import PortableLog

__all__ = [
    "EVERYTHING",
    "FileSizes",
    "Indexes",
    "KeptHistory",
    "KeptTree",
    "Links",
    "LogRow",
    "LogStore",
    "MemoryLog",
    "Nodes",
    "PortableLog",
    "Row",
    "Turn",
    "Upkeep",
    "last_of",
    "open_log",
    "row_of",
]


def open_log(module: str, environment: Mapping[str, str], log_id: bytes) -> LogStore:
    """Open the log that a persistence module holds: natively where it can, portably elsewhere.

    Args:
        module: as ``PERSISTENCE_MODULE`` names it, such as ``eventsourcing.postgres``.
        environment: the module's settings.
        log_id: the id to give a new log, where it is opened portably.

    Raises:
        StoreUnsupported: these settings are known to lose events.
    """
    if strtobool(environment.get("POSTGRES_ENABLE_DB_FUNCTIONS") or "no"):
        # Its notification ids become visible out of order, so that a reader at the end of the
        # log misses events for good.
        raise StoreUnsupported("POSTGRES_ENABLE_DB_FUNCTIONS loses events for readers; unset it")
    settings = {**environment, "PERSISTENCE_MODULE": module}
    factory: InfrastructureFactory[Any] = InfrastructureFactory.construct(settings)
    native = getattr(factory, "log_store", None)
    log: LogStore = native() if native else PortableLog(factory, log_id)
    return log
