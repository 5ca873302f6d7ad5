"""Places within values, as one types and reads them: ``days.3.morning`` or ``/days/3/morning``.

The second form is a JSON Pointer (RFC 6901), for keys with a dot in their name. In both, a number
is an index where the value has a list, and else the key of a map.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from statecore import BlockingManager, InputError, NotFound, Point
from statecore.errors import Path
from statecore.json_document import escape

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,17}")


def pointer(path: Iterable[str | int]) -> str:
    """Return a path as a JSON Pointer."""
    return "".join(f"/{escape(str(place))}" for place in path)


def place_among(paths: Iterable[Path], key: str, text: str | None) -> Path:
    """Return the path in a key's value that a text names, of those there are."""
    wanted = (key, *_tokens(text))
    for path in paths:
        if tuple(map(str, path)) == wanted:
            return path[1:]
    raise InputError(f"nothing is in conflict at {key}{pointer(wanted[1:])}")


def place_in(agent: BlockingManager, key: str, text: str | None, at: Point | None) -> Path:
    """Return the path in a key's value that a text names: as it was when it was last there.

    Raises:
        NotFound: it never was.
    """
    tokens = _tokens(text)
    last = agent.version() if at is None else at
    for version in (last, *agent.history(key, until=at, newest_first=True).versions()):
        path = _fitted(agent.value_at(key, version, _NOTHING), tokens)
        if path is not None:
            return path
    raise NotFound(f"{agent.agent_id} never had {key}{pointer(tokens)}")


_NOTHING: Final = object()


def _tokens(text: str | None) -> list[str]:
    if not text:
        return []
    if text.startswith("/"):
        return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]
    return text.split(".")


def _fitted(value: Any, tokens: list[str]) -> Path | None:
    """Return the path of tokens into a value; ``None`` where nothing is there."""
    if value is _NOTHING:
        return None
    path: list[str | int] = []
    for token in tokens:
        if isinstance(value, dict) and token in value:
            path.append(token)
            value = value[token]
        elif isinstance(value, list) and _INDEX.fullmatch(token) and int(token) < len(value):
            path.append(int(token))
            value = value[int(token)]
        else:
            return None
    return tuple(path)
