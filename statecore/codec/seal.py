"""Sealing an event into the bytes that are stored, and opening them again.

A stored event is a short header in the clear and a sealed body (docs/format.md):

    first 1 · epoch n · time 7 · writer n or prefix 12 · sequence n · random 6 · [commitment 32]
    · body

The first byte is one bit that says that the body was archived (``codec/cut.py``), the format (three
bits), the compression method (two), and two flags.

The seal binds the body to the log, the stream, the version and the whole header, so that nothing
can be moved, swapped, or replayed elsewhere. The nonce is the writer's 12 random bytes, drawn when
it opened the store; the number of what it seals; and 6 random bytes drawn for each. The number
never repeats within a writer; the random bytes are for what a number can't survive: a machine that
is copied while it runs, and goes on twice.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Mapping
from itertools import count
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from statecore.codec.compression import (
    BODY_BYTES_MAX,
    SNAPSHOT_BYTES_MAX,
    compress,
    decompress,
)
from statecore.codec.cut import read_cut
from statecore.codec.header import (
    ARCHIVED,
    COMMITMENT,
    COMMITMENT_BYTES,
    PREFIX_INLINE,
    RANDOM_BYTES,
    TIME_BYTES,
)
from statecore.codec.numbers import read_number, write_number
from statecore.codec.record import FORMAT, Record, unpack_body
from statecore.errors import Archived, DamagedRecord, Erased, NewerFormat
from statecore.keys import DataKey
from statecore.xaes import PREFIX_BYTES, InvalidTag

_NONCE_BYTES: Final = 12

# What is sealed, as the first byte of the associated data. On disk. Never renumber.
_EVENT: Final = b"\x01"
_SNAPSHOT: Final = b"\x02"
_STATE: Final = b"\x03"


class Writer:
    """Who seals: a random nonce prefix, its number where the store keeps those, and a counter."""

    __slots__ = ("_numbers", "mark", "prefix")

    def __init__(self, prefix: bytes, number: int | None) -> None:
        self.prefix = prefix
        self.mark = prefix if number is None else write_number(number)
        self._numbers = count(1)

    def next_number(self) -> int:
        """Return a number never returned before; safe from any thread."""
        return next(self._numbers)


# A damaged file gives versions and records that are not of the type they should be.
_UNFIT: Final = (InvalidTag, ValueError, LookupError, TypeError, AttributeError, OverflowError)


def _elsewhere(version: int, _: bytes) -> bytes:
    """Bring nothing back: what opens single events knows of no archive."""
    raise Archived(f"version {version} was archived: its body is not in the store")


class Sealer:
    """Seals and opens what belongs to one stream of one log."""

    def __init__(
        self,
        log_id: bytes,
        stream: bytes,
        keys: Mapping[int, DataKey | None],
        prefix_of: Callable[[int], bytes | None],
        bring_back: Callable[[int, bytes], bytes] = _elsewhere,
    ) -> None:
        """Seal and open events of a stream.

        Args:
            log_id: of the log.
            stream: its 16 bytes.
            keys: by epoch; ``None`` where one was destroyed.
            prefix_of: gives the prefix of a writer by its number.
            bring_back: gives a stored event as it was, by its version and what is left of it where
                its body was archived; or raises ``Archived``.
        """
        self._event_place = _EVENT + log_id + stream
        self._snapshot_place = _SNAPSHOT + log_id + stream
        self._state_place = _STATE + log_id + stream
        self._keys = keys
        self._prefix_of = prefix_of
        self._bring_back = bring_back
        self._ciphers: dict[tuple[int, int], AESGCM] = {}  # by epoch and writer's number

    def seal(
        self, key: DataKey, version: int, time: int, body: bytes, writer: Writer
    ) -> tuple[int, bytes]:
        """Return the writer's number of the event and the stored event.

        The first event under a key commits to it.
        """
        sequence = writer.next_number()
        commitment = key.commitment if version == key.since else b""
        method, packed = compress(body)
        header, nonce = _write_header(method, key.epoch, time, writer, sequence, commitment)
        bound = b"".join((self._event_place, version.to_bytes(8, "big"), header))
        return sequence, header + key.cipher(writer.prefix).encrypt(nonce, packed, bound)

    def open(self, version: int, stored: bytes) -> Record:
        """Open a stored event.

        Raises:
            NewerFormat: a newer statecore wrote it.
            Erased: its key was destroyed on purpose.
            Archived: its body is in an archive that is not at hand.
            DamagedRecord: it was changed, or is not where it belongs.
        """
        try:
            cipher = self._ciphers.get((stored[1], stored[9]))
            if cipher is None or stored[0] & 0xF3 != FORMAT << 4:
                if stored[0] >= ARCHIVED:
                    read_cut(stored)  # which refuses what only claims to be one
                    self._key(read_number(stored, 1)[0], version)  # erased is erased, everywhere
                    stored = self._bring_back(version, stored)
                body = self._open(self._event_place, version, stored, BODY_BYTES_MAX)
            else:
                # Nearly every replayed event: nothing in its header that is not of one byte, but
                # for the sequence, which ends at the first byte below 0x80.
                at = 10
                while stored[at] >= 0x80:
                    at += 1
                at += 1 + RANDOM_BYTES
                header = stored[:at]
                bound = b"".join((self._event_place, version.to_bytes(8, "big"), header))
                nonce = header[10:].rjust(_NONCE_BYTES, b"\0")
                packed = cipher.decrypt(nonce, stored[at:], bound)
                body = decompress(stored[0] >> 2 & 3, packed)
            return Record(version, stored, self, unpack_body(body, stored[0] >> 4))
        except Archived:
            raise
        except _UNFIT as error:
            raise _explain(version, stored, error) from error

    def seal_snapshot(
        self, key: DataKey, version: int, time: int, body: bytes, writer: Writer
    ) -> bytes:
        """Return the stored snapshot."""
        return self._seal_whole(self._snapshot_place, key, version, time, body, writer)

    def open_snapshot(self, version: int, stored: bytes) -> bytes:
        """Open a stored snapshot; raises as ``open`` does."""
        return self._open_whole(self._snapshot_place, version, stored)

    def seal_state(self, key: DataKey, version: int, time: int, body: bytes) -> bytes:
        """Return a state sealed to be kept elsewhere; by a writer of its own, named in it."""
        writer = Writer(os.urandom(PREFIX_BYTES), None)
        return self._seal_whole(self._state_place, key, version, time, body, writer)

    def open_state(self, version: int, sealed: bytes) -> bytes:
        """Open a sealed state; raises as ``open`` does."""
        return self._open_whole(self._state_place, version, sealed)

    def _seal_whole(
        self, place: bytes, key: DataKey, version: int, time: int, body: bytes, writer: Writer
    ) -> bytes:
        method, packed = compress(body, patient=True)
        header, nonce = _write_header(method, key.epoch, time, writer, writer.next_number(), b"")
        bound = b"".join((place, version.to_bytes(8, "big"), header))
        return header + key.cipher(writer.prefix).encrypt(nonce, packed, bound)

    def _open_whole(self, place: bytes, version: int, stored: bytes) -> bytes:
        try:
            return self._open(place, version, stored, SNAPSHOT_BYTES_MAX)
        except _UNFIT as error:
            raise _explain(version, stored, error) from error

    def writer_of(self, stored: bytes) -> tuple[bytes, int]:
        """Return the prefix of the writer of a stored event, and its number of the event."""
        prefix, at = self._read_prefix(stored)
        return prefix, read_number(stored, at)[0]

    def _open(self, place: bytes, version: int, stored: bytes, limit: int) -> bytes:
        """Return the body, whatever the header looks like."""
        if stored[0] >> 4 > FORMAT:
            raise NewerFormat(
                f"version {version} has format {stored[0] >> 4}, this statecore reads up to "
                f"{FORMAT}: upgrade it"
            )
        epoch = read_number(stored, 1)[0]
        key = self._key(epoch, version)
        prefix, start = self._read_prefix(stored)
        at = read_number(stored, start)[1] + RANDOM_BYTES
        nonce = stored[start:at].rjust(_NONCE_BYTES, b"\0")
        if stored[0] & COMMITMENT:
            end = at + COMMITMENT_BYTES
            if not hmac.compare_digest(stored[at:end], key.commitment):
                raise DamagedRecord(f"version {version}: the log commits to another data key")
            at = end
        cipher = key.cipher(prefix)
        if not stored[0] & PREFIX_INLINE and epoch < 0x80 and stored[9] < 0x80:
            self._ciphers[epoch, stored[9]] = cipher
        bound = b"".join((place, version.to_bytes(8, "big"), stored[:at]))
        return decompress(stored[0] >> 2 & 3, cipher.decrypt(nonce, stored[at:], bound), limit)

    def _read_prefix(self, stored: bytes) -> tuple[bytes, int]:
        at = read_number(stored, 1)[1] + TIME_BYTES
        if stored[0] & PREFIX_INLINE:
            return stored[at : at + PREFIX_BYTES], at + PREFIX_BYTES
        number, at = read_number(stored, at)
        prefix = self._prefix_of(number)
        if prefix is None:
            raise ValueError("no such writer")
        return prefix, at

    def _key(self, epoch: int, version: int) -> DataKey:
        key = self._keys.get(epoch)
        if key is None:
            if epoch in self._keys:
                raise Erased(f"version {version} was erased: its data key was destroyed")
            raise DamagedRecord(f"version {version}: its data key is missing and no event says why")
        return key


def _write_header(
    method: int, epoch: int, time: int, writer: Writer, sequence: int, commitment: bytes
) -> tuple[bytes, bytes]:
    """Return the header and the nonce."""
    first = FORMAT << 4 | method << 2
    if len(writer.mark) == PREFIX_BYTES:
        first |= PREFIX_INLINE
    if commitment:
        first |= COMMITMENT
    unique = write_number(sequence) + os.urandom(RANDOM_BYTES)
    header = b"".join(
        (
            bytes((first,)),
            write_number(epoch),
            time.to_bytes(TIME_BYTES, "big"),
            writer.mark,
            unique,
            commitment,
        )
    )
    return header, unique.rjust(_NONCE_BYTES, b"\0")


def read_epoch(stored: bytes) -> int:
    """Return the number of the data key in the header of a stored event.

    Raises:
        DamagedRecord: there is none.
    """
    try:
        return read_number(stored, 1)[0]
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedRecord("a stored event has no header") from error


def is_committed(stored: bytes) -> bool:
    """Tell whether a stored event commits to its data key."""
    return bool(stored[0] & COMMITMENT)


def _explain(version: int, stored: bytes, error: Exception) -> DamagedRecord:
    if not stored:
        return DamagedRecord(f"version {version} is empty")
    if isinstance(error, InvalidTag):
        why = "the seal does not fit: it was changed, moved, or sealed with another key"
    elif isinstance(error, IndexError):
        why = "it is cut short"
    else:
        why = f"it does not parse: {error}"
    return DamagedRecord(f"version {version}: {why}")
