"""Values on the command line: JSON that keeps types, and advice to who writes something else."""

from __future__ import annotations

from typing import Any, Final

from statecore import InputError
from statecore.typed_json import from_json, loads, to_json

__all__ = ["parse", "to_json"]

# It repeats nothing of the value, which may be a secret: what is said here ends up in logs.
_ADVICE: Final = """a text is '"..."', with both quotes, a map '{"key": 1}', a list '[1, 2]'"""


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
        raise InputError(f"the value is not JSON ({error}); {_ADVICE}") from error
    return from_json(data)
