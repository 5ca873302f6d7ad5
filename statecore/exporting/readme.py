"""What an exported audit record says of itself, to whoever is to verify it."""

from __future__ import annotations

from typing import Final

from statecore.transparency.checkpoint import Checkpoint
from statecore.transparency.lines import encode_base64

_TEXT: Final = """\
# An audit record

The whole log of a statecore store, as of {size:,} events. Verify it with Python 3.8 or later, with
nothing installed:

    python3 -I verify.py --policy THE-POLICY-YOU-WERE-GIVEN --head A-HEAD-YOU-KEPT

Take `verify.py` from the project, not from here: whoever forged a record can have forged what lies
beside it, too. Or read the one that is here before you run it, it is short. `-I` keeps Python from
taking other files of this folder for its own. Both options may be left out; then less is proved,
and it says what. Everything here is in published formats, and other software verifies it, too.

| file | what it is |
|---|---|
| `checkpoint` | the signed head: so many events, under this root (c2sp.org/tlog-checkpoint) |
| `policy` | the key that signs (c2sp.org/tlog-policy): compare it with the one you were given |
| `tile/` | the tree: its hashes, and the entries of all events (c2sp.org/tlog-tiles) |
| `heads/` | older signed heads of the same log, by their sizes |
| `events/` | chosen events: the entry, the sealed bytes, the proof (c2sp.org/tlog-proof){opened} |

This head: `{origin}`, {size} events, root `{root}`.

## What an entry says

    01 · stream 16 · version 8 · link 32 · SHA-256 of the sealed bytes 32 · header

A stream is one agent's state on one branch, by a pseudonym. Its events have the versions 1, 2, 3
and so on, or go on from where the branch began. The link is the leaf hash of the stream's event
before, zeros for the first. The header is in the clear: which data key sealed it, when, by which
opening of the store, and a nonce. What was done, by whom and why is in the sealed bytes, and only
who has the key can read that.

## What is proved, and what is not

Proved, where `verify.py` says that it holds: that these events, in this order, are what the key
signed; that none was edited, put in, taken out or reordered since; that each older head, and each
that you kept yourself, is of this same log; that the sealed bytes of a chosen event are those that
were recorded.

Not proved: that what was recorded is true. Who and when are what the writer said. That nobody else
was shown another log under the same key: keep a head yourself, or have witnesses cosign. That there
was nothing after the head. {unopened}

An event that was erased is in the record as before, and proved as before: its entry and its sealed
bytes are there, and nobody can open them any more.
"""
_OPENED: Final = "; and what it says, as JSON"
_OPENED_LIMIT: Final = (
    "And what the files `events/*.json` say: they were made by whoever exported\n"
    "this, with the key. Whoever has the key can open the sealed bytes again, and compare."
)
_SEALED_LIMIT: Final = "And what the sealed events say, which takes the key."


def readme(head: Checkpoint, *, opened: bool) -> str:
    """Return the text of an export's ``README.md``."""
    return _TEXT.format(
        size=head.size,
        origin=head.origin,
        root=encode_base64(head.root),
        opened=_OPENED if opened else "",
        unopened=_OPENED_LIMIT if opened else _SEALED_LIMIT,
    )
