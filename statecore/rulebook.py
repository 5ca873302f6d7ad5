"""The rulebook of an agent: what its register says its states must be. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from statecore.json_schema import Schema
from statecore.references import Reference
from statecore.register import CONSTRAINT, REFERENCE, RULES, SCHEMA
from statecore.values import Value


@dataclass(frozen=True, slots=True)
class RecordedSchema:
    """A schema as it was recorded."""

    version: int
    """Grows with each change of the agent's rules; this one made the schema what it is."""
    schema: Schema


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The rules of an agent as they were recorded, by pattern of key."""

    version: int = 0
    """How many changes of the rules there were."""
    schemas: Mapping[str, RecordedSchema] = field(default_factory=dict)
    constraints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The names of functions; the functions are not recorded."""
    references: tuple[Reference, ...] = ()

    @classmethod
    def read(cls, register: Mapping[str, Value]) -> Self:
        """Return the rulebook that a register's values tell."""
        schemas = {
            pattern: RecordedSchema(entry["version"], entry["schema"])
            for pattern, entry in _entries(register, SCHEMA)
            if entry["schema"] is not None
        }
        constraints = {
            pattern: tuple(entry["names"]) for pattern, entry in _entries(register, CONSTRAINT)
        }
        references = tuple(
            Reference(
                pattern, tuple(each["path"]), each["to"], each["on_delete"], each["agent"],
                entry["version"],
            )
            for pattern, entry in _entries(register, REFERENCE)
            for each in entry["references"]
        )  # fmt: skip
        kept = {pattern: names for pattern, names in constraints.items() if names}
        return cls(register.get(RULES, 0), schemas, kept, references)


def is_of_rules(key: str) -> bool:
    """Tell whether a key of a register tells of the rules."""
    return key == RULES or key.startswith((SCHEMA, CONSTRAINT, REFERENCE))


def _entries(register: Mapping[str, Value], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the entries of one kind, by pattern, in order."""
    for key in sorted(register):
        if key.startswith(prefix):
            yield key.removeprefix(prefix), register[key]
