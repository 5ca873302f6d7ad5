"""What graphs and savers beside ours have shown to go wrong, each as small as it can be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("langgraph.checkpoint.base", reason="needs statecore[langgraph]")

from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.func import entrypoint

from statecore.integrations.langgraph import StatecoreSaver

KEY = b"k" * 32


@pytest.fixture(params=[0.0, 60.0], ids=["at once", "held"])
def saver(request: pytest.FixtureRequest) -> Iterator[StatecoreSaver]:
    linger = request.param
    with StatecoreSaver.from_conn_string(":memory:", key=KEY, linger_seconds=linger) as saver:
        yield saver


def config(number: int | None = None) -> Any:
    there = {"thread_id": "thread", "checkpoint_ns": ""}
    return {"configurable": there if number is None else {**there, "checkpoint_id": id_of(number)}}


def id_of(number: int) -> str:
    return f"1f000000-0000-6000-8000-{number:012}"


def put(saver: StatecoreSaver, number: int, parent: int | None = None, **values: Any) -> None:
    checkpoint: Checkpoint = empty_checkpoint()
    checkpoint["id"] = id_of(number)
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = dict.fromkeys(values, number)
    saver.put(config(parent), checkpoint, {"step": number}, checkpoint["channel_versions"])


def value(saver: StatecoreSaver, channel: str) -> Any:
    found = saver.get_tuple(config())
    assert found is not None
    return found.checkpoint["channel_values"][channel]


def test_a_map_that_changed_twice_is_read(saver: StatecoreSaver) -> None:
    @entrypoint(checkpointer=saver)
    def echo(said: str, *, previous: Any) -> Any:
        return {"previous": previous and previous["said"], "said": said}

    answers = [echo.invoke(said, config()) for said in ("one", "two", "three")]

    assert [answer["previous"] for answer in answers] == [None, "one", "two"]


def test_a_tuple_read_back_as_a_list_can_grow(saver: StatecoreSaver) -> None:
    put(saver, 1, channel=("one",))
    items = value(saver, "channel")

    put(saver, 2, parent=1, channel=[*items, "two"])

    assert value(saver, "channel") == ["one", "two"]
