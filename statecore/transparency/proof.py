"""Proofs in a file: that an entry is in a log, to be verified offline (c2sp.org/tlog-proof).

A proof has the entry's index, the way from its leaf to the root, and a signed checkpoint with that
root; and extra data of whoever wrote it, which nothing vouches for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from statecore.errors import LimitExceeded, Malformed, Unproven
from statecore.transparency.checkpoint import parse_checkpoint
from statecore.transparency.lines import (
    NUMBER_MAX,
    decode_base64,
    decode_decimal,
    decode_text,
    encode_base64,
)
from statecore.transparency.merkle import HASH_BYTES, verify_inclusion
from statecore.transparency.note import parse_note
from statecore.transparency.policy import Policy, Verdict, require

PROOF_BYTES_MAX: Final = 3_000_000
HASHES_MAX: Final = 64  # as many levels as a tree of 64 bits has
_VERSION: Final = "c2sp.org/tlog-proof@v1"
_EXTRA: Final = "extra "
_INDEX: Final = "index "


@dataclass(frozen=True, slots=True)
class Proof:
    """That a log has an entry at an index. Says nothing until it has been verified.

    Raises:
        Malformed: no proof has these parts.
    """

    index: int
    hashes: tuple[bytes, ...]
    """From the leaf's sibling up to the root's child."""
    checkpoint: bytes
    """The signed note, as it is."""
    extra: bytes = b""

    def __post_init__(self) -> None:
        if not 0 <= self.index <= NUMBER_MAX:
            raise Malformed("proof, index: not a number of 64 bits")
        if len(self.hashes) > HASHES_MAX or any(len(each) != HASH_BYTES for each in self.hashes):
            raise Malformed(f"proof: at most {HASHES_MAX} hashes of {HASH_BYTES} bytes")
        parse_checkpoint(parse_note(self.checkpoint).text)


def write_proof(proof: Proof) -> bytes:
    """Return the file of a proof; ``.tlog-proof`` is what its name should end in.

    Raises:
        LimitExceeded: it is larger than what is read.
    """
    extra = [_EXTRA + encode_base64(proof.extra)] if proof.extra else []
    hashes = map(encode_base64, proof.hashes)
    lines = [_VERSION, *extra, f"{_INDEX}{proof.index}", *hashes, "", ""]
    data = "\n".join(lines).encode() + proof.checkpoint
    _check_size(data)
    return data


def parse_proof(data: bytes) -> Proof:
    """Return the proof that a file holds. Nothing in it has been verified.

    Raises:
        Malformed: it holds none.
        LimitExceeded: it has over three million bytes.
    """
    _check_size(data)
    head, blank, checkpoint = data.partition(b"\n\n")
    version, *lines = decode_text(head, "proof").split("\n")
    if not blank or version != _VERSION:
        raise Malformed(f"proof: must begin with {_VERSION} and have a blank line")
    extra = b""
    if lines and lines[0].startswith(_EXTRA):
        extra = decode_base64(lines.pop(0).removeprefix(_EXTRA), "proof, extra data")
        if not extra:
            raise Malformed("proof, extra data: the line is left out where there is none")
    if not lines or not lines[0].startswith(_INDEX):
        raise Malformed("proof: no line with the index where it should be")
    index, *hashes = lines
    return Proof(
        decode_decimal(index.removeprefix(_INDEX), "proof, index"),
        tuple(decode_base64(line, "proof, hash") for line in hashes),
        checkpoint,
        extra,
    )


def verify_proof(proof: Proof, leaf: bytes, policy: Policy) -> Verdict:
    """Return what a policy says of the log that has an entry, given by its leaf hash.

    The caller makes the leaf hash from what they have; the extra data is not covered.

    Raises:
        Unproven: the checkpoint does not satisfy the policy, or the leaf is not in its tree.
    """
    verdict = require(policy, proof.checkpoint)
    size, root = verdict.checkpoint.size, verdict.checkpoint.root
    if not verify_inclusion(leaf, proof.index, size, proof.hashes, root):
        raise Unproven(f"the entry is not proven to be number {proof.index} of the log's {size}")
    return verdict


def _check_size(data: bytes) -> None:
    if len(data) > PROOF_BYTES_MAX:
        raise LimitExceeded("proof", len(data), PROOF_BYTES_MAX, "bytes")
