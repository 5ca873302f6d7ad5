"""The peers that answer questions of history beside us, each in the way its own users would.

A contender is built from sets, the first of which makes version 1. It has a method for each
question; one that it can't answer raises ``Cant`` with the reason.

What lasts: doltlite and the temporal table sync each commit, as statecore does. libgit2 leaves it
to the operating system when a commit reaches the disk. loro and pycrdt live in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.peers.contender import Contender, Pairs
from benchmarks.peers.crdts import Loro, Pycrdt, loro, pycrdt
from benchmarks.peers.git import Git, pygit2
from benchmarks.peers.tables import Doltlite, TemporalTable, doltlite


class Peer(NamedTuple):
    """Somebody who may be here."""

    name: str
    is_here: bool
    build: Callable[[Path, Pairs], Contender]


PEERS: Final = (
    Peer(TemporalTable.name, True, TemporalTable),
    Peer(Doltlite.name, doltlite is not None, Doltlite),
    Peer(Git.name, pygit2 is not None, Git),
    Peer(Loro.name, loro is not None, Loro),
    Peer(Pycrdt.name, pycrdt is not None, Pycrdt),
)
