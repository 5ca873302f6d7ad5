"""The commands of access: set who may do what, show it, ask for it, see what was denied."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

import statecore
from statecore.cli.access import opened, time_or_version
from statecore.cli.arguments import AskPassphrase, Json, Reason, Store
from statecore.cli.failures import EXIT_DENIED
from statecore.cli.output import echo, echo_json
from statecore.cli.permissions import (
    decision_data,
    decision_line,
    policy_data,
    policy_lines,
    record_data,
    record_line,
)
from statecore.cli.writing import json_in
from statecore.stream import MAIN

commands: Final = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="PRINCIPAL",
        help="Who asks. By default STATECORE_PRINCIPAL.",
        show_default=False,
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="WHEN", help="A time, or a version of the policy.", show_default=False
    ),
]


@commands.callback()
def about() -> None:
    """Say who may do what, and see what was denied.

    Without a policy everything is permitted. With one, only what a rule permits and none forbids.
    Who has the files and their key can do anything, whatever the policy says; so who you are here
    is what you say.

    \b
    statecore access set trip.db policy.json --as ada --reason "Bob only reads"
    statecore access show trip.db --as ada
    statecore access check trip.db bob write trip-planner budget --as ada
    statecore access denials trip.db --as ada
    """


@commands.command("set")
def set_(
    store: Store,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A policy; - is standard input.", show_default=False),
    ],
    principal: As = None,
    reason: Reason = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Set the policy; null takes it back. The first one is set by one of its owners.

    \b
    statecore access set trip.db policy.json --as ada
    """
    policy = json_in(file)
    with opened(store, passphrase=passphrase, principal=principal) as there:
        version = there.access.set_policy(policy, reason=reason)
    if as_json:
        echo_json({"policy": version})
    else:
        echo([f"policy version {version}"])


@commands.command()
def show(
    store: Store,
    at: Time = None,
    principal: As = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Show the policy, or the one of a moment.

    \b
    statecore access show trip.db --as ada
    """
    with opened(store, passphrase=passphrase, principal=principal) as there:
        policy = there.access.policy(_moment(at))
    if as_json:
        echo_json(policy_data(policy))
    else:
        echo(policy_lines(policy))


@commands.command()
def check(
    store: Store,
    who: Annotated[str, typer.Argument(metavar="PRINCIPAL", show_default=False)],
    operation: Annotated[statecore.Permission, typer.Argument(show_default=False)],
    agent: Annotated[str | None, typer.Argument(metavar="AGENT", show_default=False)] = None,
    key: Annotated[str | None, typer.Argument(metavar="KEY", show_default=False)] = None,
    branch: Annotated[str, typer.Option(help="The branch.")] = MAIN,
    at: Time = None,
    principal: As = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Say whether somebody may do something, and why; the exit code is 11 if not.

    \b
    statecore access check trip.db ada write trip-planner budget --as ada
    """
    with opened(store, passphrase=passphrase, principal=principal) as there:
        decision = there.access.decide(who, operation, agent, key, branch, at=_moment(at))
    if as_json:
        echo_json(decision_data(decision))
    else:
        echo([decision_line(decision)])
    if not decision:
        raise typer.Exit(EXIT_DENIED)


@commands.command()
def denials(
    store: Store,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what was done and read, as far as recorded.")
    ] = False,
    principal: As = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """List what was denied: to whom, what, where, how often and when.

    \b
    statecore access denials trip.db --as ada
    """
    with opened(store, passphrase=passphrase, principal=principal) as there:
        found = there.access.records() if everything else there.access.denials()
    if as_json:
        echo_json(*map(record_data, found))
    else:
        echo(list(map(record_line, found)) or ["(nothing)"])


def _moment(text: str | None) -> Any:
    """Return the moment that a text names: a version of the policy, or a time with its zone.

    Raises:
        InputError: it is neither.
    """
    return None if text is None else time_or_version(text)
