"""Interchange: states and changes as plain data and JSON, for programs that are not Python's.

- ``state_to_json`` and ``state_from_json``: a whole state, every type kept
- ``change_to_data`` and ``change_from_data``: a change to inspect, or to send
- ``to_json_patch``, ``from_json_patch``: JSON Patch, RFC 6902; ``from_merge_patch``: RFC 7396
- ``to_json`` and ``from_json``: single values (``statecore/typed_json.py`` lists the forms)

Pure: what is read here becomes a change or a value, and is recorded like any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

from statecore.change import Change, Patch
from statecore.errors import InputError
from statecore.json_document import PatchFailed
from statecore.json_patch import from_json_patch, from_merge_patch, to_json_patch
from statecore.operations import (
    REMOVE,
    Add,
    Extend,
    Operation,
    Put,
    Remove,
    Splice,
    Steps,
    combine,
)
from statecore.packed import join_list, list_items
from statecore.typed_json import freeze, from_json, loads, shallow, thaw_exposed, to_json
from statecore.values import Value, check_key, pack

__all__ = [
    "PatchFailed",
    "change_from_data",
    "change_to_data",
    "from_json",
    "from_json_patch",
    "from_merge_patch",
    "state_from_json",
    "state_to_json",
    "to_json",
    "to_json_patch",
]


def state_to_json(state: Mapping[str, Value]) -> str:
    """Return a state as the text of a JSON object, from which ``state_from_json`` makes it again.

    The keys stand as they are, the values in the form that keeps their type.
    """
    return json.dumps({key: to_json(state[key]) for key in state})


def state_from_json(text: str) -> dict[str, Value]:
    """Return the state that a text of JSON stands for.

    Raises:
        InputError: it is not JSON, or not of a state; says where.
    """
    try:
        data = loads(text)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"the state is not JSON ({error})") from error
    if not isinstance(data, dict):
        raise InputError(f"a state is a map, not {type(data).__name__}")
    state = {key: from_json(value) for key, value in data.items()}
    for key, value in state.items():
        check_key(key)
        freeze(value, (key,))  # refuses what could not be recorded
    return state


def change_to_data(change: Change) -> dict[str, Any]:
    """Return a change as plain data, with every value in full.

    ``{"cleared": bool, "operations": [...]}``, with a map for each operation: its ``key``, the name
    of the ``operation``, and what belongs to that:

    - ``put``: ``value``; ``remove``: nothing
    - ``extend``: ``items``; ``splice``: ``at``, ``delete``, ``items``
    - ``add``: ``amounts``, added in turn
    - ``patch``: ``change``, again such a map, of the fields
    - ``steps``: ``steps``, operations without a key, done in turn

    Values are of their own types, and fresh; ``to_json`` makes JSON of it all. One in conflict
    shows as ``Unresolved``.
    """
    operations = [
        {"key": key, **_operation_data(operation)} for key, operation in change.operations.items()
    ]
    return {"cleared": change.cleared, "operations": operations}


def _operation_data(operation: Operation) -> dict[str, Any]:
    match operation:
        case Put(packed):
            return {"operation": "put", "value": thaw_exposed(packed)}
        case Remove():
            return {"operation": "remove"}
        case Extend(count, items):
            return {"operation": "extend", "items": thaw_exposed(join_list(count, items))}
        case Splice(at, delete, count, items):
            values = thaw_exposed(join_list(count, items))
            return {"operation": "splice", "at": at, "delete": delete, "items": values}
        case Add(amounts):
            return {"operation": "add", "amounts": list(amounts)}
        case Patch(change):
            return {"operation": "patch", "change": change_to_data(change)}
        case Steps(operations):
            return {"operation": "steps", "steps": [_operation_data(each) for each in operations]}
    raise AssertionError(operation)  # there are no others


@shallow()
def change_from_data(data: Mapping[str, Any]) -> Change:
    """Return the change that ``change_to_data`` made such data of.

    Raises:
        InputError: it is no change, or one that can't be recorded; says where.
    """
    change = _change(data)
    for key in change.operations:
        check_key(key)
    return change


def _change(data: object) -> Change:
    match data:
        case {"cleared": bool(cleared), "operations": list(steps), **rest} if not rest:
            operations: dict[str, Operation] = {}
            for step in steps:
                key = step.get("key") if isinstance(step, dict) else None
                if not isinstance(key, str) or key in operations:
                    raise InputError(f"each operation has a key of its own, not {_glance(key)}")
                pack(key, (key,))  # refuses a lone surrogate
                parts = {name: part for name, part in step.items() if name != "key"}
                operations[key] = _operation(parts, key)
            return Change(operations, cleared)
    raise InputError(f'a change is {{"cleared": ..., "operations": [...]}}, not {_glance(data)}')


def _operation(data: object, key: str) -> Operation:
    match data:
        case {"operation": "put", "value": value, **rest} if not rest:
            return Put(freeze(value, (key,)))
        case {"operation": "remove", **rest} if not rest:
            return REMOVE
        case {"operation": "extend", "items": list(items), **rest} if not rest:
            return Extend(*list_items(freeze(items, (key,))))
        case {"operation": "splice", "at": at, "delete": delete, "items": list(items), **rest} if (
            not rest and type(at) is type(delete) is int
        ):
            place = Splice.by(at, delete, [])  # refuses what is negative
            return Splice(place.at, place.delete, *list_items(freeze(items, (key,))))
        case {"operation": "add", "amounts": [_, *_] as amounts, **rest} if not rest:
            return _in_turn(map(Add.by, amounts))
        case {"operation": "patch", "change": change, **rest} if not rest:
            return Patch(_change(change))
        case {"operation": "steps", "steps": [_, *_] as steps, **rest} if not rest:
            return _in_turn(_operation(step, key) for step in steps)
    raise InputError(f"{key}: not an operation with just what belongs to it: {_glance(data)}")


def _in_turn(operations: Iterable[Operation]) -> Operation:
    return reduce(combine, operations)


def _glance(data: object) -> str:
    text = repr(data)
    return text if len(text) <= 80 else f"{text[:77]}..."
