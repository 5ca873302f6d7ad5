"""A reader of backups that shares no line with the engine: made of docs/backup-format.md alone."""

from __future__ import annotations

import base64
import hashlib
import re
import sqlite3
import struct
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

import statecore
from tests.conftest import KEY
from tests.test_backup import write

MAGIC = b"statecore backup segment 1\n"


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, as it stands there."""
    if not leaves:
        return sha256()
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01", root(leaves[:k]), root(leaves[k:]))


def number(data: bytes, at: int) -> int:
    """Return the index behind a LEB128 number."""
    while data[at] & 0x80:
        at += 1
    return at + 1


def header_length(event: bytes) -> int:
    at = number(event, 1) + 7
    at = at + 12 if event[0] & 1 else number(event, at)
    return number(event, at) + 6 + (32 if event[0] & 2 else 0)


def read(folder: Path) -> tuple[list[tuple[Any, ...]], dict[int, bytes], list[bytes]]:
    """Return the events of a backup, its heads by size, and its leaf hashes."""
    pattern = re.compile(r"(\d{20})-(\d{20})\.segment")
    events, heads, leaves, links, logs = [], {}, [], {}, set()
    end, size_before, root_before = 0, 0, sha256()
    names = {int(m[1]): m for f in folder.iterdir() if (m := pattern.fullmatch(f.name))}
    while end in names:
        data = (folder / names[end][0]).read_bytes()
        assert data.startswith(MAGIC)
        assert data[-32:] == sha256(data[:-32])
        extent = struct.unpack(">16s6Q32s32s32s", data[len(MAGIC) : len(MAGIC) + 160])
        log, after, last, before, size, first_time, last_time, old, new, zeros = extent
        logs.add(log)
        assert (after, last) == (int(names[end][1]), int(names[end][2]))
        assert (before, old, zeros) == (size_before, root_before, bytes(32))
        frame = data[len(MAGIC) + 160 : -32]
        body = msgpack.unpackb(zstandard.decompress(frame), strict_map_key=False)
        position = after
        for at, stored in enumerate(body["states"]):
            position += body["positions"][at]
            stream, version = body["streams"][body["stream"][at]], body["versions"][at]
            tags = [body["tags"][tag] for tag in body["touched"][at]]
            events.append((position, stream, version, stored, tags, body["ids"].get(at)))
            if at in body["topics"]:
                continue
            cut = header_length(stored)
            entry = [b"\x01", stream, version.to_bytes(8, "big"), links.get(stream, bytes(32))]
            leaf = sha256(b"\x00", *entry, sha256(stored[cut:]), stored[:cut])
            links[stream] = leaf
            leaves.append(leaf)
        times = [int.from_bytes(s[number(s, 1) : number(s, 1) + 7], "big") for s in body["states"]]
        assert (first_time, last_time) == (times[0], times[-1])
        assert (position, len(leaves), root(leaves)) == (last, size, new)
        heads |= body["heads"]
        end, size_before, root_before = last, size, new
    heads |= {int(file.stem): file.read_bytes() for file in folder.glob("*.head")}
    assert len(logs) == 1
    return events, heads, leaves


@pytest.mark.parametrize("pruned", [False, True])
def test_what_the_page_says_is_what_is_there(path: Path, tmp_path: Path, *, pruned: bool) -> None:
    place = tmp_path / "backup"
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        for first in (0, 900, 1200):
            write(store, 300 if first else 900, first)
            store.backup(place)
    if pruned:
        statecore.prune_backup(place)

    events, heads, leaves = read(place)

    with sqlite3.connect(path) as live:
        rows = "SELECT position, name, version, state FROM events JOIN streams ON stream = id"
        assert [event[:4] for event in events] == live.execute(f"{rows} ORDER BY 1").fetchall()
        ids = {(stream, version): tag for _, stream, version, _, _, tag in events}
        kept = "SELECT name, version, tag FROM ids JOIN streams ON stream = id"
        assert ids == {row[:2]: row[2] for row in live.execute(kept)}
        touched = {(e[1], tag) for e in events for tag in e[4]}
        assert touched == set(
            live.execute("SELECT DISTINCT name, tag FROM touches JOIN streams ON stream = id")
        )
    assert set(heads) >= {1024, 1500}
    for size, note in heads.items():
        origin, said, said_root = note.decode().split("\n")[:3]
        assert origin.startswith("statecore/")
        assert (int(said), base64.b64decode(said_root)) == (size, root(leaves[:size]))
