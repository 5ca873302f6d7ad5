"""Values held against an agent's rules, and what violates them. Pure.

A rule holds for the keys of a pattern, of the shell's kind (``*``, ``?``, ``[abc]``). Where several
patterns fit a key, all of their rules hold. A value with a conflict in it is exempt until that is
resolved, since what it will be is not decided.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from inspect import isroutine
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from statecore.conflict import find_unresolved
from statecore.errors import InputError, Path, spell_path
from statecore.json_schema import JsonSchema, Schema
from statecore.packed import Packed, thaw
from statecore.references import names_in
from statecore.rulebook import Rulebook
from statecore.values import Value, printable, same

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Names: TypeAlias = Container[str]
"""The keys of a state."""

_TOLD_MAX: Final = 10  # violations in one message; the error has them all


@dataclass(frozen=True, slots=True)
class Violation:
    """A place in a state where a rule does not hold."""

    path: Path
    message: str
    rule: str

    @property
    def place(self) -> list[tuple[bool, str | int]]:
        """Where it comes among others, in the order of their paths."""
        return [(isinstance(part, int), part) for part in self.path]

    def __str__(self) -> str:
        return printable(f"{spell_path(self.path)}: {self.message} ({self.rule})")


class ValidationFailed(InputError):
    """What a write would make of the state violates rules. Nothing was written."""

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = sorted(violations, key=lambda each: each.place)
        """All of them, in the order of their paths."""
        told = [str(violation) for violation in self.violations[:_TOLD_MAX]]
        more = len(self.violations) - len(told)
        super().__init__("; ".join(told) + (f"; and {more} more" if more else ""))


@dataclass(slots=True)
class Local:
    """What of an agent's rules only this process knows."""

    types: dict[str, tuple[Schema, TypeAdapter[Any]]] = field(default_factory=dict)
    """Types by pattern, with the schema that was recorded of each."""
    functions: dict[tuple[str, str], Callable[[Value], object]] = field(default_factory=dict)
    """Constraints by pattern and name."""


def schema_of(given: object) -> tuple[Schema, TypeAdapter[Any] | None]:
    """Return the JSON Schema of what was given: one, or a type that pydantic knows; and the type.

    Fields stand under their names, since it is by these that a model's data is recorded.

    Raises:
        InputError: it is neither.
    """
    if isinstance(given, Mapping):
        return dict(given), None
    if isroutine(given) or isinstance(given, str | bytes | int | float | list):
        # Of a text pydantic would make a type by evaluating it, whoever it came from.
        raise InputError(f"a schema is a map or a type, not {type(given).__name__}")
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        adapter = TypeAdapter[Any](given)  # type: ignore[arg-type]
        return adapter.json_schema(by_alias=False), adapter
    except PydanticUserError as error:
        raise InputError(f"no schema can be made of {given!r}: {error.message}") from error


class Checks:
    """A rulebook made ready to hold values against."""

    def __init__(self, rules: Rulebook, local: Local) -> None:
        """Make them ready.

        Raises:
            InputError: what they need is not installed.
        """
        self.rules = rules
        self._local = local
        self._schemas = {
            pattern: JsonSchema(recorded.schema) for pattern, recorded in rules.schemas.items()
        }

    def violations(self, key: str, packed: Packed) -> list[Violation]:
        """Return what is wrong with the value of a key by itself, references apart."""
        schemas = [pattern for pattern in self._schemas if fnmatchcase(key, pattern)]
        constraints = [pattern for pattern in self.rules.constraints if fnmatchcase(key, pattern)]
        if not (schemas or constraints) or has_conflict(packed):
            return []
        value = thaw(packed)
        found: list[Violation] = []
        for pattern in schemas:
            found += self._against_schema(pattern, key, value)
        for pattern in constraints:
            found += self._against_functions(pattern, key, packed)
        return found

    def _against_schema(self, pattern: str, key: str, value: Value) -> Iterator[Violation]:
        recorded = self.rules.schemas[pattern]
        rule = f"schema {pattern!r}, version {recorded.version}"
        found = list(self._schemas[pattern].violations(value))
        schema, adapter = self._local.types.get(pattern, (None, None))
        if adapter is not None and same(dict(recorded.schema), dict(schema or {})):
            told = {path for path, _ in found}
            found += [each for each in _against_type(adapter, value) if each[0] not in told]
        yield from (Violation((key, *path), message, rule) for path, message in found)

    def _against_functions(self, pattern: str, key: str, packed: Packed) -> Iterator[Violation]:
        for name in self.rules.constraints[pattern]:
            function = self._local.functions.get((pattern, name))
            if function is None:  # known to another process
                continue
            try:
                holds = function(thaw(packed)) is not False
                message = "does not hold"
            except ValueError as error:
                holds, message = False, str(error)
            if not holds:
                yield Violation((key,), message, f"constraint {name!r} of {pattern!r}")

    def dangling(
        self, key: str, packed: Packed, before: Packed | None, names: Callable[[str | None], Names]
    ) -> Iterator[Violation]:
        """Yield the references in the value of a key that lead nowhere.

        Args:
            key: the key.
            packed: its value.
            before: what it was; where references may be left to lead nowhere, old ones may stay.
            names: returns the keys of the state, or of another agent's.
        """
        references = [each for each in self.rules.references if fnmatchcase(key, each.pattern)]
        if not references or has_conflict(packed):
            return
        value, old = thaw(packed), None if before is None or has_conflict(before) else thaw(before)
        for each in references:
            kept = (
                [name for _, name in names_in(old, each.path)] if each.on_delete == "keep" else []
            )
            for place, name in names_in(value, each.path):
                if not isinstance(name, str):
                    message = "is no name of a key"
                elif not fnmatchcase(name, each.to):
                    message = f"names {name!r}, which is no key of {each.to!r}"
                elif name not in kept and name not in names(each.agent):
                    message = f"names {name!r}, which is not there"
                else:
                    continue
                yield Violation((key, *place), message, str(each))


def has_conflict(packed: Packed) -> bool:
    """Tell whether there is a conflict in a value."""
    return next(find_unresolved(packed), None) is not None


def _against_type(adapter: TypeAdapter[Any], value: Value) -> Iterator[tuple[Path, str]]:
    from pydantic import ValidationError

    try:
        adapter.validate_python(value)
    except ValidationError as error:
        for each in error.errors(include_url=False, include_context=False, include_input=False):
            yield each["loc"], each["msg"]
