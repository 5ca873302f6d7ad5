"""Hiding checkpoints, and copying threads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from statecore.integrations.langgraph import layout
from statecore.integrations.langgraph.places import Found
from statecore.integrations.langgraph.thread import New, Thread
from statecore.integrations.langgraph.writes import Buffer, pending


async def hide_runs(threads: AsyncIterator[Thread], run_ids: Sequence[str]) -> None:
    """Hide the checkpoints of some runs, an event a thread."""
    wanted = set(run_ids)
    if not wanted:
        return
    async for thread in threads:
        now = await thread.hidden()
        if now is None or not layout.runs_in(now[0]) & wanted:
            continue
        _, hidden = now
        async for found in thread.found(None):
            run_id = thread.metadata_of(found).get("run_id")
            if run_id in wanted:
                gone = hidden.ids.setdefault(found.namespace, [])
                if found.envelope.id not in gone:
                    gone.append(found.envelope.id)
        await thread.hide(hidden)


async def prune(thread: Thread) -> None:
    """Hide all but each namespace's last checkpoint, as one event."""
    now = await thread.hidden()
    if now is None:
        return
    _, hidden = now
    last: dict[str, str] = {}
    async for found in thread.found(None):
        place = (found.namespace, found.envelope.id)
        if found.namespace not in last and place not in hidden:
            last[found.namespace] = found.envelope.id
    hidden.before.update(last)
    await thread.hide(hidden)


async def copy_thread(source: Thread, target: Thread, buffer: Buffer) -> None:
    """Put all checkpoints of a thread into another, oldest first, with what tasks wrote."""
    now = await source.hidden()
    if now is None:
        return
    head, hidden = now
    found = [
        each
        async for each in source.found(None)
        if (each.namespace, each.envelope.id) not in hidden
    ]
    await _name_hidden(target)
    shelf = source.shelf()
    made = [source.tuple_of(each, head, shelf) for each in found]
    for each, tuple_ in zip(reversed(found), reversed(made), strict=True):
        parent, metadata = each.envelope.parent, source.metadata_of(each)
        await target.put(each.namespace, parent, New(tuple_.checkpoint, metadata))
        writes = pending(each.namespace, each.envelope.id, each.last, head, source.held(each))
        if writes:
            step = (target.id, each.namespace, each.envelope.id)
            buffer.add(step, writes)
            if _is_last(each, found):
                await target.record_writes(each.namespace, each.envelope.id)


async def _name_hidden(thread: Thread) -> None:
    """Hide by its id what is hidden as older than another: what comes now may be older, too."""
    now = await thread.hidden()
    if now is None or not now[1].before:
        return
    hidden = now[1]
    async for found in thread.found(None):
        if found.envelope.id < hidden.before.get(found.namespace, ""):
            hidden.ids.setdefault(found.namespace, []).append(found.envelope.id)
    hidden.before.clear()
    await thread.hide(hidden)


def _is_last(each: Found, found: Sequence[Found]) -> bool:
    """Tell whether no checkpoint goes on from one, which would take its writes along."""
    return all(other.envelope.parent != each.envelope.id for other in found)
