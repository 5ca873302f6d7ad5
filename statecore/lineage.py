"""The key history of forks: what a stream's own history does not know, its parent's does."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from statecore.codec import Record
from statecore.stream import KeyHistory, Stream


class InheritedKeyHistory:
    """A key history that follows a stream to those it forked from."""

    def __init__(self, own: KeyHistory) -> None:
        self._own = own

    def last_touched(self, stream: Stream, key: str, at: int) -> tuple[int, int]:
        if stream.parent is None:
            return self._own.last_touched(stream, key, at) if stream.key else (0, at)
        if at <= stream.fork:
            touched, until = self.last_touched(stream.parent, key, at)
            return touched, min(until, stream.fork)
        touched, until = self._own.last_touched(stream, key, at) if stream.key else (0, at)
        return (touched or self.last_touched(stream.parent, key, stream.fork)[0]), until

    def last_cleared(self, stream: Stream, at: int) -> int:
        if stream.parent is None:
            return self._own.last_cleared(stream, at) if stream.key else 0
        own = at > stream.fork and stream.key and self._own.last_cleared(stream, at)
        return own or self.last_cleared(stream.parent, min(at, stream.fork))

    def touched(self, stream: Stream, key: str, after: int, until: int) -> list[int]:
        return self._between(
            stream, after, until, lambda owner, *span: self._own.touched(owner, key, *span)
        )

    def cleared(self, stream: Stream, after: int, until: int) -> list[int]:
        return self._between(stream, after, until, self._own.cleared)

    def _between(
        self, stream: Stream, after: int, until: int, own: Callable[[Stream, int, int], list[int]]
    ) -> list[int]:
        versions: list[int] = []
        if stream.parent is not None and after < stream.fork:
            versions = self._between(stream.parent, after, min(until, stream.fork), own)
            after = stream.fork
        return versions + own(stream, after, until) if until > after and stream.key else versions

    @property
    def refuses_known_ids(self) -> bool:
        return self._own.refuses_known_ids

    def find_id(self, stream: Stream, event_id: str) -> int:
        return self._own.find_id(stream, event_id) if stream.key else 0

    def observe(self, stream: Stream, records: Iterable[Record]) -> None:
        self._own.observe(stream, records)

    def forget(self, stream_id: bytes) -> None:
        self._own.forget(stream_id)
