"""Who lives with a store all day: ``python -m tests.soak.workers NAME FOLDER ACTOR``.

Each is a process of its own, works until it is told to stop (SIGTERM) or killed, and leaves behind
what must be true: writers what was acknowledged, the subscriber what it has seen, the follower how
far it has come. Another one is a function here and a name in ``WORKERS``.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import statecore
from statecore.errors import Erased
from statecore.reviewing import Period, Rank, review
from statecore.values import same
from tests.conftest import KEY
from tests.strategies import pack_exposed_state, unpack_state

AGENTS: Final = [f"agent-{number}" for number in range(12)]
KEYS: Final = 40
THREADS: Final = 4
TASKS: Final = 24
TTL_SECONDS: Final = 5
CACHE_MIB: Final = 32
FOLLOW_SECONDS: Final = 1
REVIEW_SECONDS: Final = 10

Stop = threading.Event


def open_store(folder: Path) -> statecore.Opening:
    """Open the store that all live with."""
    return statecore.open(folder / "agents.db", key=KEY, cache_mib=CACHE_MIB)


class Teller:
    """Writes lines to a file of its own, each whole when the call returns, also if killed then."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(self, *words: object) -> None:
        """Write one line."""
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


def change(tx: statecore.Transaction, number: int, chance: random.Random) -> None:
    """Do what agents do, so that the state stays as large as it is."""
    key = f"k{chance.randrange(KEYS)}"
    match number % 5:
        case 0:
            tx.set(key, {"step": number, "text": "word " * chance.randrange(60)})
        case 1:
            tx.add("tokens", chance.randrange(500))
        case 2:
            tx.extend("messages", [{"role": "tool", "content": f"result {number}"}])
        case 3:
            tx.set(key, chance.random())
            tx.set("last", number)
        case _:
            tx.set("messages", [])


def write_in_threads(folder: Path, actor: str, stop: Stop) -> None:
    """Write as threads do, each with its own agents in turn."""
    acknowledged = Teller(folder, f"told-{actor}")
    with open_store(folder) as store:

        def work(name: str) -> None:
            chance, number = random.Random(name), 0
            while not stop.is_set():
                agent = store.manager(chance.choice(AGENTS))
                with agent.transaction(actor=name, reason=str(number)) as tx:
                    change(tx, number, chance)
                acknowledged.tell(agent.agent_id, tx.version, name, number)
                number += 1
                stop.wait(0.01)

        threads = [threading.Thread(target=work, args=(f"{actor}.{n}",)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def write_as_tasks(folder: Path, actor: str, stop: Stop) -> None:
    """Write as many tasks do; each begins temporary states now and then, which end."""
    acknowledged = Teller(folder, f"told-{actor}")

    async def work(store: statecore.StateStore, name: str) -> None:
        chance, number = random.Random(name), 0
        while not stop.is_set():
            agent = store.manager(chance.choice(AGENTS))
            async with agent.transaction(actor=name, reason=str(number)) as tx:
                change(tx, number, chance)
            acknowledged.tell(agent.agent_id, tx.version, name, number)
            if number % 100 == 0:
                session = store.manager(f"{name}-{number}", kind="temporary", ttl=TTL_SECONDS)
                await session.set_state("secret", number)
            number += 1
            await asyncio.sleep(0.1)

    async def work_all() -> None:
        async with open_store(folder) as store:
            await asyncio.gather(*(work(store, f"{actor}.{task}") for task in range(TASKS)))

    asyncio.run(work_all())


def subscribe(folder: Path, actor: str, stop: Stop) -> None:
    """Watch every agent from where it was left off, and tell of each event once it was seen."""
    seen = dict.fromkeys(AGENTS, 0)
    for line in _lines(folder, "seen"):
        agent, version = line.split()
        seen[agent] = int(version)
    teller = Teller(folder, "seen")

    async def watch(agent: statecore.StateManager) -> None:
        async for event in agent.watch(seen[agent.agent_id]):
            teller.tell(agent.agent_id, event.version)

    async def watch_all() -> None:
        async with open_store(folder) as store:
            tasks = [asyncio.create_task(watch(store.manager(name))) for name in AGENTS]
            while not stop.is_set():
                await asyncio.sleep(0.1)
                for task in tasks:
                    if task.done():
                        task.result()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(watch_all())


def _lines(folder: Path, name: str) -> list[str]:
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


def travel(folder: Path, actor: str, stop: Stop) -> None:
    """Read the past, each answer by two routes; branch off, write there, and merge back."""
    chance = random.Random(actor)
    with open_store(folder) as store:
        trip = 0
        while not stop.is_set():
            agent = store.manager(chance.choice(AGENTS), actor=actor)
            head = agent.version()
            if head:
                _look_back(agent, chance.randint(1, head), chance)
                if trip % 4 == 0:
                    _branch_off(agent, f"{actor}-{trip}")
            trip += 1
            stop.wait(0.05)


def _look_back(agent: statecore.BlockingManager, version: int, chance: random.Random) -> None:
    past = agent.at(version)
    key = chance.choice(["tokens", "messages", "last", f"k{chance.randrange(KEYS)}"])
    assert same(past.get(key), agent.value_at(key, version)), (agent.agent_id, version, key)
    before = agent.at(version - 1)
    led = agent.diff(version - 1, version).apply(pack_exposed_state(dict(before.data)))
    assert same(unpack_state(led), dict(past.data)), (agent.agent_id, version)


def _branch_off(agent: statecore.BlockingManager, name: str) -> None:
    idea = agent.branch(name)
    for number in range(3):
        idea.set_state(f"idea-{number}", name)
    agent.merge(idea)
    found = agent.value_at("idea-2", agent.version())
    assert found is not None


def sweep(folder: Path, actor: str, stop: Stop) -> None:
    """Look whether temporary states end, and nothing is left of them."""
    with open_store(folder) as store:
        while not stop.is_set():
            store.clean_up()
            for birth in store.agents():
                if birth.kind == statecore.Kind.TEMPORARY:
                    try:
                        store.manager(birth.agent_id).get_state("secret")
                    except Erased:
                        continue
            stop.wait(1.0)


def follow(folder: Path, actor: str, stop: Stop) -> None:
    """Be the command that brings what is new to a backup, and have it tell of it as JSON."""
    told = os.open(folder / f"shipped-{actor}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(told, sys.stdout.fileno())
    command = [sys.executable, "-m", "statecore.cli", "backup", "run", "--json", "--follow"]
    places = [str(folder / "agents.db"), str(folder / "backup")]
    os.execv(sys.executable, [*command, f"--every={FOLLOW_SECONDS}", *places])


def make_reviews(folder: Path, actor: str, stop: Stop) -> None:
    """Make the daily review every so often: it counts all that was acknowledged, and is calm."""
    made = Teller(folder, f"reviewed-{actor}")

    def end_if_told(_: int) -> None:
        if stop.is_set():
            sys.exit()  # at the end of a long day a whole review takes longer than anybody waits

    with open_store(folder) as store:
        while not stop.is_set():
            acknowledged = sum(file.read_bytes().count(b"\n") for file in folder.glob("told-*"))
            found = review(
                store,
                folder / "agents.db",
                Period.DAILY,
                datetime.now(UTC),
                backup=folder / "backup",
                on_progress=end_if_told,
            )
            urgent = [each.text for each in found.concerns if each.rank != Rank.NOTICE]
            assert not urgent, urgent
            counted = int(dict(found.sections[0].figures)["events in this time"].replace(",", ""))
            assert counted >= acknowledged, (counted, acknowledged)
            made.tell(counted)
            stop.wait(REVIEW_SECONDS)


WORKERS: Final[dict[str, Callable[[Path, str, Stop], None]]] = {
    "threads": write_in_threads,
    "tasks": write_as_tasks,
    "subscriber": subscribe,
    "traveller": travel,
    "sweeper": sweep,
    "follower": follow,
    "reviewer": make_reviews,
}


def main() -> None:
    """Work until told to stop."""
    name, folder, actor = sys.argv[1:]
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    WORKERS[name](Path(folder), actor, stop)


if __name__ == "__main__":
    main()
