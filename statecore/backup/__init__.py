"""Backups: events in chained segments, in a folder or on S3; taken while agents write, by anyone.

The format is that of docs/backup-format.md.
"""

from statecore.backup.chain import Backup, Listing
from statecore.backup.destination import Destination, destination_of
from statecore.backup.pruning import PruneResult, prune_backup
from statecore.backup.taking import BackupResult, lag, take

__all__ = [
    "Backup",
    "BackupResult",
    "Destination",
    "Listing",
    "PruneResult",
    "destination_of",
    "lag",
    "prune_backup",
    "take",
]
