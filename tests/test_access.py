"""Who may do what: decisions, policies in time, handles, and what each operation asks for."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator

import statecore
from statecore import (
    EMPTY,
    AccessDenied,
    Authority,
    BlockingManager,
    BlockingStore,
    Condition,
    Context,
    InputError,
    Permission,
    Policy,
    Principal,
    Rule,
    StateManager,
    validate_access,
)
from statecore.access import FULL, Limit
from statecore.errors import Conflict, NewerFormat
from statecore.gate import Request
from statecore.ledger import Ledger
from statecore.patterns import fits_nothing, holds_all, may_meet
from statecore.policy import ON_KEYS, policy_from, policy_of, record_of
from tests.conftest import KEY, Clock, environment, opening

SECRET = "very-secret-value"

EVERYTHING = Rule("all", "permit", ("*",), principals=("root",))


def policy(*rules: Rule, **more: Any) -> Policy:
    return Policy(("root",), (EVERYTHING, *rules), **more)


def permit(who: str, *operations: str, **more: Any) -> Rule:
    return Rule(f"permit {who} {more}", "permit", operations, principals=(who,), **more)


def forbid(who: str, *operations: str, **more: Any) -> Rule:
    return Rule(f"forbid {who} {more}", "forbid", operations, principals=(who,), **more)


def allowed(
    given: Policy | None, operation: str, who: Principal | str = "ada", **place: Any
) -> bool:
    authority = FULL.narrowed(who)
    return bool(validate_access(operation, Context(given, authority, **place)))


# Laws of decisions

WORDS = st.sampled_from(["a", "b", "secret/1", "secret/2", "main", ""])
PATTERNS = st.lists(
    st.sampled_from(["*", "a", "?", "secret/*", "main", "b*"]), min_size=1, max_size=2
)
OPERATIONS = st.sampled_from([*Permission])
ATTRIBUTES = st.dictionaries(st.sampled_from(["team", "level"]), st.integers(0, 2) | st.booleans())
PRINCIPALS = st.builds(
    Principal,
    st.sampled_from(["ada", "bob", "eve"]),
    st.lists(st.sampled_from(["writer", "reader"]), max_size=2).map(tuple),
    ATTRIBUTES,
)
CONDITIONS = st.builds(
    Condition,
    st.sampled_from(
        ["principal.team", "principal.level", "context.team", "key", "branch", "agent"]
    ),
    st.sampled_from(["equals", "differs", "at_least", "below", "has"]),
    st.integers(0, 2) | st.just("a"),
    st.none() | st.sampled_from(["principal.id", "key"]),
)
RULES = st.builds(
    Rule,
    st.uuids().map(str),
    st.sampled_from(["permit", "forbid"]),
    st.lists(st.sampled_from(["*", *Permission]), min_size=1, max_size=3).map(tuple),
    PATTERNS.map(tuple),
    st.lists(st.sampled_from(["writer", "reader"]), max_size=1).map(tuple),
    PATTERNS.map(tuple),
    PATTERNS.map(tuple),
    PATTERNS.map(tuple),
    st.lists(CONDITIONS, max_size=2).map(tuple),
)
POLICIES = st.builds(
    Policy,
    st.just(("root",)),
    st.lists(RULES, max_size=6, unique_by=lambda rule: rule.id).map(tuple),
    st.just({"writer": ("reader",)}),
)
LIMITS = st.builds(Limit, st.none() | st.frozensets(OPERATIONS), st.none() | PATTERNS.map(tuple))
AUTHORITIES = st.builds(
    Authority, st.lists(PRINCIPALS, max_size=2).map(tuple), st.lists(LIMITS, max_size=2).map(tuple),
    ATTRIBUTES,
)  # fmt: skip
CONTEXTS = st.builds(
    Context, st.none() | POLICIES, AUTHORITIES, st.none() | WORDS, st.none() | WORDS,
    st.none() | WORDS, st.booleans(),
)  # fmt: skip


@given(CONTEXTS, OPERATIONS)
def test_what_is_forbidden_is_denied_whatever_permits_it(
    context: Context, operation: Permission
) -> None:
    no = Rule("no", "forbid", ("*",), principals=("*",))
    rules = (*context.policy.rules, no) if context.policy else (no,)
    forbidding = replace(context, policy=Policy((), rules))

    assert not validate_access(operation, forbidding)


@given(CONTEXTS, OPERATIONS, RULES.filter(lambda rule: rule.effect == "permit"))
def test_adding_a_permit_never_takes_one_away(
    context: Context, operation: Permission, rule: Rule
) -> None:
    if context.policy is not None and validate_access(operation, context):
        more = replace(context.policy, rules=(*context.policy.rules, rule))

        assert validate_access(operation, replace(context, policy=more))


@given(CONTEXTS, OPERATIONS, RULES.filter(lambda rule: rule.effect == "forbid"))
def test_adding_a_forbid_never_gives_anything(
    context: Context, operation: Permission, rule: Rule
) -> None:
    if context.policy is not None and not validate_access(operation, context):
        more = replace(context.policy, rules=(*context.policy.rules, rule))

        assert not validate_access(operation, replace(context, policy=more))


@given(
    CONTEXTS.filter(lambda context: not context.authority.is_nobodys),
    OPERATIONS,
    st.none() | PRINCIPALS,
    st.none() | st.lists(OPERATIONS),
    st.none() | PATTERNS,
    st.booleans(),
)
def test_narrowing_never_widens(
    context: Context,
    operation: Permission,
    principal: Principal | None,
    operations: list[str] | None,
    keys: list[str] | None,
    read_only: bool,
) -> None:
    narrowed = context.authority.narrowed(
        principal, operations, keys, read_only=read_only, attributes={"team": 1}
    )

    if validate_access(operation, replace(context, authority=narrowed)):
        assert validate_access(operation, context)


@given(CONTEXTS, OPERATIONS)
def test_nothing_is_permitted_but_by_a_rule_or_to_an_owner(
    context: Context, operation: Permission
) -> None:
    if context.policy is not None and validate_access(operation, context):
        permits = {rule.id for rule in context.policy.rules if rule.effect == "permit"}

        assert {*validate_access(operation, context).rules} <= permits
        assert validate_access(operation, context).rules


@given(CONTEXTS, st.sampled_from(sorted(ON_KEYS)), WORDS)
def test_what_is_allowed_to_a_key_is_allowed_to_some_key(
    context: Context, operation: Permission, key: str
) -> None:
    context = replace(context, whole=False, key=key)
    without = replace(context, key=None)

    if validate_access(operation, context):
        assert validate_access(operation, without)


@given(CONTEXTS, st.sampled_from(sorted(ON_KEYS)), WORDS)
def test_what_is_allowed_to_the_whole_is_allowed_to_each_key(
    context: Context, operation: Permission, key: str
) -> None:
    context = replace(context, whole=True, key=None)

    if validate_access(operation, context):
        assert validate_access(operation, replace(context, key=key))


LETTERS = st.text("ab[]!/", max_size=4)
GLOBS = st.text("ab-[]!/*?", max_size=6)


@given(GLOBS, GLOBS, LETTERS)
def test_what_is_told_of_two_patterns_holds_of_each_key(one: str, other: str, key: str) -> None:
    fits_one, fits_other = fnmatchcase(key, one), fnmatchcase(key, other)

    assert not (fits_one and fits_nothing(one))
    assert not (holds_all(one, other) and fits_other and not fits_one)
    assert may_meet(one, other) or not (fits_one and fits_other)
    assert may_meet(one, other) == may_meet(other, one)
    assert holds_all(one, one)
    assert holds_all("*", one)


@pytest.mark.parametrize(
    ("one", "other", "holds", "meets"),
    [
        ("public/*", "public/a*", True, True),
        ("public/*", "public/?", True, True),
        ("public/*", "public/a", True, True),
        ("public/*", "*", False, True),
        ("public/*", "secret/*", False, False),
        ("*/a", "public/*", False, True),
        ("*/a", "*/b", False, False),
        ("?", "*", False, True),
        ("[ab]*", "a", True, True),
        ("[ab]*", "a*", False, True),
    ],
)
def test_patterns_are_held_against_each_other(
    one: str, other: str, holds: bool, meets: bool
) -> None:
    assert (holds_all(one, other), may_meet(one, other)) == (holds, meets)


@given(CONTEXTS, st.sampled_from(sorted(ON_KEYS)), PATTERNS, WORDS)
def test_what_is_allowed_to_a_pattern_is_allowed_to_each_key_of_it(
    context: Context, operation: Permission, patterns: list[str], key: str
) -> None:
    for pattern in patterns:
        together = replace(context, whole=True, key=pattern)

        if fnmatchcase(key, pattern) and validate_access(operation, together):
            assert validate_access(operation, replace(context, whole=False, key=key))


@given(POLICIES)
def test_a_policy_comes_back_from_its_record(made: Policy) -> None:
    assert policy_from(json.loads(json.dumps(record_of(made)))) == made


# Decisions, one by one


def test_roles_come_with_roles_and_by_the_policy() -> None:
    made = policy(
        Rule("r", "permit", ("read",), roles=("reader",)),
        roles={"editor": ("writer",), "writer": ("reader",), "reader": ("editor",)},
        principals=(Principal("bob", ("editor",)),),
    )

    assert allowed(made, "read", "bob", key="a")
    assert allowed(made, "read", Principal("ada", ("writer",)), key="a")
    assert not allowed(made, "read", "ada", key="a")


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (Condition("principal.level", "at_least", 3), True),
        (Condition("principal.level", "above", 3), False),
        (Condition("principal.level", "below", 4.5), True),
        (Condition("principal.level", "at_most", "4"), None),
        (Condition("principal.level", "equals", 3), True),
        (Condition("principal.level", "equals", 4), False),
        (Condition("principal.level", "equals", 3.0), None),
        (Condition("principal.level", "equals", "3"), None),
        (Condition("principal.level", "equals", None), False),
        (Condition("principal.flag", "equals", 1), None),
        (Condition("principal.unset", "equals", 1), None),
        (Condition("principal.unset", "equals", None), True),
        (Condition("principal.flag", "at_least", 0), None),
        (Condition("principal.level", "among", [1, 3]), True),
        (Condition("principal.level", "among", [1, 2]), False),
        (Condition("principal.level", "among", [1, "3"]), None),
        (Condition("principal.level", "among", []), False),
        (Condition("principal.level", "differs", 4), True),
        (Condition("principal.level", "differs", "4"), None),
        (Condition("principal.level", "differs", None), True),
        (Condition("principal.groups", "has", "x"), True),
        (Condition("principal.groups", "has", "z"), False),
        (Condition("principal.groups", "has", 1), None),
        (Condition("principal.level", "has", "z"), None),
        (Condition("principal.nothing", "equals", None), None),
        (Condition("principal.nothing", "differs", 1), None),
        (Condition("principal.nan", "at_most", 1.0), None),
        (Condition("context.purpose", "equals", "audit"), True),
        (Condition("agent", "equals", other="principal.id"), True),
        (Condition("key", "among", other="principal.groups"), False),
        (Condition("branch", "equals", other="principal.nothing"), None),
    ],
)
def test_a_condition_that_cannot_be_told_never_helps(
    condition: Condition, holds: bool | None
) -> None:
    known = {"level": 3, "flag": True, "unset": None, "groups": ["x", "y"], "nan": float("nan")}
    principal = Principal("ada", (), known)
    authority = FULL.narrowed(principal, attributes={"purpose": "audit"})
    place = {"agent_id": "ada", "branch": "main", "key": "a"}
    permits = policy(permit("ada", "read", when=(condition,)))
    forbids = policy(permit("ada", "read"), forbid("ada", "read", when=(condition,)))

    assert bool(validate_access("read", Context(permits, authority, **place))) is (holds is True)
    assert bool(validate_access("read", Context(forbids, authority, **place))) is (holds is False)


def test_what_concerns_all_keys_is_forbidden_where_one_of_them_is() -> None:
    made = policy(permit("ada", "*"), forbid("ada", "*", keys=("secret/*",)))

    assert not allowed(made, "erase", agent_id="x")
    assert not allowed(made, "export", agent_id="x")
    assert allowed(made, "tag", agent_id="x", branch="main")
    assert not allowed(policy(permit("ada", "*", keys=("a",))), "erase", agent_id="x")
    assert not allowed(policy(permit("ada", "*", keys=("a",))), "tag", agent_id="x", branch="main")
    assert not allowed(policy(permit("ada", "*", agents=("x",))), "keys")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"owners": []}, "needs an owner"),
        ({"owners": ["anonymous"]}, "a principal with a name"),
        ({}, "owners"),
        ({"owners": ["a"], "rule": []}, "rule"),
        ([], "a policy is a map"),
        ({"owners": ["a"], "rules": [{"id": "x", "effect": "permit"}]}, "operations"),
        ({"owners": ["a"], "record_reads": "some"}, "record_reads"),
    ],
)
def test_what_is_no_policy_is_refused(data: Any, why: str) -> None:
    with pytest.raises(InputError, match=why):
        policy_of(data)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"principals": []}, "whom it is about"),
        ({"operations": []}, "fits nothing"),
        ({"keys": []}, "fits nothing"),
        ({"keys": ["a", "b/[9-0]*"]}, r"the pattern 'b/\[9-0\]\*' fits nothing"),
        ({"principals": ["[z-a]"]}, "fits nothing"),
        ({"agents": ["[z-a]"]}, "fits nothing"),
        ({"branches": ["[z-a]"]}, "fits nothing"),
        ({"operations": ["fly"]}, "'fly' is none of"),
        ({"id": ""}, "an id of its own"),
        ({"when": [{"attribute": "time", "test": "above", "value": 1}]}, "an attribute is"),
        ({"when": [{"attribute": "key", "test": "among", "value": "a"}]}, "needs a list"),
        ({"when": [{"attribute": "key", "test": "like", "value": "a"}]}, "when"),
    ],
)
def test_what_is_no_rule_is_refused(more: dict[str, Any], why: str) -> None:
    rule = {"id": "r", "effect": "permit", "operations": ["read"], "principals": ["a"], **more}

    with pytest.raises(InputError, match=why):
        policy_of({"owners": ["a"], "rules": [rule]})


def test_a_policy_of_a_newer_release_is_not_guessed() -> None:
    record = record_of(policy(permit("ada", "read")))

    for changed in ({**record, "new": 1}, {**record, "rules": [{**record["rules"][0], "n": 1}]}):
        with pytest.raises(NewerFormat):
            policy_from(changed)


# The operations of a manager


def in_transaction(agent: BlockingManager) -> None:
    with agent.transaction() as tx:
        tx.set("k", 1)


Call = Callable[[BlockingManager], object]

KEYS = ("read", "history", "write", "delete")
ASKS: dict[str, tuple[tuple[str, ...], Call]] = {
    "get_state": (("read",), lambda a: a.get_state("k")),
    "get_now": (("read",), lambda a: a.get_now("k")),
    "at": (("read",), lambda a: a.at().data),
    "to_change": (("read",), lambda a: a.to_change()),
    "version": (("read",), lambda a: a.version()),
    "start": (("read",), lambda a: a.start()),
    "tags": (("read",), lambda a: a.tags()),
    "conflicts": (("read",), lambda a: a.conflicts()),
    "search": (("read",), lambda a: a.search("x")),
    "check": (("read",), lambda a: a.check()),
    "contested": (("read",), lambda a: a.contested()),
    "branches": (("read",), lambda a: a.branches()),
    "branch_names": (("read",), lambda a: a.branch_names()),
    "branches_ever": (("read",), lambda a: a.branches_ever()),
    "strategies": (("read",), lambda a: a.strategies()),
    "schemas": (("read",), lambda a: a.schemas()),
    "rules": (("read",), lambda a: a.rules()),
    "diff_from": (("read",), lambda a: a.diff_from("idea")),
    "value_at": (("history",), lambda a: a.value_at("k", 1)),
    "value_now": (("history",), lambda a: a.value_now("k", 1)),
    "diff": (("history",), lambda a: a.diff(1)),
    "states": (("history",), lambda a: a.states(1)),
    "find_event": (("history",), lambda a: a.find_event("x")),
    "position_of": (("history",), lambda a: a.position_of(1)),
    "history": (("history",), lambda a: list(a.history())),
    "history_at": (("history",), lambda a: list(a.history_at("k", ()))),
    "watch": (("history",), lambda a: next(a.watch(0))),
    "blame": (("history",), lambda a: a.blame("k")),
    "bisect": (("history",), lambda a: a.bisect(1, 3, lambda s: s.version < 3)),
    "cursor": (("history",), lambda a: a.cursor(2).back()),
    "search_history": (("history",), lambda a: list(a.search_history("x"))),
    "set_state": (("write",), lambda a: a.set_state("k", 5)),
    "extend": (("write",), lambda a: a.extend("list", [1])),
    "add": (("write",), lambda a: a.add("k", 1)),
    "patch": (("write",), lambda a: a.patch("map", {"x": 1})),
    "apply": (("write", "delete"), lambda a: a.apply(EMPTY.put("k", 1).remove("map"))),
    "delete_state": (("delete",), lambda a: a.delete_state("k")),
    "clear_state": (("delete",), lambda a: a.clear_state()),
    "atomic_update": (("read", "write"), lambda a: a.atomic_update("k", lambda n: n + 1)),
    "atomic_transaction": (
        ("read", "write"),
        lambda a: a.atomic_transaction(lambda tx: tx.set("k", tx.get("k"))),
    ),
    "transaction": (("write",), in_transaction),
    "migrate": (("read", "write"), lambda a: a.migrate("k", lambda n: n + 1)),
    "resolve": (
        ("read", "write", "merge"),
        lambda a: a.resolve("fight", "peace", remember=True),
    ),
    "tag": (("tag",), lambda a: a.tag("name", 1)),
    "untag": (("tag",), lambda a: a.untag("release")),
    "branch": (("branch",), lambda a: a.branch("new")),
    "describe_branch": (("branch",), lambda a: a.describe_branch("idea", "x")),
    "delete_branch": (("branch",), lambda a: a.delete_branch("idea")),
    "set_strategy": (("rules",), lambda a: a.set_strategy("k", "sum")),
    "set_schema": (("rules",), lambda a: a.set_schema("x", {"type": "integer"})),
    "constrain": (("read", "rules"), lambda a: a.constrain("x", bool, name="truth")),
    "set_reference": (("read", "rules"), lambda a: a.set_reference("x", (), "k")),
    "merge": (("read", "write", "merge"), lambda a: a.merge("idea")),
    "cherry_pick": (("history", "write", "merge"), lambda a: a.cherry_pick("idea", IDEA)),
    "rebase": (
        ("history", "write", "merge", "branch"),
        lambda a: a.branch("idea").rebase("main"),
    ),
    "what_if": (("history", "branch", "write", "merge"), lambda a: a.what_if("w", skip=[1])),
    "undo": (("history", "revert", "delete"), lambda a: a.undo(by="root")),
    "redo": (("history", "revert", "write"), lambda a: a.redo(by="undoer")),
    "revert": (("history", "revert", "delete"), lambda a: a.revert(2)),
    "restore": (("history", "revert", "delete"), lambda a: a.restore(2)),
}  # fmt: skip
ABOUT_THE_HANDLE = {
    "subject",
    "actor", "agent_id", "authority", "branch_name", "is_loaded", "kind", "restricted",
    "validate_access",
}  # fmt: skip
IDEA = 10


def prepared(store: BlockingStore) -> None:
    """Make a state on which every operation has something to do."""
    agent = store.manager("x", actor="root")
    agent.set_state("k", 1)
    agent.set_state("map", {})
    agent.set_state("list", [])
    agent.set_schema("k", {"type": "integer"})
    agent.tag("release", 1)
    other = agent.branch("other")
    agent.set_state("fight", "ours")
    other.set_state("fight", "theirs")
    agent.merge(other)
    agent.set_state("last", 1)
    agent.set_state("undone", 1, actor="undoer")
    agent.undo(by="undoer")
    idea = agent.branch("idea")
    idea.set_state("k", 2)
    agent.set_state("final", 1)


# What they ask where they are told more. A rehearsal asks what it rehearses.
ASKS_MORE: dict[str, tuple[tuple[str, ...], Call]] = {
    "constrain no more": (("rules",), lambda a: a.constrain("x", None)),
    "set_reference no more": (("rules",), lambda a: a.set_reference("x", (), None)),
    "set_schema of a type": (("read", "rules"), lambda a: a.set_schema("x", int)),
    "branch of the past": (("history", "branch"), lambda a: a.branch("new", at=2)),
    "branch of a tag": (("history", "branch"), lambda a: a.branch("new", at="release")),
    "restore of keys": (
        ("history", "revert", "delete"),
        lambda a: a.restore(2, keys=["last", "k"]),
    ),
    "revert, rehearsed": (
        ("history", "revert", "delete"),
        lambda a: a.revert(2, dry_run=True),
    ),
    "merge, rehearsed": (("read", "write", "merge"), lambda a: a.merge("idea", dry_run=True)),
    "merge of the past": (("history", "write", "merge"), lambda a: a.merge("idea", at=IDEA)),
    "cherry_pick, rehearsed": (
        ("history", "write", "merge"),
        lambda a: a.cherry_pick("idea", IDEA, dry_run=True),
    ),
}


@pytest.fixture
def owned(store: BlockingStore) -> BlockingStore:
    """A store with a policy, for its owner, with a state on which all can be done."""
    prepared(store)
    root = store.as_principal("root")
    root.access.set_policy(policy())
    return root


def test_every_operation_of_a_manager_is_in_the_table() -> None:
    public = {name for name in dir(StateManager) if not name.startswith("_")}

    assert public - ABOUT_THE_HANDLE == {*ASKS}


@pytest.mark.filterwarnings("ignore::statecore.UnresolvedWarning")
@pytest.mark.parametrize("name", ASKS | ASKS_MORE)
def test_an_operation_needs_each_of_its_permissions_and_no_other(name: str) -> None:
    needs, call = (ASKS | ASKS_MORE)[name]
    for permitted in [*itertools.combinations(needs, len(needs) - 1), needs]:
        with statecore.open() as store:
            prepared(store)
            assert store.manager("x").branch("idea").version() == IDEA
            rules = [permit("ada", *permitted)] if permitted else []
            store.as_principal("root").access.set_policy(policy(*rules))
            agent = store.as_principal("ada").manager("x")
            if permitted == needs:
                call(agent)
            else:
                with pytest.raises(AccessDenied):
                    call(agent)


# Policies


RESTRICTED = policy(
    permit("ada", "*", keys=("public/*",)),
    permit("bob", "read", "history", "audit"),
    forbid("*", "*", keys=("secret/*",), agents=("x",)),
)


@pytest.fixture
def shared(store: BlockingStore) -> BlockingStore:
    """A store in which Ada has what is public, and nobody has what is secret."""
    agent = store.manager("x", actor="root")
    agent.set_state("public/a", 1)
    agent.set_state("secret/b", SECRET)
    with agent.transaction() as tx:
        tx.set("public/a", 2)
        tx.set("secret/b", SECRET + "2")
    store.as_principal("root").access.set_policy(RESTRICTED, reason="to begin with")
    return store


def test_without_a_policy_everything_is_as_it_was(store: BlockingStore) -> None:
    ada = store.as_principal("ada").manager("x")

    ada.set_state("k", 1)

    assert store.manager("x").get_state("k") == 1
    assert [event.actor for event in ada.history()] == ["ada"]
    assert store.access.policy() is None
    assert store.access.records() == []
    assert store.statistics().streams == 1


def test_with_a_policy_nobody_may_do_anything_that_no_rule_permits(shared: BlockingStore) -> None:
    for handle in (shared, shared.as_principal("eve")):
        agent = handle.manager("x")
        for call in (lambda a: a.get_state("public/a"), lambda a: a.set_state("public/a", 1)):
            with pytest.raises(AccessDenied):
                call(agent)
        assert handle.agents() == []
        with pytest.raises(AccessDenied):
            handle.access.policy()
        with pytest.raises(AccessDenied):
            handle.access.set_policy(None)
        with pytest.raises(AccessDenied):
            handle.erase("x")


def test_a_denial_names_what_was_tried_and_never_a_value(shared: BlockingStore) -> None:
    with pytest.raises(AccessDenied) as caught:
        shared.as_principal("ada").manager("x").set_state("secret/c", SECRET)

    rule = RESTRICTED.rules[-1].id
    assert str(caught.value) == f"ada may not write secret/c of x: rule {rule} forbids it"
    assert (caught.value.principal, caught.value.operation) == ("ada", "write")
    assert caught.value.rules == (rule,)


def test_the_first_policy_is_set_by_one_of_its_owners(store: BlockingStore) -> None:
    for handle in (store, store.as_principal("ada")):
        with pytest.raises(InputError, match="one of its owners"):
            handle.access.set_policy(policy())
    assert store.access.policy() is None

    assert store.as_principal("root").access.set_policy(record_of(policy())) == 1
    assert store.as_principal("root").access.policy() == policy()


def test_who_may_set_the_policy_is_said_by_the_policy(shared: BlockingStore) -> None:
    root, ada = shared.as_principal("root"), shared.as_principal("ada")
    with pytest.raises(AccessDenied):
        ada.access.set_policy(policy())
    with pytest.raises(AccessDenied):
        root.as_principal("ada").access.set_policy(policy())

    root.access.set_policy(policy(permit("ada", "policy")))
    ada.access.set_policy(policy(permit("ada", "policy", "read")))

    assert ada.manager("x").get_state("public/a") == 2


def test_a_policy_that_is_taken_back_leaves_everything_as_without_one(
    shared: BlockingStore,
) -> None:
    shared.as_principal("root").access.set_policy(None)

    assert shared.manager("x").get_state("secret/b") == SECRET + "2"
    assert [event.reason for event in shared.access.changes()] == ["to begin with", None]


def test_who_could_do_what_when_is_a_question(tmp_path: Path) -> None:
    clock = Clock()
    with opening("sqlite", tmp_path, clock=clock) as store:
        root = store.as_principal("root")
        store.manager("x").set_state("k", 1)
        clock.tick(60)
        root.access.set_policy(policy(permit("ada", "read")), reason="Ada reads")
        tuesday = datetime.fromtimestamp(clock.now / 1e6, UTC)
        clock.tick(60)
        root.access.set_policy(policy(), reason="no more")

        access = root.access
        before = datetime.fromtimestamp(tuesday.timestamp() - 30, UTC)
        assert access.decide("ada", "read", "x", "k", at=tuesday).reason.startswith("rule permit")
        assert not access.decide("ada", "read", "x", "k")
        assert access.decide("ada", "write", "x", "k", at=before).reason == "no policy is set"
        assert access.policy(before) is None
        assert access.policy(1) == policy(permit("ada", "read"))
        assert [(e.actor, e.reason) for e in access.changes()] == [
            ("root", "Ada reads"),
            ("root", "no more"),
        ]


# What is seen through a handle


def test_a_state_leaves_out_what_may_not_be_read_and_says_so(shared: BlockingStore) -> None:
    agent = shared.as_principal("ada").manager("x")

    for state in (agent.at(), agent.at(1), agent.at(2), *agent.states(0)):
        assert {*state} <= {"public/a"}
        assert state.data == {key: state[key] for key in state}
        assert "secret/b" not in state
        assert state.get("secret/b") is None
        assert state.packed("secret/b") is None
        assert len(state) == len([*state])
        assert state.is_filtered == (state.version > 1)
    assert agent.at(3).touched == {"public/a"}
    assert not shared.as_principal("root").manager("y").at().is_filtered
    with pytest.raises(AccessDenied):
        agent.get_state("secret/b")
    with pytest.raises(AccessDenied):
        agent.value_at("secret/b", 2)


def test_the_past_leaves_out_what_may_not_be_read(shared: BlockingStore) -> None:
    agent = shared.as_principal("ada").manager("x")
    cursor = agent.cursor(3)

    seen: list[Any] = [
        agent.diff(0), agent.diff(3, 1), *agent.history(), *agent.search_history(""),
        agent.at(3).event, cursor.event, cursor.state.data, cursor.back().data,
        agent.search(""), agent.blame("public/a"), agent.diff_from("main", 0),
        *itertools.islice(agent.watch(0), 2), agent.bisect(0, 3, lambda s: len(s) < 1),
    ]  # fmt: skip

    assert SECRET not in repr(seen)
    assert "secret" not in repr(seen)
    assert [(event.version, event.is_filtered) for event in agent.history()] == [
        (1, False),
        (3, True),
    ]
    assert list(agent.at(2).metadata) == []
    for call in (agent.blame, lambda key: list(agent.history(key))):
        with pytest.raises(AccessDenied):
            call("secret/b")


def told_by(result: Any) -> str:
    """Return all that a result tells, one way or another."""
    if isinstance(result, BlockingManager):
        return told_by(result.at())
    if isinstance(result, statecore.AgentState):
        return f"{result.data} {result.event!r} {result.metadata} {result.conflicts}"
    if isinstance(result, list):
        return " ".join(map(told_by, result))
    if hasattr(result, "back"):
        return told_by(result.state)
    return f"{result!r} {result} {getattr(result, '__dict__', '')}"


@pytest.mark.filterwarnings("ignore::statecore.UnresolvedWarning")
@pytest.mark.parametrize("name", ASKS | ASKS_MORE)
def test_no_operation_tells_what_may_not_be_read(name: str) -> None:
    _, call = (ASKS | ASKS_MORE)[name]
    with statecore.open() as store:
        prepared(store)
        agent = store.manager("x", actor="root")
        agent.branch("idea").set_state("secret/a", SECRET)
        agent.set_state("secret/a", SECRET + "2")
        with agent.transaction() as tx:
            tx.set("secret/b", {"deep": [SECRET]})
            tx.set("k", 4)
        store.as_principal("root").access.set_policy(
            policy(permit("ada", "*"), forbid("ada", "*", keys=("secret/*",)))
        )
        agent = store.as_principal("ada").manager("x")

        try:
            result = call(agent)
        except statecore.StatecoreError as error:
            conflicts = getattr(error, "conflicts", ""), getattr(error, "events", "")
            told = f"{error!r} {error} {conflicts}"
        else:
            told = told_by(result) + told_by(agent)

        assert "very" not in told
        assert "deep" not in told


@settings(max_examples=60)
@given(POLICIES, AUTHORITIES.filter(lambda authority: len(authority.principals) > 0))
def test_what_is_left_of_a_state_is_what_may_be_read(made: Policy, authority: Authority) -> None:
    words = ["a", "b", "secret/1", "secret/2", "main"]
    with statecore.open() as store:
        for word in words:
            store.manager("a").set_state(word, word)
        store.as_principal("root").access.set_policy(record_of(made))
        handle = store.as_principal(authority.principals[0], context=authority.attributes)
        agent = handle.manager("a")
        for limit in authority.limits:
            agent = agent.restricted(operations=limit.operations, keys=limit.keys)
        context = Context(made, agent.authority, "a", "main")
        readable = {word for word in words if validate_access("read", replace(context, key=word))}

        for word in words:
            if word in readable:
                assert agent.get_state(word) == word
            else:
                with pytest.raises(AccessDenied):
                    agent.get_state(word)
        if validate_access("read", context):
            assert agent.at().data == {word: word for word in readable}
        else:
            assert readable == set()


def test_a_forbidden_key_refuses_a_transaction_whole(shared: BlockingStore) -> None:
    agent = shared.as_principal("ada").manager("x")

    with pytest.raises(AccessDenied), agent.transaction() as tx:
        tx.set("public/a", 7)
        tx.set("secret/b", 7)
    with pytest.raises(AccessDenied):
        agent.clear_state()
    with pytest.raises(AccessDenied), agent.transaction() as tx:
        tx.get("secret/b")

    assert agent.version() == 3
    assert agent.get_state("public/a") == 2


def test_why_a_state_was_cleared_is_told_to_who_may_see_all_of_it(store: BlockingStore) -> None:
    owner = store.manager("x", actor="root")
    owner.set_state("public/a", 1, reason="seen")
    owner.set_state("secret/b", 1)
    owner.clear_state(reason=SECRET, cause=SECRET, metadata={"why": SECRET})
    owner.tag("before", 1, reason=SECRET, metadata={"why": SECRET})
    owner.tag("plain", 1)
    store.keys.rotate_data("x", reason=SECRET)
    with owner.transaction(reason=SECRET) as tx:
        tx.clear()
        tx.set("secret/b", 2)
    with owner.transaction(reason="seen") as tx:
        tx.clear()
        tx.set("public/a", 2)
    narrow = owner.restricted(keys=["public/*"])
    whole = owner.restricted(operations=["history"])
    root = store.as_principal("root")

    def told(agent: BlockingManager) -> list[Any]:
        assert [agent.at(event.version).event for event in agent.history()] == [*agent.history()]
        return [
            (event.version, event.change.cleared, event.reason, event.is_filtered)
            for event in agent.history()
        ]

    assert [*whole.history()] == [*owner.history()]
    assert SECRET not in repr([*narrow.history()])
    before = told(narrow)
    root.access.set_policy(policy(permit("ada", "history", keys=("public/*",)), permit("b*", "*")))

    assert (
        before
        == told(root.manager("x").restricted("ada"))
        == [
            (1, False, "seen", False),
            (3, True, None, True),
            (4, False, None, True),
            (5, False, None, False),
            (6, False, None, True),
            (7, True, None, True),
            (8, True, "seen", True),
        ]
    )
    assert [*root.manager("x").history()] == [*store.as_principal("bob").manager("x").history()]
    assert {event.is_filtered for event in root.manager("x").history()} == {False}


def test_who_may_only_audit_is_told_of_no_clear_or_tag_what_it_was(store: BlockingStore) -> None:
    owner = store.manager("x", actor="root")
    owner.set_state("a", SECRET)
    owner.tag(SECRET, 1, reason=SECRET, metadata={"why": SECRET})
    owner.branch("idea").set_state("b", 1)
    owner.merge("idea")
    owner.clear_state(reason=SECRET, cause=SECRET)
    owner.undo()
    store.as_principal("root").access.set_policy(policy(permit("eve", "audit")))

    events = [each.event for each in store.as_principal("eve").audit(agent="x") if each.event]

    assert SECRET not in repr(events)
    assert {event.actor for event in events} == {"root"}
    for event in events:
        assert (event.change, event.parents, event.takes_back) == (EMPTY, (), ())
        assert event.is_filtered


def test_a_cursor_asks_at_each_step(store: BlockingStore) -> None:
    agent = store.manager("x")
    for value in (1, SECRET, SECRET + "2"):
        agent.set_state("k", value)
        agent.set_state("public/a", value)
    held = agent.cursor(1)
    root = store.as_principal("root")

    root.access.set_policy(policy(permit("anonymous", "history", keys=("public/*",))))
    assert held.forward(3).data == {"public/a": SECRET}
    root.access.set_policy(policy())
    for step in (held.forward, held.back, lambda: held.state, lambda: held.event):
        with pytest.raises(AccessDenied):
            step()
    root.access.set_policy(None)

    assert held.forward().data.keys() == {"k", "public/a"}


def test_a_conflict_does_not_tell_what_may_not_be_read(shared: BlockingStore) -> None:
    agent = shared.as_principal("ada").manager("x")

    with pytest.raises(Conflict) as caught:
        agent.set_state("public/a", 3, expected_version=2)

    assert [event.version for event in caught.value.events] == [3]
    assert SECRET not in repr(caught.value.events)


def test_what_goes_with_a_deletion_must_be_permitted_too(shared: BlockingStore) -> None:
    root = shared.as_principal("root").manager("y")
    root.set_state("public/a", 1)
    root.set_state("ref", "public/a")
    root.set_reference("ref", (), "public/*", on_delete="clear")

    with pytest.raises(AccessDenied, match="may not write ref of y"):
        shared.as_principal("ada").manager("y").delete_state("public/a")

    assert root.at().data == {"public/a": 1, "ref": "public/a"}


def test_who_is_denied_learns_nothing_of_rules_or_conflicts(shared: BlockingStore) -> None:
    shared.as_principal("root").access.set_policy(None)
    shared.manager("x").set_schema("secret/*", {"type": "string"})
    shared.as_principal("root").access.set_policy(RESTRICTED)
    agent = shared.as_principal("ada").manager("x")

    with pytest.raises(AccessDenied):
        agent.set_state("secret/b", 5)
    with pytest.raises(AccessDenied):
        agent.set_state("secret/b", "x", expected_version=1)


def test_no_branch_is_a_way_around(shared: BlockingStore) -> None:
    root = shared.as_principal("root")
    root.access.set_policy(
        policy(
            permit("ada", "*", branches=("sand*",)),
            permit("ada", "branch"),
            permit("ada", "read", "history", keys=("public/*",)),
        )
    )
    main = shared.as_principal("ada").manager("x")

    for make in (lambda: main.branch("sand"), lambda: main.what_if("sand", skip=[3])):
        with pytest.raises(AccessDenied):
            make()
    sand = root.manager("x").branch("sand", at=1).manager.restricted("ada")
    sand = BlockingManager(sand)
    with pytest.raises(AccessDenied):
        sand.merge("main")
    with pytest.raises(AccessDenied):
        sand.cherry_pick("main", 2)
    with pytest.raises(AccessDenied):
        sand.rebase("main")
    assert SECRET not in repr(sand.merge("main", dry_run=True, at=1))
    assert sand.at().data == {"public/a": 1}


def test_no_function_of_a_merge_is_a_way_around(shared: BlockingStore) -> None:
    root = shared.as_principal("root")
    root.access.set_policy(None)
    idea = shared.manager("x").branch("idea")
    idea.set_state("secret/b", "theirs")
    shared.manager("x").set_state("secret/b", "ours")
    root.access.set_policy(RESTRICTED)
    agent = shared.as_principal("ada").manager("x")
    told: list[Any] = []

    for more in (
        {"on_conflict": lambda *sides: told.append(sides)},
        {"strategies": {"*": lambda *sides: told.append(sides)}},
    ):
        with pytest.raises(AccessDenied):
            agent.merge("idea", dry_run=True, **more)
    with pytest.raises(statecore.MergeConflict) as caught:
        agent.restricted(keys=["public/*"]).restricted().merge("idea", on_conflict="raise")

    assert told == []
    assert "secret" not in str(caught.value)
    assert caught.value.conflicts == {}


def test_no_rehearsal_and_no_question_is_a_way_around(shared: BlockingStore) -> None:
    root = shared.as_principal("root")
    root.access.set_policy(None)
    owner = shared.manager("x")
    idea = owner.branch("idea")
    for agent in (owner, idea):
        agent.set_state("secret/b", agent.branch_name)
        agent.set_state("public/a", agent.branch_name)
    owner.set_schema("*", {"type": "integer"})
    root.access.set_policy(RESTRICTED)
    agent = shared.as_principal("ada").manager("x")
    asked: list[Any] = []

    agent.bisect(1, 4, lambda state: asked.append(state.get("secret/b")) or state.version < 4)

    assert {*asked} == {None}
    assert [each.path for each in agent.check()] == [("public/a",)]
    assert agent.contested() == {"public/a": ["idea"]}
    assert agent.revert(1, dry_run=True).change.operations.keys() <= {"public/a"}
    for version in (2, 3):
        with pytest.raises(AccessDenied):
            agent.revert(version, dry_run=True)


@pytest.mark.parametrize("by_policy", [True, False])
def test_who_sees_only_the_present_has_no_way_into_the_past(
    store: BlockingStore, by_policy: bool
) -> None:
    owner = store.manager("x")
    for value in (SECRET, "masked"):
        owner.set_state("k", value)
    owner.set_state("other", 1)
    owner.tag("before", 1)
    may = sorted({*Permission} - {Permission.HISTORY})
    agent = owner.restricted(operations=may)
    if by_policy:
        store.as_principal("root").access.set_policy(policy(permit("ada", *may)))
        agent = store.as_principal("ada").manager("x")
        owner = store.as_principal("root").manager("x")

    for look in (
        lambda: agent.revert(2, dry_run=True),
        lambda: agent.revert(since=1, dry_run=True),
        lambda: agent.revert(2),
        lambda: agent.revert(2, on_conflict="raise"),
        lambda: agent.restore(1),
        lambda: agent.restore(1, keys=["k"]),
        lambda: agent.restore(3, keys=["k"]),
        agent.undo,
        agent.redo,
        lambda: agent.branch("old", at=1),
        lambda: agent.branch("old", at="before"),
        lambda: agent.what_if("old", skip=[2]),
        lambda: agent.branch("new").cherry_pick("main", 1, dry_run=True),
    ):
        with pytest.raises(AccessDenied, match="history"):
            look()

    assert owner.branch_names() == ["new"]
    assert (owner.get_state("k"), owner.version()) == ("masked", 4)
    assert agent.branch("now", at=4).get_state("k") == "masked"
    if by_policy:
        denied = store.as_principal("root").access.denials()
        assert {each.operation for each in denied} == {"history"}


def test_a_past_that_is_seen_in_part_is_no_present_elsewhere(store: BlockingStore) -> None:
    for value in (SECRET, "masked"):
        store.manager("x").set_state("k", value)
    store.as_principal("root").access.set_policy(
        policy(permit("ada", "*"), forbid("ada", "history", keys=("k",)))
    )
    agent = store.as_principal("ada").manager("x")
    agent.set_state("mine", 1)
    agent.set_state("mine", 2)

    for look in (
        lambda: agent.branch("old", at=1),
        lambda: agent.what_if("old", skip=[2]),
        lambda: agent.restore(1),
        lambda: agent.restore(2, keys=["mine", "k"]),
        lambda: agent.revert(2, dry_run=True),
    ):
        with pytest.raises(AccessDenied, match="history"):
            look()
    agent.restore(3, keys=["mine"])
    agent.revert(5)

    assert agent.at().data == {"k": "masked", "mine": 2}


def test_a_rehearsal_asks_for_permissions_and_for_nobodys_name(store: BlockingStore) -> None:
    board = store.manager("board", kind="shared", actor="x")
    board.set_state("n", 1)
    board.branch("idea").set_state("k", 1)
    nameless = store.manager("board")

    assert nameless.merge("idea", dry_run=True).change.operations.keys() == {"k"}
    with pytest.raises(statecore.MissingActor):
        nameless.merge("idea")
    with pytest.raises(AccessDenied):
        board.restricted(read_only=True).merge("idea", dry_run=True)


def test_what_no_longer_fits_is_not_told_of_what_may_not_be_seen(store: BlockingStore) -> None:
    owner = store.manager("x")
    owner.set_state("secret", [1, 2, 3])
    owner.set_state("own", [1])
    with owner.transaction() as tx:
        tx.extend("secret", [4])
        tx.extend("own", [2])
    owner.extend("own", [3])
    store.as_principal("root").access.set_policy(
        policy(permit("ada", "*"), forbid("ada", "read", "history", keys=("secret",)))
    )
    agent = store.as_principal("ada").manager("x")

    made = agent.what_if("w", replace={1: {"secret": 5, "own": 1}, 2: EMPTY})

    assert made.left_out == {
        3: "it does not fit, and why may not be seen",
        4: "extend needs a list, not int",
    }


def test_a_merge_that_is_refused_tells_of_no_key_that_may_not_be_read_there(
    store: BlockingStore,
) -> None:
    main, idea = store.manager("x"), store.manager("x").branch("idea")
    idea.set_state("k", SECRET)
    main.set_state("k", "ours")
    store.as_principal("root").access.set_policy(
        policy(permit("ada", "*"), forbid("ada", "read", branches=("idea",), keys=("k",)))
    )

    with pytest.raises(statecore.MergeConflict) as caught:
        store.as_principal("ada").manager("x").merge("idea", on_conflict="raise", dry_run=True)

    assert caught.value.conflicts == {}
    assert SECRET not in str(caught.value)


def test_a_denied_rule_holds_nowhere(shared: BlockingStore) -> None:
    seen: list[Any] = []
    ada, root = shared.as_principal("ada").manager("y"), shared.as_principal("root").manager("y")
    root.constrain("*", lambda value: value is not None, name="look")

    with pytest.raises(AccessDenied):
        ada.constrain("*", seen.append, name="look")
    root.set_state("k", SECRET)

    assert seen == []


def tapping(told: list[Any]) -> Any:
    """A type whose validator keeps what it is told."""
    return Annotated[Any, AfterValidator(lambda value: told.append(value) or value)]


def test_no_function_that_is_handed_in_is_told_what_may_not_be_read(shared: BlockingStore) -> None:
    root = shared.as_principal("root")
    may = permit("ada", "read", "write", "rules", "history")
    root.access.set_policy(policy(may, forbid("ada", "read", keys=("secret*",))))
    told: list[Any] = []
    owner, ada = root.manager("x"), shared.as_principal("ada").manager("x")

    for pattern in ("secret/b", "secret*", "*", "s*", "[r-t]*"):
        with pytest.raises(AccessDenied, match="may not read"):
            ada.constrain(pattern, told.append, name="tap")
        with pytest.raises(AccessDenied, match="may not read"):
            ada.set_schema(pattern, tapping(told))
    ada.constrain("public/*", told.append, name="tap")
    ada.set_schema("secret*", {"type": "string"})
    owner.set_state("secret/b", SECRET)
    owner.set_state("public/a", 5)
    ada.check()

    assert {*told} == {5}


def test_no_function_is_told_of_another_branch_what_may_not_be_read_there(
    shared: BlockingStore,
) -> None:
    root = shared.as_principal("root")
    may = permit("ada", "read", "write", "rules", "history")
    root.access.set_policy(policy(may, forbid("ada", "read", branches=("hidden",))))

    with pytest.raises(AccessDenied, match="may not read"):
        shared.as_principal("ada").manager("x").constrain("*", print, name="tap")


@pytest.mark.parametrize("by_policy", [True, False])
def test_no_reference_tells_which_keys_are_there_that_may_not_be_read(
    store: BlockingStore, by_policy: bool
) -> None:
    store.manager("victim").set_state("ssn-1234", SECRET)
    store.manager("own").set_state("secret/b", SECRET)
    if by_policy:
        rules = [
            permit("bob", "*", agents=("own",)),
            permit("bob", "read", agents=("victim",), keys=("public/*",)),
            forbid("bob", "read", keys=("secret/*",)),
        ]
        store.as_principal("root").access.set_policy(policy(*rules))
        agent = store.as_principal("bob").manager("own")
    else:
        agent = store.manager("own").restricted(operations=["write", "rules", "delete"])

    for to, whose in (("*", "victim"), ("ssn-1234", "victim"), ("*", None), ("secret/b", None)):
        with pytest.raises(AccessDenied, match="may not read"):
            agent.set_reference("probe", (), to, agent=whose)
    if by_policy:
        agent.set_reference("public", (), "public/a*", agent="victim")

    assert agent.set_state("probe", "ssn-0000") == 2


def test_a_check_tells_no_function_of_what_its_asker_may_not_read(shared: BlockingStore) -> None:
    root = shared.as_principal("root")
    root.access.set_policy(None)
    told: list[Any] = []
    owner = shared.manager("x")
    owner.constrain("*", told.append, name="tap")
    owner.set_schema("*", tapping(told))
    owner.set_reference("public/a", (), "*", on_delete="keep")
    root.access.set_policy(RESTRICTED)
    told.clear()

    violations = shared.as_principal("ada").manager("x").check()

    assert {*told} == {2}
    assert [each.path for each in violations] == [("public/a",)]


# Narrowing


def test_a_narrowed_handle_stays_narrow(store: BlockingStore) -> None:
    agent = store.manager("x")
    agent.set_state("a/1", 1)
    narrow = agent.restricted(keys=["a/*"], operations=["read", "write"])

    narrow.set_state("a/2", 2)
    for call in (
        lambda: narrow.set_state("b", 1),
        lambda: narrow.delete_state("a/1"),
        lambda: narrow.get_state("b"),
        lambda: narrow.at(1),
        lambda: narrow.restricted(read_only=True).set_state("a/1", 1),
        lambda: narrow.restricted(operations=["delete"]).delete_state("a/1"),
        lambda: narrow.restricted(keys=["*"]).set_state("b", 1),
        lambda: narrow.restricted("root").set_state("b", 1),
        lambda: narrow.branch("new"),
        lambda: narrow.set_schema("a/1", {}),
    ):
        with pytest.raises(AccessDenied):
            call()
    assert narrow.at().data == {"a/1": 1, "a/2": 2}


def test_a_second_principal_must_be_allowed_as_well(shared: BlockingStore) -> None:
    root = shared.as_principal("root")
    both = root.manager("y").restricted("ada")

    both.set_state("public/a", 1)
    with pytest.raises(AccessDenied):
        both.set_state("k", 1)
    with pytest.raises(AccessDenied):
        shared.manager("y").restricted(read_only=True).restricted("root").get_state("k")
    assert both.authority.names == ["root", "ada"]


@pytest.mark.parametrize(
    "less", [{"principal": "nurse"}, {"keys": ["notes/*"]}, {"operations": ["read", "write"]}]
)
def test_a_narrowed_handle_holds_the_same_persons_data(
    store: BlockingStore, less: dict[str, Any]
) -> None:
    durable = store.manager("patient", subject="eve").restricted(**less)
    runtime = store.manager("visitor", kind="runtime", subject="eve").restricted(**less)
    durable.set_state("notes/1", SECRET)
    runtime.set_state("notes/1", SECRET)

    assert (durable.subject, runtime.subject) == ("eve", "eve")
    assert store.erase_subject("eve") == ["patient", "visitor"]

    for agent in (durable, runtime):
        with pytest.raises(statecore.Erased):
            agent.get_state("notes/1")


def test_a_narrowed_state_is_persisted_as_the_same_persons(store: BlockingStore) -> None:
    runtime = store.manager("visitor", kind="runtime", subject="eve").restricted("nurse")
    runtime.set_state("notes/1", SECRET)

    assert store.persist(runtime).subject == "eve"
    assert [birth.subject for birth in store.agents()] == ["eve"]


def test_what_is_no_narrowing_is_refused(agent: BlockingManager) -> None:
    for wrong in ({"operations": ["fly"]}, {"keys": "a"}, {"principal": ""}, {"keys": [1]}):
        with pytest.raises(InputError):
            agent.restricted(**wrong)  # type: ignore[arg-type]


def test_a_handle_says_what_it_may_do_and_nothing_is_recorded(shared: BlockingStore) -> None:
    agent = shared.as_principal("ada").manager("x")

    assert agent.validate_access("write", "public/z")
    assert not agent.validate_access("write", "secret/z")
    assert agent.validate_access("write").reason.startswith("rule permit ada")
    assert not agent.validate_access("erase")
    assert shared.as_principal("root").access.denials() == []


def test_runtime_states_are_under_the_policy_too(shared: BlockingStore) -> None:
    root = shared.as_principal("root").manager("r", kind="runtime")
    root.set_state("public/a", 1)
    root.set_state("k", SECRET)
    ada = shared.as_principal("ada").manager("r", kind="runtime")

    assert ada.at().data == {"public/a": 1}
    for call in (lambda: ada.get_state("k"), lambda: ada.set_state("k", 1)):
        with pytest.raises(AccessDenied):
            call()
    with pytest.raises(AccessDenied, match="may not read"):
        shared.as_principal("ada").persist(ada)
    assert shared.as_principal("root").access.denials()[-1].operation == "read"


def test_a_policy_of_others_binds_runtime_states(file_store: BlockingStore, path: Path) -> None:
    agent = file_store.manager("r", kind="runtime")
    agent.set_state("k", 1)
    assert agent.get_state("k") == 1

    with statecore.open(path, key=KEY) as other:
        other.as_principal("root").access.set_policy(policy())

    with pytest.raises(AccessDenied):
        agent.get_state("k")
    with pytest.raises(AccessDenied):
        agent.set_state("k", 2)


def test_a_whole_store_is_a_handle(shared: BlockingStore) -> None:
    root, bob = shared.as_principal("root"), shared.as_principal("bob")

    assert [birth.agent_id for birth in root.agents()] == ["x"]
    assert [birth.agent_id for birth in bob.agents()] == ["x"]
    assert bob.blocking().manager("x").at().data == {"public/a": 2}
    with pytest.raises(AccessDenied):
        root.erase("x")
    with pytest.raises(InputError):
        root.manager("")
    root.manager("y").set_state("k", 1)
    root.erase("y")
    with pytest.raises(statecore.Erased):
        root.manager("y").get_state("k")


@pytest.mark.parametrize(
    "look",
    [
        lambda store: store.check(),
        lambda store: store.last_check,
        lambda store: store.rebuild(only_check=True),
        lambda store: store.rebuild(),
        lambda store: store.sizes(),
        lambda store: store.compact(),
        lambda store: store.restores(),
        lambda store: list(store.audit()),
    ],
)
def test_what_tells_of_the_whole_store_takes_the_permission_to_audit(
    file_store: BlockingStore, look: Callable[[BlockingStore], object]
) -> None:
    file_store.manager("x").set_state("k", 1)
    rules = permit("ada", "audit"), permit("eve", *{*Permission} - {"audit"}, agents=("mine",))
    file_store.as_principal("root").access.set_policy(policy(*rules))

    for handle in (file_store, file_store.as_principal("eve")):
        with pytest.raises(AccessDenied, match="may not audit this store"):
            look(handle)
    look(file_store.as_principal("ada"))


def test_numbers_of_the_whole_store_name_nobody(file_store: BlockingStore) -> None:
    file_store.manager(SECRET).branch(SECRET).set_state(SECRET, SECRET, actor=SECRET)
    file_store.as_principal("root").access.set_policy(policy())
    file_store.as_principal("root").check()

    told = f"{file_store.statistics()} {file_store.metrics()} {file_store.metrics().prometheus()}"

    assert SECRET not in told


# The record


def test_denials_are_recorded_and_counted(shared: BlockingStore) -> None:
    eve = shared.as_principal("eve").manager("x")
    for name in ("one", "two"):
        for _ in range(3):
            with pytest.raises(AccessDenied):
                eve.set_state(name, SECRET)

    denials = shared.as_principal("root").access.denials()

    assert sum(each.count for each in denials) == 6
    assert {each.principals for each in denials} == {("eve",)}
    assert {each.operation for each in denials} == {"write"}
    assert {key for each in denials for key in each.keys} == {"one", "two"}
    assert SECRET not in repr(denials)
    assert denials[0].count == 1


def test_a_loop_of_denials_does_not_fill_the_disk(file_store: BlockingStore) -> None:
    file_store.as_principal("root").access.set_policy(policy())
    events = file_store.statistics().events
    with pytest.raises(AccessDenied):
        file_store.as_principal("eve").access.policy()

    for number in range(3000):
        eve = file_store.as_principal(f"eve {number % 1000}").manager(f"x{number % 7}")
        with pytest.raises(AccessDenied):
            eve.set_state(f"key {number}" * 60, 1)
    denials = file_store.as_principal("root").access.denials()

    assert sum(each.count for each in denials) == 3001
    assert len(denials) < 100
    assert file_store.statistics().events - events < 100
    assert all(len(key) < 200 for each in denials for key in each.keys)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("none", set()),
        ("by-state", {("read", ()), ("history", ())}),
        ("by-key", {("read", ("a",)), ("read", ("b",)), ("read", ()), ("history", ())}),
    ],
)
def test_reading_is_recorded_at_the_level_that_was_chosen(
    store: BlockingStore, level: Any, expected: set[Any]
) -> None:
    root = store.as_principal("root")
    root.access.set_policy(policy(record_reads=level))
    agent = root.manager("x")
    agent.set_state("a", SECRET)

    for _ in range(5):
        agent.get_state("a")
    agent.get_state("b")
    agent.at()
    list(agent.history())
    found = root.access.records("read")

    assert {(each.operation, each.keys) for each in found} == expected
    assert SECRET not in repr(found)
    if level == "by-key":
        assert [each.count for each in found if each.keys == ("a",)] == [5]


def test_erasing_and_looking_at_the_record_is_always_recorded(shared: BlockingStore) -> None:
    root, bob = shared.as_principal("root"), shared.as_principal("bob")
    root.manager("y").set_state("k", 1)
    root.erase("y", reason="asked for")
    assert [
        (e.event.actor, e.event.reason) for e in root.audit() if e.event and e.event.type == 3
    ] == [("root", "asked for")]
    root.access.require("export", "y")
    bob.access.denials()

    done = root.access.records("done")

    assert {(each.principals, each.operation, each.agent_id) for each in done} == {
        (("root",), "erase", "y"),
        (("root",), "export", "y"),
        (("bob",), "audit", None),
        (("root",), "audit", None),
    }
    assert root.access.records("done", since=datetime(2999, 1, 1, tzinfo=UTC)) == []


def test_the_window_ends_by_itself(shared: BlockingStore) -> None:
    engine = shared.store._engine
    ledger = Ledger(engine.streams, engine.sequencer, engine.clock, print, 0.02)
    decision = validate_access("read", Context(policy(), FULL))

    for _ in range(3):
        ledger.denied(FULL, Request(Permission.READ, "x", "main", "k"), decision)
    until = threading.Event()
    while engine.streams.refresh(ledger._stream).version < 2:
        until.wait(0.01)
    ledger.close()

    assert [each.count for each in shared.as_principal("root").access.denials()] == [1, 2]


def test_what_was_counted_is_written_when_the_store_closes(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.as_principal("root").access.set_policy(policy())
        for _ in range(5):
            with pytest.raises(AccessDenied):
                store.manager("x").get_state("k")
    with statecore.open(path, key=KEY) as store:
        denials = store.as_principal("root").access.denials()

    assert [(each.principals, each.count) for each in denials] == [
        (("anonymous",), 1),
        (("anonymous",), 4),
    ]


# Processes, threads, faces

OTHER = """
import sys
import statecore
from tests.conftest import KEY
with statecore.open(sys.argv[1], key=KEY) as store:
    agent = store.as_principal("ada").manager("x")
    for line in sys.stdin:
        try:
            if line.strip() == "read":
                print("ok", agent.get_state("k"), flush=True)
            else:
                print("ok", agent.set_state("k", 2), flush=True)
        except statecore.AccessDenied as error:
            print("denied", error.operation, flush=True)
"""


@pytest.fixture
def other(path: Path) -> Iterator[Callable[[str], str]]:
    """Another process, in which Ada does what she is told."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(what: str) -> str:
            process.stdin.write(f"{what}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield ask
        process.stdin.close()


def test_a_policy_of_another_process_binds_the_next_write_and_reading(
    file_store: BlockingStore, other: Callable[[str], str]
) -> None:
    file_store.manager("x").set_state("k", 1)
    root = file_store.as_principal("root")
    assert [other("read"), other("write"), other("read")] == ["ok 1", "ok 2", "ok 2"]

    root.access.set_policy(policy())
    assert other("read") == "denied read"  # without anything else that would have looked
    root.access.set_policy(policy(permit("ada", "read")))
    assert [other("write"), other("read")] == ["denied write", "ok 2"]
    root.access.set_policy(policy())
    assert [other("read"), other("write")] == ["denied read", "denied write"]
    root.access.set_policy(policy(permit("ada", "write")))
    assert [other("write"), other("read")] == ["ok 3", "denied read"]

    assert {each.operation for each in root.access.denials()} <= {"read", "write"}


def test_a_write_that_waits_is_judged_by_the_policy_before_it(file_store: BlockingStore) -> None:
    """Both are in one batch: the policy first, then the write that it forbids."""
    root, ada = file_store.as_principal("root"), file_store.as_principal("ada").manager("x")
    sequencer = file_store.store._engine.sequencer
    answers: list[Any] = []

    def write() -> None:
        try:
            answers.append(ada.set_state("k", 1))
        except AccessDenied as error:
            answers.append(error.operation)

    threads = [
        threading.Thread(target=root.access.set_policy, args=(policy(),)),
        threading.Thread(target=write),
    ]
    with sequencer._lock:
        for count, thread in enumerate(threads, 1):
            thread.start()
            while len(sequencer._queue) < count:
                threading.Event().wait(0.001)
    sequencer.wake()
    for thread in threads:
        thread.join()

    assert answers == ["write"]


def test_the_asynchronous_face_is_under_the_same_policy(path: Path) -> None:
    async def story() -> None:
        async with statecore.open(path, key=KEY) as store:
            root, ada = store.as_principal("root"), store.as_principal("ada")
            await store.manager("x").set_state("public/a", 1)
            await store.manager("x").set_state("secret/b", SECRET)
            await root.access.set_policy(RESTRICTED)
            agent = ada.manager("x")
            assert await agent.get_state("public/a") == 1
            assert (await agent.at()).data == {"public/a": 1}
            for call in (
                agent.get_state("secret/b"),
                agent.set_state("secret/b", 1),
                store.manager("x").get_state("public/a"),
                store.as_principal("eve").access.denials(),
                ada.erase("x"),
            ):
                with pytest.raises(AccessDenied):
                    await call
            with pytest.raises(AccessDenied):
                async for _ in store.as_principal("eve").manager("x").watch(0):
                    raise AssertionError
            seen = [event async for event in agent.history()]
            assert SECRET not in repr(seen)
            assert (await root.access.decide("ada", "read", "x", "public/a")).allowed
            assert len(await root.access.denials()) == 6
            assert len(await root.access.changes()) == 1

    asyncio.run(story())


def test_watching_ends_when_it_is_not_permitted_any_more(shared: BlockingStore) -> None:
    root = shared.as_principal("root")
    watching = shared.as_principal("ada").manager("x").watch(0)
    assert next(watching).version == 1

    root.access.set_policy(policy())

    with pytest.raises(AccessDenied):
        list(watching)


def test_nothing_of_a_policy_is_readable_in_the_files(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        store.as_principal("rooted-owner").access.set_policy(
            {"owners": ["rooted-owner"], "rules": [], "record_reads": "by-key"}
        )
        with pytest.raises(AccessDenied):
            store.as_principal("eve-the-third").manager("agent-named").get_state("hidden-key")
        store.as_principal("rooted-owner").access.denials()
        for file in path.parent.glob("agents.db*"):
            content = file.read_bytes() if "-lock" not in file.name else b""
            for word in (b"rooted-owner", b"eve-the-third", b"agent-named", b"hidden-key"):
                assert word not in content
