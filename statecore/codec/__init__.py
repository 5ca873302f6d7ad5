"""Event ⇄ stored bytes: pack, compress, seal, and back."""

from statecore.codec.record import Record, pack_body, read_time
from statecore.codec.seal import Sealer, Writer, read_epoch

__all__ = ["Record", "Sealer", "Writer", "pack_body", "read_epoch", "read_time"]
