"""Write the vectors of today's format: ``python -m tests.vectors.make format-1``.

Run once for each format, when it is new; never again for one that was released.
"""

from __future__ import annotations

import json
import sys
import warnings
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import statecore
from statecore import EMPTY, BlockingManager, BlockingStore
from statecore.change import Change
from tests.conftest import KEY, Clock

HERE = Path(__file__).parent
TIME = datetime(2026, 11, 22, 18, 0, 0, 1, tzinfo=timezone(timedelta(minutes=330)))

CHANGES: list[Change] = [
    EMPTY.put("none", None).put("true", True).put("one", 1).put("float", 1.0).put("big", 2**100),
    EMPTY.put("text", "naïve ✓").put("bytes", b"\x00\xff").put("decimal", Decimal("-1.50")),
    EMPTY.put(
        "time", datetime(2026, 11, 22, 18, 0, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    ),
    EMPTY.put("uuid", UUID(int=2**127 + 1)).put("list", [1, [2, {"": None}]]).put("map", {}),
    EMPTY.extend("list", ["more"]).add("one", 41).add("decimal", Decimal("0.25")).add("float", 0.5),
    EMPTY.splice("list", 0, 1, ["first"]).patch("map", EMPTY.put("a", 1).patch("b", {"c": []})),
    EMPTY.splice("list", 0, 1).extend("list", [True]).splice("list", 1, 0, [b"x"]),
    EMPTY.remove("none").put("long", "lorem ipsum " * 400),
    statecore.CLEAR.put("after", "the clear"),
    EMPTY.put("", "empty key").put("a/b", "slash").put("~", "tilde"),
]


def write(store: BlockingStore, clock: Clock) -> None:
    """Write what a store of every feature holds."""
    agent = store.manager("agent-7", actor="planner")
    for number, change in enumerate(CHANGES):
        clock.tick(1)
        agent.apply(change, reason=None if number % 2 else f"step {number}", cause=f"msg-{number}")
    agent.tag("checkpoint", 4)
    agent.add("n", 1, event_id="payment-42", metadata={"amount": Decimal("9.99")})
    store.manager("board", kind="shared", actor="one").extend("items", ["x"])
    gone = store.manager("session", kind="temporary", ttl=1)
    gone.set_state("secret", "it is erased")


def write_branches(store: BlockingStore, clock: Clock) -> None:
    """Write what a store with forks, merges, conflicts and decisions holds."""
    agent = store.manager("agent-7", actor="planner")
    for number, change in enumerate(CHANGES):
        clock.tick(1)
        agent.apply(change, reason=f"step {number}")
    idea = agent.branch("idea", at=8, description="what if")
    agent.set_strategy("log*", "append")
    for number, branch in enumerate((agent, idea)):
        clock.tick(1)
        branch.set_state("goal", branch.branch_name)
        branch.patch("nested", {"who": branch.branch_name, "both": "same"})
        branch.extend("log", [number])
        branch.add("count", 10 + number)
    deeper = idea.branch("deeper", at=10)
    deeper.set_state("deep", True)
    idea.merge(deeper, reason="it is good")
    agent.merge(idea)
    agent.resolve("goal", pick=0, remember=True)
    agent.revert(3)
    agent.undo()
    agent.redo()
    agent.cherry_pick(deeper, 11)
    agent.restore(5)
    agent.branch("gone").set_state("n", 1)
    agent.delete_branch("gone")
    agent.branch("gone", at=2).set_state("n", 2)


def tell(manager: BlockingManager) -> dict[str, list[str]]:
    """Say what must be read of a branch ever after."""
    states = [manager.at(version) for version in range(manager.version() + 1)]
    conflicts = [state.conflicts for state in states]
    with warnings.catch_warnings(action="ignore", category=statecore.UnresolvedWarning):
        return {
            "states": [repr(state.data) for state in states],
            "conflicts": [repr(found) for found in conflicts],
            "events": [str(event) for event in manager.history()],
            "ids": [event.id for event in manager.history()],
        }


def tell_all(store: BlockingStore) -> dict[str, dict[str, list[str]]]:
    """Say what must be read of each branch of the agent."""
    agent = store.manager("agent-7")
    names = ["main", *(branch.name for branch in agent.branches())]
    return {name: tell(agent.branch(name)) for name in names}


STORIES = {"format-1": write, "format-1-branches": write_branches}

if __name__ == "__main__":
    folder = HERE / sys.argv[1]
    folder.mkdir()
    clock = Clock()
    with statecore.open(folder / "agents.db", key=KEY, clock=clock) as opened:
        STORIES[sys.argv[1]](opened, clock)
        clock.tick(60)
        opened.clean_up()
        told = tell_all(opened)
    (folder / "agents.db-lock").unlink()
    (folder / "expected.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
