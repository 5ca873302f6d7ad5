"""The commands that disclose the audit record: list it, and export it to be verified elsewhere."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer

import statecore
from statecore.audit_record import Range, Selection, SelectionOptions
from statecore.audit_text import COLUMNS, entry_data, entry_row
from statecore.cli.access import agent_in, opened, time_of
from statecore.cli.arguments import AskPassphrase, Json, Limit, Store
from statecore.cli.output import echo, echo_json
from statecore.cli.render import entry_lines, printable
from statecore.exporting import Exported, SealedStore, export
from statecore.stream import MAIN

commands: Final = typer.Typer()

_RANGE: Final = re.compile(r"([0-9]{0,18}):([0-9]{0,18})|([0-9]{1,18})")

OfAgent = Annotated[str | None, typer.Option(help="Only this agent.", show_default=False)]
OfBranch = Annotated[str | None, typer.Option(help="Only this branch.", show_default=False)]
ByActor = Annotated[str | None, typer.Option(help="Only by this one.", show_default=False)]
OnKey = Annotated[
    str | None,
    typer.Option("--key", metavar="PATTERN", help="What touched it: user/*.", show_default=False),
]
Positions = Annotated[
    str | None,
    typer.Option(metavar="A:B", help="From one to another; or A: or :B.", show_default=False),
]
Versions = Annotated[
    str | None,
    typer.Option(metavar="A:B", help="The same, of each state.", show_default=False),
]
NotBefore = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Not before.", show_default=False)
]
NotAfter = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Not after.", show_default=False)
]
NoKey = Annotated[bool, typer.Option("--no-key", help="Only what is to be seen without a key.")]


@commands.command("list")
def list_(
    store: Store,
    agent: OfAgent = None,
    branch: OfBranch = None,
    actor: ByActor = None,
    key: OnKey = None,
    positions: Positions = None,
    versions: Versions = None,
    since: NotBefore = None,
    until: NotAfter = None,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Backwards.")] = False,
    limit: Limit = None,
    changes: Annotated[bool, typer.Option("--changes", help="With what changed, in full.")] = False,
    no_key: NoKey = False,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table, its heading first.")] = False,
) -> None:
    """List who did what, when, from where and why, in the order of the log.

    A line says the position in the log, the time, the agent, its branch where that is not main,
    and its version, who, what and why; then which opening of the store wrote it, and the event's
    id. What was erased is listed as erased. Without a key, streams stand for agents.

    \b
    statecore audit list trip.db --actor booker --key spent
    statecore audit list trip.db --positions 10:20 --changes
    statecore audit list trip.db --since 2020-01-01T00:00:00Z --newest-first --limit 5 --csv
    statecore audit list trip.db --no-key --limit 5
    """
    if as_json and as_csv:
        raise statecore.InputError("either --json or --csv")
    options: SelectionOptions = {
        "agent": agent,
        "branch": branch,
        "actor": actor,
        "key": key,
        "positions": _range(positions, "--positions"),
        "versions": _range(versions, "--versions"),
        "since": _time(since),
        "until": _time(until),
        "newest_first": newest_first,
        "limit": limit,
    }
    with _opened(store, no_key=no_key, passphrase=passphrase) as source:
        _require_there(source, agent, branch)
        entries = source.audit(**options)
        if as_json:
            for entry in entries:
                echo_json(entry_data(entry, changes=changes))
        elif as_csv:
            echo(_table(entries, changes=changes))
        else:
            for entry in entries:
                echo(entry_lines(entry, changes=changes))


@commands.command("export")
def export_(
    store: Store,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A new one, or that of an older export.")
    ],
    agent: OfAgent = None,
    branch: OfBranch = None,
    actor: ByActor = None,
    key: OnKey = None,
    positions: Positions = None,
    versions: Versions = None,
    since: NotBefore = None,
    until: NotAfter = None,
    open_: Annotated[
        bool, typer.Option("--open", help="The chosen events with what they say, in the clear.")
    ] = False,
    no_key: NoKey = False,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where there is no key: the log's.", show_default=False),
    ] = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Export the record, for whoever is to verify it with nothing of this installed.

    The folder holds the whole log as entries without content (c2sp.org/tlog-tiles), its signed
    head, and a script that verifies it with Python alone. Events that the options choose have
    files of their own: the sealed bytes, a proof, and with --open what they say. A folder with an
    older export is brought up to date.

    \b
    statecore audit export trip.db record
    statecore audit export trip.db record --agent trip-planner --key spent --open
    """
    options: SelectionOptions = {
        "agent": agent,
        "branch": branch,
        "actor": actor,
        "key": key,
        "positions": _range(positions, "--positions"),
        "versions": _range(versions, "--versions"),
        "since": _time(since),
        "until": _time(until),
    }
    if no_key != (policy is not None) or (no_key and open_):
        raise statecore.InputError("--no-key and --policy FILE go together, and not with --open")
    with _opened(store, no_key=no_key, passphrase=passphrase) as source:
        _require_there(source, agent, branch)
        trusted = source.audit_policy() if policy is None else policy.read_bytes()
        done = _exported(source, store, folder, trusted, options, opened=open_)
    if as_json:
        echo_json(asdict(done) | {"folder": str(folder)})
    else:
        echo(_done_lines(folder, done))


def _exported(
    source: statecore.BlockingStore | SealedStore,
    store: Path,
    folder: Path,
    policy: bytes,
    options: SelectionOptions,
    *,
    opened: bool,
) -> Exported:
    from statecore.cli.progress import counting  # Rich takes a moment to load

    chooses = Selection(**options) != Selection()
    if opened and not chooses:
        raise statecore.InputError("say which events to --open; --positions 1: is all of them")
    if opened and isinstance(source, statecore.BlockingStore):
        source.access.require("export")  # what they say is handed to somebody else
    head, chosen = source.signed_head(), source.audit(**options) if chooses else ()
    with counting("exporting", "events") as on_progress:
        return export(
            store, folder, head, policy, chosen=chosen, opened=opened, on_progress=on_progress
        )


@contextmanager
def _opened(
    store: Path, *, no_key: bool, passphrase: bool
) -> Iterator[statecore.BlockingStore | SealedStore]:
    """Open a store, with its key or to be looked at without."""
    if no_key:
        with SealedStore(store) as sealed:
            yield sealed
    else:
        with opened(store, passphrase=passphrase) as there:
            yield there


def _require_there(
    source: statecore.BlockingStore | SealedStore, agent: str | None, branch: str | None
) -> None:
    """Refuse an agent or a branch that is not there: an auditor would take it for an idle one.

    Raises:
        NotFound: names some that are.
    """
    if agent is None and branch is None:
        return
    if isinstance(source, SealedStore) or any(source.audit(agent=agent, branch=branch, limit=1)):
        return  # of what is sealed nobody may ask; one that was erased is still in the record
    if agent is None:
        raise statecore.BranchNotFound(f"no agent has a branch {branch}")
    agent_in(source, agent, branch or MAIN)


def _table(entries: Iterable[statecore.AuditEntry], *, changes: bool) -> Iterator[str]:
    """Yield the lines of a table (RFC 4180), its heading first."""
    yield _csv_line(COLUMNS if changes else COLUMNS[:-1])
    for entry in entries:
        yield _csv_line(map(printable, entry_row(entry, changes=changes)))


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _done_lines(folder: Path, done: Exported) -> Iterator[str]:
    yield printable(f"{folder}: {done.events:,} events of {done.origin}, {done.new_events:,} new")
    if done.chosen:
        yield f"{done.chosen:,} events have files of their own"
    yield printable(f"verify it: python3 -I {folder / 'verify.py'}")


def _range(text: str | None, option: str) -> Range:
    """Return the range that a text names: ``3:9``, ``3:``, ``:9``, or ``3`` alone."""
    if text is None:
        return None, None
    found = _RANGE.fullmatch(text)
    if not found:
        raise statecore.InputError(f"{option} is A:B, A:, :B or A, not {text}")
    if found[3]:
        return int(found[3]), int(found[3])
    first, last = int(found[1]) if found[1] else None, int(found[2]) if found[2] else None
    if first is not None and last is not None and first > last:
        raise statecore.InputError(f"{option} {text} ends before it begins")
    return first, last


def _time(text: str | None) -> datetime | None:
    return None if text is None else time_of(text)
