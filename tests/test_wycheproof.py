"""Ed25519 against Wycheproof's edge cases; test_xaes.py has AES-GCM's, test_keys.py HKDF's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from statecore.transparency import SignatureType, VerifierKey

VECTORS = Path(os.environ.get("STATECORE_VECTORS", "../shared/vectors"))


def ed25519_vectors() -> list[Any]:
    file = VECTORS / "wycheproof" / "ed25519_test.json"
    if not file.exists():
        return []
    groups = json.loads(file.read_text())["testGroups"]
    return [(group["publicKey"]["pk"], test) for group in groups for test in group["tests"]]


@pytest.mark.skipif(
    not ed25519_vectors(), reason="the Wycheproof vectors are not beside the project"
)
def test_wycheproof_agrees_about_ed25519() -> None:
    assert {test["result"] for _, test in ed25519_vectors()} == {"valid", "invalid"}

    for public, test in ed25519_vectors():
        key = VerifierKey("wycheproof", SignatureType.ED25519, bytes.fromhex(public))
        message, signature = bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"])

        assert key.verifies(message, signature) is (test["result"] == "valid"), test["tcId"]
