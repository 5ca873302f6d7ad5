"""The gate: decides what handles and writes may do, by the policy as it is in the log.

A write is decided in the sequencer's turn, where nothing can come between the policy and the event,
whoever set it. Reading is decided at the handle, by the policy as it was read with the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from statecore.access import Authority, Context, Decision, relevant, validate_access
from statecore.appends import Append
from statecore.change import Change
from statecore.errors import AccessDenied
from statecore.events import EventType
from statecore.operations import REMOVE, Remove
from statecore.packed import to_bytes
from statecore.policy import WHOLE, Permission, Policy, policy_from
from statecore.register import REGISTER, RESOLUTION, branch_names
from statecore.sight import Sight
from statecore.state import Root
from statecore.stream import Stream, StreamName
from statecore.streams import Streams
from statecore.values import printable, unpack

POLICY: Final = "policy"
POLICY_STREAM: Final = StreamName("", POLICY)  # no agent's id is empty
AUDIT_STREAM: Final = StreamName("", "audit")

_DECIDED_MAX: Final = 4096  # answers kept ready for one handle
_WITH_KEYS: Final = {
    EventType.MERGED: Permission.MERGE,
    EventType.PICKED: Permission.MERGE,
    EventType.REVERTED: Permission.REVERT,
    EventType.UNDONE: Permission.REVERT,
    EventType.REDONE: Permission.REVERT,
    EventType.RESTORED: Permission.REVERT,
}
_BY_THE_STORE: Final = {
    EventType.ARCHIVED: Permission.ERASE,
    EventType.REKEYED: Permission.KEYS,
}
_RECORDED: Final = (Permission.ERASE, Permission.EXPORT, Permission.KEYS, Permission.AUDIT)
_READS: Final = (Permission.READ, Permission.HISTORY)


class Request(NamedTuple):
    """What somebody wants to do, and where; ``None`` is no one place."""

    operation: Permission
    agent_id: str | None = None
    branch: str | None = None
    key: str | None = None

    def __str__(self) -> str:
        state = "this store" if self.agent_id is None else printable(self.agent_id)
        if self.branch not in (None, "main"):
            state += f"@{printable(self.branch or '')}"
        return state if self.key is None else f"{printable(self.key)} of {state}"


class Witness(Protocol):
    """Takes note of what was decided."""

    def denied(self, authority: Authority, request: Request, decision: Decision) -> None:
        """Take note of a denial."""

    def done(self, authority: Authority, request: Request) -> None:
        """Take note of what is always recorded."""

    def read(self, authority: Authority, request: Request, *, by_key: bool) -> None:
        """Take note of a reading."""

    def flush(self) -> None:
        """Write down what was only counted so far, and wait for it."""


class Gate:
    """Knows the policy of one store. Safe to use from any thread."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self.stream: Final = streams.open(POLICY_STREAM)
        streams.watched = self.stream
        self._read: tuple[Any, Policy | None] = (None, None)
        self.witness: Witness | None = None

    def policy(self, root: Root) -> Policy | None:
        """Return the policy that a root of its stream holds."""
        cell = root.cells.get(POLICY)
        if cell is None:
            return None
        stamp, policy = self._read
        if stamp is not cell:
            policy = policy_from(unpack(to_bytes(cell[1])))
            self._read = (cell, policy)
        return policy

    def now(self) -> Policy | None:
        """Return the policy as it is now; ``None`` where none is set."""
        return self.policy(self._streams.refresh(self.stream))

    def serves(self, streams: Streams) -> bool:
        """Tell whether these are the streams that the policy is among."""
        return streams is self._streams

    def require(
        self,
        append: Append,
        change: Change,
        before: Mapping[str, object],
        streams: Streams,
        root_of: Callable[[Stream], Root],
    ) -> None:
        """Refuse an append that may not be written, as the policy is at this point of the log.

        Args:
            append: what is to be written.
            change: what it does, with all that goes with it.
            before: the state it meets.
            streams: those that it is written to.
            root_of: returns the root of one of them in this turn.

        Raises:
            AccessDenied: one part of it is denied, so all of it is refused.
        """
        durable = streams is self._streams
        root = root_of(self.stream) if durable else self._streams.refresh(self.stream)
        if not root.cells and not append.authority.limits:
            return
        if not append.stream.name.agent_id and append.stream is not self.stream:
            return  # a record of the store's own, which nobody can name
        policy = self.policy(root)
        for request in requests_of(append, change, before):
            self.decide(policy, append.authority, request)

    def decide(
        self, policy: Policy | None, authority: Authority, request: Request, *, whole: bool = False
    ) -> None:
        """Refuse what is denied, and take note of it.

        Raises:
            AccessDenied: says why.
        """
        decision = decision_on(policy, authority, request, whole=whole)
        if not decision:
            self.deny(authority, request, decision)

    def note(self, authority: Authority, request: Request) -> None:
        """Take note of what was done, where a policy is set, and that is always recorded."""
        is_recorded = request.operation in _RECORDED and self.now() is not None
        if is_recorded and self.witness is not None:
            self.witness.done(authority, request)

    def deny(self, authority: Authority, request: Request, decision: Decision) -> None:
        """Take note of a denial, and raise it."""
        if self.witness is not None:
            self.witness.denied(authority, request, decision)
        who = " with ".join(map(printable, authority.names))
        raise AccessDenied(who, request.operation, str(request), decision.reason, decision.rules)


def decision_on(
    policy: Policy | None, authority: Authority, request: Request, *, whole: bool = False
) -> Decision:
    """Return the decision on a request."""
    operation, agent_id, branch, key = request
    context = Context(policy, authority, agent_id, branch, key, whole)
    return validate_access(operation, context)


def requests_of(append: Append, change: Change, before: Mapping[str, object]) -> Iterator[Request]:
    """Yield all that an append does, as its stream and its contents tell."""
    agent_id, branch, _ = append.stream.name
    kind = append.source.type if append.source else None
    if not agent_id:
        yield Request(Permission.POLICY)
    elif kind in _BY_THE_STORE:  # as it was asked at the door
        asked = _BY_THE_STORE[kind]
        yield Request(asked, agent_id if asked in WHOLE else None)
    elif branch == REGISTER:
        for key in change.operations:
            yield _in_register(agent_id, key)
    else:
        beside = _WITH_KEYS.get(kind) if kind else None
        if append.tag is not None:
            yield Request(Permission.TAG, agent_id, branch)
        elif not change.touches_anything:
            yield Request(beside or Permission.WRITE, agent_id, branch)
        gone = (key for key in before if key not in change.operations) if change.cleared else ()
        for key in (*change.operations, *gone):
            removes = isinstance(change.operations.get(key, REMOVE), Remove)
            operation = Permission.DELETE if removes else Permission.WRITE
            yield Request(operation, agent_id, branch, key)
            if beside is not None:
                yield Request(beside, agent_id, branch, key)


def _in_register(agent_id: str, key: str) -> Request:
    for name in branch_names([key]):
        return Request(Permission.BRANCH, agent_id, name)
    if key.startswith(RESOLUTION):
        return Request(Permission.MERGE, agent_id)
    return Request(Permission.RULES, agent_id)


class Guard:
    """What one handle may do on one branch of an agent's state."""

    def __init__(self, gate: Gate, authority: Authority | None, name: StreamName) -> None:
        """Make a guard; without an authority it guards nothing: the house looks for itself."""
        self._gate = gate
        self._authority = authority
        self._agent_id, self._branch, _ = name
        # Of one policy: replaced as a whole, so that no thread keeps an answer of an older one.
        self._decided: tuple[Policy | None, dict[tuple[Permission, str], bool]] = (None, {})

    def request(self, operation: Permission, key: str | None = None) -> Request:
        """Return a request for something on this branch."""
        return Request(operation, self._agent_id, self._branch, key)

    def decision(self, operation: Permission, key: str | None = None) -> Decision:
        """Return whether something may be done now."""
        authority = self._authority or Authority()
        return decision_on(self._gate.now(), authority, self.request(operation, key))

    def require(
        self, operation: Permission, key: str | None = None, *, whole: bool = False
    ) -> None:
        """Refuse what may not be done: to a key, to any key at all, or to the whole.

        Raises:
            AccessDenied: says why.
        """
        authority, policy = self._authority, self._gate.now()
        if authority is None or (policy is None and not authority.limits):
            return
        request = self.request(operation, key)
        if whole or key is None or not self.allows(policy, operation, key):
            self._gate.decide(policy, authority, request, whole=whole)
        level = "none" if policy is None else policy.record_reads
        if level != "none" and operation in _READS and self._gate.witness is not None:
            self._gate.witness.read(authority, request, by_key=level == "by-key")

    def require_all(
        self,
        operation: Permission,
        pattern: str,
        *,
        agent_id: str | None = None,
        branch: str | None = None,
    ) -> None:
        """Refuse what may not be done to each key that fits a pattern, there or not.

        Args:
            operation: what.
            pattern: of keys.
            agent_id: whose; the same agent's where left out.
            branch: on which branch; on each where left out.

        Raises:
            AccessDenied: says why.
        """
        authority, policy = self._authority, self._gate.now()
        if authority is None or (policy is None and not authority.limits):
            return
        request = Request(operation, agent_id or self._agent_id, branch, pattern)
        self._gate.decide(policy, authority, request, whole=True)

    def sight(self, operation: Permission, *, blind: bool = False) -> Sight | None:
        """Return what tells which keys may be seen; ``None`` where all may, unasked.

        Raises:
            AccessDenied: none may, and ``blind`` is false.
        """
        authority, policy = self._authority, self._gate.now()
        if authority is None or (policy is None and not authority.limits):
            return None
        if not blind:
            self.require(operation)
        return _Sight(self, policy, operation)

    def require_fork(self, name: str, *, is_past: bool = False) -> None:
        """Refuse a branch on which one could see what may not be seen here.

        Args:
            name: the branch.
            is_past: whether it begins with a past state, which is the present one there.

        Raises:
            AccessDenied: says why.
        """
        authority, policy = self._authority, self._gate.now()
        if authority is None or (policy is None and not authority.limits):
            return
        there = Request(Permission.BRANCH, self._agent_id, name)
        self._gate.decide(policy, authority, there)
        shown = [(each, each) for each in _READS]
        if is_past:
            self.require(Permission.HISTORY)
            shown.append((Permission.HISTORY, Permission.READ))
        for operation, by in shown:
            here, fork = (
                Context(policy, authority, self._agent_id, branch)
                for branch in (self._branch, name)
            )
            known = relevant(operation, here)
            by_branch = any(
                "branch" in (each.attribute, each.other)
                for rules in known
                for rule in rules
                for each in rule.when
            )
            if by_branch or known != relevant(by, fork):
                self._gate.decide(policy, authority, self.request(operation), whole=True)

    def allows(self, policy: Policy | None, operation: Permission, key: str) -> bool:
        """Tell whether something may be done to a key; what was decided before is at hand."""
        of, decided = self._decided
        if policy is not of or len(decided) > _DECIDED_MAX:
            decided = {}
            self._decided = (policy, decided)
        known = decided.get((operation, key))
        if known is None:
            assert self._authority is not None, "who guards nothing does not ask"
            request = self.request(operation, key)
            known = bool(decision_on(policy, self._authority, request))
            decided[operation, key] = known
        return known

    def allows_some(
        self, policy: Policy | None, operation: Permission, *, whole: bool = False
    ) -> bool:
        """Tell whether something may be done to some key at all, or to the whole."""
        assert self._authority is not None, "who guards nothing does not ask"
        request = self.request(operation)
        return bool(decision_on(policy, self._authority, request, whole=whole))


class _Sight(NamedTuple):
    guard: Guard
    policy: Policy | None
    operation: Permission

    def __call__(self, key: str, /) -> bool:
        return self.guard.allows(self.policy, self.operation, key)

    def is_whole(self) -> bool:
        return self.guard.allows_some(self.policy, self.operation, whole=True)

    def is_any(self) -> bool:
        return self.guard.allows_some(self.policy, self.operation)
