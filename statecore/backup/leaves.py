"""The audit tree made again of a backup's events, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from statecore.codec.leaf import NO_LINK, chained_leaf
from statecore.errors import Damage
from statecore.recorders.sqlite.copying import Copied
from statecore.transparency.merkle import Frontier

VERSION_END = 1 << 63


class Leaves:
    """Hashes events in the order of the log, and tells the roots of the tree on the way."""

    def __init__(
        self,
        frontier: Frontier | None = None,
        link_of: Callable[[bytes], bytes | None] = lambda _: None,
    ) -> None:
        """Go on from a tree.

        Args:
            frontier: the tree; an empty one without.
            link_of: gives the last leaf hash of a stream in it, where there is any.
        """
        self.frontier = frontier or Frontier()
        self._link_of = link_of
        self._links: dict[bytes, bytes] = {}

    @property
    def streams(self) -> int:
        """How many streams the events taken in are of."""
        return len(self._links)

    def take(self, events: Iterable[Copied], sizes: Iterable[int] = ()) -> dict[int, bytes]:
        """Take in events, those of other applications apart; return roots.

        Args:
            events: the next ones.
            sizes: of the trees whose roots are wanted; those not reached now are left out.

        Raises:
            Damage: an event is of a stream or a version that none can be of.
        """
        ours = [event for event in events if event.is_ours]
        first = self.frontier.size
        roots: dict[int, bytes] = {}
        for size in sorted({*sizes}):
            if first <= size <= first + len(ours):
                self._extend(ours[self.frontier.size - first : size - first])
                roots[size] = self.frontier.root()
        self._extend(ours[self.frontier.size - first :])
        return roots

    def _extend(self, events: Iterable[Copied]) -> None:
        links, leaves = self._links, []
        for _, stream, version, _, stored, _, _ in events:
            if type(stream) is not bytes or not 0 < version < VERSION_END:
                raise Damage("an event is of a stream or a version that none can be of")
            link = links.get(stream) or self._link_of(stream) or NO_LINK
            leaf = links[stream] = chained_leaf(stream, version, link, stored)
            leaves.append(leaf)
        self.frontier.extend(leaves)
