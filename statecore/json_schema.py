"""Values held against JSON Schema, draft 2020-12. All contact with the library for it is here.

A schema sees a value as the JSON it comes closest to:

    None, bool, str, list, map      themselves
    int, float, Decimal             a number; compared by its digits, so that 0.1 is 0.1
    NaN and infinities              a string, for JSON has no such numbers
    datetime                        a string of the format ``date-time`` (RFC 3339)
    UUID                            a string of the format ``uuid``
    bytes                           a string, base64 (``contentEncoding``)

The formats date, date-time, email, ipv4, ipv6, regex and uuid are asserted, in every process alike.
Patterns are read by the engine that pydantic brings (https://docs.rs/regex), which needs time
linear in the text whatever the pattern, so none can hold up the writers; it knows no look-around
and no back references. References lead to places in the same schema only; nothing is ever fetched.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, DecimalException, InvalidOperation
from functools import cache, lru_cache
from typing import Any, Final, TypeAlias
from uuid import UUID

from statecore.errors import InputError, Path
from statecore.values import Value

Schema: TypeAlias = Mapping[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FORMATS: Final = ("date", "date-time", "email", "ipv4", "ipv6", "regex", "uuid")
_SHOWN_MAX: Final = 80
_NAMED_MAX: Final = 400
_DATE_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_DIGITS: Final = Context(prec=4096, Emax=MAX_EMAX, Emin=MIN_EMIN)

# What the library says of these names fields, and never shows a value.
_NAMES_ONLY: Final = frozenset({"required", "unevaluatedProperties", "dependentRequired"})


class JsonSchema:
    """A schema, ready to hold values against."""

    def __init__(self, schema: Schema) -> None:
        """Read a schema.

        Raises:
            InputError: it is none, or needs what is not there; says why.
        """
        self._library = _library()
        if not isinstance(schema, Mapping) or schema.get("$schema", DIALECT) != DIALECT:
            raise InputError(f"a schema is a map, of JSON Schema {DIALECT}")
        try:
            _require_json(schema)
            self._library.check_schema(schema)
            _require_patterns(schema)
            self._require_local(schema)
            self._validator = self._library.validator(_with_digits(schema))
            list(self._validator.iter_errors(None))
        except (*self._library.faults, RecursionError, ValueError) as error:
            raise InputError(f"this is no schema to hold a value against: {_why(error)}") from error

    def violations(self, value: Value) -> Iterator[tuple[Path, str]]:
        """Yield what a value does not fit, by path, and never the value itself."""
        try:
            for found in self._validator.iter_errors(_seen(value)):
                for error in _precisely(found):
                    yield tuple(error.absolute_path), _told(error)
        except (*self._library.faults, RecursionError, DecimalException) as error:
            yield (), f"can't be held against the schema: {_why(error)}"

    def _require_local(self, schema: Schema) -> None:
        """Refuse references that lead nowhere, or out of the schema."""
        for reference in _references(schema):
            if not reference.startswith("#"):
                raise ValueError(f"the reference {reference!r} leads out of it")
            self._library.look_up(schema, reference)


class _Library:
    """The parts of ``jsonschema`` in use, set up as the room's docstring says."""

    def __init__(self) -> None:
        import jsonschema  # type: ignore[import-untyped,import-not-found,unused-ignore]
        import referencing  # type: ignore[import-not-found,unused-ignore]
        import referencing.jsonschema  # type: ignore[import-not-found,unused-ignore]

        draft = jsonschema.Draft202012Validator
        formats = jsonschema.FormatChecker()
        formats.checks("date-time")(_is_date_time)
        formats.checks("regex")(_is_pattern)
        formats.checkers = {name: formats.checkers[name] for name in FORMATS}
        types = draft.TYPE_CHECKER.redefine("number", _is_number).redefine("integer", _is_integer)
        self._extended = jsonschema.validators.extend(
            draft,
            {
                "additionalProperties": _additional_properties,
                "multipleOf": _multiple_of,
                "pattern": _pattern,
                "patternProperties": _pattern_properties,
            },
            type_checker=types,
            format_checker=formats,
        )
        self._formats = formats
        self._registry = referencing.Registry()
        self._resource_of = referencing.jsonschema.DRAFT202012.create_resource
        self._draft = draft
        self.faults = (
            jsonschema.SchemaError,
            jsonschema.exceptions.UnknownType,
            referencing.exceptions.Unresolvable,
        )

    def check_schema(self, schema: Schema) -> None:
        """Refuse what is no schema; patterns are looked at apart."""
        self._draft.check_schema(schema, format_checker=None)

    def validator(self, schema: Schema) -> Any:
        """Return what holds values against a schema; its registry is empty and fetches nothing."""
        return self._extended(schema, registry=self._registry, format_checker=self._formats)

    def look_up(self, schema: Schema, reference: str) -> None:
        """Follow a reference within a schema."""
        name = str(schema.get("$id", ""))
        resource = self._resource_of(schema)
        self._registry.with_resource(name, resource).resolver(name).lookup(reference)


@cache
def _library() -> _Library:
    try:
        return _Library()
    except ImportError as error:
        raise InputError('schemas need: pip install "statecore[schema]"') from error


def _seen(value: Value) -> Any:
    """Return a value as a schema sees it."""
    if isinstance(value, dict):
        return {key: _seen(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_seen(item) for item in value]
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        return value if value.is_finite() else str(value)
    if isinstance(value, datetime):
        offset = value.utcoffset() or timedelta()
        odd = offset % timedelta(minutes=1)  # RFC 3339 has no seconds in its offsets
        return (value.astimezone(UTC) if odd else value).isoformat()
    if isinstance(value, UUID):
        return str(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _with_digits(schema: Any) -> Any:
    """Return a schema whose fractions are compared by their digits, as those of values are."""
    if isinstance(schema, Mapping):
        return {key: _with_digits(item) for key, item in schema.items()}
    if isinstance(schema, list):
        return [_with_digits(item) for item in schema]
    return Decimal(repr(schema)) if isinstance(schema, float) else schema


def _require_json(schema: Schema) -> None:
    """Refuse what JSON can't say: a schema is to be read by others, too."""
    json.dumps(schema, allow_nan=False, default=_no_json)


def _no_json(part: object) -> None:
    raise ValueError(f"{type(part).__name__} is no JSON")


def _require_patterns(schema: Schema) -> None:
    """Refuse patterns that the engine does not know, or that would be given to another one."""
    keywords: set[str] = set()
    for part in _maps(schema):
        keywords |= part.keys()
        named = part.get("patternProperties")
        patterns = [*named] if isinstance(named, Mapping) else []
        for pattern in [*patterns, part.get("pattern")]:
            if not _is_pattern(pattern):
                raise ValueError(
                    f"{pattern!r} is no pattern, or too large, or looks around or back"
                )
    if {"patternProperties", "unevaluatedProperties"} <= keywords:
        raise ValueError("patternProperties and unevaluatedProperties don't go together")


def _references(schema: Schema) -> Iterator[str]:
    for part in _maps(schema):
        for name in ("$ref", "$dynamicRef"):
            if isinstance(part.get(name), str):
                yield part[name]


def _maps(part: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every map in a schema, itself first."""
    if isinstance(part, Mapping):
        yield part
        for inner in part.values():
            yield from _maps(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _maps(inner)


def _is_number(_: object, instance: object) -> bool:
    return type(instance) in (int, Decimal)


def _is_integer(_: object, instance: object) -> bool:
    if isinstance(instance, Decimal):
        return instance == instance.to_integral_value(context=_DIGITS)
    return type(instance) is int


def _is_date_time(instance: object) -> bool:
    if not isinstance(instance, str):
        return True
    try:
        return bool(_DATE_TIME.fullmatch(instance) and datetime.fromisoformat(instance))
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a pattern is found anywhere in a text."""
    from pydantic_core import SchemaValidator, core_schema

    found = core_schema.str_schema(pattern=pattern, regex_engine="rust-regex", strict=True)
    return SchemaValidator(found).isinstance_python


def _is_pattern(instance: object) -> bool:
    from pydantic_core import SchemaError

    if not isinstance(instance, str):
        return True
    try:
        return callable(_matcher(instance))
    except SchemaError:
        return False


def _pattern(validator: Any, pattern: str, instance: Any, _: Schema) -> Iterator[Exception]:
    import jsonschema

    if validator.is_type(instance, "string") and not _matcher(pattern)(instance):
        yield jsonschema.ValidationError("")


def _pattern_properties(
    validator: Any, patterns: Schema, instance: Any, _: Schema
) -> Iterator[Exception]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, schema in patterns.items():
        for name in filter(_matcher(pattern), instance):
            yield from validator.descend(instance[name], schema, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, allowed: Any, instance: Any, schema: Schema
) -> Iterator[Exception]:
    import jsonschema

    if not validator.is_type(instance, "object"):
        return
    matchers = [_matcher(pattern) for pattern in schema.get("patternProperties", ())]
    for name in instance:
        is_known = name in schema.get("properties", ()) or any(match(name) for match in matchers)
        if not is_known and allowed is False:  # of which the library would tell no path
            yield jsonschema.ValidationError("", validator=None, path=(name,))
        elif not is_known:
            yield from validator.descend(instance[name], allowed, path=name)


def _multiple_of(validator: Any, step: Any, instance: Any, _: Schema) -> Iterator[Exception]:
    import jsonschema

    if not validator.is_type(instance, "number"):
        return
    try:
        rest = _DIGITS.remainder(Decimal(instance), Decimal(step))
    except InvalidOperation:  # too far apart to tell
        rest = Decimal(1)
    if rest:
        yield jsonschema.ValidationError(f"is no multiple of {step}")


def _precisely(error: Any) -> Iterator[Any]:
    """Yield what is wrong within the one alternative that was meant, where only one can be.

    One that wants another type was not meant: of a map or nothing, the map is meant by a map.
    """
    alternatives: dict[Any, list[Any]] = {}
    for inner in error.context if error.validator in ("anyOf", "oneOf") else ():
        alternatives.setdefault(inner.schema_path[0], []).append(inner)
    meant = [
        found
        for found in alternatives.values()
        if not any(each.validator == "type" and not each.relative_path for each in found)
    ]
    if len(meant) != 1:
        yield error
        return
    for inner in meant[0]:
        yield from _precisely(inner)


def _told(error: Any) -> str:
    """Return what a value does not fit; what the library says may show the value."""
    if error.validator is None:
        return "is not allowed"
    if error.validator in _NAMES_ONLY:
        return _shortened(str(error.message), _NAMED_MAX)
    expected = json.dumps(error.validator_value, default=float)
    return f"does not fit {error.validator}: {_shortened(expected, _SHOWN_MAX)}"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _why(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it refers to itself without end"
    return _shortened(str(getattr(error, "message", None) or error).splitlines()[0], _NAMED_MAX)
