"""Anchors: signed heads kept outside the store, where whoever writes to that can't reach them."""

from __future__ import annotations

from pathlib import Path

from statecore.errors import InputError
from statecore.recorders.sqlite.reading import StoreFile
from statecore.transparency.checkpoint import Checkpoint, parse_checkpoint
from statecore.transparency.note import parse_note
from statecore.verifying import Depth, Verdict, keep_head, verify


def last_head(path: Path) -> bytes:
    """Return the last signed head in a store's file; needs no key, and signs nothing.

    Raises:
        InputError: nothing was signed yet.
        StoreNotFound, ForeignSchema, NewerFormat, Damage: there is nothing to read it from.
    """
    file = StoreFile(path)
    try:
        head = file.tree.last_head()
    finally:
        file.close()
    if head is None:
        raise InputError(f"{path} has no signed head yet")
    return head[1]


def last_position(path: Path) -> int:
    """Return the position of the last event in a store's file: about how many there are.

    Raises:
        StoreNotFound, ForeignSchema, NewerFormat, Damage: there is nothing to read it from.
    """
    file = StoreFile(path)
    try:
        rows = file.all("SELECT position FROM events ORDER BY position DESC LIMIT 1")
    finally:
        file.close()
    return rows[0][0] if rows else 0


def anchor(store: Path, note: bytes, destination: Path) -> Path:
    """Keep a head of a store outside, and return the file it is in.

    In a folder each head has a file of its own. A file is replaced only by a head of the same log
    that goes on from the one it holds, as verified with the store at hand.

    Args:
        store: the store's file.
        note: the signed head.
        destination: a file, or a folder that is there.

    Raises:
        InputError: what the file holds is no head, or the log does not go on from it.
    """
    said = checkpoint_of(note)
    if destination.is_dir():
        destination /= f"{said.origin.rpartition('/')[2]}-{said.size}.head"
    if destination.exists():
        before = checkpoint_of(destination.read_bytes())
        found = verify(store, anchors=[destination], depth=Depth.PROOFS)
        if before.origin != said.origin or before.size > said.size:
            raise InputError(f"{destination} holds a head of {before.origin}, {before.size} events")
        if found.verdict not in (Verdict.ANCHORED, Verdict.WITNESSED):
            why = "; ".join(finding.text for finding in found.findings)
            raise InputError(f"{destination} was not replaced: {why}")
    keep_head(destination, note)
    return destination


def checkpoint_of(note: bytes) -> Checkpoint:
    """Return what a signed head says, signed or not.

    Raises:
        Malformed: it is none.
    """
    return parse_checkpoint(parse_note(note).text)
