"""A LangGraph thread's checkpoints, kept by us and by LangGraph's own savers, in one run.

    python -m benchmarks.checkpoints

One thread, one caller. Each step appends a message of about 400 bytes and changes 2 of 20 small
keys (workload.py). Through the saver's interface a step is ``put_writes`` and ``put``; through a
real ``StateGraph`` it is whatever LangGraph makes of a node that returns them.

- statecore seals what it keeps; SqliteSaver does so only with its EncryptedSerializer (AES)
- everybody's ``put`` is durable when it returns; SQLite is in WAL mode and syncs each commit
- the savers write the whole state at each step, so that 5,000 steps take gigabytes: ``--peers``
  says up to how many steps they are asked
- latest, past: ``get_tuple`` without and with a checkpoint's id, after all puts; past ones at
  random, each for the first time. list: ``list(limit=100)``, all tuples read. Who takes longer than
  20 seconds over a kind of question is not asked more of it

Sizes are of all files once closed. CPU is of the whole process, in all its threads.
"""

from __future__ import annotations

import argparse
import asyncio
import operator
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypedDict

from benchmarks.harness import KEY, Row, main, pace, pace_since, settle, spread
from benchmarks.workload import SMALL_KEYS, steps

US: Final = "statecore"
THREAD: Final[Any] = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}
EDGE: Final = 200  # puts at the start and at the end that are told apart
QUESTIONS: Final = 50
PATIENCE_SECONDS: Final = 20


class Contender(NamedTuple):
    """A saver, and how it is opened."""

    name: str
    open: Callable[[Path], Any]  # a context manager


def _ours(path: Path) -> Any:
    saver: Any = import_module("statecore.integrations.langgraph").StatecoreSaver
    return saver.from_conn_string(str(path / "checkpoints.db"), key=KEY)


@contextmanager
def _sqlite(path: Path, *, encrypted: bool = False) -> Iterator[Any]:
    saver: Any = import_module("langgraph.checkpoint.sqlite").SqliteSaver
    with saver.from_conn_string(str(path / "checkpoints.db")) as opened:
        if encrypted:
            encryption: Any = import_module("langgraph.checkpoint.serde.encrypted")
            opened.serde = encryption.EncryptedSerializer.from_pycryptodome_aes(key=KEY)
        yield opened


class _Blocking:
    """An asynchronous saver, called by one that waits."""

    def __init__(self, saver: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._saver = saver
        self._wait = loop.run_until_complete

    def put(self, *arguments: Any) -> Any:
        return self._wait(self._saver.aput(*arguments))

    def put_writes(self, *arguments: Any) -> Any:
        return self._wait(self._saver.aput_writes(*arguments))

    def get_tuple(self, config: Any) -> Any:
        return self._wait(self._saver.aget_tuple(config))

    def list(self, config: Any, limit: int) -> Any:
        return self._wait(self._listed(config, limit))

    async def _listed(self, config: Any, limit: int) -> Sequence[Any]:
        return [found async for found in self._saver.alist(config, limit=limit)]


@contextmanager
def _async_sqlite(path: Path) -> Iterator[Any]:
    saver: Any = import_module("langgraph.checkpoint.sqlite.aio").AsyncSqliteSaver
    loop = asyncio.new_event_loop()
    opening = saver.from_conn_string(str(path / "checkpoints.db"))
    opened = loop.run_until_complete(opening.__aenter__())
    try:
        yield _Blocking(opened, loop)
    finally:
        loop.run_until_complete(opening.__aexit__(None, None, None))
        loop.close()


PEERS: Final = (
    Contender("SqliteSaver", _sqlite),
    Contender("SqliteSaver, encrypted", lambda path: _sqlite(path, encrypted=True)),
    Contender("AsyncSqliteSaver", _async_sqlite),
)


def put_all(saver: Any, count: int) -> tuple[list[str], list[float], list[float]]:
    """Put the run; return the checkpoints' ids, and what each step took, in wall and CPU time."""
    new_checkpoint: Any = import_module("langgraph.checkpoint.base").empty_checkpoint
    state: dict[str, Any] = {"messages": []}
    versions: dict[str, int] = {}
    config, ids, wall, cpu = THREAD, [], list[float](), list[float]()
    for number, (message, keys) in enumerate(steps(count), 1):
        state = {**state, **keys, "messages": [*state["messages"], message]}
        changed = dict.fromkeys(("messages", *keys), number)
        versions = {**versions, **changed}
        checkpoint = {
            **new_checkpoint(),
            "channel_values": state,
            "channel_versions": versions,
            "versions_seen": {"agent": {"messages": number - 1}},
            "updated_channels": sorted(changed),
        }
        metadata = {"source": "loop", "step": number, "parents": {}}
        ids.append(checkpoint["id"])
        began, used = time.perf_counter(), time.process_time()
        if number > 1:
            writes = [("messages", [message]), *keys.items()]
            saver.put_writes(config, writes, f"task-{number}")
        config = saver.put(config, checkpoint, metadata, changed)
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return ids, wall, cpu


def through_the_interface(folder: Path, contender: Contender, count: int) -> list[Row]:
    """Measure the saver by itself."""
    what = f"{count:,} steps, {contender.name}"
    path = folder / f"{contender.name}-{count}"
    path.mkdir()
    settle()
    before = pace()
    with contender.open(path) as saver:
        ids, wall, cpu = put_all(saver, count)
        edge = min(EDGE, count // 4)
        rows: list[Row] = [
            {
                "what": f"{what}: put, {where}",
                **spread(wall[part]),
                "cpu_p50": spread(cpu[part])["p50"],
                "pace_ms": pace_since(before),
            }
            for where, part in (("first", slice(0, edge)), ("last", slice(-edge, None)))
        ]
        rows += _questions(saver, what, ids)
    size = sum(file.stat().st_size for file in path.iterdir())
    return [{"what": f"{what}: size", "bytes": size}, *rows]


def _questions(saver: Any, what: str, ids: list[str]) -> list[Row]:
    chance = random.Random(5)
    past = [
        {"configurable": {**THREAD["configurable"], "checkpoint_id": chance.choice(ids)}}
        for _ in range(QUESTIONS)
    ]
    asked: list[tuple[str, Callable[[], Any]]] = [
        *(("latest", lambda: saver.get_tuple(THREAD)) for _ in range(QUESTIONS)),
        *(("past", lambda each=each: saver.get_tuple(each)) for each in past),
        *(("list", lambda: list(saver.list(THREAD, limit=100))) for _ in range(5)),
    ]
    took: dict[str, list[float]] = {}
    settle()
    before = pace()
    for name, ask in asked:
        if sum(took.get(name, ())) > PATIENCE_SECONDS:
            continue
        began = time.perf_counter()
        assert ask(), "everything asked for is there"
        took.setdefault(name, []).append(time.perf_counter() - began)
    return [
        {"what": f"{what}: {name}", **spread(each), "pace_ms": pace_since(before)}
        for name, each in took.items()
    ]


def through_a_graph(folder: Path, contender: Contender, count: int) -> list[Row]:
    """Measure a graph of one node that runs so many times."""
    graphs: Any = import_module("langgraph.graph")
    fields: dict[str, Any] = {"messages": Annotated[list[Any], operator.add]}
    fields |= dict.fromkeys(SMALL_KEYS, Any)
    said = list(islice(steps(count), count))

    def node(state: dict[str, Any]) -> dict[str, Any]:
        message, keys = said[len(state["messages"])]
        return {"messages": [message], **keys}

    def is_over(state: dict[str, Any]) -> str:
        return str(graphs.END) if len(state["messages"]) == count else "agent"

    graph = graphs.StateGraph(_typed(fields))
    graph.add_node("agent", node)
    graph.add_edge(graphs.START, "agent")
    graph.add_conditional_edges("agent", is_over, ["agent", graphs.END])
    path = folder / f"graph-{contender.name}-{count}"
    path.mkdir()
    settle()
    with contender.open(path) as saver:
        running = graph.compile(checkpointer=saver)
        config = {**THREAD, "recursion_limit": count + 10}
        began, used = time.perf_counter(), time.process_time()
        done = running.invoke({"messages": []}, config, durability="sync")
        wall, cpu = time.perf_counter() - began, time.process_time() - used
        assert len(done["messages"]) == count, "every step was done"
    size = sum(file.stat().st_size for file in path.iterdir())
    what = f"{count:,} steps of a graph, {contender.name}"
    each = {"us_per_step": round(wall / count * 1e6), "cpu_us_per_step": round(cpu / count * 1e6)}
    return [{"what": what, "bytes": size, **each}]


def _typed(fields: dict[str, Any]) -> Any:
    """Return the type of a state with these fields."""
    made: Any = TypedDict
    return made("State", fields, total=False)


def measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    """Measure everybody."""
    rows: list[Row] = []
    peers = PEERS if find_spec("langgraph.checkpoint.sqlite") else ()
    if not peers:
        rows.append({"what": "SqliteSaver", "note": "skipped: it is not installed"})
    for count in (arguments.few, arguments.many):
        for contender in (Contender(US, _ours), *(peers if count <= arguments.peers else ())):
            rows += through_the_interface(folder, contender, count)
        for contender in (Contender(US, _ours), *(peers[:1] if count <= arguments.peers else ())):
            rows += through_a_graph(folder, contender, count)
    return rows


if __name__ == "__main__":
    main("LangGraph's checkpoints", measure, few=1_000, many=5_000, peers=1_000)
