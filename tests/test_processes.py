"""Several processes on one file: no lost update, no starvation, nothing unseen."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import apsw
import pytest

import statecore
from statecore.errors import WrongExpectedVersion
from statecore.recorders.sqlite.datastore import Datastore, create_datastore
from tests.conftest import KEY, environment

INCREMENT = """
import sys, threading
import statecore

path, face, writers, times = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
key = bytes(range(32))

def blocking():
    with statecore.open(path, key=key) as store:
        def work(number):
            agent = store.manager("shared", actor=f"writer-{number}")
            for at in range(times):
                agent.atomic_update(f"counter-{at % 3}", lambda n: (n or 0) + 1)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

async def tasks():
    async with statecore.open(path, key=key) as store:
        async def work(number):
            agent = store.manager("shared", actor=f"writer-{number}")
            for at in range(times):
                await agent.atomic_update(f"counter-{at % 3}", lambda n: (n or 0) + 1)
        await asyncio.gather(*(work(n) for n in range(writers)))

if face == "blocking":
    blocking()
else:
    import asyncio
    asyncio.run(tasks())
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )


@pytest.mark.parametrize("face", ["blocking", "tasks"])
def test_increments_of_many_processes_add_up(path: Path, face: str) -> None:
    processes, writers, times = 4, 8, 500
    statecore.open(path, key=KEY).blocking().close()

    running = [start(INCREMENT, path, face, writers, times) for _ in range(processes)]
    told = [process.communicate() for process in running]

    assert [error for _, error in told] == [""] * processes
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("shared")
        total = processes * writers * times
        assert sum(agent.at().data.values()) == total
        assert agent.version() == total
        assert [event.version for event in agent.history()] == list(range(1, total + 1))


RETRY = """
import sys, threading
import statecore

path, writers, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with statecore.open(path, key=bytes(range(32))) as store:
    def work():
        agent = store.manager("shared")
        for at in range(times):
            name = f"id-{at}"
            sys.stdout.write(f"{name} {agent.add('n', 1, event_id=name)}\\n")
    threads = [threading.Thread(target=work) for _ in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_whoever_writes_an_id_is_told_the_version_it_has(path: Path) -> None:
    processes, writers, times = 2, 4, 150
    with statecore.open(path, key=KEY) as store:
        store.manager("shared").add("n", 0)

    running = [start(RETRY, path, writers, times) for _ in range(processes)]
    told = [process.communicate() for process in running]

    assert [error for _, error in told] == [""] * processes
    answers = [line.split() for answer, _ in told for line in answer.splitlines()]
    assert len(answers) == processes * writers * times
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("shared")
        versions = {event.id: event.version for event in agent.history()}
        assert agent.get_state("n") == times == len(versions) - 1
    assert [(name, at) for name, at in answers if versions[name] != int(at)] == []


def test_many_processes_may_make_the_store_at_once(path: Path) -> None:
    running = [start(INCREMENT, path, "blocking", 1, 5) for _ in range(6)]
    told = [process.communicate() for process in running]

    assert [error for _, error in told] == [""] * 6
    with statecore.open(path, key=KEY) as store:
        assert sum(store.manager("shared").at().data.values()) == 30


def test_opening_a_new_store_waits_for_another_that_opens_it(path: Path) -> None:
    create_datastore(path, lambda: bytes(16))
    another = apsw.Connection(str(path))
    another.execute("BEGIN IMMEDIATE")
    over = threading.Timer(0.1, another.execute, ["ROLLBACK"])
    over.start()

    Datastore(path).close()

    over.join()
    another.close()


WATCH = """
import sys, time
import statecore

with statecore.open(sys.argv[1], key=bytes(range(32))) as store:
    agent = store.manager("agent")
    print("ready", flush=True)
    for event in agent.watch(0):
        print(event.version, time.time(), flush=True)
        if event.version == 20:
            break
"""


def test_a_watcher_in_another_process_misses_nothing(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        agent.set_state("n", 0)
        process = start(WATCH, path)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in range(1, 20):
            time.sleep(0.005)
            agent.set_state("n", number)
        told = process.stdout.read()  # not by communicate(): it would miss what readline() buffered
        _, error = process.communicate(timeout=60)

    assert error == ""
    assert [int(line.split()[0]) for line in told.splitlines()] == list(range(1, 21))


HOLD = """
import sys
import statecore

with statecore.open(sys.argv[1], key=bytes(range(32))) as store:
    agent = store.manager("agent")
    for line in sys.stdin:
        print(repr(eval(line)), flush=True)
"""


class Other:
    """Another process with the store open, which does what it is told."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def do(self, expression: str) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return eval(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate()


def test_what_another_process_wrote_is_seen_at_once(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent")
        other = Other(path)
        for number in range(20):
            assert other.do(f"agent.set_state('n', {number})") == 2 * number + 1
            assert agent.get_state("n") == number
            assert agent.set_state("m", number) == 2 * number + 2
            assert other.do("agent.get_state('m')") == number
            assert other.do("agent.at(1).data") == agent.at(1).data == {"n": 0}
        with pytest.raises(WrongExpectedVersion):
            agent.set_state("n", 0, expected_version=10)
        other.end()


def test_a_state_that_another_process_erased_is_not_readable_here(path: Path) -> None:
    with statecore.open(path, key=KEY) as store:
        agent = store.manager("agent", kind="temporary", ttl=3600)
        agent.set_state("secret", 1)
        assert agent.at(1).data == {"secret": 1}
        other = Other(path)
        stream = agent.manager._stream.id
        other.do(f"store.store._engine.sequencer.erase(lambda: [{stream!r}])")

        for use in (
            lambda: agent.get_state("secret"),
            lambda: agent.at(1),
            lambda: agent.value_at("secret", 1),
        ):
            with pytest.raises(statecore.Erased):
                use()
        assert other.do("agent.set_state('fresh', 1)") == 3
        assert agent.at().data == {"fresh": 1}
        with pytest.raises(statecore.Erased):
            agent.at(1)
        other.end()
