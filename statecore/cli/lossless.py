"""Values on the command line: JSON that keeps types, and advice to who writes something else."""

from __future__ import annotations

import json
from typing import Any

from statecore import InputError
from statecore.typed_json import from_json, loads, to_json

__all__ = ["parse", "to_json"]


def parse(text: str) -> Any:
    """Return the value that a text of JSON stands for.

    Raises:
        InputError: it is not JSON, or not for a value; says how to write a text.
    """
    try:
        data = loads(text)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"the value is not JSON ({error}); {_advice(text)}") from error
    return from_json(data)


def _advice(text: str) -> str:
    word = text.strip()
    if not word or len(word) > 60 or word[0] in "{[\"'":
        return """a text is '"..."', with both quotes, a map '{"key": 1}', a list '[1, 2]'"""
    quoted = json.dumps(word, ensure_ascii=False).replace("'", "'\\''")
    return f"a text needs quotes that the shell leaves alone: '{quoted}'"
