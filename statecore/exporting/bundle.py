"""An exported audit record: what a stranger verifies, with nothing of ours installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from statecore.audit_record import AuditEntry
from statecore.audit_text import entry_data
from statecore.codec.cut import is_cut
from statecore.codec.leaf import read_entry
from statecore.errors import InputError, Unproven
from statecore.exporting.folder import Folder
from statecore.exporting.log_files import CHECKPOINT, drop_outgrown, require_root, write_log
from statecore.exporting.readme import readme
from statecore.projections.audit_tree import TILE_LEAVES, AuditTree
from statecore.recorders.sqlite.reading import StoreFile
from statecore.transparency.checkpoint import Checkpoint
from statecore.transparency.merkle import EMPTY_ROOT, prove_inclusion
from statecore.transparency.policy import Policy, judge, parse_policy
from statecore.transparency.proof import Proof, write_proof

POLICY: Final = "policy"
_PARTS: Final = {
    "ed25519.py": "from statecore.exporting.ed25519 import is_signed\n",
    "tree.py": "from statecore.exporting.tree import grow, over, root_by_proof, root_of\n",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to."""

    origin: str
    """Which log."""
    events: int
    """Under the head that was exported."""
    new_events: int
    """That the folder did not hold before."""
    chosen: int
    """Events with files of their own."""
    files_written: int


def export(
    store: Path,
    folder: Path,
    head: bytes,
    policy: bytes,
    *,
    chosen: Iterable[AuditEntry] = (),
    opened: bool = False,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Exported:
    """Export the audit record of a store's file to a folder, for whoever is to verify it.

    The head is written last, so that an export that was killed is gone on with by the next one. A
    folder that holds an older export of the log is brought up to date, once it was verified that
    the log goes on from it; its head is then kept among the older ones.

    Args:
        store: the file.
        folder: made, if it is not there.
        head: a signed head of the log: how far the export goes.
        policy: trusts the log's key (c2sp.org/tlog-policy).
        chosen: events to give files of their own; those behind the head are left out, and those
            that were archived, whose sealed bytes are not here.
        opened: these with what they say, too, where they are open.
        on_progress: called with how many events the folder holds.

    Raises:
        InputError: the folder holds something else.
        Unproven: the policy does not trust the head; the log does not go on from what the folder
            holds, or that was changed; or the store is not what its head was signed over.
        StoreNotFound, ForeignSchema, NewerFormat, Damage: there is nothing that can be exported.
        StoreBusy: another process exports to this folder.
    """
    trusted = parse_policy(policy)
    said = judge(trusted, head).checkpoint
    file = StoreFile(store)
    try:
        tree = AuditTree(file.tree)
        with Folder(folder) as target:
            before = _require_ours(target, trusted, policy, said, tree)
            old = target.read(CHECKPOINT)
            target.put(POLICY, policy)
            write_log(target, tree, said.size, before.size, on_progress)
            require_root(target, said, "the store is not what its head was signed over: verify it")
            if old is not None and before.size < said.size:
                target.put(f"heads/{before.size}", old)
            for size, note in file.tree.heads():
                if size < said.size:
                    target.put(f"heads/{size}", note)
            count = _put_chosen(target, tree, Head(head, said.size), chosen, opened)
            target.put("README.md", readme(said, opened=opened).encode())
            target.put("verify.py", script().encode())
            target.put(CHECKPOINT, head)
            drop_outgrown(target, said.size)
            return Exported(said.origin, said.size, said.size - before.size, count, target.written)
    finally:
        file.close()


@dataclass(frozen=True, slots=True)
class Head:
    """A signed head that proofs lead to."""

    note: bytes
    size: int


def script() -> str:
    """Return the script that verifies an export: one file, for Python 3.8 or later alone."""
    here = resources.files(__package__)
    text = here.joinpath("verify.py").read_text()
    for name, line in _PARTS.items():
        part = here.joinpath(name).read_text().partition('"""\n')[2]  # without its docstring
        text = text.replace(line, part.strip("\n") + "\n")
    return text


def _require_ours(
    folder: Folder, trusted: Policy, policy: bytes, said: Checkpoint, tree: AuditTree
) -> Checkpoint:
    """Return the head that the folder holds, or that of nothing; refuse another's folder."""
    kept = folder.read(CHECKPOINT)
    if kept is None:
        if folder.read(POLICY) != policy and any(folder.names()):
            raise InputError(f"{folder.path} is not empty, and holds no export of this log")
        return Checkpoint(said.origin, 0, EMPTY_ROOT)
    try:
        before = judge(trusted, kept).checkpoint
    except (Unproven, InputError) as error:
        raise InputError(f"{folder.path} holds an export of another log: {error}") from error
    if before.origin != said.origin:
        raise InputError(f"{folder.path} holds an export of {before.origin}")
    whose = f"{folder.path} holds {before.size:,} events of this log"
    if before.size > said.size:
        raise Unproven(f"{whose}, and the store has {said.size:,}: its end was cut off")
    if tree.root(before.size) != before.root:
        raise Unproven(f"{whose}, and some of them are not those that the store has now")
    require_root(folder, before, f"{whose}, but its files were changed: export to a new folder")
    return before


def _put_chosen(
    folder: Folder, tree: AuditTree, head: Head, chosen: Iterable[AuditEntry], opened: bool
) -> int:
    """Give events files of their own; return how many."""
    count, tile, entries = 0, -1, list[bytes]()
    for each in chosen:
        if each.index is None or each.index >= head.size:
            continue
        number, place = divmod(each.index, TILE_LEAVES)
        if number != tile:
            tile, entries = number, tree.entries(number)
            rows = tree.rows(number)
        name, entry, stored = f"events/{each.index:012}", entries[place], rows[place][3]
        if is_cut(stored):
            continue
        hashes = prove_inclusion(each.index, head.size, tree.hash_at)
        proof = write_proof(Proof(each.index, tuple(hashes), head.note, entry))
        folder.put(f"{name}.entry", entry)
        folder.put(f"{name}.sealed", stored[len(read_entry(entry).header) :])
        folder.put(f"{name}.tlog-proof", proof)
        if opened and each.event is not None:
            text = json.dumps(entry_data(each, changes=True), indent=2)
            folder.put(f"{name}.json", f"{text}\n".encode())
        count += 1
    return count
