"""The keys that signatures of notes are verified with (c2sp.org/signed-note, "Verifier keys").

Three kinds of signature: Ed25519 over a note's text; and the cosignatures of
c2sp.org/tlog-cosignature, by which a witness says at what time it saw a checkpoint that followed
from the one before: with Ed25519, or with ML-DSA-44, which withstands quantum computers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from statecore.errors import InvalidKey, Malformed
from statecore.transparency.checkpoint import parse_checkpoint
from statecore.transparency.lines import (
    check_key_name,
    decode_base64,
    decode_text,
    encode_base64,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

KEY_ID_BYTES: Final = 4
TIME_BYTES: Final = 8  # before a cosignature
TIME_MAX: Final = 2**63 - 1
_PARTS: Final = 3


class SignatureType(IntEnum):  # In every key and key id. Never renumber.
    """What a signature is over and made with (c2sp.org/signed-note, "Signature types")."""

    ED25519 = 0x01
    COSIGNATURE = 0x04
    MLDSA44_COSIGNATURE = 0x06


_KEY_BYTES: Final = {
    SignatureType.ED25519: 32,
    SignatureType.COSIGNATURE: 32,
    SignatureType.MLDSA44_COSIGNATURE: 1312,
}


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key, with the name of whoever signs with it.

    Raises:
        InvalidKey: not a name, or not a key, of this type; or ML-DSA-44, and the cryptography
            package that is installed has none.
    """

    name: str
    type: SignatureType
    public_key: bytes

    def __post_init__(self) -> None:
        try:
            check_key_name(self.name)
        except Malformed as error:
            raise InvalidKey(str(error)) from error
        if len(self.public_key) != _KEY_BYTES[self.type]:
            raise InvalidKey(
                f"verifier key {self.name}: has {len(self.public_key)} bytes, "
                f"not {_KEY_BYTES[self.type]}"
            )
        _load(self)

    @property
    def id(self) -> bytes:
        """The 4 bytes that lead to the key from a signature; not enough to trust it by."""
        encoded = bytes([self.type]) + self.public_key
        return sha256(self.name.encode() + b"\n" + encoded).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        """The key in the form that ``parse_verifier_key`` reads."""
        encoded = encode_base64(bytes([self.type]) + self.public_key)
        return f"{self.name}+{self.id.hex()}+{encoded}"

    def verifies(self, text: bytes, signature: bytes) -> bool:
        """Tell whether a signature is this key's over a note's text.

        A cosignature begins with the time it was made at, and is over a checkpoint only.
        """
        if self.type is SignatureType.ED25519:
            return self._signed(text, signature)
        time, signature = cosigned_at(signature), signature[TIME_BYTES:]
        if time > TIME_MAX:
            return False
        try:
            return self._signed(cosigned_message(self, text, time), signature)
        except Malformed:
            return False

    def _signed(self, message: bytes, signature: bytes) -> bool:
        try:
            _load(self).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def parse_verifier_key(text: str) -> VerifierKey:
    """Return the key that ``name+id+key`` spells.

    Raises:
        InvalidKey: it spells none, one of a type that is not known, or the id is another key's.
    """
    parts = text.split("+", _PARTS - 1)  # base64 has plus signs, too
    if len(parts) != _PARTS:
        raise InvalidKey("a verifier key is a name, an id and a key, joined by plus signs")
    name, key_id, spelled = parts
    try:
        encoded = decode_base64(spelled, "verifier key")
    except Malformed as error:
        raise InvalidKey(str(error)) from error
    known = [each for each in SignatureType if encoded[:1] == bytes([each])]
    if not known:
        raise InvalidKey("verifier key: of an unknown type")
    key = VerifierKey(name, known[0], encoded[1:])
    if key.id.hex() != key_id:
        raise InvalidKey(f"verifier key {name}: the id is not that of the key")
    return key


def cosigned_at(signature: bytes) -> int:
    """Return the time a cosignature was made at, in seconds since 1970, leap seconds apart."""
    return int.from_bytes(signature[:TIME_BYTES])


def cosigned_message(key: VerifierKey, text: bytes, time: int) -> bytes:
    """Return the bytes that a cosignature of a checkpoint is over.

    With ML-DSA-44 these leave out the extension lines and have the cosigner's name.

    Raises:
        Malformed: the text is no checkpoint, or a name is over 255 bytes.
    """
    checkpoint = parse_checkpoint(decode_text(text, "checkpoint"))
    if key.type is SignatureType.COSIGNATURE:
        return f"cosignature/v1\ntime {time}\n".encode() + text
    return b"".join(
        (
            b"subtree/v1\n\0",
            _opaque(key.name, "name of a key"),
            time.to_bytes(8),
            _opaque(checkpoint.origin, "checkpoint, origin"),
            bytes(8),  # the subtree begins with the first leaf
            checkpoint.size.to_bytes(8),
            checkpoint.root,
        )
    )


def _opaque(text: str, what: str) -> bytes:
    data = text.encode()
    if len(data) > 255:
        raise Malformed(f"{what}: over 255 bytes")
    return bytes([len(data)]) + data


def _load(key: VerifierKey) -> Ed25519PublicKey | MLDSA44PublicKey:
    if key.type is not SignatureType.MLDSA44_COSIGNATURE:
        return Ed25519PublicKey.from_public_bytes(key.public_key)
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

        return MLDSA44PublicKey.from_public_bytes(key.public_key)
    except (ImportError, UnsupportedAlgorithm) as error:
        raise InvalidKey(
            f"verifier key {key.name}: ML-DSA-44 needs a newer cryptography package"
        ) from error
