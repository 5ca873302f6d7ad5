"""The catalog: which agents there are, told by the first event of each stream."""

from __future__ import annotations

from collections.abc import Iterator

from statecore.events import Birth
from statecore.streams import Streams


def births(streams: Streams) -> Iterator[Birth]:
    """Yield what the first event of each stream says of it, oldest first; not of those erased."""
    for stream_id in streams.log.streams():
        birth = streams.birth_of(stream_id)
        if birth is not None:
            yield birth
