"""The commands of auditors: verify a store, keep its signed heads elsewhere, prove an event."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final

import typer

import statecore
from statecore.anchoring import anchor as keep_outside
from statecore.anchoring import checkpoint_of, last_head, last_position
from statecore.cli import disclosing
from statecore.cli.access import archives_at_hand, ask_passphrase, opened, require_directory
from statecore.cli.arguments import Agent, AskPassphrase, Branch, Json, Store
from statecore.cli.failures import VERDICT_CODES
from statecore.cli.output import echo, echo_json, echo_whole
from statecore.cli.render import printable, time_text
from statecore.events import to_time
from statecore.stream import MAIN
from statecore.verifying import Depth, Report
from statecore.verifying import verify as verify_store

commands = typer.Typer()
audit_commands: Final = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
commands.add_typer(audit_commands, name="audit")
audit_commands.add_typer(disclosing.commands)

Policy = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Whom you trust: the log's key.", show_default=False),
]
STANDARD_OUTPUT: Final = Path("-")


def heads_folder() -> Path:
    """Return where heads are remembered: in the user's state directory."""
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(root) / "statecore" / "heads"


@commands.command()
def verify(
    store: Store,
    policy: Policy = None,
    anchor: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A signed head kept elsewhere.", show_default=False),
    ] = None,
    depth: Annotated[
        Depth, typer.Option(help="How far to go: contents and replay need the key.")
    ] = Depth.DIGESTS,
    remember: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where verified heads are kept.", show_default=False),
    ] = None,
    forgetful: Annotated[
        bool, typer.Option("--no-remember", help="Neither use nor keep verified heads.")
    ] = False,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Verify that nothing was edited, removed or reordered.

    It needs no key. The verdict says what it rests on: VALID-WITNESSED, VALID-ANCHORED,
    VALID-UNANCHORED, DIVERGED or INVALID. All findings are told, and nothing is repaired. A head
    that was verified is remembered, and the next verification holds the store against it.

    \b
    statecore verify trip.db
    statecore anchor trip.db trip.head
    statecore verify trip.db --anchor trip.head
    """
    from statecore.cli.progress import counting  # slow to import, and needed only here

    memory = None if forgetful else remember or heads_folder()
    secret = ask_passphrase(confirm=False) if passphrase else None
    total = last_position(store.expanduser())
    with counting("verifying", "events", total) as on_progress:
        report = verify_store(
            store,
            policy=policy,
            anchors=anchor or [],
            remember=memory,
            depth=depth,
            passphrase=secret,
            archives=archives_at_hand(),
            on_progress=on_progress,
        )
    if as_json:
        echo_json(report_data(report))
    else:
        echo(report_lines(report))
    raise typer.Exit(VERDICT_CODES[report.verdict])


def report_data(report: Report) -> dict[str, Any]:
    """Return a report for programs."""
    return {
        "verdict": report.verdict.value,
        "log": report.log_id.hex(),
        "depth": report.depth,
        "events": report.events,
        "streams": report.streams,
        "archived": report.archived,
        "root": report.root.hex(),
        "heads": report.heads,
        "head_size": report.head_size,
        "signed_by": report.signed_by,
        "anchored": report.anchored,
        "witnesses": report.witnesses,
        "findings": [
            {"kind": each.kind, "text": each.text, "is_outside": each.is_outside}
            for each in report.findings
        ],
        "notes": report.notes,
    }


def report_lines(report: Report) -> list[str]:
    """Return a report for people."""
    lines = [f"{report.verdict.value}  {_meaning(report)}"]
    lines += [f"finding: {each.kind}: {printable(each.text)}" for each in report.findings]
    lines.append(f"log {report.log_id.hex()}, {report.events:,} events, verified by {report.depth}")
    by = f", by {printable(report.signed_by)}" if report.signed_by else ""
    lines.append(f"signed over the first {report.head_size:,} events{by}; {report.heads} heads")
    lines += [
        f"cosigned by {printable(name)} at {time_text(to_time(seconds * 1_000_000))}"
        for name, seconds in report.witnesses.items()
    ]
    return lines + [f"note: {printable(note)}" for note in report.notes]


def _meaning(report: Report) -> str:
    match report.verdict:
        case statecore.Verdict.WITNESSED:
            return "a quorum of witnesses has cosigned it"
        case statecore.Verdict.ANCHORED:
            return f"its first {report.anchored:,} events are those of a head kept outside"
        case statecore.Verdict.UNANCHORED:
            return "nothing contradicts itself; nothing from outside was held against it"
        case statecore.Verdict.DIVERGED:
            return "it is not the log that was signed before"
    return "it is not as it was recorded"


@commands.command()
def anchor(
    store: Store,
    destination: Annotated[
        Path,
        typer.Argument(metavar="DEST", help="A file, a folder, or - for standard output."),
    ] = STANDARD_OUTPUT,
    last: Annotated[
        bool, typer.Option("--last", help="The last head there is; needs no key.")
    ] = False,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Keep a signed head of the log outside the store.

    Whoever can write to the store can replace all of it, but not what you keep elsewhere: on
    another machine, in a ticket, in a mail. A file is only replaced by a head that goes on from it.

    \b
    statecore anchor trip.db trip.head
    statecore anchor trip.db -
    """
    require_directory(destination)
    note = _head_of(store, last=last, passphrase=passphrase)
    said = checkpoint_of(note)
    kept = None if destination == STANDARD_OUTPUT else keep_outside(store, note, destination)
    if as_json:
        about = {"origin": said.origin, "events": said.size, "head": note.decode()}
        echo_json({**about, "file": None if kept is None else str(kept)})
    elif kept is None:
        echo_whole(note)
    else:
        echo([f"{printable(str(kept))}: {said.size:,} events of {printable(said.origin)}"])


def _head_of(store: Path, *, last: bool, passphrase: bool) -> bytes:
    if last:
        return last_head(store)
    with opened(store, passphrase=passphrase) as there:
        return there.signed_head()


@audit_commands.callback()
def about() -> None:
    """Give an auditor the record, and what proves it.

    \b
    statecore audit list trip.db --newest-first --limit 10
    statecore audit export trip.db record
    statecore audit policy trip.db
    statecore audit proof trip.db trip-planner 40
    """


@audit_commands.command("policy")
def policy_(store: Store, passphrase: AskPassphrase = False, as_json: Json = False) -> None:
    """Print the policy that trusts this log's key: what a verifier is to be given once.

    \b
    statecore audit policy trip.db
    """
    with opened(store, passphrase=passphrase) as there:
        _echo_text("policy", there.audit_policy(), as_json=as_json)


@audit_commands.command()
def proof(
    store: Store,
    agent: Agent,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The event.")],
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Print the proof that an event is in the log, to be verified offline.

    The format is c2sp.org/tlog-proof; its extra data is the event's entry in the tree.

    \b
    statecore audit proof trip.db trip-planner 40
    """
    with opened(store, passphrase=passphrase) as there:
        _echo_text("proof", there.prove(agent, version, branch=branch), as_json=as_json)


def _echo_text(name: str, text: bytes, *, as_json: bool) -> None:
    if as_json:
        echo_json({name: text.decode()})
    else:
        echo_whole(text)
