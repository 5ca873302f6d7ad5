"""What happened in a store over a time, counted: every event of it is opened once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from statecore.blocking import BlockingManager
from statecore.errors import Damage, Erased, StatecoreError
from statecore.events import Event
from statecore.store import BlockingStore
from statecore.stream import MAIN


@dataclass(slots=True)
class Survey:
    """What was counted."""

    since: datetime
    until: datetime
    steps: int
    """Into how many parts the time is cut."""
    agents: Counter[str] = field(default_factory=Counter)
    actors: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    per_step: list[int] = field(default_factory=list)
    states: int = 0
    """Branches of all agents."""
    conflicts: dict[str, int] = field(default_factory=dict)
    """Places in conflict now, by agent and branch."""
    violations: dict[str, int] = field(default_factory=dict)
    """Places where rules don't hold, likewise."""
    damaged: dict[str, str] = field(default_factory=dict)
    """What could not be read, likewise, and why."""
    unread: dict[str, str] = field(default_factory=dict)
    """What could not be looked at for another reason, likewise."""
    ended: int = 0

    @property
    def events(self) -> int:
        """Events in the time."""
        return sum(self.per_step)

    def count(self, event: Event) -> None:
        """Count an event."""
        step = (self.until - self.since) / self.steps
        at = int((event.time - self.since) / step)
        self.per_step[min(max(at, 0), self.steps - 1)] += 1
        self.agents[event.agent_id] += 1
        self.actors[event.actor or "(nobody)"] += 1
        self.types[event.type.name.lower()] += 1


def survey(
    store: BlockingStore,
    since: datetime,
    until: datetime,
    steps: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Survey:
    """Return what happened on every branch of every agent in a time; and how things are now."""
    found = Survey(since, until, steps, per_step=[0] * steps)
    for birth in store.agents():
        try:
            for branch in _branches(store.manager(birth.agent_id)):
                _look(found, branch, on_progress)
        except Erased:
            found.ended += 1
        except Damage as error:
            found.damaged[birth.agent_id] = str(error)
    return found


def _branches(main: BlockingManager) -> Iterator[BlockingManager]:
    yield main
    for known in main.branches():
        yield main.branch(known.name, create=False)


def _look(found: Survey, branch: BlockingManager, on_progress: Callable[[int], None]) -> None:
    name = branch.agent_id
    if branch.branch_name != MAIN:
        name = f"{name} on {branch.branch_name}"
    found.states += 1
    try:
        shared = branch.start()  # with the branch it began on, which counts it
        for event in branch.history(since=found.since - timedelta(microseconds=1)):
            if event.version > shared and event.time <= found.until:
                found.count(event)
                if found.events % 256 == 0:
                    on_progress(found.events)
        if conflicts := len(branch.conflicts()):
            found.conflicts[name] = conflicts
        if violations := len(branch.check()):
            found.violations[name] = violations
    except Erased:
        found.ended += 1
    except Damage as error:
        found.damaged[name] = str(error)
    except StatecoreError as error:  # such as a rule that needs an extra that is not installed
        found.unread[name] = str(error)
