"""zstd for many small bodies: a shipped dictionary, sizes checked before anything is unpacked.

A single event alone gains nothing from zstd. The dictionary is trained on synthetic agent state
(benchmarks/train_dictionary.py), never on users' data, which it would hold verbatim and which
would survive erasure in it. Frames are zstd's magicless ones (RFC 8878, section 3.1.1, without
the magic number) behind the size of what they hold.
"""

from __future__ import annotations

import threading
from functools import cache
from importlib.resources import files
from typing import Final

import zstandard

from statecore.codec.numbers import read_number, write_number
from statecore.values import EVENT_BYTES_MAX

# On disk, as the method of a stored body. Never renumber.
STORED: Final = 0
PLAIN: Final = 1
DICTIONARY_1: Final = 2

LEVEL: Final = 5
LEVEL_PATIENT: Final = 9  # for what is written rarely and by a thread of its own
_DICTIONARY_BYTES_MAX: Final = 64 * 1024  # what is larger repeats itself enough
# A body is a little more than what it carries; a snapshot holds many events' worth.
BODY_BYTES_MAX: Final = EVENT_BYTES_MAX + 64 * 1024
SNAPSHOT_BYTES_MAX: Final = 1 << 31


def compress(body: bytes, level: int = LEVEL) -> tuple[int, bytes]:
    """Return the method used and the bytes: those given, where compressing gains nothing."""
    method = DICTIONARY_1 if len(body) <= _DICTIONARY_BYTES_MAX else PLAIN
    frame = _coders.compressor(method, level).compress(body)
    packed = write_number(len(body)) + frame
    return (method, packed) if len(packed) < len(body) else (STORED, body)


def decompress(method: int, packed: bytes, limit: int = BODY_BYTES_MAX) -> bytes:
    """Return what was compressed.

    Raises:
        ValueError: not what ``compress`` made, or it claims to hold more than the limit.
    """
    if method == STORED:
        return packed
    size, at = packed[0], 1
    if size >= 0x80:
        size, at = read_number(packed, 0)
    if size > limit:
        raise ValueError(f"claims {size:,} bytes; the limit is {limit:,}")
    decoder = _coders.decompressors.get(method) or _coders.decompressor(method)
    try:
        body = decoder.decompress(packed[at:], max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError("not a zstd frame of the size it claims") from error
    if len(body) != size:
        raise ValueError("not a zstd frame of the size it claims")
    return body


@cache
def dictionary() -> zstandard.ZstdCompressionDict:
    """Return the shipped dictionary. On disk: a new one gets a new method, this one stays."""
    raw = files("statecore.codec").joinpath("dictionary-1.zdict").read_bytes()
    trained = zstandard.ZstdCompressionDict(raw)
    trained.precompute_compress(level=LEVEL)
    return trained


class _Coders(threading.local):
    """zstd contexts, which threads can't share."""

    def __init__(self) -> None:
        self._compressors: dict[tuple[int, int], zstandard.ZstdCompressor] = {}
        self.decompressors: dict[int, zstandard.ZstdDecompressor] = {}

    def compressor(self, method: int, level: int) -> zstandard.ZstdCompressor:
        found = self._compressors.get((method, level))
        if found is None:
            parameters = zstandard.ZstdCompressionParameters.from_level(
                level,
                format=zstandard.FORMAT_ZSTD1_MAGICLESS,
                write_content_size=False,  # ours stands in front, and is checked first
                write_checksum=False,  # the seal is stronger
                write_dict_id=False,  # the method names it
            )
            found = zstandard.ZstdCompressor(
                dict_data=_dictionary(method), compression_params=parameters
            )
            self._compressors[method, level] = found
        return found

    def decompressor(self, method: int) -> zstandard.ZstdDecompressor:
        if method not in (PLAIN, DICTIONARY_1):
            raise ValueError(f"unknown compression method {method}")
        made = zstandard.ZstdDecompressor(
            dict_data=_dictionary(method), format=zstandard.FORMAT_ZSTD1_MAGICLESS
        )
        return self.decompressors.setdefault(method, made)


_coders = _Coders()


def _dictionary(method: int) -> zstandard.ZstdCompressionDict | None:
    return dictionary() if method == DICTIONARY_1 else None
