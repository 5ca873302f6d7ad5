"""Every error statecore raises, in one tree, grouped by what the caller does next.

StatecoreError
├── InputError                 fix the input (also a ValueError)
│   ├── UnsupportedValue           a value that could not come back equal and of the same type
│   ├── Malformed                  text or bytes that are not of the format they should be
│   ├── LimitExceeded              too deep, too long or too large; names the limit
│   ├── OperationMismatch          an operation that does not fit the value it meets
│   ├── ValidationFailed           a write that would violate rules; lists all violations
│   ├── KindMismatch               a stream opened as another kind than it was created
│   ├── SubjectMismatch            a state of one person's data opened as another's
│   └── MissingActor               a shared state written without saying by whom
├── NotFound                   ask for something that exists (also a LookupError)
│   ├── StoreNotFound              no store at this path
│   ├── VersionNotFound            a version, position or time outside the history
│   ├── Archived                   a version before those that are here; names its archive
│   ├── TagNotFound                no tag of this name
│   └── BranchNotFound             no branch of this name
├── Conflict                   reload and decide again
│   ├── WrongExpectedVersion       the expected version no longer holds
│   ├── RetriesExhausted           still conflicting when the budget or the deadline ended
│   ├── TagExists                  the tag names another version
│   ├── BranchExists               the branch begins elsewhere
│   └── MergeConflict              sides can't be reconciled, and the caller asked to be told so
├── AccessDenied               ask an owner of the policy for the permission, or do without
├── KeyFailure                 find the key
│   ├── KeyMissing                 no key was given or found
│   ├── WrongKey                   a key, but not this store's
│   └── InvalidKey                 what was given is not a key at all
├── Unproven                   don't trust it: a signature, a quorum or a proof does not hold
├── Erased                     the data key was destroyed on purpose; an event says so
│   └── Expired                    ... because its time to live ended
├── Damage                     call an operator; nothing is repaired silently
│   ├── DamagedRecord              a record that does not open, or is not where it belongs
│   ├── ForeignSchema              a database that is not, or not only, a statecore store
│   └── NewerFormat                written by a newer statecore
└── StoreFailure               retry, or reopen the store
    ├── StoreBusy                  another process held the store until the deadline
    ├── StoreClosed                used after close
    ├── StoreForked                used in the child of a process that had it open
    ├── StoreFull                  no space left; nothing of the batch was written
    ├── StoreReadOnly              the file or its directory can't be written
    ├── StoreUnsupported           the engine or file system is known to lose data
    └── OutcomeUnknown             a commit failed half-way: reopen, retry with the same event id
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from statecore.events import Event
    from statecore.values import Unresolved

Path = tuple[str | int, ...]

_VIOLATIONS_TOLD_MAX: Final = 10  # in one message; the error has them all


def spell_path(path: Path) -> str:
    """Spell a path into a value the way one would index it: ``plan['steps'][0]``."""
    if not path:
        return "value"
    first = str(path[0])
    shown = first if first.isprintable() else repr(first)
    return shown + "".join(f"[{part!r}]" for part in path[1:])


class StatecoreError(Exception):
    """The root of the tree; catches everything statecore raises on purpose."""


class InputError(StatecoreError, ValueError):
    """The input can't be recorded as it is; nothing was written."""


class UnsupportedValue(InputError):
    """A value that could not come back equal and of the same type."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{spell_path(path)}: {why}")
        self.path = path


class Malformed(InputError):
    """Text or bytes that are not of the format they should be; says what and where."""


class LimitExceeded(InputError):
    """Something is too deep, too long or too large."""

    def __init__(self, what: str, size: int, limit: int, unit: str) -> None:
        super().__init__(f"{what} is {size:,} {unit}; the limit is {limit:,} {unit}")
        self.size = size
        self.limit = limit


class OperationMismatch(InputError):
    """An operation that does not fit the value it meets, such as extending a number."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A place in a state where a rule does not hold. Says nothing of the value there."""

    path: Path
    message: str
    rule: str

    @property
    def place(self) -> list[tuple[bool, str | int]]:
        """Where it comes among others, in the order of their paths."""
        return [(isinstance(part, int), part) for part in self.path]

    def __str__(self) -> str:
        return f"{spell_path(self.path)}: {self.message} ({self.rule})"


class ValidationFailed(InputError):
    """What a write would make of the state violates rules. Nothing was written."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = sorted(violations, key=lambda each: each.place)
        """All of them, in the order of their paths."""
        told = [str(violation) for violation in self.violations[:_VIOLATIONS_TOLD_MAX]]
        more = len(self.violations) - len(told)
        super().__init__("; ".join(told) + (f"; and {more} more" if more else ""))


class KindMismatch(InputError):
    """A state opened as another kind than it was created as."""


class SubjectMismatch(InputError):
    """A state that holds one person's data, or nobody's, opened as holding another's."""


class MissingActor(InputError):
    """A shared state is written by many, so each event must say by whom."""


class NotFound(StatecoreError, LookupError):
    """What was asked for does not exist."""


class StoreNotFound(NotFound):
    """There is no store at this path."""


class VersionNotFound(NotFound):
    """A version, position or time that the history does not reach."""


class Archived(NotFound):
    """What was asked for is in an archive: open the store with ``archives=[...]`` to read it."""

    def __init__(self, message: str, archive: str | None = None, first: int = 0) -> None:
        super().__init__(message)
        self.archive = archive
        """The name that the archive had when it was made, where that is known."""
        self.first = first
        """The first version that is here; 0 where that is not known."""


class TagNotFound(NotFound):
    """No tag of this name."""


class BranchNotFound(NotFound):
    """The agent has no branch of this name."""


class Conflict(StatecoreError):
    """Others wrote what this decision was based on; nothing of it was written."""

    def __init__(self, message: str, load: Callable[[], Sequence[Event]] = tuple) -> None:
        super().__init__(message)
        self._load = load

    @property
    def events(self) -> Sequence[Event]:
        """The other side's events that collide, oldest first, at most the last 100; read now."""
        return self._load()

    def narrow(self, tell: Callable[[Event], Event | None]) -> None:
        """Tell of these events only what may be told."""
        load = self._load
        self._load = lambda: [seen for event in load() if (seen := tell(event)) is not None]


class WrongExpectedVersion(Conflict):
    """The keys concerned changed after the expected version."""


class RetriesExhausted(Conflict):
    """Still in conflict when the retry budget or the deadline ended."""


class TagExists(Conflict):
    """The tag already names another version."""


class BranchExists(Conflict):
    """There is a branch of this name already, and it begins at another moment."""


class MergeConflict(Conflict):
    """Both sides changed the same thing in ways that can't be reconciled. Nothing was written."""

    def __init__(self, message: str, conflicts: Mapping[Path, Unresolved]) -> None:
        super().__init__(message)
        self.conflicts = conflicts
        """What can't be reconciled, by path."""

    def narrowed(self, sees: Callable[[str], bool]) -> MergeConflict:
        """Return the same of what may be seen."""
        seen = {path: each for path, each in self.conflicts.items() if sees(str(path[0]))}
        paths = ", ".join("/".join(map(str, path)) for path in seen) or "what may not be read"
        return MergeConflict(f"both sides changed {paths}", seen)


class AccessDenied(StatecoreError):
    """Whoever acts may not do this. Nothing was done, and that it was tried is recorded."""

    def __init__(
        self, who: str, operation: str, what: str, reason: str, rules: Sequence[str] = ()
    ) -> None:
        super().__init__(f"{who} may not {operation} {what}: {reason}")
        self.principal = who
        self.operation = operation
        self.reason = reason
        self.rules = tuple(rules)
        """The ids of the rules that forbid it; none where no rule permits it."""


class KeyFailure(StatecoreError):
    """A cryptographic key is missing, wrong or malformed."""


class KeyMissing(KeyFailure):
    """No key was given, and none was found where this store's key is looked for."""


class WrongKey(KeyFailure):
    """A well-formed key, but not the one this store was made with."""


class InvalidKey(KeyFailure):
    """What was given is not a key: wrong length, wrong alphabet, unreadable file."""


class Unproven(StatecoreError):
    """A signature, a quorum or a proof does not hold; don't trust what it speaks for."""


class Erased(StatecoreError):
    """The data key of this state was destroyed on purpose, and an event says so."""


class Expired(Erased):
    """The time to live of a temporary state has ended."""


class Damage(StatecoreError):
    """Stored data is not what was written. Nothing is repaired silently."""


class DamagedRecord(Damage):
    """A stored record does not open, or is not where it belongs."""


class ForeignSchema(Damage):
    """The database is not a statecore store, or holds objects that statecore never made."""


class NewerFormat(Damage):
    """The data was written by a newer statecore; upgrade to read it."""


class StoreFailure(StatecoreError):
    """The store could not do its work; the input was fine."""


class StoreBusy(StoreFailure):
    """Another process held the store until the deadline; nothing was written."""


class StoreClosed(StoreFailure):
    """The store was used after it was closed."""


class StoreForked(StoreFailure):
    """The store was open when this process was forked; fork before it is opened, or spawn."""


class StoreFull(StoreFailure):
    """No space left; nothing of the batch was written, and later writes may succeed."""


class StoreReadOnly(StoreFailure):
    """The file or its directory can't be written."""


class StoreUnsupported(StoreFailure):
    """The database engine or the file system is known to lose acknowledged data."""


class OutcomeUnknown(StoreFailure):
    """A commit failed half-way and may or may not be stored.

    The store accepts no further writes: reopen it and retry with the same event id,
    which is recognised if the event did reach the disk.
    """
