"""Who may do what: the decision, and the authority of a handle, which can only get less. Pure.

Without a policy everything is allowed but what a handle was narrowed by. With one, everything is
denied but what a rule permits and none forbids. A condition that can't be told, of an attribute
that is not there or of another type, never helps: a permit then does not apply, and a forbid does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final, Self

from statecore.errors import InputError
from statecore.patterns import holds_all, may_meet
from statecore.policy import (
    ANY,
    NOBODY,
    ON_KEYS,
    READ_ONLY,
    WHOLE,
    Condition,
    Permission,
    Policy,
    Principal,
    Rule,
)
from statecore.values import Value, check_text, same

_FORBID: Final = "forbid"


@dataclass(frozen=True, slots=True)
class Limit:
    """What a handle was narrowed to."""

    operations: frozenset[Permission] | None = None
    keys: tuple[str, ...] | None = None

    def allows(self, operation: Permission, key: str | None, *, whole: bool) -> bool:
        """Tell whether something is within the limit; without a key, whether some key may be."""
        if self.operations is not None and operation not in self.operations:
            return False
        return self.keys is None or _covers_keys(
            self.keys, key, permits=True, operation=operation, whole=whole
        )


@dataclass(frozen=True, slots=True)
class Authority:
    """What a handle acts by: who, and what it was narrowed to. All of it must allow a thing."""

    principals: tuple[Principal, ...] = ()
    limits: tuple[Limit, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_nobodys(self) -> bool:
        """Whether it is as a store gives it: without a name, and not narrowed."""
        return not self.principals and not self.limits

    def narrowed(
        self,
        principal: Principal | str | None = None,
        operations: Iterable[str] | None = None,
        keys: Iterable[str] | None = None,
        *,
        read_only: bool = False,
        attributes: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return an authority that allows no more than this one.

        The first principal of a handle that was never narrowed is who it acts for. Each further one
        must be allowed a thing as well.

        Raises:
            InputError: there is no such operation, or a principal without a name.
        """
        made = self
        if principal is not None:
            before = self.principals or (() if self.is_nobodys else (NOBODY,))
            made = replace(made, principals=(*before, principal_of(principal)))
            if self.is_nobodys:
                made = replace(made, attributes=dict(attributes or {}))
        if operations is not None or keys is not None or read_only:
            named = None if operations is None else frozenset(map(operation_of, operations))
            if read_only:
                named = READ_ONLY if named is None else named & READ_ONLY
            patterns = None if keys is None else tuple(_texts("key", keys))
            made = replace(made, limits=(*made.limits, Limit(named, patterns)))
        return made

    @property
    def names(self) -> list[str]:
        """The principals by id."""
        return [principal.id for principal in self.principals or (NOBODY,)]


FULL: Final = Authority()


@dataclass(frozen=True, slots=True)
class Context:
    """All that a decision depends on, beside the operation."""

    policy: Policy | None
    authority: Authority = FULL
    agent_id: str | None = None
    branch: str | None = None
    key: str | None = None
    """``None`` is some key, for an operation that is decided for each key."""
    whole: bool = False
    """Whether ``None`` is every key instead, and a key is a pattern: every key that fits it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something may be done, and why."""

    allowed: bool
    operation: Permission
    reason: str
    """In words. Says nothing of any value."""
    rules: tuple[str, ...] = ()
    """The ids of the rules that decided it: all that forbid it, or else all that permit it."""

    def __bool__(self) -> bool:
        return self.allowed


def validate_access(operation: Permission | str, context: Context) -> Decision:
    """Decide whether an operation is allowed. Pure: the same context has the same answer."""
    operation = operation_of(operation)
    for limit in context.authority.limits:
        if not limit.allows(operation, context.key, whole=context.whole):
            return Decision(False, operation, "the handle was narrowed to less")
    if context.policy is None:
        return Decision(True, operation, "no policy is set")
    decision = None
    for principal in context.authority.principals or (NOBODY,):
        decision = _decide(operation, context, context.policy, principal)
        if not decision:
            break
    assert decision is not None, "there is always somebody"
    return decision


def relevant(operation: Permission, context: Context) -> list[tuple[Rule, ...]]:
    """Return the rules that matter for the keys of a state, for each principal in turn."""
    policy = context.policy
    if policy is None:
        return []
    return [
        tuple(
            rule
            for rule in policy.rules
            if _concerns(rule, operation, policy.known(principal), context, with_key=False)
        )
        for principal in context.authority.principals or (NOBODY,)
    ]


def _decide(
    operation: Permission, context: Context, policy: Policy, principal: Principal
) -> Decision:
    known = policy.known(principal)
    if operation in (Permission.POLICY, Permission.AUDIT) and known.id in policy.owners:
        return Decision(True, operation, f"{known.id} owns the policy")
    permits: list[str] = []
    forbids: list[str] = []
    for rule in policy.rules:
        if _concerns(rule, operation, known, context, with_key=True):
            (forbids if rule.effect == _FORBID else permits).append(rule.id)
    if forbids:
        return Decision(False, operation, f"rule {', '.join(forbids)} forbids it", tuple(forbids))
    if permits:
        return Decision(True, operation, f"rule {', '.join(permits)} permits it", tuple(permits))
    return Decision(False, operation, f"no rule permits it to {known.id}")


def _concerns(
    rule: Rule, operation: Permission, principal: Principal, context: Context, *, with_key: bool
) -> bool:
    """Tell whether a rule applies; without a key, whether it does as far as that can be told."""
    if ANY not in rule.operations and operation not in rule.operations:
        return False
    if not _is_about(rule, principal):
        return False
    permits, whole = rule.effect != _FORBID, context.whole
    for patterns, value in ((rule.agents, context.agent_id), (rule.branches, context.branch)):
        if not _covers(patterns, value, permits=permits, operation=operation, whole=whole):
            return False
    if with_key and not _covers_keys(
        rule.keys, context.key, permits=permits, operation=operation, whole=whole
    ):
        return False
    for condition in rule.when:
        if "key" in _named(condition) and not with_key:
            continue
        holds = _holds(condition, operation, principal, context, permits=permits)
        if holds is False or (permits and holds is None):
            return False
    return True


def _is_about(rule: Rule, principal: Principal) -> bool:
    if any(fnmatchcase(principal.id, pattern) for pattern in rule.principals):
        return True
    return not {*rule.roles}.isdisjoint(principal.roles)


def _covers(
    patterns: Iterable[str],
    value: str | None,
    *,
    permits: bool,
    operation: Permission,
    whole: bool,
) -> bool:
    """Tell whether patterns cover a value; without one, some or all of the values there may be.

    Of some, a permit for any will do. Of all, a permit must be for all, and a forbid of any counts.
    """
    if value is not None:
        return any(fnmatchcase(value, pattern) for pattern in patterns)
    if ANY in patterns:
        return True
    whole = whole or operation in WHOLE
    return (operation in ON_KEYS and not whole) if permits else whole


def _covers_keys(
    patterns: Iterable[str],
    key: str | None,
    *,
    permits: bool,
    operation: Permission,
    whole: bool,
) -> bool:
    """Tell whether patterns cover a key, or what is meant by ``None``, or by a pattern."""
    if key is None or not whole:
        return _covers(patterns, key, permits=permits, operation=operation, whole=whole)
    return any((holds_all if permits else may_meet)(each, key) for each in patterns)


def _holds(
    condition: Condition,
    operation: Permission,
    principal: Principal,
    context: Context,
    *,
    permits: bool,
) -> bool | None:
    """Tell whether a condition holds; ``None`` where that can't be told."""
    places = _places(context)
    if any(name in places and places[name] is None for name in _named(condition)):
        # Of some key a permit may hold, and a forbid need not; of all it is the other way round.
        some = operation in ON_KEYS and not context.whole
        return some if permits else not some
    is_there, value = _attribute(condition.attribute, principal, context)
    other = condition.value
    if condition.other is not None:
        is_known, other = _attribute(condition.other, principal, context)
        is_there = is_there and is_known
    return _TESTS[condition.test](value, other) if is_there else None


def _places(context: Context) -> dict[str, str | None]:
    """Return the attributes that say where something is done."""
    key = None if context.whole else context.key  # a pattern is no one key
    return {"agent": context.agent_id, "branch": context.branch, "key": key}


def _named(condition: Condition) -> list[str]:
    """Return the attributes that a condition looks at."""
    return [condition.attribute] + ([] if condition.other is None else [condition.other])


def _attribute(name: str, principal: Principal, context: Context) -> tuple[bool, Value]:
    """Return whether there is an attribute, and its value."""
    if name == "principal.id":
        return True, principal.id
    places = _places(context)
    if name in places:
        return places[name] is not None, places[name]
    whose, _, attribute = name.partition(".")
    known = principal.attributes if whose == "principal" else context.authority.attributes
    return attribute in known, known.get(attribute)


def _order(value: Value, other: Value) -> int | None:
    """Return how two numbers or two texts stand to each other; ``None`` for all else."""
    is_number = type(value) in (int, float) and type(other) in (int, float)
    if not is_number and not (type(value) is str and type(other) is str):
        return None
    if value != value or other != other:  # noqa: PLR0124 - NaN, which stands nowhere
        return None
    return int(value > other) - int(value < other)


def _ordered(*signs: int) -> Any:
    def test(value: Value, other: Value) -> bool | None:
        order = _order(value, other)
        return None if order is None else order in signs

    return test


def _equals(value: Value, other: Value) -> bool | None:
    """Tell whether two are the same; ``None`` where they are of unlike types: 1, "1" and 1.0."""
    return same(value, other) if type(value) is type(other) or other is None else None


def _differs(value: Value, other: Value) -> bool | None:
    equal = _equals(value, other)
    return None if equal is None else not equal


def _among(value: Value, values: Value) -> bool | None:
    if not isinstance(values, list):
        return None
    found = {_equals(value, each) for each in values}
    return True if True in found else None if None in found else False


_TESTS: Final[dict[str, Any]] = {
    "equals": _equals,
    "differs": _differs,
    "among": _among,
    "has": lambda value, other: _among(other, value),
    "at_least": _ordered(0, 1),
    "at_most": _ordered(-1, 0),
    "above": _ordered(1),
    "below": _ordered(-1),
}


def principal_of(given: Principal | str) -> Principal:
    """Return a principal by its id, or check one.

    Raises:
        InputError: it has no name.
    """
    principal = given if isinstance(given, Principal) else Principal(given)
    check_text("principal", principal.id)
    if not principal.id:
        raise InputError("a principal needs an id")
    return replace(principal, roles=tuple(_texts("role", principal.roles)))


def operation_of(given: str) -> Permission:
    """Return an operation by its name.

    Raises:
        InputError: there is no such operation.
    """
    try:
        return Permission(given)
    except ValueError as error:
        raise InputError(
            f"an operation is one of {', '.join(Permission)}, not {given!r}"
        ) from error


def _texts(what: str, given: Iterable[str]) -> list[str]:
    if isinstance(given, str):
        raise InputError(f"{what}s are a list, not one text: [{given!r}]")
    texts = list(given)
    for each in texts:
        check_text(what, each)
    return texts
