"""The history of delta channels: what was written since a channel's last whole value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite

from statecore.integrations.langgraph.thread import Thread


async def delta_history(
    thread: Thread, namespace: str, checkpoint_id: str | None, channels: Sequence[str]
) -> Mapping[str, DeltaChannelHistory]:
    """Return, for each channel, its writes from its last whole value on to a checkpoint's parent.

    Follows parents, hidden ones too, back to where each channel has a value; that is its seed.
    """
    writes: dict[str, list[list[PendingWrite]]] = {channel: [] for channel in channels}
    seeds: dict[str, Any] = {}
    parent = await thread.parent_of(namespace, checkpoint_id) if channels else None
    walked: set[str] = set()
    while parent is not None and parent not in walked and len(seeds) < len(writes):
        walked.add(parent)
        step = await thread.step_at(namespace, parent)
        if step is None:
            break
        for channel in writes.keys() - seeds.keys():
            writes[channel].append([write for write in step.writes if write[1] == channel])
            if channel in step.channels:
                seeds[channel] = step.value(channel)
        parent = step.parent
    history: dict[str, DeltaChannelHistory] = {}
    for channel, steps in writes.items():
        history[channel] = {"writes": [write for step in reversed(steps) for write in step]}
        if channel in seeds:
            history[channel]["seed"] = seeds[channel]
    return history
