"""Whom a verifier trusts: logs, witnesses, and how many of these, as c2sp.org/tlog-policy has it.

A policy is a file of lines: ``log``, ``witness``, ``group`` and one ``quorum``. Names in it are
octets: what is no UTF-8 stands in the strings as surrogates, and comes out as it went in.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

from statecore.errors import InvalidKey, LimitExceeded, Malformed, Unproven
from statecore.transparency.checkpoint import Checkpoint, parse_checkpoint
from statecore.transparency.note import parse_note, verify
from statecore.transparency.verifiers import (
    SignatureType,
    VerifierKey,
    cosigned_at,
    parse_verifier_key,
)

POLICY_BYTES_MAX: Final = 1_000_000
NO_QUORUM: Final = "none"
_WITNESS_TYPES: Final = (SignatureType.COSIGNATURE, SignatureType.MLDSA44_COSIGNATURE)
_SPACES: Final = re.compile(r"[ \t]+")
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NOT_IN_ITEM: Final = re.compile(r"[\x00-\x20\x7f]")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class Log:
    """A log whose checkpoints are accepted; its origin is the name of its key."""

    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness, by a name that means something in this policy only."""

    name: str
    key: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses and groups, of which so many have to have cosigned."""

    name: str
    needed: int
    members: tuple[str, ...]


_Entry: TypeAlias = Log | Witness | Group


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom a verifier trusts. A group's members stand before it.

    Raises:
        Malformed: no file can say this; says why.
    """

    logs: tuple[Log, ...]
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[Group, ...] = ()
    quorum: str = NO_QUORUM

    def __post_init__(self) -> None:
        roll = _Roll()
        entries: tuple[_Entry, ...] = (*self.logs, *self.witnesses, *self.groups)
        for entry in entries:
            roll.add(entry)
        roll.require_defined(self.quorum)

    def is_met_by(self, witnesses: Collection[str]) -> bool:
        """Tell whether the quorum is there when these witnesses, by name, have cosigned."""
        met = set(witnesses)
        for group in self.groups:  # each stands after its members
            if sum(member in met for member in group.members) >= group.needed:
                met.add(group.name)
        return self.quorum == NO_QUORUM or self.quorum in met


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy says of a checkpoint that a log it knows has signed."""

    checkpoint: Checkpoint
    log: Log
    cosigned: dict[str, int]
    """The witnesses that have cosigned, by name in the policy, and when last, in seconds since
    1970; 0 where a witness says nothing about the time. Whether that is recent enough is for the
    caller to say."""
    has_quorum: bool


def judge(policy: Policy, signed: bytes) -> Verdict:
    """Return what a policy says of a signed checkpoint, which need not have its quorum.

    Raises:
        Unproven: no log of the policy that has the checkpoint's origin has signed it, or a
            signature of a key in the policy does not hold.
        Malformed: it is no signed checkpoint.
    """
    note = parse_note(signed)
    checkpoint = parse_checkpoint(note.text)
    logs = {log.key: log for log in policy.logs if log.key.name == checkpoint.origin}
    witnesses = {witness.key: witness.name for witness in policy.witnesses}
    log = None
    cosigned: dict[str, int] = {}
    for key, line in verify(note, [*logs, *witnesses]):
        if key in logs and _covers(key, checkpoint):
            log = logs[key]
        if key in witnesses:
            name, time = witnesses[key], cosigned_at(line.signature)
            cosigned[name] = max(time, cosigned.get(name, 0))
    if log is None:
        raise Unproven("no log of the policy has signed the whole checkpoint of its origin")
    return Verdict(checkpoint, log, cosigned, policy.is_met_by(cosigned))


def require(policy: Policy, signed: bytes) -> Verdict:
    """Return what a policy says of a signed checkpoint that satisfies it, quorum included.

    Raises:
        Unproven: it does not.
        Malformed: it is no signed checkpoint.
    """
    verdict = judge(policy, signed)
    if not verdict.has_quorum:
        raise Unproven(
            f"the checkpoint is cosigned by {len(verdict.cosigned)} of the policy's "
            f"{len(policy.witnesses)} witnesses, which is no quorum"
        )
    return verdict


def parse_policy(data: bytes) -> Policy:
    """Return the policy that a file says.

    Raises:
        Malformed: it is none; names the line.
        LimitExceeded: it has over a million bytes.
    """
    if len(data) > POLICY_BYTES_MAX:
        raise LimitExceeded("policy", len(data), POLICY_BYTES_MAX, "bytes")
    *lines, rest = data.decode(errors="surrogateescape").split("\n")
    if rest:  # it may have been cut off where it still makes sense, and says less then
        raise Malformed(f"policy, line {len(lines) + 1}: does not end in a newline")
    entries: list[_Entry] = []
    quorums: list[str] = []
    roll = _Roll()
    for number, line in enumerate(lines, 1):
        try:
            said = _parse_line(line)
            if isinstance(said, str):
                roll.require_defined(said)
                quorums.append(said)
            elif said is not None:
                roll.add(said)
                entries.append(said)
        except (Malformed, InvalidKey) as error:
            raise Malformed(f"policy, line {number}: {error}") from error
    if len(quorums) != 1:
        raise Malformed(f"policy: has {len(quorums)} quorum lines, not one")
    return Policy(
        tuple(each for each in entries if isinstance(each, Log)),
        tuple(each for each in entries if isinstance(each, Witness)),
        tuple(each for each in entries if isinstance(each, Group)),
        quorums[0],
    )


def write_policy(policy: Policy) -> bytes:
    """Return the file that says a policy; ``parse_policy`` gives the same one."""
    lines = [("log", str(log.key), log.url) for log in policy.logs]
    lines += [("witness", f"{each.name} {each.key}", each.url) for each in policy.witnesses]
    lines += [
        ("group", f"{group.name} {group.needed}", " ".join(group.members))
        for group in policy.groups
    ]
    lines.append(("quorum", policy.quorum, None))
    text = "".join(" ".join(filter(None, line)) + "\n" for line in lines)
    return text.encode(errors="surrogateescape")


class _Roll:
    """What the lines of a policy so far have named."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._members: set[str] = set()
        self._log_keys: set[bytes] = set()
        self._witness_keys: set[bytes] = set()

    def add(self, entry: _Entry) -> None:
        """Take in one more.

        Raises:
            Malformed: it can't stand here.
        """
        if isinstance(entry, Group):
            self._add_group(entry)
        elif isinstance(entry, Witness):
            if entry.key.type not in _WITNESS_TYPES:
                raise Malformed("a witness has a key for cosignatures")
            _add_key(entry.key, self._witness_keys)
            self._add_name(entry.name)
            _check_url(entry.url)
        else:
            _add_key(entry.key, self._log_keys)
            _check_url(entry.url)

    def require_defined(self, quorum: str) -> None:
        """Refuse a quorum of something that was not named before."""
        if quorum != NO_QUORUM and quorum not in self._names:
            raise Malformed("the quorum names nothing that is defined before it")

    def _add_name(self, name: str) -> None:
        _check_item(name, "name")
        if name == NO_QUORUM or name in self._names:
            raise Malformed("the name is taken")
        self._names.add(name)

    def _add_group(self, group: Group) -> None:
        for member in group.members:
            if member not in self._names:
                raise Malformed("a member of the group is not defined before it")
            if member in self._members:
                raise Malformed("a member of the group is a member already")
            self._members.add(member)
        if not 1 <= group.needed <= len(group.members):
            raise Malformed(f"{group.needed} of the group's {len(group.members)} can't be needed")
        self._add_name(group.name)


def _parse_line(line: str) -> _Entry | str | None:
    """Return what a line says, the quorum as a string; None where it says nothing."""
    if _FORBIDDEN.search(line):
        raise Malformed("a control character")
    match [item for item in _SPACES.split(line) if item]:
        case []:
            return None
        case [first, *_] if first.startswith("#"):
            return None
        case ["log", key]:
            return Log(parse_verifier_key(key))
        case ["log", key, url]:
            return Log(parse_verifier_key(key), url)
        case ["witness", name, key]:
            return Witness(name, parse_verifier_key(key))
        case ["witness", name, key, url]:
            return Witness(name, parse_verifier_key(key), url)
        case ["group", name, needed, *members] if members:
            return Group(name, _parse_needed(needed, len(members)), tuple(members))
        case ["quorum", name]:
            return name
    raise Malformed("is no line of a log, a witness, a group or a quorum")


def _parse_needed(text: str, members: int) -> int:
    if text == "all":
        return members
    if text == "any":
        return 1
    if not _NUMBER.fullmatch(text):
        raise Malformed("all, any or a number of members is needed of a group")
    return int(text)


def _add_key(key: VerifierKey, known: set[bytes]) -> None:
    if key.public_key in known:
        raise Malformed("the key is there already")
    known.add(key.public_key)


def _check_url(url: str | None) -> None:
    if url is not None:
        _check_item(url, "URL")


def _check_item(text: str, what: str) -> None:
    if not text or _NOT_IN_ITEM.search(text):
        raise Malformed(f"a {what} has neither spaces nor control characters in it")
    try:
        octets = text.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise Malformed(f"a {what} that no octets spell") from error
    if octets.decode(errors="surrogateescape") != text:
        raise Malformed(f"a {what} whose octets spell another")


def _covers(key: VerifierKey, checkpoint: Checkpoint) -> bool:
    """Tell whether a log's signature is over all of a checkpoint: ML-DSA-44 leaves out a part."""
    return key.type is not SignatureType.MLDSA44_COSIGNATURE or not checkpoint.extensions
