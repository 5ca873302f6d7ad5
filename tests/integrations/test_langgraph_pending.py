"""What tasks wrote stays with the checkpoint they wrote it since."""

from __future__ import annotations

from typing import Any

import pytest

import statecore
from tests.conftest import KEY

pytest.importorskip("langgraph.checkpoint.base", reason="statecore[langgraph] is not installed")

from langgraph.checkpoint.base import empty_checkpoint

from statecore.integrations.langgraph import StatecoreSaver


@pytest.mark.parametrize("linger_seconds", [0, 60])
def test_pending_writes_do_not_wander_to_checkpoints_that_have_none(linger_seconds: float) -> None:
    with statecore.open("memory:", key=KEY) as store:
        saver = StatecoreSaver(store, linger_seconds=linger_seconds)
        one, two, three = (
            _put(saver, parent, n) for n, parent in [("1", ""), ("2", ""), ("3", "2")]
        )
        saver.put_writes(three, [("seen", 1)], "task")
        others = [_put(saver, "3", "4"), _put(saver, "4", "5"), _put(saver, "", "6")]

        pending = {each["configurable"]["checkpoint_id"]: _pending(saver, each) for each in others}

        assert _pending(saver, three) == [("task", "seen", 1)]
        assert pending == {"4": [], "5": [], "6": []}
        assert _pending(saver, one) == _pending(saver, two) == []
        saver.close()


def _put(saver: StatecoreSaver, parent: str, checkpoint_id: str) -> Any:
    checkpoint: Any = {**empty_checkpoint(), "id": checkpoint_id}
    return saver.put(_config(parent), checkpoint, {}, {})


def _config(checkpoint_id: str) -> Any:
    known = {"checkpoint_id": checkpoint_id} if checkpoint_id else {}
    return {"configurable": {"thread_id": "1", "checkpoint_ns": "", **known}}


def _pending(saver: StatecoreSaver, config: Any) -> Any:
    found = saver.get_tuple(config)
    return found and found.pending_writes
