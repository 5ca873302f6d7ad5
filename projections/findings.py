"""What a verification found, and what it comes to: a verdict that says what it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What a verification comes to; the later ones outweigh those before."""

    WITNESSED = "VALID-WITNESSED"
    """Valid, and a quorum of the policy's witnesses has cosigned a head of it."""
    ANCHORED = "VALID-ANCHORED"
    """Valid, and it goes on from a head that was kept outside."""
    UNANCHORED = "VALID-UNANCHORED"
    """Nothing in it contradicts itself. Whoever can replace all of it can replace that, too."""
    DIVERGED = "DIVERGED"
    """It contradicts a head that was kept outside: rolled back, cut off, or another history."""
    INVALID = "INVALID"
    """It contradicts itself, or what the policy asks for."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be."""

    kind: str
    """One word for what it is, the same in every release."""
    text: str
    """What it is, where, and how far it reaches."""
    is_outside: bool = False
    """Whether it contradicts only what was kept outside."""


@dataclass(slots=True)
class Report:
    """What was verified, how far, and what was found."""

    log_id: bytes
    depth: str
    events: int = 0
    streams: int = 0
    archived: int = 0
    """Events whose bodies are in archives: their digests are proved as all others are."""
    root: bytes = b""
    """Of the tree of all events."""
    heads: int = 0
    """Signed heads in the file."""
    head_size: int = 0
    """Events under the last of them; those behind are proved by nothing yet."""
    signed_by: str | None = None
    """The policy's key that the last head was signed with; ``None`` without a policy."""
    anchored: int = 0
    """Events under the largest head from outside that holds."""
    witnesses: dict[str, int] = field(default_factory=dict)
    """The policy's witnesses that cosigned, and when, in seconds since 1970."""
    has_quorum: bool = False
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is no finding, and good to know."""

    @property
    def verdict(self) -> Verdict:
        """What it comes to."""
        if any(not finding.is_outside for finding in self.findings):
            return Verdict.INVALID
        if self.findings:
            return Verdict.DIVERGED
        if self.has_quorum:
            return Verdict.WITNESSED
        return Verdict.ANCHORED if self.anchored else Verdict.UNANCHORED

    def find(self, kind: str, text: str, *, is_outside: bool = False) -> None:
        """Take a finding down."""
        self.findings.append(Finding(kind, text, is_outside))
