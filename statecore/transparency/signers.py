"""What signs notes: a log its checkpoints, a witness what it saw.

A private key may lie elsewhere, in a hardware module or with a signing service: then something else
that has the three members of ``Signer`` stands here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from statecore.errors import InputError
from statecore.transparency.verifiers import (
    TIME_BYTES,
    TIME_MAX,
    SignatureType,
    VerifierKey,
    cosigned_message,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey


class Signer(Protocol):
    """Signs texts of notes under one name with one key."""

    @property
    def name(self) -> str:
        """The name that stands before the signature."""

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that lead a verifier to the key."""

    def sign(self, text: bytes) -> bytes:
        """Return the signature of a note's text, for a cosignature with its time before it.

        What it raises ends the signing; nothing half-signed is left.
        """


@dataclass(frozen=True, slots=True)
class Ed25519Signer:
    """Signs any note (type 0x01)."""

    name: str
    private_key: Ed25519PrivateKey = field(repr=False)

    @property
    def verifier(self) -> VerifierKey:
        """What verifies the signatures."""
        public = self.private_key.public_key().public_bytes_raw()
        return VerifierKey(self.name, SignatureType.ED25519, public)

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that lead a verifier to the key."""
        return self.verifier.id

    def sign(self, text: bytes) -> bytes:
        """Return the signature of a note's text, 64 bytes."""
        return self.private_key.sign(text)


@dataclass(frozen=True, slots=True)
class Cosigner:
    """Cosigns checkpoints (type 0x04 or, with a key of ML-DSA-44, 0x06) at a given time.

    Whoever cosigns says that they have seen no checkpoint of the log which this one does not follow
    from: verify its consistency with the last one first, and keep it before the signature leaves.
    """

    name: str
    private_key: Ed25519PrivateKey | MLDSA44PrivateKey = field(repr=False)
    time_s: int
    """Seconds since 1970."""

    def __post_init__(self) -> None:
        if not 0 <= self.time_s <= TIME_MAX:
            raise InputError(f"no cosignature can have been made at {self.time_s} s")

    @property
    def verifier(self) -> VerifierKey:
        """What verifies the signatures."""
        is_classic = isinstance(self.private_key, Ed25519PrivateKey)
        kind = SignatureType.COSIGNATURE if is_classic else SignatureType.MLDSA44_COSIGNATURE
        return VerifierKey(self.name, kind, self.private_key.public_key().public_bytes_raw())

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that lead a verifier to the key."""
        return self.verifier.id

    def sign(self, text: bytes) -> bytes:
        """Return the time and the signature of a checkpoint.

        Raises:
            Malformed: the text is no checkpoint.
        """
        message = cosigned_message(self.verifier, text, self.time_s)
        return self.time_s.to_bytes(TIME_BYTES) + self.private_key.sign(message)
