"""JSON that keeps types: what stands for a value in JSON, and back.

JSON has no word for some types, so they are written as an object of one field, and read as such:

    {"$datetime": "2026-11-22T12:00:00+00:00"}    ISO 8601, with a zone
    {"$decimal": "0.10"}                          the digits as they are
    {"$uuid": "8f14e45f-..."}
    {"$bytes": "AP8="}                            base64 (RFC 4648)
    {"$float": "nan"}                             also "inf" and "-inf"
    {"$map": {"$uuid": "just text"}}              a map that would be taken for one of these
    {"$conflict": {"sides": [{"value": 1}, {}], "bases": [{"value": 0}]}}

The last one is an ``Unresolved``: what sides made of a value, and what they started from; ``{}``
where the key was not there. Everything else is plain JSON. Integers have no limit there, so they
are written as they are.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from statecore.conflict import Term, sum_terms
from statecore.errors import InputError, Path
from statecore.json_document import Json
from statecore.packed import Packed, to_bytes
from statecore.values import Unresolved, Value, expose, pack, pack_exposed

_MAP: Final = "$map"


@contextmanager
def shallow() -> Iterator[None]:
    """Refuse what is nested too deeply to be looked at.

    Raises:
        InputError: it is.
    """
    try:
        yield
    except RecursionError as error:
        raise InputError("the value is nested too deeply") from error


def to_json(value: Value) -> Json:
    """Return what stands for a value in JSON."""
    if isinstance(value, dict):
        plain = {key: to_json(item) for key, item in value.items()}
        return {_MAP: plain} if is_form(value) else plain
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, datetime):
        return {"$datetime": value.isoformat()}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if isinstance(value, UUID):
        return {"$uuid": str(value)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, Unresolved):
        sides, bases = map(_terms, (value.adds, value.removes))
        return {"$conflict": {"sides": sides, "bases": bases}}
    return value


@shallow()
def from_json(data: Json) -> Value:
    """Return the value that JSON stands for. Whether it can be recorded shows when it is.

    Raises:
        InputError: a form does not hold what it says.
    """
    return _read(data)


def loads(text: str) -> Json:
    """Return the JSON that a text holds, and nothing that only Python takes for JSON.

    Raises:
        ValueError: it is not JSON; says why.
        InputError: it is nested too deeply.
    """
    with shallow():
        try:
            return json.loads(
                text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once
            )
        except ValueError as error:
            if "set_int_max_str_digits" in str(error):  # Python's advice, and no user's business
                raise ValueError("a number has too many digits") from error
            raise


def is_form(data: dict[str, Any]) -> bool:
    """Tell whether a map has the shape of a form."""
    return len(data) == 1 and (_MAP in data or not _FORMS.keys().isdisjoint(data))


def thaw_exposed(packed: Packed) -> Value:
    """Unpack a fresh value in which conflicts show as ``Unresolved``."""
    return expose(to_bytes(packed))


def freeze(value: Value, path: Path = ()) -> bytes:
    """Pack a value in which conflicts may show as ``Unresolved``.

    Raises:
        UnsupportedValue, LimitExceeded: it can't be recorded; names the path.
    """
    plain = _provisional(value)
    packed = pack(plain, path)
    return packed if plain is value else pack_exposed(value)


def _provisional(value: Value) -> Value:
    """Return a value without its conflicts, which are packed and checked already."""
    if isinstance(value, Unresolved):
        return None
    if isinstance(value, dict):
        fields = {key: _provisional(item) for key, item in value.items()}
        return value if all(fields[key] is value[key] for key in fields) else fields
    if isinstance(value, list):
        items = [_provisional(item) for item in value]
        return value if all(map(lambda a, b: a is b, items, value)) else items
    return value


def _terms(terms: tuple[bytes | None, ...]) -> list[Json]:
    return [{} if term is None else {"value": to_json(expose(term))} for term in terms]


def _read(data: Json) -> Value:
    if isinstance(data, list):
        return [_read(item) for item in data]
    if not isinstance(data, dict):
        return data
    if not is_form(data):
        return {key: _read(item) for key, item in data.items()}
    ((form, content),) = data.items()
    if form == _MAP and isinstance(content, dict):
        return {key: _read(item) for key, item in content.items()}
    try:
        return _FORMS[form](content)
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise InputError(f"a value does not hold what {form} says") from error


def _refuse(word: str) -> Any:
    raise ValueError(f'{word} is written {{"$float": "{word.lower().replace("inity", "")}"}}')


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large for a float")
    return number


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """Return a map, unless one of two values of the same key would be lost."""
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a key stands twice in one map")
    return data


def _special_float(text: str) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError
    return float(text)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _decimal(text: str) -> Decimal:
    if not isinstance(text, str):  # a number in JSON has lost digits by now
        raise TypeError
    return Decimal(text)


def _conflict(content: Json) -> Unresolved:
    sides, bases = ([_term(term) for term in content[name]] for name in ("sides", "bases"))
    if content.keys() != {"sides", "bases"} or len(sides) != len(bases) + 1:
        raise ValueError
    packed = sum_terms(sides, bases)  # in canonical order, so that it merges like the original
    found = None if packed is None else thaw_exposed(packed)
    if not isinstance(found, Unresolved):
        raise TypeError
    return found


def _term(term: Json) -> Term:
    if not term and isinstance(term, dict):
        return None
    if term.keys() != {"value"}:
        raise ValueError
    return freeze(_read(term["value"]))


_FORMS: Final[dict[str, Callable[[Any], Any]]] = {
    "$bytes": _bytes,
    "$conflict": _conflict,
    "$datetime": datetime.fromisoformat,
    "$decimal": _decimal,
    "$float": _special_float,
    "$uuid": UUID,
}
