"""An event-sourced state engine for AI agents: every change recorded, sealed, travelled through."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from statecore.access import Authority, Context, Decision, validate_access
from statecore.agent_state import AgentState
from statecore.appends import WriteOptions
from statecore.archiving import Archiving
from statecore.audit_record import AuditEntry, AuditRecord, Standing
from statecore.backup import BackupResult, PruneResult, prune_backup
from statecore.blocking import BlockingManager
from statecore.change import CLEAR, EMPTY, Change
from statecore.checking import Check, CheckReport
from statecore.custody import KeyEntry, KeyReport
from statecore.errors import (
    AccessDenied,
    Archived,
    BranchExists,
    BranchNotFound,
    Conflict,
    Damage,
    DamagedRecord,
    Erased,
    Expired,
    ForeignSchema,
    InputError,
    InvalidKey,
    KeyFailure,
    KeyMissing,
    KindMismatch,
    LimitExceeded,
    Malformed,
    MergeConflict,
    MissingActor,
    NewerFormat,
    NotFound,
    OperationMismatch,
    OutcomeUnknown,
    RetriesExhausted,
    StatecoreError,
    StoreBusy,
    StoreClosed,
    StoreFailure,
    StoreForked,
    StoreFull,
    StoreNotFound,
    StoreReadOnly,
    StoreUnsupported,
    SubjectMismatch,
    TagExists,
    TagNotFound,
    Unproven,
    UnsupportedValue,
    ValidationFailed,
    VersionNotFound,
    Violation,
    WrongExpectedVersion,
    WrongKey,
)
from statecore.events import Birth, Event, EventType, Kind, Moment
from statecore.history import StateHistory
from statecore.keys import (
    KeyFile,
    KeyFromService,
    KeyInEnvironment,
    KeyInKeyring,
    KeyProvider,
    KeyService,
    Passphrase,
    new_key,
)
from statecore.ledger import AccessRecord
from statecore.manager import StateManager
from statecore.merges import MergeResult
from statecore.moments import Point, Position
from statecore.opening import Opening, open  # noqa: A004 - read as statecore.open
from statecore.parts import StoreStatistics
from statecore.policy import Condition, Permission, Policy, Principal, Rule
from statecore.references import Reference
from statecore.register import Branch
from statecore.rulebook import RecordedSchema, Rulebook
from statecore.security import ImportedState, StateSecurityManager
from statecore.store import BlockingStore, StateStore
from statecore.transaction import Transaction
from statecore.values import Unresolved, UnresolvedWarning
from statecore.went_back import WentBack

if TYPE_CHECKING:
    from statecore.backup_check import verify_backup
    from statecore.backup_restore import RestoreResult, restore
    from statecore.doctor import Examination, examine
    from statecore.restoring import restore_keys
    from statecore.salvaging import Salvaged, salvage
    from statecore.verifying import Depth, Finding, Report, Verdict, verify

__all__ = [
    "CLEAR",
    "EMPTY",
    "AccessDenied",
    "AccessRecord",
    "AgentState",
    "Archived",
    "Archiving",
    "AuditEntry",
    "AuditRecord",
    "Authority",
    "BackupResult",
    "Birth",
    "BlockingManager",
    "BlockingStore",
    "Branch",
    "BranchExists",
    "BranchNotFound",
    "Change",
    "Check",
    "CheckReport",
    "Condition",
    "Conflict",
    "Context",
    "Damage",
    "DamagedRecord",
    "Decision",
    "Depth",
    "Erased",
    "Event",
    "EventType",
    "Examination",
    "Expired",
    "Finding",
    "ForeignSchema",
    "ImportedState",
    "InputError",
    "InvalidKey",
    "KeyEntry",
    "KeyFailure",
    "KeyFile",
    "KeyFromService",
    "KeyInEnvironment",
    "KeyInKeyring",
    "KeyMissing",
    "KeyProvider",
    "KeyReport",
    "KeyService",
    "Kind",
    "KindMismatch",
    "LimitExceeded",
    "Malformed",
    "MergeConflict",
    "MergeResult",
    "MissingActor",
    "Moment",
    "NewerFormat",
    "NotFound",
    "Opening",
    "OperationMismatch",
    "OutcomeUnknown",
    "Passphrase",
    "Permission",
    "Point",
    "Policy",
    "Position",
    "Principal",
    "PruneResult",
    "RecordedSchema",
    "Reference",
    "Report",
    "RestoreResult",
    "RetriesExhausted",
    "Rule",
    "Rulebook",
    "Salvaged",
    "Standing",
    "StateHistory",
    "StateManager",
    "StateSecurityManager",
    "StateStore",
    "StatecoreError",
    "StoreBusy",
    "StoreClosed",
    "StoreFailure",
    "StoreForked",
    "StoreFull",
    "StoreNotFound",
    "StoreReadOnly",
    "StoreStatistics",
    "StoreUnsupported",
    "SubjectMismatch",
    "TagExists",
    "TagNotFound",
    "Transaction",
    "Unproven",
    "Unresolved",
    "UnresolvedWarning",
    "UnsupportedValue",
    "ValidationFailed",
    "Verdict",
    "VersionNotFound",
    "Violation",
    "WentBack",
    "WriteOptions",
    "WrongExpectedVersion",
    "WrongKey",
    "examine",
    "new_key",
    "open",
    "prune_backup",
    "restore",
    "restore_keys",
    "salvage",
    "validate_access",
    "verify",
    "verify_backup",
]

_LATER: Final = {
    "Depth": "verifying",
    "Examination": "doctor",
    "Finding": "verifying",
    "Report": "verifying",
    "RestoreResult": "backup_restore",
    "Salvaged": "salvaging",
    "Verdict": "verifying",
    "examine": "doctor",
    "restore": "backup_restore",
    "restore_keys": "restoring",
    "salvage": "salvaging",
    "verify": "verifying",
    "verify_backup": "backup_check",
}


def __getattr__(name: str) -> object:
    """Import what few use when it is first asked for: a command of the shell begins sooner."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return found


def __dir__() -> list[str]:
    return __all__
