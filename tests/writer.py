"""Processes that write until they are killed: ``python -m tests.writer``.

Starting Python takes longer than most of them live. So one process imports everything, and forks a
child for each order, a line of JSON on its standard input; it never opens a store itself. It
answers with the child's number, or, asked to wait for a child, with how that one ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Self

import statecore
import statecore.recorders.sqlite  # now, not once for each child
from statecore import StateManager
from statecore.waiting import run
from tests.conftest import KEY, Clock, environment
from tests.mortal import MortalDisk

AGENTS = 3
TASKS = 8
REFUSED = 3  # how a writer ends that met an error of ours

Tell = Callable[[str, int, str, int], None]


def blob(actor: str, number: int) -> bytes:
    """Bytes of a few hundred to a few thousand, the same for the same write."""
    return (f"{actor} {number} ".encode() * 400)[: 300 + number * 37 % 5000]


async def write(agent: StateManager, actor: str, number: int) -> int:
    """Do one of the four kinds of writes, and return its version."""
    why: Any = {"actor": actor, "reason": str(number)}
    match number % 4:
        case 0:
            return await agent.set_state("blob", blob(actor, number), **why)
        case 1:
            async with agent.transaction(**why) as both:
                both.set("left", [actor, number])
                both.set("right", [actor, number])
            return both.version or 0
        case 2:
            return await agent.extend("items", [[actor, number]], **why)
    tries = []

    def count_up(tx: statecore.Transaction) -> None:
        tries.append(tx)
        tx.set("count", tx.get("count", 0) + 1)

    await agent.atomic_transaction(count_up, **why)
    return tries[-1].version or 0


def alone(path: Path, actor: str, tell: Tell) -> None:
    """Write as a lone blocking caller does."""
    with statecore.open(path, key=KEY) as store:
        agents = [store.manager(f"agent-{number}").manager for number in range(AGENTS)]
        for number in count():
            agent = agents[number % AGENTS]
            tell(agent.agent_id, run(write(agent, actor, number)), actor, number)


def tasks(path: Path, actor: str, tell: Tell) -> None:
    """Write as many tasks at once, which share syncs."""

    async def one(store: statecore.StateStore, actor: str) -> None:
        agents = [store.manager(f"agent-{number}") for number in range(AGENTS)]
        for number in count():
            agent = agents[number % AGENTS]
            tell(agent.agent_id, await write(agent, actor, number), actor, number)

    async def work() -> None:
        async with statecore.open(path, key=KEY) as store:
            await asyncio.gather(*(one(store, f"{actor}.{task}") for task in range(TASKS)))

    asyncio.run(work())


def life(path: Path, actor: str, tell: Tell) -> None:
    """Live the whole life of a small store: creation, writes, an erasure, the end."""
    clock = Clock()
    with statecore.open(path, key=KEY, clock=clock) as store:
        session = store.manager("session", kind="temporary", ttl=60)
        tell("session", session.set_state("secret", actor), actor, 0)
        agent = store.manager("agent-0").manager
        for number in range(4):
            tell(agent.agent_id, run(write(agent, actor, number)), actor, number)
        clock.tick(61)
        store.clean_up()  # which erases the session


WORK = {"alone": alone, "tasks": tasks, "life": life}


def child(order: dict[str, Any]) -> None:
    """Do what is ordered, telling of each write after its call has returned."""
    path = Path(order["path"])
    told = os.open(order["told"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(agent: str, version: int, actor: str, number: int) -> None:
        os.write(told, f"{agent} {version} {actor} {number}\n".encode())

    disk = MortalDisk(order["steps"]) if order["steps"] else None
    WORK[order["work"]](path, order["actor"], tell)
    del disk


def serve() -> None:
    """Follow orders until there are no more, and leave nobody behind."""
    running: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            running.remove(order["wait"])
            answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        else:
            running.add(answer := fork(order))
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    for process in running:
        os.kill(process, signal.SIGKILL)


def fork(order: dict[str, Any]) -> int:
    """Have a child do what is ordered; return its number."""
    process = os.fork()
    if process == 0:
        try:
            child(order)
            os._exit(0)
        except BaseException as error:
            traceback.print_exc()
            os._exit(REFUSED if isinstance(error, statecore.StatecoreError) else 1)
    return process


class Writers:
    """The other end: starts writers, and waits for their end."""

    def __init__(self, errors: int | None = None) -> None:
        self._errors = errors  # where writers say what went wrong; here, unless told otherwise

    def __enter__(self) -> Self:
        command = [sys.executable, "-W", "error", "-m", "tests.writer"]
        self._server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment(),
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def start(self, work: str, path: Path, actor: str, steps: int, told: Path) -> int:
        """Start a writer that tells a file of what was acknowledged; return its process' number."""
        order = {"work": work, "path": str(path), "actor": actor, "steps": steps}
        return self._order({**order, "told": str(told)})

    def wait(self, process: int) -> int:
        """Wait until a writer is gone; return how it ended: minus nine if it was killed,
        ``REFUSED`` if it met an error of ours."""
        return self._order({"wait": process})

    def _order(self, order: dict[str, Any]) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())


if __name__ == "__main__":
    serve()
