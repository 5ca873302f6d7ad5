"""Exports of the audit record, for strangers; and the record of a file without any key."""

from statecore.exporting.bundle import Exported, export, script
from statecore.exporting.sealed import SealedStore

__all__ = ["Exported", "SealedStore", "export", "script"]
