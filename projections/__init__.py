"""Read models folded from the log: disposable, and rebuilt from it at any time."""

from statecore.projections.key_history import FoldedKeyHistory, StoredKeyHistory

__all__ = ["FoldedKeyHistory", "StoredKeyHistory"]
