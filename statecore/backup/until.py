"""Where in a backup to end: at a position, a time, or a version of one stream. Pure."""

from __future__ import annotations

from typing import Protocol

from statecore.backup.segment import Extent
from statecore.codec import read_time
from statecore.errors import VersionNotFound
from statecore.recorders.sqlite.copying import Copied


class Until(Protocol):
    """Tells where to end."""

    def keeps(self, event: Copied) -> bool:
        """Tell whether an event is kept; asked of each in turn, until one is not."""

    def is_reached(self, last: Extent) -> bool:
        """Tell whether nothing behind this extent can be wanted."""

    def require_reached(self, last: Extent) -> None:
        """Refuse a moment that the backup, which ends here, does not reach."""


class All:
    """All there is."""

    def keeps(self, event: Copied) -> bool:
        return True

    def is_reached(self, last: Extent) -> bool:
        return False

    def require_reached(self, last: Extent) -> None:
        """The end is reached."""


class AtPosition:
    """Up to a position."""

    def __init__(self, position: int) -> None:
        self._position = position

    def keeps(self, event: Copied) -> bool:
        return event.position <= self._position

    def is_reached(self, last: Extent) -> bool:
        return last.last >= self._position

    def require_reached(self, last: Extent) -> None:
        if last.last < self._position:
            raise VersionNotFound(f"the backup ends at position {last.last:,}")


class AtTime:
    """What was recorded up to a time, in microseconds since 1970, UTC."""

    def __init__(self, time: int) -> None:
        self._time = time

    def keeps(self, event: Copied) -> bool:
        return not event.is_ours or read_time(event.stored) <= self._time

    def is_reached(self, last: Extent) -> bool:
        return last.last_time > self._time

    def require_reached(self, last: Extent) -> None:
        """Nothing was recorded between its last event and then, as far as the backup knows."""


class AtVersion:
    """Up to a version of one stream."""

    def __init__(self, stream: bytes, version: int) -> None:
        self._stream = stream
        self._version = version
        self._is_reached = False

    def keeps(self, event: Copied) -> bool:
        if self._is_reached:
            return False
        self._is_reached = event.stream == self._stream and event.version == self._version
        return True

    def is_reached(self, last: Extent) -> bool:
        return self._is_reached

    def require_reached(self, last: Extent) -> None:
        if not self._is_reached:
            raise VersionNotFound(f"the backup has no version {self._version} of this state")
