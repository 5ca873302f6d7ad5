"""The policy of a store: who may do what, as plain data. Pure.

Rules permit or forbid, as in Cedar (docs.cedarpolicy.com): what no rule permits is denied, and what
any rule forbids is denied, whatever permits it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Final, Literal, TypeAlias

from statecore.errors import InputError, NewerFormat
from statecore.patterns import fits_nothing
from statecore.values import Value, pack

ANY: Final = "*"
ANONYMOUS: Final = "anonymous"

Effect: TypeAlias = Literal["permit", "forbid"]
Test: TypeAlias = Literal[
    "equals", "differs", "among", "has", "at_least", "at_most", "above", "below"
]
Recording: TypeAlias = Literal["none", "by-state", "by-key"]


class Permission(StrEnum):
    """What one may be permitted, or forbidden, to do. On disk. Never rename."""

    READ = "read"  # the state as it is now
    HISTORY = "history"  # events, past states, and what differs
    WRITE = "write"  # set or change a key
    DELETE = "delete"  # remove a key; a clear removes every key
    MERGE = "merge"  # bring in what another branch did, beside write and delete
    REVERT = "revert"  # take back what was done, beside write and delete
    TAG = "tag"  # name a version
    BRANCH = "branch"  # make, describe, move or give up a branch
    RULES = "rules"  # what values must be, and how they are merged
    ERASE = "erase"  # destroy a state's keys
    EXPORT = "export"  # hand a state to somebody else
    KEYS = "keys"  # the keys of the store
    POLICY = "policy"  # set the policy itself
    AUDIT = "audit"  # read the policy, and all records; check, back up and tend the store


ON_KEYS: Final = frozenset(
    {
        Permission.READ, Permission.HISTORY, Permission.WRITE, Permission.DELETE, Permission.MERGE,
        Permission.REVERT,
    }
)  # fmt: skip
"""What is decided for each key."""
READ_ONLY: Final = frozenset(
    {Permission.READ, Permission.HISTORY, Permission.EXPORT, Permission.AUDIT}
)
"""What changes nothing."""
WHOLE: Final = frozenset({Permission.ERASE, Permission.EXPORT})
"""What concerns all keys of a state, so that it is forbidden where one of them is."""

_STRICT: Final[dict[str, Any]] = {"extra": "forbid"}
_ATTRIBUTES: Final = ("agent", "branch", "key")
_OF_MAPS: Final = ("principal.", "context.")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts: a person, a program, an agent."""

    id: str
    roles: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT


NOBODY: Final = Principal(ANONYMOUS)
"""Who acts where nobody says."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of an attribute for a rule to apply.

    An attribute is ``principal.id``, ``principal.`` and the name of one of the principal's,
    ``context.`` and the name of one of the handle's, ``agent``, ``branch`` or ``key``.
    """

    attribute: str
    test: Test
    value: Any = None
    other: str | None = None
    """The attribute to compare with, in place of the value."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may, or may not, do what, where, and when all conditions hold.

    Patterns are of the shell's kind: ``*``, ``?``, ``[abc]``. It is about whoever fits one of the
    principals, or has one of the roles.
    """

    id: str
    effect: Effect
    operations: tuple[str, ...]
    principals: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    agents: tuple[str, ...] = (ANY,)
    branches: tuple[str, ...] = (ANY,)
    keys: tuple[str, ...] = (ANY,)
    when: tuple[Condition, ...] = ()

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may do what in a store."""

    owners: tuple[str, ...]
    """The principals who may set the policy and read the record, whatever the rules say."""
    rules: tuple[Rule, ...] = ()
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The roles that come with a role."""
    principals: tuple[Principal, ...] = ()
    """What is known of principals, beside what their handles say; it counts before that."""
    record_reads: Recording = "none"
    """Whether reading is recorded: not at all, by state, or by key."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    def known(self, principal: Principal) -> Principal:
        """Return a principal with all that the policy knows of it, roles that come with roles too.

        What the policy says of an attribute counts before what the handle says.
        """
        roles, attributes = [*principal.roles], dict(principal.attributes)
        for each in self.principals:
            if each.id == principal.id:
                roles += each.roles
                attributes |= each.attributes
        reached: dict[str, None] = {}
        while roles:
            role = roles.pop()
            if role not in reached:
                reached[role] = None
                roles += self.roles.get(role, ())
        return Principal(principal.id, tuple(sorted(reached)), attributes)


def policy_of(given: object) -> Policy:
    """Return the policy that a mapping tells, as JSON would have it; or check one.

    Raises:
        InputError: it is none; says where.
    """
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(given, Policy | Mapping):
        raise InputError(f"a policy is a map, not {type(given).__name__}")
    data = record_of(given) if isinstance(given, Policy) else given
    try:
        policy = TypeAdapter(Policy).validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"the policy at {place or 'its top'}: {first['msg']}") from None
    _check(policy)
    pack(record_of(policy))  # refuses what can't be recorded
    return policy


def record_of(policy: Policy) -> dict[str, Any]:
    """Return a policy as it is recorded."""
    record: dict[str, Any] = _listed(asdict(policy))
    return record


def policy_from(record: Mapping[str, Any]) -> Policy:
    """Return the policy that was recorded.

    Raises:
        NewerFormat: a newer statecore recorded it: what it means is not guessed.
    """
    try:
        given = dict(record)
        rules = tuple(_rule(each) for each in given.pop("rules"))
        roles = {role: tuple(more) for role, more in given.pop("roles").items()}
        principals = tuple(
            Principal(**{**each, "roles": tuple(each["roles"])}) for each in given.pop("principals")
        )
        owners = tuple(given.pop("owners"))
        return Policy(owners, rules, roles, principals, **given)
    except (KeyError, TypeError) as error:
        raise NewerFormat("the policy says what this statecore does not know; upgrade") from error


def _rule(record: Mapping[str, Any]) -> Rule:
    when = tuple(Condition(**each) for each in record["when"])
    said: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    return Rule(**said | {"when": when})


def _listed(value: Value) -> Value:
    """Return data with lists in place of tuples, which can't be recorded."""
    if isinstance(value, Mapping):
        return {key: _listed(each) for key, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value


def _check(policy: Policy) -> None:
    """Refuse a policy that can't be meant."""
    if not policy.owners:
        raise InputError("a policy needs an owner, or nobody could ever change it")
    if ANONYMOUS in policy.owners or "" in policy.owners:
        raise InputError("an owner is a principal with a name")
    ids = [rule.id for rule in policy.rules]
    twice = {each for each in ids if ids.count(each) > 1 or not each}
    if twice:
        raise InputError(f"each rule has an id of its own, and {min(twice)!r} is none")
    for rule in policy.rules:
        _check_rule(rule)


def _check_rule(rule: Rule) -> None:
    if not rule.principals and not rule.roles:
        raise InputError(f"rule {rule.id}: say whom it is about; principals ['*'] is everybody")
    if not (rule.operations and rule.agents and rule.branches and rule.keys):
        raise InputError(f"rule {rule.id}: an empty list fits nothing")
    for pattern in (*rule.principals, *rule.agents, *rule.branches, *rule.keys):
        if fits_nothing(pattern):
            raise InputError(f"rule {rule.id}: the pattern {pattern!r} fits nothing")
    for name in rule.operations:
        if name != ANY and name not in set(Permission):
            raise InputError(f"rule {rule.id}: {name!r} is none of {', '.join(Permission)} or *")
    for each in rule.when:
        for attribute in (each.attribute, each.other or each.attribute):
            if attribute not in _ATTRIBUTES and not attribute.startswith(_OF_MAPS):
                raise InputError(
                    f"rule {rule.id}: an attribute is principal.…, context.…, agent, branch or"
                    f" key, not {attribute!r}"
                )
        if each.test == "among" and each.other is None and not isinstance(each.value, list):
            raise InputError(f"rule {rule.id}: 'among' needs a list")
