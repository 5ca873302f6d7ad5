"""Synthetic agent state: the messages, plans, tool calls and counters that agents keep.

Everything is made from a seed and the lists below; no user's data, no model's output. The shipped
compression dictionary is trained on it (train_dictionary.py), and the workloads are made of it.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.words import (
    CITIES,
    COMMON,
    KEYS,
    PEOPLE,
    REASONS,
    SENTENCES,
    STATUSES,
    TOOLS,
    TOPICS,
    VERBS,
)

LETTERS = (
    "etaoinshrdlucmfwypvbgkjqxz",
    (12, 9, 8, 8, 7, 7, 6, 6, 6, 4, 4, 3, 3, 3, 2, 2, 2, 2, 1, 1, 2, 0.8, 0.2, 0.1, 0.2, 0.1),
)


class Synthetic:
    """An endless supply of agent state from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._clock = datetime(2026, 1, 5, 8, tzinfo=UTC)

    def pick(self, choices: Sequence[str]) -> str:
        """One of these."""
        return self.random.choice(choices)

    def sentence(self) -> str:
        """One sentence of a conversation."""
        text = self.pick(SENTENCES)
        while "{" in text:
            slot = text[text.index("{") + 1 : text.index("}")]
            text = text.replace(f"{{{slot}}}", self._fill(slot), 1)
        return text

    def text(self, length: int) -> str:
        """Sentences of about this many characters."""
        out = self.sentence()
        while len(out) < length - 30:
            out += " " + self.sentence()
        return out

    def words(self, length: int) -> str:
        """Words of about this many characters that form no sentence; one in ten is no word."""
        text = ""
        while len(text) < length:
            rank = int(self.random.paretovariate(0.55)) - 1  # few words are common, most are rare
            word = COMMON[min(rank, len(COMMON) - 1)]
            if self.random.random() < 0.1:
                word = "".join(self.random.choices(*LETTERS, k=self.random.randint(2, 9)))
            text += word + self.random.choices((" ", ", ", ". ", "\n"), (80, 7, 5, 1))[0]
        return text[:length].strip()

    def _fill(self, slot: str) -> str:
        fillers: dict[str, Callable[[], str]] = {
            "verb": lambda: self.pick(VERBS),
            "topic": lambda: self.pick(TOPICS),
            "reason": lambda: self.pick(REASONS),
            "tool": lambda: self.pick(TOOLS),
            "city": lambda: self.pick(CITIES),
            "person": lambda: self.pick(PEOPLE),
            "status": lambda: self.pick(STATUSES),
            "n": lambda: str(self.random.randint(1, 40)),
            "price": lambda: f"{self.random.uniform(20, 900):.2f}",
            "date": self.date,
        }
        return fillers[slot]()

    def date(self) -> str:
        """An ISO date of the year."""
        return f"2026-{self.random.randint(1, 12):02}-{self.random.randint(1, 28):02}"

    def moment(self) -> str:
        """An ISO time, a little later than the last one."""
        self._clock += timedelta(seconds=self.random.expovariate(1 / 40))
        return self._clock.isoformat(timespec="seconds")

    def identifier(self, prefix: str) -> str:
        """An identifier such as model providers hand out."""
        return prefix + "".join(self.random.choices(string.ascii_letters + string.digits, k=24))

    def message(self, length: int = 400) -> dict[str, Any]:
        """One message of a conversation."""
        role = self.random.choices(("assistant", "user", "tool"), (5, 3, 2))[0]
        message: dict[str, Any] = {"role": role, "content": self.text(length)}
        if role == "assistant" and self.random.random() < 0.4:
            message["tool_calls"] = [self.tool_call()]
        if role == "tool":
            message |= {"name": self.pick(TOOLS), "tool_call_id": self.identifier("call_")}
        return message

    def tool_call(self) -> dict[str, Any]:
        """A call of a tool."""
        arguments = {"query": self.sentence(), "limit": self.random.randint(1, 20)}
        function = {"name": self.pick(TOOLS), "arguments": arguments}
        return {"id": self.identifier("call_"), "type": "function", "function": function}

    def tool_result(self, size: int) -> dict[str, Any]:
        """The result of a tool, of about this many bytes."""
        items = [self.result_item() for _ in range(max(1, size // 330))]
        return {"tool": self.pick(TOOLS), "ok": True, "count": len(items), "items": items}

    def result_item(self) -> dict[str, Any]:
        """One item of a tool's result."""
        return {
            "id": self.random.randint(1000, 999_999),
            "title": f"{self.pick(VERBS)} {self.pick(TOPICS)}",
            "url": f"https://example.com/item/{self.random.randint(1, 99_999)}",
            "price": round(self.random.uniform(5, 900), 2),
            "score": self.random.random(),
            "snippet": self.text(160),
        }

    def step(self) -> dict[str, Any]:
        """A step of a plan."""
        return {
            "id": self.random.randint(1, 99),
            "description": f"{self.pick(VERBS)} {self.pick(TOPICS)}",
            "status": self.pick(STATUSES),
            "assignee": self.pick(PEOPLE),
            "depends_on": sorted(self.random.sample(range(1, 20), self.random.randint(0, 3))),
        }

    def plan(self, steps: int) -> dict[str, Any]:
        """A plan with nested steps."""
        return {
            "goal": self.sentence(),
            "created_at": self.moment(),
            "priority": self.pick(("low", "normal", "high", "urgent")),
            "steps": [self.step() for _ in range(steps)],
        }

    def profile(self) -> dict[str, Any]:
        """What an agent knows of a user."""
        person = self.pick(PEOPLE)
        return {
            "name": person,
            "email": f"{person.lower()}@example.com",
            "language": self.pick(("en", "de", "fr", "es", "pt", "ja")),
            "timezone": self.pick(("Europe/Berlin", "UTC", "America/New_York", "Asia/Tokyo")),
            "city": self.pick(CITIES),
            "vip": self.random.random() < 0.2,
            "last_seen": self.moment(),
        }

    def record(self) -> dict[str, Any]:
        """A value of about 170 packed bytes, such as one key of a state holds."""
        return {
            "task": f"{self.pick(VERBS)} {self.pick(TOPICS)}",
            "status": self.pick(STATUSES),
            "assignee": self.pick(PEOPLE),
            "attempts": self.random.randint(0, 9),
            "updated_at": self.moment(),
            "note": self.sentence()[:70],
        }

    def small(self) -> Any:
        """A small value: a counter, a status, a flag, a score, a name."""
        return self.random.choice(
            (
                lambda: self.random.randint(0, 10_000),
                lambda: self.pick(STATUSES),
                lambda: self.random.random() < 0.5,
                lambda: round(self.random.random(), 3),
                lambda: self.pick(PEOPLE),
                self.moment,
                lambda: f"{self.pick(VERBS)} {self.pick(TOPICS)}",
            )
        )()

    def key(self) -> str:
        """The name of a key."""
        key = self.pick(KEYS)
        return key if self.random.random() < 0.6 else f"{key}/{self.random.randint(1, 400)}"
