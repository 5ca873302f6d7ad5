"""The commands of backups: take one, follow, look at it, verify it, tidy it, restore from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

import statecore
from statecore.backup import Backup, BackupResult, lag, take
from statecore.cli.access import ask_passphrase, opened, time_or_version
from statecore.cli.arguments import AskPassphrase, Branch, DryRun, Json, Store
from statecore.cli.auditing import Policy, report_data, report_lines
from statecore.cli.failures import VERDICT_CODES, report
from statecore.cli.output import echo, echo_json
from statecore.cli.render import printable, time_text
from statecore.events import to_time
from statecore.log import now
from statecore.stream import MAIN

commands: Final = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Destination = Annotated[
    str, typer.Argument(metavar="DEST", help="A folder, or a URL such as s3://bucket/folder.")
]
Anchors = Annotated[
    list[Path] | None,
    typer.Option(
        "--anchor", metavar="FILE", help="A signed head kept elsewhere.", show_default=False
    ),
]
Keys = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A key store: STORE-keys.", show_default=False),
]
Once = Callable[[], BackupResult]


@commands.callback()
def about() -> None:
    """Back a store up while agents write to it, and restore it.

    \b
    statecore backup run trip.db trip.backup
    statecore backup verify trip.backup
    statecore backup restore trip.backup restored.db
    """


@commands.command("run")
def run_(
    store: Store,
    destination: Destination,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until interrupted.")] = False,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="With --follow: how often.")
    ] = 5.0,
    sign: Annotated[
        bool, typer.Option("--sign", help="Sign a head of all there is first; needs the key.")
    ] = False,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Bring what is new in a store to a backup.

    Needs no key: events are sealed already. What is carried off is hashed and held against the
    store's own audit tree, and read back. The keys are not in it: `statecore keys backup`.

    \b
    statecore backup run trip.db trip.backup
    statecore backup run trip.db s3://bucket/trip --follow
    """
    with _taking(store, destination, sign=sign, passphrase=passphrase) as once:
        if follow:
            _follow(store, once, every, as_json=as_json)
            return
        result = once()
    if as_json:
        echo_json(_data(result))
    else:
        echo([_line(result)])


@contextmanager
def _taking(store: Path, destination: str, *, sign: bool, passphrase: bool) -> Iterator[Once]:
    """Give what takes a backup once, with the store held open where heads are to be signed."""
    from statecore.cli.progress import advancing  # slow to import, and needed only here

    with advancing("backing up", "events") as on_progress:
        if not sign:
            yield lambda: take(store, destination, on_progress=on_progress)
            return
        with opened(store, passphrase=passphrase) as there:
            yield lambda: there.backup(destination, on_progress=on_progress)


def _follow(store: Path, once: Once, every: float, *, as_json: bool) -> None:
    """Bring over what is new, again and again; say so, and how far behind the backup is."""
    last: BackupResult | None = None
    while True:
        try:
            result = once()
        except statecore.StoreFailure as error:  # a network that is down comes back
            if last is None:
                raise
            behind, seconds = lag(store, last.position, now())
            report(f"{error}; {behind:,} events and {seconds:,.0f} seconds behind, going on")
        else:
            if last is None or result.events or result.signed != last.signed:
                behind, seconds = lag(store, result.position, now())
                if as_json:
                    about = {"events_behind": behind, "seconds_behind": seconds}
                    echo_json({**_data(result), **about})
                else:
                    tail = f"; {behind:,} events and {seconds:,.1f} seconds behind"
                    echo([_line(result) + tail])
            last = result
        time.sleep(every)


def _data(result: BackupResult) -> dict[str, Any]:
    return {**asdict(result), "last_time": _time(result.last_time)}


def _line(result: BackupResult) -> str:
    done = (
        f"{result.events:,} events in {result.segments} segments, {result.bytes:,} bytes"
        if result.events
        else "nothing new"
    )
    signed = f"signed over the first {result.signed:,} of {result.size:,} events"
    return f"{done}; up to position {result.position:,}, {signed}"


def _time(microseconds: int) -> str | None:
    return time_text(to_time(microseconds)) if microseconds else None


@commands.command("list")
def list_(destination: Destination, as_json: Json = False) -> None:
    """List what a backup holds, by segment; nothing of it is verified.

    \b
    statecore backup list trip.backup
    """
    backup = Backup(destination)
    listing = backup.require_listing()
    chain = {*listing.chain}
    for name in listing.segments:
        extent = backup.extent(name)
        data: dict[str, Any] = {
            "positions": [extent.after + 1, extent.last],
            "events": extent.size - extent.size_before,
            "times": [_time(extent.first_time), _time(extent.last_time)],
            "bytes": listing.sizes[str(name)],
            "log": extent.log_id.hex(),
            "needed": name in chain,
        }
        if as_json:
            echo_json(data)
        else:
            times = " to ".join(filter(None, data["times"]))
            spare = "" if data["needed"] else "  (not needed)"
            echo(
                [
                    f"{extent.after + 1:,} to {extent.last:,}  {data['events']:,} events  "
                    f"{data['bytes']:,} bytes  {times}{spare}"
                ]
            )
    if not as_json:
        signed = max(listing.heads, default=0)
        echo([f"up to position {listing.end:,}, signed over the first {signed:,} events"])


@commands.command()
def verify(
    destination: Destination,
    policy: Policy = None,
    anchor: Anchors = None,
    keys: Keys = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Verify a backup by reading all of it; needs no key, but opens every event with --keys.

    The verdicts are those of `statecore verify`.

    \b
    statecore backup verify trip.backup
    statecore backup verify trip.backup --policy trip.policy --keys trip.db-keys
    """
    from statecore.cli.progress import counting  # slow to import, and needed only here

    with counting("verifying", "events") as on_progress:
        found = statecore.verify_backup(
            destination,
            policy=policy,
            anchors=anchor or [],
            passphrase=ask_passphrase(confirm=False) if passphrase else None,
            key_store=keys,
            on_progress=on_progress,
        )
    if as_json:
        echo_json(report_data(found))
    else:
        echo(report_lines(found))
    raise typer.Exit(VERDICT_CODES[found.verdict])


@commands.command()
def prune(
    destination: Destination,
    keep_segments: Annotated[
        int, typer.Option(min=1, help="How many of the newest to leave as they are.")
    ] = 1,
    keep_heads: Annotated[
        int, typer.Option(min=1, help="How many of the newest heads to keep apart.")
    ] = 100,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Make small segments into larger ones, and remove what is not needed any more.

    No event is dropped: every moment that could be restored still can.

    \b
    statecore backup prune trip.backup --dry-run
    """
    result = statecore.prune_backup(
        destination, keep_segments=keep_segments, keep_heads=keep_heads, dry_run=dry_run
    )
    if as_json:
        echo_json(asdict(result))
        return
    would = "would be " if dry_run else ""
    echo(
        [
            f"{result.merged} segments {would}made into {result.made}; "
            f"{len(result.removed)} files of {result.bytes_freed:,} bytes {would}removed"
        ]
    )


@commands.command()
def restore(
    destination: Destination,
    store: Store,
    at: Annotated[
        str | None,
        typer.Option(metavar="POINT", help="A position in the log, or a time.", show_default=False),
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option(help="Whose version POINT is; needs the key.", show_default=False),
    ] = None,
    branch: Branch = MAIN,
    policy: Policy = None,
    anchor: Anchors = None,
    keys: Keys = None,
    no_record: Annotated[
        bool, typer.Option("--no-record", help="Don't record that it went back; needs no key.")
    ] = False,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Make a new store of a backup, as it was last or at a point before.

    Nothing is ever overwritten. Keys are not in a backup: name a key store with --keys to have it
    copied beside the new store, or bring it afterwards with `statecore keys restore`. A store that
    is restored to before its last signed head records so, which takes the keys.

    \b
    statecore backup restore trip.backup restored.db
    statecore backup restore trip.backup before.db --at 2026-03-02T09:30:00Z --keys trip.db-keys
    """
    from statecore.cli.progress import advancing  # slow to import, and needed only here

    with advancing("restoring", "positions") as on_progress:
        result = statecore.restore(
            destination,
            store.absolute(),
            at=_point(at),
            agent_id=agent,
            branch=branch,
            policy=policy,
            anchors=anchor or [],
            passphrase=ask_passphrase(confirm=False) if passphrase else None,
            key_store=keys,
            record=not no_record,
            on_progress=on_progress,
        )
    if as_json:
        echo_json({**asdict(result), "path": str(result.path), "root": result.root.hex()})
    else:
        echo(_restored_lines(result))


def _point(text: str | None) -> int | datetime | None:
    return None if text is None else time_or_version(text, "position")


def _restored_lines(result: statecore.RestoreResult) -> Iterator[str]:
    path = printable(str(result.path))
    yield f"{path}: {result.events:,} events, up to position {result.position:,}"
    if not result.events:
        yield "nothing had been recorded by then: the store is empty"
    elif result.signed >= result.events:
        yield f"all of them proved by the signed head of {result.signed:,} events"
    else:
        yield f"the first {result.signed:,} of them proved by a signed head; the rest by none"
    if result.left:
        recorded = "which it records" if result.is_recorded else "which is not recorded in it"
        yield f"{result.left:,} signed events were left behind, {recorded}"
    if result.erased:
        done = "erased again" if result.is_recorded else "not erased in it, and read as damaged"
        yield f"{result.erased:,} streams that were erased later are {done}"
    if result.needs_keys:
        yield f"its keys are not in the backup: bring the key store to {path}-keys"
