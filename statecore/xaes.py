"""XAES-256-GCM, the extended-nonce AEAD of https://c2sp.org/XAES-256-GCM.

The first 12 of the 24 nonce bytes derive a subkey (NIST SP 800-108r1 counter mode with
AES-256-CMAC), the last 12 are the nonce of AES-256-GCM under it. Whoever seals much under one
prefix derives once and keeps the subkey.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode

KEY_BYTES: Final = 32
PREFIX_BYTES: Final = 12
NONCE_BYTES: Final = 24
TAG_BYTES: Final = 16

__all__ = ["KEY_BYTES", "NONCE_BYTES", "PREFIX_BYTES", "TAG_BYTES", "InvalidTag"]


def derive(key: bytes, prefix: bytes) -> AESGCM:
    """Return AES-256-GCM under the subkey of a key and the first 12 bytes of a nonce."""
    derivation = KBKDFCMAC(
        algorithm=AES256,
        mode=Mode.CounterMode,
        length=KEY_BYTES,
        rlen=2,  # a 16-bit counter
        llen=None,
        location=CounterLocation.BeforeFixed,
        label=None,
        context=None,
        fixed=b"X\0" + prefix,  # label, separator, context; the specification omits the length
    )
    return AESGCM(derivation.derive(key))


def seal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Encrypt and authenticate; the tag is the last 16 bytes."""
    return derive(key, nonce[:PREFIX_BYTES]).encrypt(nonce[PREFIX_BYTES:], plaintext, associated)


def open_sealed(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    """Decrypt what ``seal`` made.

    Raises:
        InvalidTag: another key, nonce or associated data, or the bytes were changed.
    """
    return derive(key, nonce[:PREFIX_BYTES]).decrypt(nonce[PREFIX_BYTES:], sealed, associated)
