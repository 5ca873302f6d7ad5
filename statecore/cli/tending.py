"""The commands of whoever tends a store: its metrics, its reviews, its upgrade."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import statecore
from statecore.cli.access import opened
from statecore.cli.arguments import AskPassphrase, DryRun, Json, Store
from statecore.cli.failures import exit_code, report
from statecore.cli.output import echo, echo_json, echo_whole
from statecore.cli.render import printable
from statecore.reviewing import Period, rendering
from statecore.reviewing import review as review_store
from statecore.upgrading import Upgrade
from statecore.upgrading import upgrade as upgrade_store

commands = typer.Typer()


class Form(StrEnum):
    """How a review is written."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"


LiesAt = Annotated[
    str | None,
    typer.Option("--backup", metavar="DEST", help="Where its backup lies.", show_default=False),
]
Anchor = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="A signed head kept outside.", show_default=False),
]


@commands.command()
def metrics(
    store: Store,
    anchor: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A signed head kept outside.", show_default=False),
    ] = None,
    backup: LiesAt = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Print what a store holds, for Prometheus.

    What a program that has the store open counts of its own work, such as latencies, it tells
    itself: store.metrics().

    \b
    statecore metrics trip.db > trip.prom
    """
    from statecore.metrics import families, prometheus

    kept = None if anchor is None else anchor.read_bytes()
    with opened(store, passphrase=passphrase) as there:
        measured = families(there.metrics(anchor=kept, backup=backup))
    found = [each for each in measured if each.samples and not each.is_of_process]
    if as_json:
        echo_json({each.name: _numbers(each.samples) for each in found})
    else:
        echo_whole(prometheus(found).encode())


def _numbers(samples: Any) -> Any:
    """Return a single number as it is, others by their labels."""
    numbers = {",".join(labels.values()): n for labels, n in samples if math.isfinite(n)}
    return numbers[""] if set(numbers) == {""} else numbers


@commands.command()
def review(
    period: Annotated[
        Period, typer.Argument(help="How far back, and how much.", show_default=False)
    ],
    store: Store,
    anchor: Anchor = None,
    backup: LiesAt = None,
    policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Whom you trust: the log's key.", show_default=False),
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="How it is written.")] = Form.TEXT,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Review a store: what to do first, then what was seen.

    Daily its state; weekly its performance, too; monthly its security; quarterly an audit of all
    of it. Whoever finds something that is to be done at once ends with the exit code 5.

    \b
    statecore review daily trip.db
    statecore review quarterly trip.db --format html > trip.html
    """
    from statecore.cli.progress import counting  # slow to import, and needed only here

    if as_json and form != Form.TEXT:
        raise statecore.InputError("either --json or --format")
    with opened(store, passphrase=passphrase) as there:
        total = there.statistics().events
        with counting("looking", "events", total) as on_progress:
            found = review_store(
                there,
                store.absolute(),
                period,
                datetime.now(UTC),
                anchors=anchor or [],
                backup=backup,
                policy=policy,
                on_progress=on_progress,
            )
    if as_json:
        echo_json(rendering.data(found))
    elif form == Form.TEXT:
        echo(map(printable, rendering.lines(found)))
    else:
        page = rendering.html(found) if form == Form.HTML else rendering.markdown(found)
        echo_whole(page.encode())
    if rendering.is_critical(found):
        raise typer.Exit(exit_code(statecore.Damage("something is to be done at once")))


@commands.command()
def upgrade(store: Store, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Bring a store's file to the newest format, as rehearsed.

    First on a copy. It is verified before and after, and nothing that was recorded is touched; it
    needs no key. Take a backup, and close the store everywhere, before.

    \b
    statecore upgrade trip.db --dry-run
    statecore upgrade trip.db
    """
    stage = report if not as_json else lambda _: None
    done = upgrade_store(store.absolute(), dry_run=dry_run, on_stage=stage)
    if as_json:
        echo_json(_upgrade_data(done))
    else:
        echo(_upgrade_lines(done))


def _upgrade_data(done: Upgrade) -> dict[str, Any]:
    return {
        "format": done.format,
        "steps": [step.name for step in done.steps],
        "done": done.is_done,
        "events": done.before.events,
        "root": done.before.root.hex(),
    }


def _upgrade_lines(done: Upgrade) -> list[str]:
    about = f"format {done.format}, {done.before.events:,} events, root {done.before.root.hex()}"
    if not done.steps:
        return [about, "it is of the newest format; there is nothing to do"]
    said = "done" if done.is_done else "rehearsed on a copy, which was verified; not done yet"
    return [about, *(f"{step.name}: {step.text}: {said}" for step in done.steps)]
