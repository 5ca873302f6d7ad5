"""That a store was restored to an earlier moment: recorded in a stream that is no agent's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from statecore.engine import Engine
from statecore.manager import Housekeeper
from statecore.stream import StreamName

RESTORES: Final = StreamName("", "restores")  # no agent's id is empty
_KEY: Final = "went-back"


@dataclass(frozen=True, slots=True)
class WentBack:
    """What a restore to an earlier moment left behind."""

    head: str
    """The last signed head of the history it went back from: a signed note."""
    events: int
    """How many events that head covers."""
    kept: int
    """How many of them were kept."""
    position: int
    """The position of the last of those."""


async def restores(engine: Engine) -> list[WentBack]:
    """Return what restores left behind, oldest first."""
    found = await Housekeeper(engine, RESTORES).get_state(_KEY, [])
    return [WentBack(**each) for each in found]


async def note_restore(engine: Engine, went_back: WentBack) -> None:
    """Record what a restore left behind."""
    await Housekeeper(engine, RESTORES, actor="restore").extend(_KEY, [asdict(went_back)])
