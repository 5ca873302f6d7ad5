"""JSON that keeps types: what a value looks like on the command line, and back.

JSON has no word for some types, so they are written as an object of one field, and read as such:

    {"$datetime": "2026-11-22T12:00:00+00:00"}    ISO 8601, with a zone
    {"$decimal": "0.10"}                          the digits as they are
    {"$uuid": "8f14e45f-..."}
    {"$bytes": "AP8="}                            base64 (RFC 4648)
    {"$float": "nan"}                             also "inf" and "-inf"
    {"$map": {"$uuid": "just text"}}              a map that would be taken for one of these

Everything else is plain JSON. Integers have no limit there, so they are written as they are.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

from statecore import InputError

_MAP: Final = "$map"


def to_json(value: Any) -> Any:
    """Return what stands for a value in JSON."""
    if isinstance(value, dict):
        plain = {key: to_json(item) for key, item in value.items()}
        return {_MAP: plain} if _is_form(value) else plain
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
    return value


def from_json(data: Any) -> Any:
    """Return the value that JSON stands for.

    Raises:
        InputError: a form does not hold what it says.
    """
    if isinstance(data, list):
        return [from_json(item) for item in data]
    if not isinstance(data, dict):
        return data
    if not _is_form(data):
        return {key: from_json(item) for key, item in data.items()}
    ((form, content),) = data.items()
    if form == _MAP and isinstance(content, dict):
        return {key: from_json(item) for key, item in content.items()}
    try:
        return _READ[form](content)
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise InputError(f"{json.dumps(data)[:80]} does not hold what {form} says") from error


def parse(text: str) -> Any:
    """Return the value that a text of JSON stands for.

    Raises:
        InputError: it is not JSON, or not for a value; says how to write a text.
    """
    try:
        data = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise InputError("the value is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"the value is not JSON ({error}); {_advice(text)}") from error
    return from_json(data)


def _is_form(data: dict[str, Any]) -> bool:
    return len(data) == 1 and (_MAP in data or not _READ.keys().isdisjoint(data))


def _advice(text: str) -> str:
    word = text.strip()
    if not word or len(word) > 60 or word[0] in "{[\"'":
        return """a text is '"..."', with both quotes, a map '{"key": 1}', a list '[1, 2]'"""
    quoted = json.dumps(word, ensure_ascii=False).replace("'", "'\\''")
    return f"a text needs quotes that the shell leaves alone: '{quoted}'"


def _refuse(word: str) -> Any:
    raise ValueError(f'{word} is written {{"$float": "{word.lower().replace("inity", "")}"}}')


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large for a float")
    return number


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


_READ: Final[dict[str, Callable[[str], Any]]] = {
    "$bytes": _bytes,
    "$datetime": datetime.fromisoformat,
    "$decimal": _decimal,
    "$float": _special_float,
    "$uuid": UUID,
}
