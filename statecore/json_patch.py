"""Changes as JSON Patch (RFC 6902), and out of it; and out of JSON Merge Patch (RFC 7396).

Both speak of a document. That of a state is the one ``state_to_json`` writes, where each value
stands in the form that keeps its type; JSON Pointers (RFC 6901) lead into that. Merge patches are
only read: they can't say that a value is ``None``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from statecore.change import Change, PackedState, Patch
from statecore.diff import diff
from statecore.errors import InputError
from statecore.json_document import Document, Json, Step, escape
from statecore.operations import REMOVE, Extend, Operation, Put, Splice, Steps
from statecore.packed import Packed, is_map, join_list, split_map, to_bytes
from statecore.typed_json import freeze, from_json, is_form, shallow, thaw_exposed, to_json
from statecore.values import Value, check_key, pack

# A change as a patch


def to_json_patch(change: Change, before: Mapping[str, Value]) -> list[dict[str, Json]]:
    """Return the JSON Patch that does to a state's document what a change does to the state.

    Args:
        change: what is to be done.
        before: the state it meets, at least of the keys that it touches.

    Raises:
        OperationMismatch: the change does not fit the state; names the key.
    """
    if change.cleared:
        return [{"op": "replace", "path": "", "value": document(change.apply({}))}]
    touched = {key: freeze(before[key], (key,)) for key in change.operations if key in before}
    change.apply(touched)  # refuses at once what does not fit
    return [
        step
        for key, operation in change.operations.items()
        for step in _steps(f"/{escape(key)}", touched.get(key), operation)
    ]


def document(state: PackedState) -> dict[str, Json]:
    """Return the document of a state."""
    return {key: to_json(thaw_exposed(packed)) for key, packed in state.items()}


def _steps(pointer: str, old: Packed | None, operation: Operation) -> Iterator[dict[str, Json]]:
    if old is not None:
        match operation:
            case Steps(operations):
                for each in operations:
                    yield from _steps(pointer, old, each)
                    old = each.apply(old)
                return
            case Extend(count, items):
                for item in thaw_exposed(join_list(count, items)):
                    yield {"op": "add", "path": f"{pointer}/-", "value": to_json(item)}
                return
            case Splice():
                yield from _splice(pointer, operation)
                return
            case Patch(change) if _is_field_by_field(to_bytes(old), change):
                fields = split_map(to_bytes(old))
                for name, inner in change.operations.items():
                    yield from _steps(f"{pointer}/{escape(name)}", fields.get(name), inner)
                return
    new = operation.apply(old)
    if new is not None:
        value = to_json(thaw_exposed(new))
        verb = "add" if old is None else "replace"
        yield {"op": verb, "path": pointer, "value": value}
    elif old is not None:
        yield {"op": "remove", "path": pointer}


def _splice(pointer: str, splice: Splice) -> Iterator[dict[str, Json]]:
    items = thaw_exposed(join_list(splice.count, splice.items))
    for number, item in enumerate(items):
        place = f"{pointer}/{splice.at + number}"
        verb = "replace" if number < splice.delete else "add"
        yield {"op": verb, "path": place, "value": to_json(item)}
    for _ in range(splice.delete - splice.count):
        yield {"op": "remove", "path": f"{pointer}/{splice.at + splice.count}"}


def _is_field_by_field(old: bytes, change: Change) -> bool:
    """Tell whether a map stands as itself in the document, before and after a change."""
    if change.cleared or not is_map(old):
        return False
    fields = split_map(old)
    return not is_form(fields) and not is_form(change.apply(fields))


# A patch as a change


@shallow()
def from_json_patch(patch: Iterable[Mapping[str, Json]], state: Mapping[str, Value]) -> Change:
    """Return the change that does to a state what a JSON Patch does to its document.

    It is the difference that the patch makes in the end: what it sets to what it was already is
    no part of it. Numbers in a ``test`` are compared by value, as the RFC says: 1 is 1.0.

    Raises:
        PatchFailed: an operation is none, leads nowhere, or its test failed.
        InputError: what comes of it is no state.
    """
    steps = [Step.read(number, step) for number, step in enumerate(patch)]
    keys = {key for step in steps for key in step.members()}
    touched = {key: state[key] for key in state if key in keys or None in keys}
    packed = {key: freeze(value, (key,)) for key, value in touched.items()}
    patched = Document(document(packed))
    for step in steps:
        patched.take(step)
    return diff(packed, _as_state(patched.root.get("")))


def _as_state(data: Json) -> dict[str, Packed]:
    if not isinstance(data, dict):
        raise InputError("a state is a map; the patch puts something else in its place")
    for key in data:
        check_key(key)
    return {key: freeze(from_json(value), (key,)) for key, value in data.items()}


# A merge patch as a change


@shallow()
def from_merge_patch(patch: Mapping[str, Json], state: Mapping[str, Value]) -> Change:
    """Return the change that does to a state what a JSON Merge Patch does to its document.

    Fields set to ``null`` are removed, maps are merged field by field, and everything else, lists
    and values in the form of their type too, takes the place of what was there.

    Raises:
        InputError: the patch is not a map, or brings in what can't be recorded.
    """
    if not isinstance(patch, Mapping):
        raise InputError(f"a merge patch of a state is a map, not {type(patch).__name__}")
    for key in patch:
        check_key(key)
    return _merged(patch, state)


def _merged(patch: Mapping[str, Json], target: Mapping[str, Value]) -> Change:
    operations: dict[str, Operation] = {}
    for key, value in patch.items():
        pack(key)  # refuses a lone surrogate
        there = target.get(key)
        if value is None:
            operations[key] = REMOVE
        elif _is_open(value) and isinstance(there, dict):
            operations[key] = Patch(_merged(value, there))
        else:
            operations[key] = Put(freeze(from_json(_without_nulls(value)), (key,)))
    return Change(operations)


def _is_open(value: Json) -> bool:
    """Tell whether a value is a map to be merged field by field."""
    return isinstance(value, dict) and not is_form(value)


def _without_nulls(value: Json) -> Json:
    """Return what a merge patch makes of nothing."""
    if not _is_open(value):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}
