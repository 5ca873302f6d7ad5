"""The audit's formats: Merkle trees, signed checkpoints, policies, proofs and tiles. All pure."""

from statecore.transparency.checkpoint import Checkpoint, parse_checkpoint, write_checkpoint
from statecore.transparency.merkle import EMPTY_ROOT, Frontier, leaf_hash, node_hash
from statecore.transparency.note import Note, parse_note, sign, verify, write_note
from statecore.transparency.policy import (
    Group,
    Log,
    Policy,
    Verdict,
    Witness,
    judge,
    parse_policy,
    require,
    write_policy,
)
from statecore.transparency.proof import Proof, parse_proof, verify_proof, write_proof
from statecore.transparency.signers import Cosigner, Ed25519Signer, Signer
from statecore.transparency.tiles import Tile, parse_tile_path, tile_path
from statecore.transparency.verifiers import SignatureType, VerifierKey, parse_verifier_key

__all__ = [
    "EMPTY_ROOT",
    "Checkpoint",
    "Cosigner",
    "Ed25519Signer",
    "Frontier",
    "Group",
    "Log",
    "Note",
    "Policy",
    "Proof",
    "SignatureType",
    "Signer",
    "Tile",
    "Verdict",
    "VerifierKey",
    "Witness",
    "judge",
    "leaf_hash",
    "node_hash",
    "parse_checkpoint",
    "parse_note",
    "parse_policy",
    "parse_proof",
    "parse_tile_path",
    "parse_verifier_key",
    "require",
    "sign",
    "tile_path",
    "verify",
    "verify_proof",
    "write_checkpoint",
    "write_note",
    "write_policy",
    "write_proof",
]
