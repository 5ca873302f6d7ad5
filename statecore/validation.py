"""Values held against an agent's rules, and what violates them. Pure.

A rule holds for the keys of a pattern, of the shell's kind (``*``, ``?``, ``[abc]``). Where several
patterns fit a key, all of their rules hold. A value with a conflict in it is exempt until that is
resolved, since what it will be is not decided.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from inspect import isroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from statecore.conflict import find_unresolved
from statecore.errors import InputError, Path, Violation
from statecore.json_schema import JsonSchema, Schema
from statecore.packed import Packed, thaw
from statecore.references import names_in
from statecore.rulebook import Rulebook
from statecore.values import Value

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

Names: TypeAlias = Container[str]
"""The keys of a state."""


@dataclass(slots=True)
class Local:
    """What of an agent's rules only this process knows."""

    types: dict[tuple[str, str], TypeAdapter[Any]] = field(default_factory=dict)
    """Types, by pattern and by what was recorded of them (``spelled``)."""
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
    from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

    try:
        adapter = TypeAdapter[Any](given)  # type: ignore[arg-type]
        return adapter.json_schema(by_alias=False, schema_generator=_generator()), adapter
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise InputError(f"no schema can be made of {given!r}: {error.message}") from error


@cache
def _generator() -> type[GenerateJsonSchema]:
    from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
    from pydantic_core import core_schema

    class Generator(GenerateJsonSchema):
        """Makes a ``Decimal`` what it is to a schema here: a number, and no text."""

        def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
            number = core_schema.float_schema()
            for limit in ("multiple_of", "le", "ge", "lt", "gt"):
                if schema.get(limit) is not None:
                    number[limit] = float(schema[limit])
            return self.float_schema(number)

    return Generator


def spelled(schema: Schema) -> str:
    """Return a schema as a text, the same one for the same schema."""
    return json.dumps(schema, sort_keys=True)


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
        self._spelled = {
            pattern: spelled(recorded.schema) for pattern, recorded in rules.schemas.items()
        }

    def violations(self, key: str, packed: Packed) -> list[Violation]:
        """Return what is wrong with the value of a key by itself, references apart."""
        schemas = [pattern for pattern in self._schemas if fnmatchcase(key, pattern)]
        constraints = [pattern for pattern in self.rules.constraints if fnmatchcase(key, pattern)]
        if not (schemas or constraints) or has_conflict(packed):
            return []
        found: list[Violation] = []
        for pattern in schemas:
            found += self._against_schema(pattern, key, packed)
        for pattern in constraints:
            found += self._against_functions(pattern, key, packed)
        return found

    def _against_schema(self, pattern: str, key: str, packed: Packed) -> Iterator[Violation]:
        rule = f"schema {pattern!r}, version {self.rules.schemas[pattern].version}"
        found = list(self._schemas[pattern].violations(thaw(packed)))
        adapter = self._local.types.get((pattern, self._spelled[pattern]))
        if adapter is not None:
            told = {path for path, _ in found}
            found += [each for each in _against_type(adapter, packed) if each[0] not in told]
        yield from (Violation((key, *path), message, rule) for path, message in found)

    def _against_functions(self, pattern: str, key: str, packed: Packed) -> Iterator[Violation]:
        for name in self.rules.constraints[pattern]:
            function = self._local.functions.get((pattern, name))
            if function is None:  # known to another process
                continue
            message = None
            try:
                if function(thaw(packed)) is False:
                    message = "does not hold"
            except ValueError:  # whose words may show the value
                message = "does not hold"
            except Exception as error:  # what can't be told does not hold, and ends no batch
                message = _untold(error)
            if message is not None:
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
                    message = f"names what is no key of {each.to!r}"
                elif name not in kept and name not in names(each.agent):
                    message = "names a key that is not there"
                else:
                    continue
                yield Violation((key, *place), message, str(each))


def has_conflict(packed: Packed) -> bool:
    """Tell whether there is a conflict in a value."""
    return next(find_unresolved(packed), None) is not None


def _against_type(adapter: TypeAdapter[Any], packed: Packed) -> Iterator[tuple[Path, str]]:
    from pydantic import ValidationError

    try:  # a validator may change what it is given
        adapter.validate_python(thaw(packed), by_alias=False, by_name=True)
    except ValidationError as error:
        value = thaw(packed)
        for each in error.errors(include_url=False, include_context=False, include_input=False):
            yield _place_in(value, each["loc"]), f"does not fit its type: {each['type']}"
    except Exception as error:
        yield (), _untold(error)


def _place_in(value: Value, location: Path) -> Path:
    """Return a location without what names no place, such as the member of a union."""
    path: list[str | int] = []
    for part in location:
        is_there = part in value if isinstance(value, dict) else _is_index(value, part)
        if is_there:
            value = value[part]
            path.append(part)
    return tuple(path)


def _is_index(value: Value, part: str | int) -> bool:
    return isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value)


def _untold(error: Exception) -> str:
    return f"can't be told to hold: {type(error).__name__} was raised"
