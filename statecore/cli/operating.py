"""The commands of operators: examine, salvage, check, rebuild, measure and compact a store."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import statecore
from statecore.checking import Check, CheckReport
from statecore.cli.access import ask_passphrase, opened
from statecore.cli.arguments import AskPassphrase, Branch, Json, Store
from statecore.cli.auditing import heads_folder
from statecore.cli.diagnoses import (
    examination_data,
    examination_lines,
    key_line,
    rebuilt_lines,
    salvaged_data,
    salvaged_lines,
    sizes_lines,
)
from statecore.cli.failures import EXIT_INVALID, code_of
from statecore.cli.output import echo, echo_json
from statecore.cli.progress import counting
from statecore.cli.render import printable
from statecore.doctor import Severity, examine
from statecore.salvaging import salvage as salvage_store
from statecore.stream import MAIN
from statecore.verifying import recall

commands = typer.Typer()

_DAMAGED = code_of(statecore.Damage)


@commands.command()
def doctor(
    store: Store,
    anchor: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A signed head kept elsewhere.", show_default=False),
    ] = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Say what is wrong with a store, and what to do.

    Nothing is changed. Files, modes, disk, write-ahead log, pages, tree, heads, key and key store
    are looked at; the worst comes first. The exit code is that of the worst, 0 where there is
    nothing but advice.

    \b
    statecore doctor trip.db
    """
    secret = ask_passphrase(confirm=False) if passphrase else None
    remembered, notes = _remembered(store)
    found = examine(store, passphrase=secret, anchors=(*(anchor or ()), *remembered))
    found.notes += notes
    if as_json:
        echo_json(examination_data(found))
    else:
        echo(examination_lines(found))
    worst = found.diagnoses[0] if found.diagnoses else None
    if worst is not None and worst.severity > Severity.ADVICE:
        raise typer.Exit(code_of(worst.error))


def _remembered(store: Path) -> tuple[list[Path], list[str]]:
    """Return the head of the store that `verify` remembered, if there is one, and notes of it."""
    from statecore.recorders.sqlite.reading import StoreFile

    try:
        file = StoreFile(store)
    except statecore.StatecoreError:
        return [], []  # the doctor tells why
    file.close()
    head, notes = heads_folder() / f"{file.log_id.hex()}.head", list[str]()
    return [head] if recall(head, notes) else [], notes


@commands.command()
def salvage(
    damaged: Store,
    new: Annotated[
        Path, typer.Argument(metavar="NEW", help="The file to make.", show_default=False)
    ],
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Prove by the tree alone.")
    ] = False,
    cut: Annotated[
        bool, typer.Option("--cut", help="End each state before its first gap, to go on there.")
    ] = False,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Write all that is intact in a damaged store to a new one.

    The damaged one is only read, page by page. Each event is proven by its seal, by the hash tree,
    or has at least the structure of one; what is forged is left out. Nobody may have the damaged
    store open. The exit code is 5 if anything is missing.

    \b
    statecore salvage trip.db saved.db
    """
    secret = ask_passphrase(confirm=False) if passphrase else None
    with counting("salvaging", "events") as on_progress:
        done = salvage_store(
            damaged,
            new,
            passphrase=secret,
            without_key=without_key,
            cut=cut,
            on_progress=on_progress,
        )
    if as_json:
        echo_json(salvaged_data(done))
    else:
        echo(salvaged_lines(done))
    if not done.survey.is_whole:
        raise typer.Exit(_DAMAGED)


@commands.command()
def check(
    store: Store,
    only: Annotated[
        list[Check] | None,
        typer.Option(help="Only this; may be given again.", show_default=False),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=1, help="Again and again.", show_default=False),
    ] = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Fold every state again, and hold all there is against that.

    States, references, histories and indexes: each says what it proved.

    \b
    statecore check trip.db
    statecore check trip.db --only index
    """
    with opened(store, passphrase=passphrase) as there:
        report = _checked(there, only or [], as_json=as_json)
        while every is not None:
            time.sleep(every)
            report = _checked(there, only or [], as_json=as_json)
    if not report.is_sound:
        is_rules_only = all(each.check == Check.REFERENCE for each in report.complaints)
        raise typer.Exit(EXIT_INVALID if is_rules_only else _DAMAGED)


def _checked(store: statecore.BlockingStore, only: list[Check], *, as_json: bool) -> CheckReport:
    report = store.check(*only)
    if as_json:
        echo_json(
            {
                "checks": list(report.checks),
                "proved": report.proved,
                "complaints": [asdict(each) for each in report.complaints],
                "seconds": round(report.seconds, 3),
            }
        )
    else:
        echo(
            f"{each.check}: {printable(each.where)}: {printable(each.text)}"
            for each in report.complaints
        )
        proved = ", ".join(f"{count:,} {what}" for what, count in report.proved.items())
        echo([f"{'sound' if report.is_sound else 'not sound'}: {proved or 'nothing'}"])
    return report


@commands.command()
def rebuild(
    store: Store,
    only_check: Annotated[
        bool, typer.Option("--check", help="Only compare; replace nothing.")
    ] = False,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Make what is derived again from the events.

    Key history, ids, audit tree and snapshots: what differs is told, and then replaced.

    \b
    statecore rebuild trip.db --check
    """
    with opened(store, passphrase=passphrase) as there:
        done = there.rebuild(only_check=only_check)
    if as_json:
        echo_json(asdict(done))
    else:
        echo(rebuilt_lines(done))
    if done.left_alone or (only_check and done.differences):
        raise typer.Exit(_DAMAGED)


@commands.command()
def size(
    store: Store,
    agent: Annotated[
        str | None,
        typer.Argument(metavar="AGENT", help="Its keys, one by one.", show_default=False),
    ] = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Say what takes how many bytes.

    By table and state, or by key of one state.

    \b
    statecore size trip.db
    statecore size trip.db trip-planner
    """
    with opened(store, passphrase=passphrase) as there:
        if agent is None:
            sizes = there.sizes()
            if as_json:
                echo_json(asdict(sizes))
            else:
                echo(sizes_lines(sizes))
            return
        keys = there.key_sizes(agent, branch=branch)
        if not keys:
            raise statecore.NotFound(f"{agent} has no keys on {branch}")
        if as_json:
            echo_json(*map(asdict, keys))
        else:
            echo(map(key_line, keys))


@commands.command()
def compact(store: Store, passphrase: AskPassphrase = False, as_json: Json = False) -> None:
    """Give back the space in a store's file that is not used.

    Others may have the store open; writers wait meanwhile. It takes as much space again while it
    lasts. Killed at any moment, nothing is lost.

    \b
    statecore compact trip.db
    """
    with opened(store, passphrase=passphrase) as there:
        before, after = there.compact()
    if as_json:
        echo_json({"bytes_before": before, "bytes_after": after})
    else:
        echo([f"{before:,} bytes before, {after:,} after: {before - after:,} saved"])
