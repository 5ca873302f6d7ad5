"""A JSON document that the operations of JSON Patch (RFC 6902) are done to. Pure.

Only JSON here, and JSON Pointers (RFC 6901) into it; what the document is of, others know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from statecore.errors import InputError, LimitExceeded

Json: TypeAlias = Any
"""What ``json.dumps`` takes: maps with string keys, lists, texts, numbers, booleans, ``None``."""

_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_COPIED_MAX: Final = 1 << 20  # values; each copy of a copy may double what there is


class PatchFailed(InputError):
    """A JSON Patch that is none, does not fit the state, or whose test failed. Nothing was done."""

    def __init__(self, number: int, pointer: Json, why: str) -> None:
        super().__init__(f"operation {number} of the patch, at {pointer!r}: {why}")
        self.number = number
        """Which operation it was, counted from 0."""
        self.pointer = pointer
        """Where it was to be done."""


class Step(NamedTuple):
    """One operation of a patch. Tokens begin with ``""``, which stands for the whole document."""

    number: int
    verb: str
    pointer: str
    path: list[str]
    source: list[str]
    value: Json

    @classmethod
    def read(cls, number: int, step: Mapping[str, Json]) -> Step:
        """Return the operation that a step of a patch says.

        Raises:
            PatchFailed: it says none.
        """
        if not isinstance(step, Mapping):
            raise PatchFailed(number, None, "an operation is a map")
        verb, pointer = step.get("op"), step.get("path")
        needs = _NEEDS.get(verb) if isinstance(verb, str) else None
        if needs is None:
            raise PatchFailed(number, pointer, f"operations are {', '.join(_NEEDS)}, not {verb!r}")
        missing = [name for name in ("path", *needs) if name not in step]
        if missing:
            raise PatchFailed(number, pointer, f"{verb} needs {missing[0]!r}")
        source = step["from"] if "from" in needs else ""
        path, origin = (_tokens(number, each) for each in (pointer, source))
        return cls(number, str(verb), str(pointer), path, origin, step.get("value"))

    def members(self) -> Iterator[str | None]:
        """Yield the names in the document that it looks at; ``None`` stands for all of them."""
        for tokens in (self.path, self.source) if "from" in _NEEDS[self.verb] else (self.path,):
            yield tokens[1] if len(tokens) > 1 else None

    def failed(self, why: str) -> PatchFailed:
        """Return the error that this can't be done."""
        return PatchFailed(self.number, self.pointer, why)


def _tokens(number: int, pointer: Json) -> list[str]:
    """Return the parts of a pointer; ``~1`` first, or ``~01`` would be read as a slash."""
    if not isinstance(pointer, str) or (pointer and pointer[0] != "/"):
        raise PatchFailed(number, pointer, "a pointer is a text that begins with '/', or ''")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")]


class Document:
    """A document that steps are done to."""

    def __init__(self, data: dict[str, Json]) -> None:
        self.root: dict[str, Json] = {"": data}
        self._copied = 0

    def take(self, step: Step) -> None:
        """Do one step."""
        _DO[step.verb](self, step)

    def add(self, step: Step) -> None:
        self._put(step, self._fresh(step.value))

    def remove(self, step: Step) -> None:
        self._take_out(step, step.path)

    def replace(self, step: Step) -> None:
        self._find(step, step.path)
        holder, last = self._find(step, step.path[:-1]), step.path[-1]
        place = last if isinstance(holder, dict) else int(last)
        holder[place] = self._fresh(step.value)

    def move(self, step: Step) -> None:
        if step.path != step.source and step.path[: len(step.source)] == step.source:
            raise step.failed("a value can't be moved into itself")
        self._put(step, self._take_out(step, step.source))

    def copy(self, step: Step) -> None:
        self._put(step, self._fresh(self._find(step, step.source), counted=True))

    def test(self, step: Step) -> None:
        if not _equal(self._find(step, step.path), step.value):
            raise step.failed("the test failed: another value is there")

    def _find(self, step: Step, tokens: list[str]) -> Any:
        """Return what is at a place."""
        found: Any = self.root
        for depth, token in enumerate(tokens):
            if isinstance(found, dict) and token in found:
                found = found[token]
            elif isinstance(found, list) and _is_index(token, len(found) - 1):
                found = found[int(token)]
            else:
                raise step.failed(f"nothing is at {_spell(tokens[: depth + 1])!r}")
        return found

    def _put(self, step: Step, value: Json) -> None:
        holder, last = self._find(step, step.path[:-1]), step.path[-1]
        if isinstance(holder, dict):
            holder[last] = value
        elif isinstance(holder, list) and (last == "-" or _is_index(last, len(holder))):
            holder.insert(len(holder) if last == "-" else int(last), value)
        else:
            raise step.failed(f"nothing can be put at {_spell(step.path)!r}")

    def _take_out(self, step: Step, tokens: list[str]) -> Json:
        self._find(step, tokens)
        holder, last = self._find(step, tokens[:-1]), tokens[-1]
        return holder.pop(last if isinstance(holder, dict) else int(last))

    def _fresh(self, value: Json, *, counted: bool = False) -> Json:
        """Return a copy of a value, so that what is done to it later is done to it alone."""
        self._copied += counted
        if self._copied > _COPIED_MAX:
            raise LimitExceeded("what the patch copies", self._copied, _COPIED_MAX, "values")
        if isinstance(value, dict):
            return {key: self._fresh(item, counted=counted) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fresh(item, counted=counted) for item in value]
        return value


_DO: Final[dict[str, Callable[[Document, Step], None]]] = {
    "add": Document.add,
    "remove": Document.remove,
    "replace": Document.replace,
    "move": Document.move,
    "copy": Document.copy,
    "test": Document.test,
}
_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "add": ("value",),
    "remove": (),
    "replace": ("value",),
    "move": ("from",),
    "copy": ("from",),
    "test": ("value",),
}


def escape(name: str) -> str:
    """Return a name as it stands in a pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _is_index(token: str, most: int) -> bool:
    return _INDEX.fullmatch(token) is not None and int(token) <= most


def _spell(tokens: list[str]) -> str:
    return "/".join(map(escape, tokens))


def _equal(left: Json, right: Json) -> bool:
    """Tell whether two pieces of JSON are equal as RFC 6902, section 4.6, means it."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)
