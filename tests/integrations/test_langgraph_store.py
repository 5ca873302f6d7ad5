"""The LangGraph store: LangGraph's contract, on both faces, and what goes beyond it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import statecore
from statecore.errors import (
    InputError,
    LimitExceeded,
    StoreClosed,
    UnsupportedValue,
    VersionNotFound,
    WrongKey,
)
from tests.conftest import KEY, Clock, environment

base = pytest.importorskip("langgraph.store.base", reason="LangGraph is not installed")

from langgraph.store.memory import InMemoryStore  # noqa: E402 - after the skip, as what follows

from statecore.integrations.langgraph import (  # noqa: E402
    keys as langgraph_keys,
)
from statecore.integrations.langgraph import (  # noqa: E402
    store as langgraph_store,
)
from statecore.integrations.langgraph import (  # noqa: E402
    vectors as langgraph_vectors,
)
from statecore.integrations.langgraph.store import StatecoreStore  # noqa: E402

FACES = ("plain over blocking", "plain over async", "tasks over blocking", "tasks over async")
MINUTE = 60.0


@pytest.fixture
def store() -> Iterator[StatecoreStore]:
    with StatecoreStore.from_conn_string(":memory:") as opened:
        yield opened


def batches(face: str, program: list[list[Any]], **options: Any) -> list[list[Any]]:
    """Run batches on a new store, and return what each answers."""

    async def on_async() -> list[list[Any]]:
        async with statecore.open() as opened:
            items = StatecoreStore(opened, **options)
            if face.startswith("plain"):
                return [await asyncio.to_thread(items.batch, ops) for ops in program]
            return [await items.abatch(ops) for ops in program]

    if face.endswith("async"):
        return asyncio.run(on_async())
    with statecore.open() as opened:
        items = StatecoreStore(opened, **options)
        if face.startswith("plain"):
            return [items.batch(ops) for ops in program]

        async def on_blocking() -> list[list[Any]]:
            return [await items.abatch(ops) for ops in program]

        return asyncio.run(on_blocking())


# The contract, beside LangGraph's own store in memory

LABELS = st.sampled_from(["a", "b", "é", 'quo"te', "a,b", "back\\slash"])
NAMESPACES = st.sampled_from(
    [("a",), ("b",), ("a", "b"), ("a", "é"), ('quo"te', "a,b"), ("b", "a", "back\\slash")]
)
KEYS = st.sampled_from(["k", "a", 'x","y', "", "日本"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "y", 0.5])
VALUES = st.fixed_dictionaries(
    {"n": st.integers(-3, 3) | st.sampled_from([0.5, -1.5])},
    optional={"tag": SCALARS, "list": st.lists(SCALARS, max_size=2), "map": st.just({"x": [1]})},
)
COMPARED = st.dictionaries(
    st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]),
    st.integers(-3, 3),
    min_size=1,
    max_size=2,
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "n": COMPARED | st.integers(-3, 3),
        "tag": SCALARS | st.fixed_dictionaries({"$ne": SCALARS}),
        "list": st.lists(SCALARS, max_size=2),
        "map": st.just({"x": [1]}) | st.just({"x": {"$eq": [1]}}) | st.just({"y": None}),
    },
)
PATHS = st.lists(LABELS | st.just("*"), max_size=3).map(tuple)
CONDITIONS = st.builds(base.MatchCondition, st.sampled_from(["prefix", "suffix"]), PATHS)
EVERY = 10_000
OPS = st.one_of(
    st.tuples(NAMESPACES, KEYS, VALUES | st.none()).map(lambda args: base.PutOp(*args)),
    st.tuples(NAMESPACES, KEYS).map(lambda args: base.GetOp(*args)),
    st.tuples(st.lists(LABELS, max_size=2).map(tuple), st.none() | FILTERS, st.just(EVERY)).map(
        lambda args: base.SearchOp(*args)
    ),
    st.builds(
        base.ListNamespacesOp,
        st.lists(CONDITIONS, max_size=2).map(tuple),
        st.none() | st.integers(1, 3),
        st.integers(0, 5),
        st.integers(0, 3),
    ),
)
PROGRAMS = st.lists(st.lists(OPS, max_size=5), max_size=8)


def without_empty_namespaces(memory: InMemoryStore) -> InMemoryStore:
    """Return a copy that has no namespaces but those with items: the original lists others, too."""
    copy = InMemoryStore()
    for item in memory.search((), limit=EVERY):
        copy.put(item.namespace, item.key, item.value)
    return copy


def plain(op: Any, answer: Any) -> Any:
    """Return an answer without times, and where the order is not promised, in one order."""
    if isinstance(op, base.GetOp) and answer is not None:
        return answer.namespace, answer.key, answer.value
    if isinstance(op, base.SearchOp):
        return sorted(((each.namespace, each.key, each.value) for each in answer), key=repr)
    return answer


def expected(program: list[list[Any]]) -> list[list[Any]]:
    memory = InMemoryStore()
    answers = []
    for ops in program:
        listing = without_empty_namespaces(memory)
        lists = [op for op in ops if isinstance(op, base.ListNamespacesOp)]
        listed = iter(listing.batch(lists))
        answered = memory.batch(ops)
        answers.append(
            [
                next(listed) if isinstance(op, base.ListNamespacesOp) else plain(op, answer)
                for op, answer in zip(ops, answered, strict=True)
            ]
        )
    return answers


@pytest.mark.parametrize("face", FACES)
@given(program=PROGRAMS)
def test_any_program_answers_as_langgraphs_own_store_does(
    face: str, program: list[list[Any]]
) -> None:
    answers = batches(face, program)

    for ops, answered, wanted in zip(program, answers, expected(program), strict=True):
        assert [plain(op, answer) for op, answer in zip(ops, answered, strict=True)] == wanted


@given(program=PROGRAMS)
def test_every_moment_of_any_program_is_still_there(program: list[list[Any]]) -> None:
    with statecore.open() as opened:
        items = StatecoreStore(opened)
        seen = {0: items.search((), limit=EVERY)}

        for ops in program:
            items.batch(ops)
            seen[opened.manager("langgraph-store").version()] = items.search((), limit=EVERY)

        for version, found in seen.items():
            past = items.at(version)
            assert past.search((), limit=EVERY) == found
            for item in found:
                assert past.get(item.namespace, item.key) == item


def test_all_puts_of_a_batch_are_one_event_and_the_later_of_a_key_counts() -> None:
    with statecore.open() as opened:
        items = StatecoreStore(opened, actor="planner")

        answers = items.batch(
            [
                base.PutOp(("a",), "k", {"n": 1}),
                base.GetOp(("a",), "k"),
                base.PutOp(("b",), "k", {"n": 2}),
                base.PutOp(("a",), "k", {"n": 3}),
                base.PutOp(("c",), "k", {"n": 4}),
                base.PutOp(("c",), "k", None),
            ]
        )

        assert answers == [None] * 6, "what is asked is answered as of before the batch"
        (event,) = opened.manager("langgraph-store").history()
        assert event.actor == "planner"
        assert sorted(event.change.operations) == ['["a"] k', '["b"] k']
        assert items.get(("a",), "k").value == {"n": 3}


def test_a_batch_with_one_bad_value_puts_nothing(store: StatecoreStore) -> None:
    puts = [base.PutOp(("a",), "good", {"n": 1}), base.PutOp(("a",), "bad", {"n": {1, 2}})]

    with pytest.raises(UnsupportedValue, match=r"bad\['n'\]: set: use a sorted list"):
        store.batch(puts)

    assert store.search(()) == []


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"steps": [{"at": (1, 2)}]}, ("k", "steps", 0, "at")),
        ({"when": datetime(2026, 1, 1)}, ("k", "when")),  # noqa: DTZ001 - that is the fault
        ({"by": {1: "one"}}, ("k", "by")),
        ("no map", ("k",)),
    ],
)
def test_a_value_that_could_not_come_back_the_same_is_refused_with_its_path(
    store: StatecoreStore, value: Any, path: tuple[Any, ...]
) -> None:
    with pytest.raises(UnsupportedValue) as caught:
        store.put(("a",), "k", value)

    assert caught.value.path == path


def test_values_come_back_of_the_same_type_and_are_the_callers_own(store: StatecoreStore) -> None:
    value = {
        "cost": Decimal("0.10"),
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "raw": b"\0",
        "n": 1.0,
    }
    store.put(("a",), "k", value)

    got = store.get(("a",), "k").value
    again = store.get(("a",), "k").value
    got["n"] = 2

    assert again == value
    assert [type(each) for each in again.values()] == [type(each) for each in value.values()]
    assert store.get(("a",), "k").value == value


@pytest.mark.parametrize("namespace", [("",), (1,), ("a", None)])
def test_labels_of_a_namespace_are_text(store: StatecoreStore, namespace: Any) -> None:
    with pytest.raises(base.InvalidNamespaceError):
        store.batch([base.GetOp(namespace, "k")])
    with pytest.raises(base.InvalidNamespaceError):
        store.put(namespace, "k", {})


@pytest.mark.parametrize(
    ("op", "error"),
    [
        (base.SearchOp((), {"n": {"$near": 1}}), InputError),
        (base.SearchOp((), {}, -1), InputError),
        (base.ListNamespacesOp((base.MatchCondition("middle", ("a",)),)), InputError),
        (base.PutOp(("a",), "k" * 1100, {}), LimitExceeded),
        (base.PutOp(("a",), 7, {}), InputError),
        (base.PutOp(("a",), "k", {}, ttl=float("nan")), InputError),
        (base.PutOp(("a",), "k", {}, ttl=0), InputError),
        ("get", InputError),
    ],
)
def test_an_operation_that_makes_no_sense_is_refused(
    store: StatecoreStore, op: Any, error: type[Exception]
) -> None:
    store.put(("a",), "there", {"n": 1})

    with pytest.raises(error):
        store.batch([op])


def test_comparisons_of_order_are_of_one_kind(store: StatecoreStore) -> None:
    store.put(("a",), "text", {"at": "2026-02-01"})
    store.put(("a",), "number", {"at": 7})
    store.put(("a",), "nothing", {})

    def found(comparison: dict[str, Any]) -> set[str]:
        return {item.key for item in store.search(("a",), filter={"at": comparison})}

    assert found({"$gt": "2026-01-31"}) == {"text"}
    assert found({"$lte": 7}) == {"number"}
    assert found({"$ne": 7}) == {"text", "nothing"}


def test_what_was_put_last_comes_first_page_by_page(store: StatecoreStore) -> None:
    for number in range(25):
        store.put(("a", str(number % 3)), str(number), {"even": number % 2 == 0})
    store.put(("a", "0"), "3", {"even": False})

    pages = [store.search(("a",), limit=10, offset=at) for at in (0, 10, 20, 30)]

    order = [int(item.key) for page in pages for item in page]
    assert order == [3, *(number for number in range(24, -1, -1) if number != 3)]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    evens = store.search(("a",), filter={"even": True}, limit=3, offset=2)
    assert [item.key for item in evens] == ["20", "18", "16"]


def test_an_item_keeps_the_time_it_was_made(clock: Clock) -> None:
    with StatecoreStore.from_conn_string(":memory:", clock=clock) as items:
        items.put(("a",), "k", {"n": 1})
        clock.tick(5)
        items.put(("a",), "k", {"n": 2})
        item = items.get(("a",), "k")
        clock.tick(5)
        items.delete(("a",), "k")
        items.put(("a",), "k", {"n": 3})

        assert (item.updated_at - item.created_at).total_seconds() == 5
        assert items.get(("a",), "k").created_at > item.updated_at


# Versions


def test_the_history_of_an_item_says_what_it_was_and_who_made_it_so() -> None:
    with statecore.open() as opened:
        planner, critic = (StatecoreStore(opened, actor=who) for who in ("planner", "critic"))
        planner.put(("a",), "k", {"n": 1})
        planner.put(("a",), "other", {"n": 0})
        critic.put(("a",), "k", {"n": 2})
        critic.delete(("a",), "k")
        critic.delete(("a",), "k")

        versions = planner.history(("a",), "k")

        told = [(v.event.version, v.event.actor, v.item and v.item.value) for v in versions]
        assert told == [(1, "planner", {"n": 1}), (3, "critic", {"n": 2}), (4, "critic", None)]
        assert asyncio.run(critic.ahistory(("a",), "k")) == versions
        assert planner.at(3).history(("a",), "k") == versions[:2]
        assert planner.at(versions[1].event.time).get(("a",), "k").value == {"n": 2}
        assert planner.history(("a",), "never there") == []


def test_the_past_is_read_and_not_changed(store: StatecoreStore) -> None:
    store.put(("a",), "k", {"n": 1})
    store.put(("b",), "k", {"n": 2})
    past = store.at(1)

    assert past.list_namespaces() == [("a",)]
    for change in (
        lambda: past.put(("a",), "k", {}),
        lambda: past.delete(("a",), "k"),
        past.sweep_ttl,
    ):
        with pytest.raises(InputError, match="past"):
            change()
    with pytest.raises(VersionNotFound):
        store.at(3).get(("a",), "k")
    assert len(store.search(())) == 2


# Time to live


def living(clock: Clock, **config: Any) -> Any:
    return StatecoreStore.from_conn_string(":memory:", clock=clock, ttl=config)


def test_an_item_is_not_found_once_its_time_is_over(clock: Clock) -> None:
    with living(clock, default_ttl=10, refresh_on_read=False) as items:
        items.put(("short",), "k", {"n": 1})
        items.put(("long",), "k", {"n": 2}, ttl=20)
        items.put(("ever",), "k", {"n": 3}, ttl=None)

        clock.tick(10 * MINUTE - 1)
        before = items.list_namespaces()
        clock.tick(1)

        assert before == [("ever",), ("long",), ("short",)]
        assert items.get(("short",), "k") is None
        assert {item.value["n"] for item in items.search(())} == {2, 3}
        assert items.list_namespaces() == [("ever",), ("long",)]
        clock.tick(10 * MINUTE)
        assert {item.value["n"] for item in items.search(())} == {3}


@pytest.mark.parametrize("face", ["plain", "tasks"])
@pytest.mark.parametrize("op", [base.GetOp(("a",), "k"), base.SearchOp(("a",))])
def test_reading_an_item_lets_it_live_on(clock: Clock, face: str, op: Any) -> None:
    with living(clock) as items:
        items.put(("a",), "k", {"n": 1}, ttl=10)

        for _ in range(5):
            clock.tick(9 * MINUTE)
            answer = items.batch([op]) if face == "plain" else asyncio.run(items.abatch([op]))
            assert answer != [None]
            assert answer != [[]]

        assert len(items.history(("a",), "k")) == 1
        unread = op._replace(refresh_ttl=False)
        clock.tick(9 * MINUTE)
        assert items.batch([unread]) not in ([None], [[]])
        clock.tick(2 * MINUTE)
        assert items.batch([unread]) in ([None], [[]])


def test_reading_again_and_again_records_little(clock: Clock) -> None:
    with statecore.open(clock=clock) as opened:
        items = StatecoreStore(opened)
        items.put(("a",), "k", {"n": 1}, ttl=10)

        for _ in range(10_000):
            clock.tick(0.06)
            assert items.get(("a",), "k") is not None

        assert opened.manager("langgraph-store").version() <= 101


def test_a_put_takes_the_time_to_live_anew_or_away(clock: Clock) -> None:
    with living(clock, refresh_on_read=False) as items:
        items.put(("a",), "k", {"n": 1}, ttl=10)
        clock.tick(9 * MINUTE)
        items.put(("a",), "k", {"n": 2})
        clock.tick(100 * MINUTE)

        assert items.get(("a",), "k").value == {"n": 2}


def test_an_item_that_was_over_by_then_is_not_in_the_past(clock: Clock) -> None:
    with living(clock, refresh_on_read=False) as items:
        items.put(("a",), "k", {"n": 1}, ttl=10)
        put_at = clock.now
        clock.tick(11 * MINUTE)
        items.put(("b",), "k", {"n": 2})

        assert items.at(1).get(("a",), "k").value == {"n": 1}
        assert items.at(2).get(("a",), "k") is None
        at = datetime.fromtimestamp(put_at / 1e6, UTC)
        assert items.at(at).get(("a",), "k").value == {"n": 1}


def test_a_clock_that_is_set_back_brings_nothing_back(clock: Clock) -> None:
    with living(clock, refresh_on_read=False) as items:
        items.put(("a",), "k", {"n": 1}, ttl=10)
        clock.tick(11 * MINUTE)
        items.put(("b",), "k", {"n": 2})

        clock.tick(-5 * MINUTE)

        assert items.get(("a",), "k") is None


@pytest.mark.parametrize("face", ["plain", "tasks"])
def test_sweeping_deletes_what_is_over_and_nothing_else(clock: Clock, face: str) -> None:
    with living(clock) as items:
        items.batch([base.PutOp(("a",), str(n), {"n": n}, ttl=1) for n in range(1200)])
        items.put(("a",), "stays", {"n": 0}, ttl=5)
        clock.tick(2 * MINUTE)

        swept = items.sweep_ttl() if face == "plain" else asyncio.run(items.asweep_ttl())

        assert swept == 1200
        assert items.sweep_ttl() == 0
        assert [item.key for item in items.search(())] == ["stays"]
        put, gone = items.history(("a",), "7")
        assert (put.item.value, gone.item, gone.event.reason) == (
            {"n": 7},
            None,
            "time to live over",
        )


def test_the_sweeper_sweeps_until_it_is_stopped(clock: Clock) -> None:
    with statecore.open(clock=clock) as opened:
        items = StatecoreStore(opened, ttl={"default_ttl": 1})
        items.put(("a",), "k", {"n": 1})
        clock.tick(2 * MINUTE)
        events = opened.manager("langgraph-store").watch()

        ended = items.start_ttl_sweeper(0.001)

        assert next(events).reason == "time to live over"
        assert items.start_ttl_sweeper(0.001) is ended, "it runs already"
        assert items.stop_ttl_sweeper()
        ended.result()
        again = items.start_ttl_sweeper(60)
        assert again.cancel()
        assert items.stop_ttl_sweeper()
        assert not [t for t in threading.enumerate() if t.name == "statecore-item-sweeper"]


def test_the_sweeper_ends_with_the_store() -> None:
    with StatecoreStore.from_conn_string(":memory:") as items:
        stopped = items.start_ttl_sweeper()
    with statecore.open() as opened:
        closed = StatecoreStore(opened).start_ttl_sweeper(0.001)

    assert stopped.done()
    closed.result()


# Search by meaning


WORDS = ("cat", "dog", "car", "train", "tree")


class Words:
    """An embedding that counts words, and how often it is called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        return [[float(Counter(text.split())[word]) for word in WORDS] for text in texts]


TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)


@pytest.mark.parametrize("face", FACES)
@given(texts=st.dictionaries(KEYS, TEXTS), query=TEXTS)
def test_scores_are_those_of_langgraphs_own_store(
    face: str, texts: dict[str, str], query: str
) -> None:
    index = {"dims": len(WORDS), "embed": Words(), "fields": ["text"]}
    memory = InMemoryStore(index=index)
    program = [[base.PutOp(("a",), key, {"text": text})] for key, text in texts.items()]
    program += [[base.PutOp(("a",), "unscored", {"other": 1})]]
    search = base.SearchOp(("a",), query=query, limit=EVERY)
    for ops in program:
        memory.batch(ops)

    found = batches(face, [*program, [search]], index=index)[-1][0]

    (wanted,) = memory.batch([search])
    scores = {item.key: item.score for item in found}
    assert scores == pytest.approx({item.key: item.score for item in wanted})
    in_order = [item.score for item in found]
    assert in_order[-1] is None
    assert in_order[:-1] == sorted(in_order[:-1], reverse=True)


def test_vectors_survive_and_are_made_once(path: Path) -> None:
    words = Words()
    options: dict[str, Any] = {"key": KEY, "index": {"dims": 5, "embed": words, "fields": ["text"]}}
    with StatecoreStore.from_conn_string(str(path), **options) as items:
        same = [base.PutOp(("a",), str(n), {"text": "cat dog"}) for n in range(3)]
        items.batch([*same, base.PutOp(("a",), "car", {"text": "car"})])
    assert words.calls == 1

    with StatecoreStore.from_conn_string(str(path), **options) as items:
        found = items.search(("a",), query="car", limit=1)
        missed = items.search(("a",), query="car", filter={"text": "cat dog"}, limit=2, offset=1)

    assert words.calls == 3, "only the queries were embedded again"
    assert [(item.key, item.score) for item in found] == [("car", pytest.approx(1))]
    assert [(item.key, item.score) for item in missed] == [("1", 0), ("2", 0)]


def test_the_nearest_of_an_items_vectors_counts() -> None:
    index = {"dims": 5, "embed": Words(), "fields": ["chapters[*].text", "title"]}
    with StatecoreStore.from_conn_string(":memory:", index=index) as items:
        items.put(("a",), "book", {"title": "cat", "chapters": [{"text": "dog"}, {"text": "car"}]})
        items.put(("a",), "leaflet", {"title": "car tree"})
        items.put(("a",), "unindexed", {"title": "car"}, index=False)
        items.put(("a",), "otherwise", {"title": "tree", "note": "train"}, index=["note"])

        cars = items.search(("a",), query="car")
        trains = items.search(("a",), query="train", limit=1)
        items.put(("a",), "book", {"title": "cat"}, index=False)
        after = items.search(("a",), query="cat")

        assert [item.key for item in cars] == ["book", "leaflet", "otherwise", "unindexed"]
        assert [item.score for item in cars] == pytest.approx([1, 0.5**0.5, 0, None])
        assert trains[0].key == "otherwise"
        assert {item.key: item.score for item in after}["book"] is None, "the old vectors are gone"


def test_vectors_of_another_length_are_not_compared(path: Path) -> None:
    for dims, key in ((5, "old"), (3, "new")):

        def embed(texts: list[str], dims: int = dims) -> list[list[float]]:
            return [[1.0] * dims for _ in texts]

        index = {"dims": dims, "embed": embed}
        with StatecoreStore.from_conn_string(str(path), key=KEY, index=index) as items:
            items.put(("a",), key, {"n": 1})
            found = items.search(("a",), query="anything")

    assert [(item.key, item.score) for item in found] == [("new", pytest.approx(1)), ("old", None)]


def test_a_query_without_an_index_finds_as_none_would(store: StatecoreStore) -> None:
    store.put(("a",), "k", {"n": 1})

    assert store.search(("a",), query="cat") == store.search(("a",))


@pytest.mark.parametrize(
    "returned", [[], [[1.0]], [[1.0, "x"]], [[float("nan"), 0.0]], [[1e300, 0.0]], [None]]
)
def test_an_embedder_that_returns_no_vectors_is_told_so(returned: Any) -> None:
    index = {"dims": 2, "embed": lambda texts: returned}
    with StatecoreStore.from_conn_string(":memory:", index=index) as items:
        with pytest.raises(InputError, match="embed"):
            items.put(("a",), "k", {"n": 1})

        assert items.get(("a",), "k") is None


@pytest.mark.parametrize("index", [{"embed": Words()}, {"dims": 5}, {"dims": 0, "embed": Words()}])
def test_an_index_needs_dims_and_an_embedder(index: Any) -> None:
    with (
        pytest.raises(InputError, match="index"),
        StatecoreStore.from_conn_string(":memory:", index=index),
    ):
        pass


VECTORS = st.lists(
    st.lists(st.floats(-10, 10, width=32), min_size=4, max_size=4), min_size=1, max_size=5
)


@given(vectors=VECTORS)
def test_numpy_and_plain_python_find_the_same_cosines(vectors: list[list[float]]) -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    packed = [numpy.array(vector, "<f4").tobytes() for vector in vectors]

    plainly = langgraph_vectors._cosines(packed[0], packed)
    by_numpy = langgraph_vectors._cosines_by_numpy(numpy, packed[0], packed)

    assert plainly == pytest.approx(by_numpy, abs=1e-6)


# Files, processes, tasks


def test_a_file_holds_the_items_for_the_next_opening_and_for_no_other_key(path: Path) -> None:
    with StatecoreStore.from_conn_string(str(path), key=KEY, actor="planner") as items:
        items.put(("users", "123"), "prefs", {"theme": "dark"})

    with StatecoreStore.from_conn_string(str(path), key=KEY) as items:
        assert items.get(("users", "123"), "prefs").value == {"theme": "dark"}
        assert items.history(("users", "123"), "prefs")[0].event.actor == "planner"
    with pytest.raises(WrongKey), StatecoreStore.from_conn_string(str(path), key=bytes(32)):
        pass
    stored = b"".join(each.read_bytes() for each in path.parent.glob("agents.db*"))
    assert not [word for word in (b"users", b"prefs", b"theme", b"dark") if word in stored]


def test_async_with_opens_and_closes_a_file(path: Path) -> None:
    async def story() -> StatecoreStore:
        async with StatecoreStore.from_conn_string(str(path), key=KEY) as items:
            await items.aput(("a",), "k", {"n": 1})
            assert (await items.aget(("a",), "k")).value == {"n": 1}
            assert await items.alist_namespaces() == [("a",)]
            await items.adelete(("a",), "k")
            assert await items.asearch(("a",)) == []
            return items

    closed = asyncio.run(story())

    with pytest.raises(StoreClosed):
        closed.put(("a",), "k", {"n": 2})


def test_a_store_sees_what_others_do_to_the_same_items() -> None:
    with statecore.open() as opened:
        reader, writer = StatecoreStore(opened), StatecoreStore(opened)

        def found() -> set[str]:
            return {item.key for item in reader.search(("a",), limit=EVERY)}

        for number in range(3):  # few events, so that few keys change
            writer.put(("a",), str(number), {"n": number})
        assert found() == {"0", "1", "2"}
        writer.batch([base.PutOp(("a",), "0", None), base.PutOp(("a",), "1", {"n": 0})])
        assert found() == {"1", "2"}
        for number in range(200):  # many
            writer.put(("a",), str(number), {"n": number})
        assert found() == {str(number) for number in range(200)}
        opened.manager("langgraph-store").clear_state()
        assert found() == set()
        writer.put(("a",), "new", {"n": 1})
        assert found() == {"new"}
        assert [version.item for version in reader.history(("a",), "7")][-1] is None
        assert len(reader.at(4).search(("a",))) == 2


def test_the_keys_of_a_root_are_given_whichever_was_asked_for_before() -> None:
    with statecore.open() as opened:
        items = StatecoreStore(opened)
        manager = opened.manager("langgraph-store")
        keys = langgraph_keys.SortedKeys(manager.manager)
        roots = [manager.at()._root]
        for name in "cab":
            items.put((name,), "k", {"n": 1})
            roots.append(manager.at()._root)
        items.delete(("a",), "k")
        roots.append(manager.at()._root)

        given = [(root, keys.of(root)) for root in [*roots, *reversed(roots)]]

        for root, listed in given:
            assert listed == sorted(root.cells), "a list that was given is never changed"


def test_a_sweep_spares_an_item_that_was_put_anew_since_it_looked(clock: Clock) -> None:
    with statecore.open(clock=clock) as opened:
        items = StatecoreStore(opened)
        items.put(("a",), "over", {"n": 1}, ttl=1)
        items.put(("a",), "anew", {"n": 1}, ttl=1)
        clock.tick(2 * MINUTE)
        looked_at = clock.now
        items.put(("a",), "anew", {"n": 2}, ttl=1)

        with opened.manager("langgraph-store").transaction() as tx:
            listed = [langgraph_keys.key_of(("a",), key) for key in ("over", "anew", "gone")]
            assert langgraph_store._delete_expired(tx, listed, looked_at) == 1

        assert [item.value for item in items.search(("a",))] == [{"n": 2}]


def test_keys_that_are_no_items_are_none() -> None:
    with statecore.open() as opened:
        items = StatecoreStore(opened)
        opened.manager("langgraph-store").set_state("note", "not an item")
        items.batch([base.PutOp((), "k", {"n": 1})])
        items.put(("a",), "k", {"n": 2})

        assert len(items.search(())) == 2
        assert items.list_namespaces() == [(), ("a",)]
        assert items.sweep_ttl() == 0


def test_stores_of_two_agents_in_one_file_share_nothing() -> None:
    with statecore.open() as opened:
        one, other = (StatecoreStore(opened, agent_id=f"items of {who}") for who in ("a", "b"))
        one.put(("n",), "k", {"n": 1})

        assert other.search(()) == []
        assert StatecoreStore(opened, agent_id="items of a").get(("n",), "k").value == {"n": 1}


PUTTING = """
import asyncio, sys
from statecore.integrations.langgraph.store import StatecoreStore

path, who, face = sys.argv[1:]
options = {"key": bytes(range(32)), "actor": who}

async def tasks():
    async with StatecoreStore.from_conn_string(path, **options) as items:
        await asyncio.gather(*(items.aput((who,), str(n), {"n": n}, ttl=60) for n in range(200)))
        for n in range(200):
            await items.aput(("all",), "last", {"who": who, "n": n}, ttl=60)
            assert (await items.aget(("all",), "last")) is not None

def plain():
    with StatecoreStore.from_conn_string(path, **options) as items:
        for n in range(200):
            items.put((who,), str(n), {"n": n}, ttl=60)
        for n in range(200):
            items.put(("all",), "last", {"who": who, "n": n}, ttl=60)
            assert items.get(("all",), "last") is not None

asyncio.run(tasks()) if face == "tasks" else plain()
"""


def test_two_processes_put_into_one_file_and_nothing_is_lost(path: Path) -> None:
    with StatecoreStore.from_conn_string(str(path), key=KEY) as items:
        running = [
            subprocess.Popen(
                [sys.executable, "-c", PUTTING, path, who, who],
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
            )
            for who in ("plain", "tasks")
        ]
        errors = [process.communicate()[1] for process in running]

        assert errors == ["", ""]
        for who in ("plain", "tasks"):
            found = items.search((who,), limit=EVERY)
            assert {item.value["n"] for item in found} == set(range(200))
        versions = items.history(("all",), "last")
        puts = Counter(version.item.value["who"] for version in versions)
        assert puts == {"plain": 200, "tasks": 200}
        assert items.get(("all",), "last").value == versions[-1].item.value


def test_many_tasks_and_threads_put_at_once(path: Path) -> None:
    async def story(items: StatecoreStore) -> None:
        async def work(number: int) -> None:
            for at in range(10):
                await items.aput(("tasks", str(number)), str(at), {"n": at}, ttl=60)
                await items.asearch(("tasks", str(number)))

        await asyncio.gather(*map(work, range(16)))

    def work(items: StatecoreStore, number: int) -> None:
        for at in range(10):
            items.put(("threads", str(number)), str(at), {"n": at}, ttl=60)
            items.search(("threads", str(number)))

    with StatecoreStore.from_conn_string(str(path), key=KEY) as items:
        threads = [threading.Thread(target=work, args=(items, n)) for n in range(8)]
        for thread in threads:
            thread.start()
        asyncio.run(story(items))
        for thread in threads:
            thread.join()

        assert len(items.search(("tasks",), limit=EVERY)) == 160
        assert len(items.search(("threads",), limit=EVERY)) == 80


def test_searching_many_items_does_not_hold_up_other_tasks() -> None:
    async def story() -> list[Any]:
        async with StatecoreStore.from_conn_string(":memory:") as items:
            await items.abatch([base.PutOp(("a",), str(n), {"n": n}) for n in range(1500)])
            return await items.asearch(("a",), filter={"n": {"$gte": 1490}})

    assert len(asyncio.run(story())) == 10


def test_a_graph_remembers_in_it(path: Path) -> None:
    graphs = pytest.importorskip("langgraph.graph", reason="only the checkpoint package is here")

    get_store = pytest.importorskip("langgraph.config").get_store

    def remember(state: dict[str, Any]) -> dict[str, Any]:
        store = get_store()
        known = store.search(("memories",))
        store.put(("memories",), state["said"], {"text": state["said"]})
        return {"said": f"{len(known)} known"}

    builder = graphs.StateGraph(dict)
    builder.add_node("remember", remember)
    builder.add_edge(graphs.START, "remember")

    with StatecoreStore.from_conn_string(str(path), key=KEY) as items:
        graph = builder.compile(store=items)
        answers = [graph.invoke({"said": said})["said"] for said in ("hi", "ho")]
        answers.append(asyncio.run(graph.ainvoke({"said": "hey"}))["said"])

        assert answers == ["0 known", "1 known", "2 known"]
        assert {item.key for item in items.search(("memories",))} == {"hi", "ho", "hey"}
