"""XAES-256-GCM against the published vectors, and AES-GCM against Wycheproof."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from statecore.xaes import InvalidTag, open_sealed, seal

NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"
VECTORS = Path(os.environ.get("STATECORE_VECTORS", "../shared/vectors"))


@pytest.mark.parametrize(  # https://c2sp.org/XAES-256-GCM, "Test vectors"
    ("key", "associated", "sealed"),
    [
        (b"\x01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (
            b"\x03" * 32,
            b"c2sp.org/XAES-256-GCM",
            "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
        ),
    ],
)
def test_published_vectors(key: bytes, associated: bytes, sealed: str) -> None:
    assert seal(key, NONCE, b"XAES-256-GCM", associated).hex() == sealed
    assert open_sealed(key, NONCE, bytes.fromhex(sealed), associated) == b"XAES-256-GCM"


def test_ten_thousand_accumulated_vectors() -> None:
    stream = hashlib.shake_128(b"").digest(8_000_000)
    assert stream.startswith(bytes.fromhex("7f9c2ba4e88f827d616045507605853e"))
    at = 0

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        return stream[at - count : at]

    accumulated = hashlib.shake_128()
    for _ in range(10_000):
        key, nonce = take(32), take(24)
        plaintext, associated = take(take(1)[0]), take(take(1)[0])
        sealed = seal(key, nonce, plaintext, associated)
        assert open_sealed(key, nonce, sealed, associated) == plaintext
        accumulated.update(sealed)

    expected = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
    assert accumulated.hexdigest(32) == expected


@pytest.mark.parametrize("changed", ["key", "nonce", "sealed", "associated"])
def test_any_change_is_noticed(changed: str) -> None:
    parts = {"key": b"k" * 32, "nonce": NONCE, "associated": b"where it belongs"}
    parts["sealed"] = seal(parts["key"], NONCE, b"secret", parts["associated"])
    part = parts[changed]
    for at in range(len(part)):
        flipped = part[:at] + bytes([part[at] ^ 1]) + part[at + 1 :]

        with pytest.raises(InvalidTag):
            open_sealed(**{**parts, changed: flipped})


def wycheproof() -> list[Any]:
    file = VECTORS / "wycheproof" / "aes_gcm_test.json"
    if not file.exists():
        return []
    groups = json.loads(file.read_text())["testGroups"]
    # Ours is the 256-bit key, 96-bit nonce and full tag; nothing else is ever used.
    ours = [g for g in groups if (g["keySize"], g["ivSize"], g["tagSize"]) == (256, 96, 128)]
    return [test for group in ours for test in group["tests"]]


@pytest.mark.skipif(not wycheproof(), reason="the Wycheproof vectors are not beside the project")
def test_wycheproof_agrees_about_aes_gcm() -> None:
    for test in wycheproof():
        key, nonce, associated, message, sealed, tag = (
            bytes.fromhex(test[field]) for field in ("key", "iv", "aad", "msg", "ct", "tag")
        )
        if test["result"] == "valid":
            assert AESGCM(key).encrypt(nonce, message, associated) == sealed + tag
            assert AESGCM(key).decrypt(nonce, sealed + tag, associated) == message
        else:
            with pytest.raises(InvalidTag):
                AESGCM(key).decrypt(nonce, sealed + tag, associated)
