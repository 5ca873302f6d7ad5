"""zstd for many small bodies: a shipped dictionary, sizes checked before anything is unpacked.

A single event alone gains nothing from zstd. The dictionary is trained on synthetic agent state
(benchmarks/train_dictionary.py), never on users' data, which it would hold verbatim and which
would survive erasure in it. Frames are zstd's (RFC 8878) without the magic number, and always say
how much they hold.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Final

import zstandard

from statecore.values import EVENT_BYTES_MAX

# On disk, as the method of a stored body. Never renumber.
STORED: Final = 0
PLAIN: Final = 1
DICTIONARY_1: Final = 2

_LEVEL: Final = 5
_LEVEL_PATIENT: Final = 12
_THOROUGH: Final = 0  # no level of zstd's
_MIDDLING: Final = -1
_SMALL_BYTES_MAX: Final = 512
_MIDDLING_BYTES_MAX: Final = 2048
# With the dictionary, a search between the levels 5 and 9 saves 5 bytes in 100, for 5 microseconds.
# Of larger bodies it would take 50 more than the middling one, whose tables stay in the caches, for
# 1 byte in 100.
_SEARCHES: Final[dict[int, dict[str, int]]] = {
    _THOROUGH: {
        "window_log": 17,
        "chain_log": 16,
        "hash_log": 17,
        "search_log": 4,
        "min_match": 4,
        "target_length": 16,
        "strategy": zstandard.STRATEGY_LAZY2,
    },
    _MIDDLING: {
        "window_log": 17,
        "chain_log": 13,
        "hash_log": 13,
        "search_log": 2,
        "min_match": 4,
        "target_length": 16,
        "strategy": zstandard.STRATEGY_LAZY,
    },
}
_DICTIONARY_BYTES_MAX: Final = 64 * 1024  # what is larger repeats itself enough
# A body is a little more than what it carries; a snapshot holds many events' worth.
BODY_BYTES_MAX: Final = EVENT_BYTES_MAX + 64 * 1024
SNAPSHOT_BYTES_MAX: Final = 1 << 31
_FORMAT: Final = zstandard.FORMAT_ZSTD1_MAGICLESS


def compress(body: bytes, *, patient: bool = False) -> tuple[int, bytes]:
    """Return the method used and the bytes: those given, where compressing gains nothing.

    Patience is for what is written rarely, by a thread of its own.
    """
    size = len(body)
    method = DICTIONARY_1 if size <= _DICTIONARY_BYTES_MAX else PLAIN
    level = _LEVEL_PATIENT if patient else _LEVEL
    if method == DICTIONARY_1 and (patient or size <= _SMALL_BYTES_MAX):
        level = _THOROUGH
    elif method == DICTIONARY_1 and size <= _MIDDLING_BYTES_MAX:
        level = _MIDDLING
    coder = _coders.compressors.get((method, level)) or _coders.compressor(method, level)
    frame = coder.compress(body)
    return (method, frame) if len(frame) < size else (STORED, body)


def decompress(method: int, frame: bytes, limit: int = BODY_BYTES_MAX) -> bytes:
    """Return what was compressed.

    Raises:
        ValueError: not what ``compress`` made, or it claims to hold more than the limit.
    """
    if method == STORED:
        return frame
    # A frame of one segment with one or two bytes of size can't claim much; nearly all are such.
    if frame[0] & 0xA3 != 0x20 and (size := content_size(frame)) > limit:
        raise ValueError(f"claims {size:,} bytes; the limit is {limit:,}")
    decoder = _coders.decompressors.get(method) or _coders.decompressor(method)
    try:
        return decoder.decompress(frame, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError("not one zstd frame of the size it claims") from error


def content_size(frame: bytes) -> int:
    """Return how many bytes a frame claims to hold.

    Raises:
        ValueError: it does not say.
    """
    try:
        parameters = zstandard.get_frame_parameters(frame, format=_FORMAT)
    except zstandard.ZstdError as error:
        raise ValueError("not a zstd frame") from error
    if parameters.content_size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
        raise ValueError("a frame that does not say how much it holds")
    return parameters.content_size


@cache
def dictionary(level: int | None = None) -> zstandard.ZstdCompressionDict:
    """Return the shipped dictionary, prepared for compressing at a level.

    On disk: a new dictionary gets a new method, this one stays.
    """
    raw = Path(__file__).with_name("dictionary-1.zdict").read_bytes()
    trained = zstandard.ZstdCompressionDict(raw)
    if level in _SEARCHES:
        trained.precompute_compress(compression_params=_parameters(level))
    elif level is not None:
        trained.precompute_compress(level)  # chooses by the dictionary's size, too
    return trained


def _parameters(level: int) -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(
        level,
        format=_FORMAT,
        write_content_size=True,  # checked before anything is unpacked
        write_checksum=False,  # the seal is stronger
        write_dict_id=False,  # the method names it
        **_SEARCHES.get(level, {}),
    )


class _Coders(threading.local):
    """zstd contexts, which threads can't share."""

    def __init__(self) -> None:
        self.compressors: dict[tuple[int, int], zstandard.ZstdCompressor] = {}
        self.decompressors: dict[int, zstandard.ZstdDecompressor] = {}

    def compressor(self, method: int, level: int) -> zstandard.ZstdCompressor:
        made = zstandard.ZstdCompressor(
            dict_data=dictionary(level) if method == DICTIONARY_1 else None,
            compression_params=_parameters(level),
        )
        return self.compressors.setdefault((method, level), made)

    def decompressor(self, method: int) -> zstandard.ZstdDecompressor:
        if method not in (PLAIN, DICTIONARY_1):
            raise ValueError(f"unknown compression method {method}")
        made = zstandard.ZstdDecompressor(
            dict_data=dictionary() if method == DICTIONARY_1 else None, format=_FORMAT
        )
        return self.decompressors.setdefault(method, made)


_coders = _Coders()
