"""Hypothesis strategies: values of every type, states, and changes that fit a state."""

from __future__ import annotations

from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from statecore.change import CLEAR, EMPTY, Change
from statecore.packed import to_bytes
from statecore.values import expose, pack_exposed

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | TEXTS
    | st.binary(max_size=20)
    | st.datetimes(timezones=ZONES)
    | st.decimals()
    | st.uuids()
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(["", "a", "b", "c", "a/b", "~", "naïve"])
SHAPES = (
    st.integers(-5, 5)
    | st.floats(-5, 5)
    | st.decimals(-5, 5, places=1)
    | st.lists(VALUES, max_size=4)
    | st.dictionaries(KEYS, VALUES, max_size=4)
)
STATES = st.dictionaries(KEYS, SHAPES | VALUES, max_size=6)

MISSING = object()

_DECIMALS = st.decimals(-1000, 1000, places=2) | st.decimals(-1000, 1000, places=5)


def numbers_like(value: object) -> st.SearchStrategy[Any]:
    """Numbers that may be added to this one."""
    if type(value) is float:
        return st.floats(allow_nan=False, allow_infinity=False)
    return _DECIMALS if type(value) is Decimal else st.integers()


@st.composite
def changes(
    draw: st.DrawFn, state: dict[str, Any], most: int = 4, *, clears: bool = True
) -> Change:
    """A change of up to ``most`` operations, each of which fits the state it will meet."""
    state = dict(state)
    change = EMPTY
    for _ in range(draw(st.sampled_from(range(most, -1, -1)))):
        if clears and draw(st.sampled_from(range(16))) == 15:
            change, state = change.then(CLEAR), {}
            continue
        key = draw(KEYS)
        step = draw(_operation(key, state.get(key, MISSING)))
        change = change.then(step)
        state = unpack_state(step.apply(pack_exposed_state(state)))
    return change


@st.composite
def _operation(draw: st.DrawFn, key: str, value: Any) -> Change:
    put = st.builds(EMPTY.put, st.just(key), SHAPES | VALUES)
    fitting = [put | st.just(EMPTY.remove(key))]
    if value is MISSING or type(value) is list:
        fitting.append(st.builds(EMPTY.extend, st.just(key), st.lists(VALUES, max_size=3)))
        length = 0 if value is MISSING or type(value) is not list else len(value)
        at = draw(st.integers(0, length))
        delete = draw(st.integers(0, length - at))
        splice = st.builds(
            EMPTY.splice, st.just(key), st.just(at), st.just(delete), st.lists(VALUES, max_size=3)
        )
        fitting.append(splice)
    is_number = type(value) in (int, float) or (type(value) is Decimal and value.is_finite())
    if value is MISSING or is_number:
        fitting.append(st.builds(EMPTY.add, st.just(key), numbers_like(value)))
    if value is MISSING or type(value) is dict:
        fitting.append(
            st.builds(EMPTY.patch, st.just(key), changes({} if value is MISSING else value, most=2))
        )
    return draw(st.one_of(fitting))


def pack_exposed_state(state: dict[str, Any]) -> dict[str, bytes]:
    """A state that ``unpack_state`` returned, packed again."""
    return {key: pack_exposed(value) for key, value in state.items()}


def unpack_state(packed: Any) -> dict[str, Any]:
    """The values of a packed state, conflicts exposed."""
    return {key: expose(to_bytes(value)) for key, value in packed.items()}
