"""Checkpoints: the signed heads of a tree, as c2sp.org/tlog-checkpoint has them.

A checkpoint is the text of a signed note: the log's origin, the number of leaves, the root hash in
base64, and extension lines, which nobody but the log answers for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from statecore.errors import Malformed
from statecore.transparency.lines import (
    NUMBER_MAX,
    check_line,
    check_text,
    decode_base64,
    decode_decimal,
    encode_base64,
)
from statecore.transparency.merkle import EMPTY_ROOT, HASH_BYTES

_LINES_MIN: Final = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: so many leaves, under this root.

    Raises:
        Malformed: no log can have this head, or no text can say it.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_line(self.origin, "checkpoint, origin")
        for line in self.extensions:
            check_line(line, "checkpoint, extension")
        if not 0 <= self.size <= NUMBER_MAX:
            raise Malformed("checkpoint, size: not a number of 64 bits")
        if len(self.root) != HASH_BYTES:
            raise Malformed(f"checkpoint, root: not {HASH_BYTES} bytes")
        if not self.size and self.root != EMPTY_ROOT:
            raise Malformed("checkpoint, root: not the one that every empty tree has")


def write_checkpoint(checkpoint: Checkpoint) -> str:
    """Return the text of a checkpoint, which a note carries and signatures are over."""
    lines = (
        checkpoint.origin,
        str(checkpoint.size),
        encode_base64(checkpoint.root),
        *checkpoint.extensions,
    )
    return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint that a note's text is.

    Raises:
        Malformed: it is none. There is one text only for each checkpoint.
    """
    check_text(text, "checkpoint")
    *lines, rest = text.split("\n")
    if rest or len(lines) < _LINES_MIN:
        raise Malformed("checkpoint: origin, size and root are a line each")
    origin, size, root, *extensions = lines
    return Checkpoint(
        origin,
        decode_decimal(size, "checkpoint, size"),
        decode_base64(root, "checkpoint, root"),
        tuple(extensions),
    )
