"""Policies, decisions and records of access as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from statecore import AccessRecord, Decision, Policy, Rule
from statecore.cli.render import printable, time_text, value_text
from statecore.policy import record_of


def policy_lines(policy: Policy | None) -> Iterator[str]:
    """Yield a policy, each part of it on a line."""
    if policy is None:
        yield "(no policy: everything is permitted)"
        return
    yield printable(f"owners: {', '.join(policy.owners)}")
    for role, more in policy.roles.items():
        yield printable(f"role {role} comes with {', '.join(more)}")
    for each in policy.principals:
        line = f"principal {each.id}: {', '.join(each.roles)}"
        yield printable(f"{line} {value_text(dict(each.attributes))}")
    for rule in policy.rules:
        yield printable(_rule_line(rule))
    yield f"reading is recorded: {policy.record_reads}"


def _rule_line(rule: Rule) -> str:
    whom = [*rule.principals, *(f"role {role}" for role in rule.roles)]
    where = (("agents", rule.agents), ("branches", rule.branches), ("keys", rule.keys))
    line = f"{rule.effect} {', '.join(whom)}: {', '.join(rule.operations)}"
    line += "".join(f", {what} {' '.join(given)}" for what, given in where if given != ("*",))
    for each in rule.when:
        value = each.other if each.other is not None else value_text(each.value)
        line += f", when {each.attribute} {each.test} {value}"
    return f"{line} ({rule.id})"


def policy_data(policy: Policy | None) -> dict[str, Any] | None:
    """Return a policy for JSON, as it is set."""
    return None if policy is None else record_of(policy)


def decision_line(decision: Decision) -> str:
    """Return a decision on one line."""
    return printable(f"{'yes' if decision else 'no'}: {decision.reason}")


def decision_data(decision: Decision) -> dict[str, Any]:
    """Return a decision for JSON."""
    return {**asdict(decision), "rules": list(decision.rules)}


def record_line(record: AccessRecord) -> str:
    """Return what was denied, done or read, on one line."""
    where = "" if record.agent_id is None else f" {record.agent_id}"
    where += "" if record.branch in (None, "main") else f"@{record.branch}"
    where += f" [{', '.join(record.keys)}]" if record.keys else ""
    often = f" {record.count} times" if record.count > 1 else ""
    why = f" ({', '.join(record.rules)})" if record.rules else ""
    who = " with ".join(record.principals)
    return printable(
        f"{time_text(record.until)}  {record.what}  {who}  {record.operation}{where}{often}{why}"
    )


def record_data(record: AccessRecord) -> dict[str, Any]:
    """Return what was denied, done or read, for JSON."""
    data = asdict(record)
    times = {"since": time_text(record.since), "until": time_text(record.until)}
    return {**data, **times, **{name: list(data[name]) for name in ("principals", "keys", "rules")}}
