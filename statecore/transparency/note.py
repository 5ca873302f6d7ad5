"""Signed notes: text with signatures under it, as c2sp.org/signed-note has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from statecore.errors import InvalidKey, LimitExceeded, Malformed, Unproven
from statecore.transparency.lines import (
    check_key_name,
    check_text,
    decode_base64,
    decode_text,
    encode_base64,
)
from statecore.transparency.signers import Signer
from statecore.transparency.verifiers import KEY_ID_BYTES, VerifierKey

NOTE_BYTES_MAX: Final = 1_000_000
SIGNATURES_MAX: Final = 100  # as in golang.org/x/mod/sumdb/note; the standard asks for 16 or more
_DASH: Final = "\N{EM DASH} "


@dataclass(frozen=True, slots=True)
class Signature:
    """A line under a note. Says nothing until it has been verified."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends in a newline, and the signatures under it, in order.

    Raises:
        Malformed: no note can have this text or these signatures.
    """

    text: str
    signatures: tuple[Signature, ...] = ()

    def __post_init__(self) -> None:
        check_text(self.text, "note")
        if not self.text.endswith("\n"):
            raise Malformed("note: the text must end in a newline")
        for each in self.signatures:
            check_key_name(each.name)
            if len(each.key_id) != KEY_ID_BYTES or not each.signature:
                raise Malformed(f"note: a signature is {KEY_ID_BYTES} bytes of key id, and more")
        if len(self.signatures) > SIGNATURES_MAX:
            raise LimitExceeded("note", len(self.signatures), SIGNATURES_MAX, "signatures")


def sign(note: Note, *signers: Signer) -> Note:
    """Return the note with signatures added at its end, in the place of older ones of a key."""
    text = note.text.encode()
    added = [Signature(each.name, each.key_id, each.sign(text)) for each in signers]
    names = {(each.name, each.key_id) for each in added}
    kept = [each for each in note.signatures if (each.name, each.key_id) not in names]
    return replace(note, signatures=(*kept, *added))


def write_note(note: Note) -> bytes:
    """Return a signed note as it is kept and sent.

    Raises:
        Malformed: nobody has signed it.
        LimitExceeded: it is larger than what is read.
    """
    if not note.signatures:
        raise Malformed("note: without a signature there is none")
    lines = [
        f"{_DASH}{each.name} {encode_base64(each.key_id + each.signature)}\n"
        for each in note.signatures
    ]
    data = f"{note.text}\n{''.join(lines)}".encode()
    _check_size(data)
    return data


def parse_note(data: bytes) -> Note:
    """Return the note that these bytes are. Nothing in it has been verified.

    Raises:
        Malformed: they are none. There are no other bytes for the same note.
        LimitExceeded: over a million bytes, or a hundred signatures.
    """
    _check_size(data)
    text, blank, lines = decode_text(data, "note").rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise Malformed("note: a blank line and lines of signatures must end it")
    found = lines[:-1].split("\n")
    if len(found) > SIGNATURES_MAX:  # before they are decoded
        raise LimitExceeded("note", len(found), SIGNATURES_MAX, "signatures")
    return Note(text + "\n", tuple(_parse_signature(line) for line in found))


def verify(note: Note, keys: Iterable[VerifierKey]) -> list[tuple[VerifierKey, Signature]]:
    """Return the signatures of known keys, all of them verified, in the order of the note.

    Signatures of other keys are passed over.

    Raises:
        Unproven: a signature that says it is a known key's is not, or there is none of a known key.
        InvalidKey: two of the keys can't be told apart by their names and ids.
    """
    known = _by_id(keys)
    text = note.text.encode()
    verified = []
    for each in note.signatures:
        key = known.get((each.name, each.key_id))
        if key is None:
            continue
        if not key.verifies(text, each.signature):
            raise Unproven(f"the note's signature of {key.name} does not hold")
        verified.append((key, each))
    if not verified:
        raise Unproven("the note has no signature of a known key")
    return verified


def _by_id(keys: Iterable[VerifierKey]) -> dict[tuple[str, bytes], VerifierKey]:
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.id), key) != key:
            raise InvalidKey(f"two verifier keys are {key.name}+{key.id.hex()}")
    return known


def _parse_signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise Malformed("note: a line of a signature is a dash, a name and base64")
    signature = decode_base64(encoded, "note, signature")
    return Signature(name, signature[:KEY_ID_BYTES], signature[KEY_ID_BYTES:])


def _check_size(data: bytes) -> None:
    if len(data) > NOTE_BYTES_MAX:
        raise LimitExceeded("note", len(data), NOTE_BYTES_MAX, "bytes")
