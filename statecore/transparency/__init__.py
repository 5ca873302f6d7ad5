"""The audit's formats: Merkle trees, signed checkpoints, policies, proofs and tiles. All pure."""
