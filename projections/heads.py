"""Signed heads of the audit tree: when they are taken, and which are kept.

A head is a signed checkpoint (c2sp.org/tlog-checkpoint) of the whole log. One is taken when 1,024
more events are there, within the turn that writes the last of them; a second after the last write;
when the store is closed; and whenever somebody asks. Those at multiples of 1,024 are kept, and the
last one. Before anything is signed, the tree must go on from the last head.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from statecore.errors import Damage, InputError, StatecoreError, StoreFailure
from statecore.projections.audit_tree import TILE_LEAVES, AuditTree, MemoryTree, TreeKeeper
from statecore.recorders import KeptTree, LogStore
from statecore.transparency.checkpoint import Checkpoint, parse_checkpoint, write_checkpoint
from statecore.transparency.merkle import leaf_hash, prove_inclusion, verify_inclusion
from statecore.transparency.note import Note, parse_note, sign, write_note
from statecore.transparency.policy import Log, Policy, write_policy
from statecore.transparency.proof import Proof, write_proof
from statecore.transparency.signers import Ed25519Signer, Signer

HEAD_EVENTS: Final = 1024
QUIET_SECONDS: Final = 1.0


class HeadKeeper:
    """Keeps the tree of one open log, and takes its heads."""

    def __init__(
        self, log: LogStore, signer: Signer, on_failure: Callable[[StatecoreError], None]
    ) -> None:
        self._log = log
        self._signer = signer
        self._on_failure = on_failure
        self._keeper = TreeKeeper(self._on_tile)
        self._own = None if log.tree else MemoryTree(log)
        self._tree = AuditTree(log.tree or self._own or MemoryTree(log))
        self._last = b""  # the head that is known to fit the tree
        self._freshness = -1
        self._commits = 0
        self._dirty = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        if log.tree is not None:
            log.on_commit = self._on_commit

    @property
    def tree(self) -> AuditTree:
        """The tree, for questions."""
        if self._own is not None:
            self._own.catch_up()
        return self._tree

    def head(self) -> bytes:
        """Return the signed head of all that is in the log now; the same one until there is more.

        Raises:
            Damage: the log does not go on from the last head.
        """
        if self._own is not None:
            self._own.catch_up()
            return self._sign(self._own, self._tree.size())
        with self._log.turn() as turn:
            tree = turn.tree
            assert tree is not None, "a log that keeps a tree keeps it in turns"
            if not AuditTree(tree).is_kept_up():  # made without one, and not written to since
                self._keeper.extend(tree, self._log.last_position())
            before, note = tree.last_head(), self._sign(tree, AuditTree(tree).size())
            if before is None or before[1] != note:
                turn.commit()
        return note

    def prove(self, position: int) -> bytes:
        """Return the proof, in a file (c2sp.org/tlog-proof), that an event is in the log.

        Its extra data is the event's entry in the tree, whose leaf hash it proves. The proof leads
        to the last head, or to a new one if the event is behind that.

        Raises:
            InputError: there is no event at this position.
            Damage: the log does not go on from the last head, or the tree does not lead there.
        """
        for _ in range(2):
            proof = self._prove(position)
            if _holds(proof):
                return write_proof(proof)
            # What is known here may be of a tree that was damaged, and made again since.
            self._tree = AuditTree(self._tree.kept)
        raise Damage(
            f"the audit tree does not lead from position {position} to the signed head: "
            "`statecore verify` tells more, `statecore rebuild` makes the tree again"
        )

    def _prove(self, position: int) -> Proof:
        tree = self.tree
        try:
            index = tree.index_of(position)
        except InputError:
            if tree.is_kept_up():
                raise
            self.head()
            index = tree.index_of(position)
        head = tree.kept.last_head()
        size, note = head if head is not None and index < head[0] else (0, b"")
        if not size:
            note = self.head()
            size = parse_checkpoint(parse_note(note).text).size
        hashes = prove_inclusion(index, size, tree.hash_at)
        return Proof(index, tuple(hashes), note, tree.entry(index))

    def index_of(self, position: int) -> int:
        """Return the index of the leaf of the event at a position.

        Raises:
            InputError: there is no event.
        """
        return self.tree.index_of(position)

    def policy(self) -> bytes:
        """Return the policy (c2sp.org/tlog-policy) that trusts the key of this log, and no witness.

        Raises:
            InputError: the signer that was given does not tell its public key.
        """
        if not isinstance(self._signer, Ed25519Signer):
            raise InputError("the store's signer does not tell its key: write the policy yourself")
        return write_policy(Policy((Log(self._signer.verifier),)))

    def close(self) -> None:
        """Take a last head, if anything was written since the one before."""
        self._closed.set()
        self._dirty.set()
        if self._thread is not None:
            self._thread.join()
            self._sign_quietly()

    def _on_commit(self, tree: KeptTree, last: int) -> None:
        freshness = self._log.freshness()
        if freshness != self._freshness:
            self._keeper.forget()
            self._freshness = freshness
        self._keeper.extend(tree, last)
        self._commits += 1
        if not self._dirty.is_set():
            self._dirty.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="statecore-heads")
                self._thread.daemon = True
                self._thread.start()

    def _on_tile(self, tree: KeptTree, tiles: int) -> None:
        if tiles * TILE_LEAVES % HEAD_EVENTS:
            return
        try:
            self._sign(tree, tiles * TILE_LEAVES)
        except Damage as error:
            self._on_failure(error)  # what was written is as good; only nothing is vouched for

    def _run(self) -> None:
        while self._dirty.wait() and not self._closed.is_set():
            commits = self._commits
            if self._closed.wait(QUIET_SECONDS):
                return
            if commits == self._commits:
                self._dirty.clear()
                self._sign_quietly()

    def _sign_quietly(self) -> None:
        try:
            self.head()
        except StoreFailure:
            self._last = b""  # whoever writes is told; the next head covers what this one would
        except StatecoreError as error:
            self._on_failure(error)

    def _sign(self, tree: KeptTree, size: int) -> bytes:
        view = AuditTree(tree)
        before = tree.last_head()
        if before is not None:
            self._require_fit(view, *before)
            if before[0] == size:
                return before[1]
        text = write_checkpoint(Checkpoint(self._signer.name, size, view.root(size)))
        note = write_note(sign(Note(text), self._signer))
        tree.keep_head(size, note)
        if before is not None and before[0] % HEAD_EVENTS:
            tree.drop_head(before[0])
        self._last = note
        return note

    def _require_fit(self, view: AuditTree, size: int, note: bytes) -> None:
        """Refuse to go on from a head that is not this tree's."""
        if note == self._last:
            return
        try:
            said = parse_checkpoint(parse_note(note).text)
        except InputError as error:
            raise Damage(f"the log's last signed head is none: {error}") from error
        there = view.size()
        if said.size != size or size > there or said.root != view.root(size):
            raise Damage(
                f"the log of {there} events does not go on from its last signed head, of {size}: "
                "events were taken away or replaced; `statecore verify` tells more"
            )
        self._last = note


@lru_cache(maxsize=4)  # many proofs lead to one head
def _parsed(note: bytes) -> Checkpoint:
    return parse_checkpoint(parse_note(note).text)


def _holds(proof: Proof) -> bool:
    """Tell whether a proof leads to the root that was signed."""
    head, leaf = _parsed(proof.checkpoint), leaf_hash(proof.extra)
    return verify_inclusion(leaf, proof.index, head.size, proof.hashes, head.root)
