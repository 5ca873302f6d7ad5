#!/usr/bin/env python3
"""Verify an exported audit record with nothing but Python, 3.8 or later.

    python3 -I verify.py [FOLDER] [--policy FILE] [--head FILE]

Take this file from the project, or read it: whoever forged a record can have forged what lies in
its folder, too. FOLDER is where this file lies, if it is not given. With --policy, signatures must
be of the key that you were given, and not only of the one that came with the record. With --head,
the record must go on from a signed head that you kept; as often as you have one.

It says what it proved and what not. Exit codes: 0 all of it holds; 1 something does not; 2 it
could not be tried. Standards: RFC 9162 (2.1, Merkle trees), RFC 8032 (5.1, Ed25519), and of C2SP
tlog-tiles, tlog-checkpoint, signed-note, tlog-proof and tlog-policy.
"""

import sys

# Before anything else is imported, "__future__" included: what lies beside this script came with
# the record, and must not be taken for a part of Python. "python3 -I" sees to that by itself.
if __name__ == "__main__" and not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    own = sys.path[0]
    sys.path[:] = [each for each in sys.path if each not in (own, "")]

import argparse
import base64
import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from statecore.exporting.ed25519 import is_signed
from statecore.exporting.tree import grow, over, root_by_proof, root_of

WIDTH = 256  # hashes in a tile, entries in a bundle
TOLD_MAX = 20
NO_LINK = bytes(32)
ENTRY_BYTES_MAX = 2**16 - 1
NOTE_BYTES_MAX = 3_000_000  # of any other file that is read whole: notes, policies, proofs, tiles
SIGNATURES_MAX = 100  # of a note: each that is looked at takes milliseconds
ENTRY_BYTES_MIN = 90  # format 1, stream 16, version 8, link 32, digest 32, and a header
NOTE_TYPE = b"\x01"  # Ed25519, of a signed note
DASH = "\u2014 "
OF_EVENT = re.compile(r"events/[0-9]{12}\.(entry|sealed|tlog-proof|json)\Z")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Keys = dict[tuple[str, bytes], bytes]  # public keys, by name and id
    Head = tuple[str, int, bytes]  # origin, size, root
    Peak = tuple[int, bytes]  # height and hash of a full subtree
    T = TypeVar("T")


class Refused(Exception):
    """Something does not hold."""


def tile_path(level: "int | str", index: int, width: int) -> str:
    name, index = f"{index % 1000:03}", index // 1000
    while index:
        name, index = f"x{index % 1000:03}/{name}", index // 1000
    return f"tile/{level}/{name}" + ("" if width == WIDTH else f".p/{width}")


def unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        raise Refused("what should be base64 is none") from None
    if base64.b64encode(data).decode() != text:
        raise Refused("base64 that is not spelled the one way")
    return data


def decimal(text: str) -> int:
    if not re.match(r"(0|[1-9][0-9]{0,19})\Z", text):
        raise Refused("what should be a number is none")
    return int(text)


def lines_of(data: bytes) -> "list[str]":
    """Return the lines of a text, the last of which is empty."""
    try:
        text = data.decode("utf-8")
    except ValueError:
        raise Refused("what should be text is none") from None
    if re.search("[\x00-\x09\x0b-\x1f\x7f]", text) or not text.endswith("\n"):
        raise Refused("a text with control characters in it, or cut short")
    return text.split("\n")


def read_policy(data: bytes) -> "tuple[Keys, bool]":
    """Return the keys that a policy trusts, by (name, id), and whether it asks for witnesses."""
    keys: Keys = {}
    quorum, names = "", ["none"]
    for line in lines_of(data):
        words = line.split(" ")
        if not line.strip() or line.startswith("#"):
            continue
        if words[0] == "log" and len(words) in (2, 3):
            name, key_id, encoded = [*words[1].split("+", 2), "", ""][:3]
            key = unbase64(encoded)
            told = sha256(name.encode() + b"\n" + key).digest()[:4]
            if not name or key[:1] != NOTE_TYPE or len(key) != 33 or told.hex() != key_id:
                raise Refused("it names a key that is none of Ed25519")
            keys[name, told] = key[1:]
        elif words[0] in ("witness", "group") and len(words) > 2:
            names.append(words[1])
        elif words[0] == "quorum" and len(words) == 2 and not quorum and words[1] in names:
            quorum = words[1]
        else:
            raise Refused("it has a line that is none of a policy")
    if not quorum or not keys:
        raise Refused("it does not say whom to trust")
    return keys, quorum != "none"


def read_head(data: bytes, keys: "Keys") -> "Head":
    """Return origin, size and root of a signed head; refuse one that no trusted key has signed."""
    text, blank, below = data.rpartition(b"\n\n")
    text += b"\n"
    words = lines_of(text)
    if not blank or len(words) < 4:
        raise Refused("it is no signed head")
    if below.count(b"\n") > SIGNATURES_MAX:  # before any of them is looked at
        raise Refused(f"it has more than {SIGNATURES_MAX} signatures")
    signed = False
    for line in lines_of(below)[:-1]:
        name, _, encoded = line[len(DASH) :].partition(" ")
        if not line.startswith(DASH):
            raise Refused("it has a line that is no signature")
        signature = unbase64(encoded)
        key = keys.get((name, signature[:4]))
        if key is not None and name == words[0]:
            if not is_signed(key, text, signature[4:]):
                raise Refused("its signature does not hold")
            signed = True
    if not signed:
        raise Refused("no key of the policy has signed it")
    root = unbase64(words[2])
    return words[0], decimal(words[1]), root


def read_proof(data: bytes) -> "tuple[bytes, int, list[bytes], bytes]":
    """Return the entry that a proof is of, its index, the hashes, and the signed head."""
    told, blank, head = data.partition(b"\n\n")
    words = lines_of(told + b"\n")[:-1]
    if not blank or len(words) < 3 or words[0] != "c2sp.org/tlog-proof@v1":
        raise Refused("it is no proof")
    if words[1][:6] != "extra " or words[2][:6] != "index ":
        raise Refused("it is no proof of an entry")
    hashes = [unbase64(word) for word in words[3:]]
    return unbase64(words[1][6:]), decimal(words[2][6:]), hashes, head


class Record:
    """An exported audit record, and what was found of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = [each for each in folder.rglob("*") if each.is_file()]
        self.files = sorted(each.relative_to(folder).as_posix() for each in files)
        self.read_files: set[str] = set()
        self.findings: list[str] = []
        self.heads: dict[str, Head] = {}  # all that were found signed, by where they are
        self.roots = {0: root_of([])}  # of the trees that these are of, by size
        self.peaks: list[Peak] = []  # the full subtrees over all entries so far
        self.nodes: list[bytes] = []  # the roots over each 256 of them
        self.streams: dict[bytes, tuple[int, bytes]] = {}  # version and leaf hash of the last event
        self.entries: dict[int, bytes | None] = {}  # those of chosen events, by index

    def pieces(self, name: str, size: int) -> "Iterator[bytes]":
        """Yield what is in a file, piece by piece."""
        self.read_files.add(name)
        path = self.folder / name
        if not path.is_file():  # and no pipe, which could be waited for without an end
            raise Refused("it is missing, or no file")
        try:
            with path.open("rb") as file:
                yield from iter(lambda: file.read(size), b"")
        except OSError:
            raise Refused("it can't be read") from None

    def read(self, name: str, size_max: int = NOTE_BYTES_MAX) -> bytes:
        """Return what is in a file; refuse one that is longer than what belongs there."""
        data = next(self.pieces(name, size_max + 1), b"")
        if len(data) > size_max:
            raise Refused(f"{name} has more in it than belongs there")
        return data

    def digest(self, name: str) -> bytes:
        """Return the digest of what is in a file, of any size."""
        digest = sha256()
        for piece in self.pieces(name, NOTE_BYTES_MAX):
            digest.update(piece)
        return digest.digest()

    def tried(self, name: str, check: "Callable[..., T]", *arguments: Any) -> "T | None":
        """Return what a check gives; take down what it refuses."""
        try:
            return check(*arguments)
        except Refused as refused:
            self.findings.append(f"{name}: {refused}")
            return None

    def find_head(self, name: str, data: "bytes | None", keys: "Keys") -> None:
        """Take in a signed head, if there is one."""
        head = None if data is None else self.tried(name, read_head, data, keys)
        if head is not None:
            self.heads[name] = head

    def take(self, index: int, entry: bytes) -> bytes:
        """Take in an entry of the log; return its leaf hash."""
        if len(entry) < ENTRY_BYTES_MIN or entry[:1] != b"\x01":
            raise Refused(f"entry {index} is none of this format")
        leaf = sha256(b"\x00" + entry).digest()
        stream, version = entry[1:17], int.from_bytes(entry[17:25], "big")
        before, link = self.streams.get(stream, (version - 1, NO_LINK))
        if entry[25:57] != link:
            raise Refused(f"entry {index} is not linked to the one before in its stream")
        if version != before + 1 or version < 1:
            raise Refused(f"entry {index}: version {version} comes after {before}")
        self.streams[stream] = version, leaf
        return leaf

    def unpack(self, name: str, width: int, first: int) -> "list[bytes]":
        """Return the leaf hashes of a bundle of entries."""
        data, at, leaves = self.read(name, width * (2 + ENTRY_BYTES_MAX)), 0, []
        for index in range(first, first + width):
            begin = at + 2
            at = begin + int.from_bytes(data[at:begin], "big")
            if at > len(data):
                raise Refused(f"{name} is cut short")
            entry = data[begin:at]
            if index in self.entries:
                self.entries[index] = entry
            leaves.append(self.take(index, entry))
        if at != len(data):
            raise Refused(f"{name} has more in it than entries")
        return leaves

    def hash_all(self, size: int) -> None:
        """Hash all entries, and hold the tiles of each level against what is below them."""
        wanted = {head[1] for head in self.heads.values()}
        for first in range(0, size, WIDTH):
            width = min(WIDTH, size - first)
            leaves = self.unpack(tile_path("entries", first // WIDTH, width), width, first)
            self.hold(0, first // WIDTH, leaves)
            if width == WIDTH:
                self.nodes.append(over(leaves))
            for place, leaf in enumerate(leaves, first + 1):
                grow(self.peaks, leaf)
                if place in wanted:
                    self.roots[place] = root_of(self.peaks)
        level, row = 1, self.nodes
        while row:
            tiles = [row[at : at + WIDTH] for at in range(0, len(row), WIDTH)]
            for number, hashes in enumerate(tiles):
                self.hold(level, number, hashes)
            level, row = level + 1, [over(each) for each in tiles if len(each) == WIDTH]

    def hold(self, level: int, number: int, hashes: "list[bytes]") -> None:
        """Hold a tile against the hashes that should be in it."""
        name = tile_path(level, number, len(hashes))
        if self.read(name) != b"".join(hashes):
            raise Refused(f"{name} is not made of what is below it")

    def check_head(self, name: str, origin: str) -> None:
        """Hold a head against the tree."""
        said, size, root = self.heads[name]
        if said != origin or (name.startswith("heads/") and name != f"heads/{size}"):
            raise Refused(f"it is a head of {said}, {size} events")
        if size not in self.roots:
            raise Refused(f"it is of {size} events, more than there are here")
        if self.roots[size] != root:
            raise Refused(f"it is not of this log: its {size} events are not these")

    def check_event(self, stem: str) -> None:
        """Hold the files of a chosen event against the log."""
        entry = self.read(stem + ".entry")
        told, index, hashes, _ = read_proof(self.read(stem + ".tlog-proof"))
        if f"events/{index:012}" != stem or self.entries.get(index) != entry or told != entry:
            raise Refused("it is not the entry that the log has there")
        if self.digest(stem + ".sealed") != entry[57:89]:
            raise Refused("its sealed bytes are not those that were recorded")
        _, size, root = self.heads[stem]
        if root_by_proof(sha256(b"\x00" + entry).digest(), index, size, hashes) != root:
            raise Refused("its proof does not lead to the root")


def verify(folder: Path, policy: "Path | None", kept: "list[Path]") -> "tuple[Record, bool]":
    """Return what was found of a record, and whether its policy asks for witnesses."""
    record = Record(folder)
    keys, asks_witnesses = read_policy(record.read("policy"))
    if policy is not None:
        keys, asks_witnesses = read_policy(policy.read_bytes())
    record.heads["checkpoint"] = read_head(record.read("checkpoint"), keys)
    origin, size, _ = record.heads["checkpoint"]
    for name in filter(re.compile(r"heads/[0-9]+\Z").match, record.files):
        record.find_head(name, record.tried(name, record.read, name), keys)
    for path in kept:
        record.find_head(f"kept: {path}", path.read_bytes(), keys)
    stems = sorted({name.rpartition(".")[0] for name in filter(OF_EVENT.match, record.files)})
    for stem in stems:
        data = record.tried(stem, record.read, stem + ".tlog-proof")
        told = None if data is None else record.tried(stem, read_proof, data)
        if told is not None:
            record.entries[told[1]] = None  # to be taken in on the way
            record.find_head(stem, told[3], keys)
    record.tried("the log", record.hash_all, size)
    for name in record.heads:
        record.tried(name, record.check_head, name, origin)
    for stem in stems:
        if stem in record.heads:
            record.tried(stem, record.check_event, stem)
    return record, asks_witnesses


def main() -> int:
    parser = argparse.ArgumentParser(description="Verify an exported audit record.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--policy", metavar="FILE", type=Path, help="whom you trust")
    parser.add_argument(
        "--head", metavar="FILE", type=Path, action="append", default=[], help="kept by you"
    )
    given = parser.parse_args()
    try:
        record, asks_witnesses = verify(given.folder, given.policy, given.head)
    except Refused as refused:
        print(f"REFUSED: the policy or the checkpoint: {refused}")
        return 1
    except OSError as error:
        print(f"NOT TRIED: {error}", file=sys.stderr)
        return 2
    if record.findings:
        for finding in record.findings[:TOLD_MAX]:
            print(f"REFUSED: {ascii(finding)[1:-1]}")
        print(f"{len(record.findings)} findings: nothing of this record is proved")
        return 1
    tell(record)
    tell_limits(record, given.policy is None, asks_witnesses)
    return 0


def tell(record: Record) -> None:
    """Say what was proved."""
    origin, size, root = record.heads["checkpoint"]
    kinds = [name.partition("/")[0].partition(":")[0] for name in record.heads]
    older, kept, events = map(kinds.count, ("heads", "kept", "events"))
    print(f"HOLDS: {size} events in {len(record.streams)} streams of {ascii(origin)[1:-1]}")
    print(f"root {root.hex()}\nProved:")
    print("- these events, in this order, are what was signed: each is in the tree of the head")
    print("- in each stream no version is missing, and each event is chained to the one before")
    print(f"- {older} older heads are signed and of this same log: nothing was rewritten since")
    print(f"- {events} chosen events are in the log, and their sealed bytes are those recorded")
    if kept:
        print(f"- the record goes on from {kept} heads that you kept elsewhere")


def tell_limits(record: Record, brought_its_policy: bool, asks_witnesses: bool) -> None:
    """Say what was not proved."""
    outside = [name for name in record.files if name not in record.read_files]
    opened = [name for name in outside if OF_EVENT.match(name)]
    print("Not proved:")
    if brought_its_policy:
        print("- that the key is the log's: the policy came with the record (see --policy)")
    if not any(name.startswith("kept: ") for name in record.heads):
        print("- that others were not shown another history: you gave no head (see --head)")
    if asks_witnesses:
        print("- that witnesses cosigned: the log's own signature is all that is checked here")
    print(
        "- what came after the head; that what was recorded is true: the writer said who and when"
    )
    if opened:
        print(f"- what {len(opened)} events say opened (events/*.json): whoever exported says so")
    for name in sorted(set(outside) - set(opened)):
        print(f"- what this file says: {ascii(name)[1:-1]}")


if __name__ == "__main__":
    sys.exit(main())
