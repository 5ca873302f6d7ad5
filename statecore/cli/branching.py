"""The commands of branches: fork, bring together, decide what can't be reconciled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

import statecore
from statecore.cli.access import agent_in, moment, opened
from statecore.cli.arguments import (
    Actor,
    Agent,
    AskPassphrase,
    At,
    Branch,
    DryRun,
    Into,
    InValue,
    Json,
    Key,
    OnConflict,
    Reason,
    Settle,
    Source,
    Store,
)
from statecore.cli.outcomes import branch_data, branch_line, conflict_lines, conflicts_data
from statecore.cli.output import echo, echo_json
from statecore.cli.places import place_among
from statecore.cli.render import printable
from statecore.cli.writing import tell, value_from
from statecore.stream import MAIN

commands = typer.Typer()


@commands.command()
def branch(
    store: Store,
    agent: Agent,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The new branch.", show_default=False)
    ] = None,
    at: At = None,
    describe: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What it is for.", show_default=False)
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Give it up; its events stay in the log.")
    ] = False,
    actor: Actor = None,
    origin: Annotated[str, typer.Option("--branch", help="The branch it begins on.")] = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """List an agent's branches, or make one from any moment on.

    Without --at, a new one begins with the state as it is now.

    \b
    statecore branch trip.db trip-planner
    statecore branch trip.db trip-planner walk --at approved --describe "on foot"
    statecore branch trip.db trip-planner walk --delete
    """
    if (name is None or delete) and (at, describe) != (None, None):
        raise statecore.InputError("--at and --describe are for a new branch, with a NAME")
    if name is None and delete:
        raise statecore.InputError("say which branch to give up")
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, origin, actor=actor)
        if name is None:
            _tell_branches(manager, [MAIN, *_known(manager)], as_json=as_json)
        elif delete:
            manager.delete_branch(name)
            if as_json:
                echo_json({"agent": agent, "branch": name, "deleted": True})
            else:
                echo([printable(f"{name} is given up")])
        else:
            _fork(manager, name, moment(manager, at), describe)
            _tell_branches(manager, [name], as_json=as_json)


def _known(agent: statecore.BlockingManager) -> dict[str, statecore.Branch]:
    return {known.name: known for known in agent.branches()}


def _fork(
    agent: statecore.BlockingManager,
    name: str,
    point: statecore.Point | None,
    description: str | None,
) -> None:
    """Make a branch at a moment, or now; there may be one already, if it is the same.

    Raises:
        BranchExists: it is another.
    """
    if name == MAIN:
        raise statecore.BranchExists(f"{agent.agent_id} has {MAIN!r} from its beginning on")
    agent.branch(name, agent.version() if point is None else point, description=description)
    known = _known(agent).get(name)
    if known and description not in (None, known.description):
        raise statecore.BranchExists(f"{agent.agent_id} has a branch {name!r}, for something else")


def _tell_branches(
    agent: statecore.BlockingManager, names: Iterable[str], *, as_json: bool
) -> None:
    known = _known(agent)
    for name in names:
        version = agent.branch(name, create=False).version()
        if as_json:
            echo_json(branch_data(agent.agent_id, name, version, known.get(name)))
        else:
            echo([branch_line(name, version, known.get(name))])


@commands.command()
def merge(
    store: Store,
    agent: Agent,
    source: Source,
    into: Into = MAIN,
    at: At = None,
    on_conflict: Settle = OnConflict.RECORD,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=NAME", help="How to merge such keys, this time.", show_default=False
        ),
    ] = None,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Decide as `resolve --remember` did before.")
    ] = False,
    dry_run: DryRun = False,
    actor: Actor = None,
    reason: Reason = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Bring in what another branch did, by one new event.

    What both changed and can't be reconciled is kept, both sides of it, until it is resolved.

    \b
    statecore merge trip.db trip-planner sail --dry-run
    statecore merge trip.db trip-planner sail --at 99 --strategy 'note*=theirs'
    statecore merge trip.db trip-planner main --into sail
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, into, actor=actor)
        other = agent_in(there, agent, source)
        result = manager.merge(
            other,
            moment(other, at),
            on_conflict=on_conflict.value,
            strategies=_strategies(strategy or []),
            reuse=reuse,
            dry_run=dry_run,
            reason=reason,
        )
        tell(manager, result, as_json=as_json)


def _strategies(given: Iterable[str]) -> dict[str, str]:
    strategies = {}
    for text in given:
        pattern, equals, name = text.rpartition("=")
        if not equals:
            raise statecore.InputError(f"{text}: a strategy is given as PATTERN=NAME")
        strategies[pattern] = name
    return strategies


@commands.command("cherry-pick")
def cherry_pick(
    store: Store,
    agent: Agent,
    source: Source,
    versions: Annotated[
        list[int], typer.Argument(metavar="VERSION", help="Of its events.", show_default=False)
    ],
    into: Into = MAIN,
    on_conflict: Settle = OnConflict.RECORD,
    dry_run: DryRun = False,
    actor: Actor = None,
    reason: Reason = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Do here what single events of another branch did.

    It is one new event.

    \b
    statecore cherry-pick trip.db trip-planner sail 99
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, into, actor=actor)
        result = manager.cherry_pick(
            agent_in(there, agent, source),
            *versions,
            on_conflict=on_conflict.value,
            dry_run=dry_run,
            reason=reason,
        )
        tell(manager, result, as_json=as_json)


@commands.command()
def rebase(
    store: Store,
    agent: Agent,
    name: Annotated[str, typer.Argument(metavar="BRANCH", help="Which one.", show_default=False)],
    onto: Annotated[str, typer.Option(metavar="BRANCH", help="Where it is to begin.")] = MAIN,
    actor: Actor = None,
    reason: Reason = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Begin a branch anew at the end of another.

    Its own events are done again, one by one.

    \b
    statecore rebase trip.db trip-planner sail
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, name, actor=actor)
        manager.rebase(agent_in(there, agent, onto), reason=reason)
        _tell_branches(manager, [name], as_json=as_json)


@commands.command()
def conflicts(
    store: Store,
    agent: Agent,
    at: At = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """List what is in conflict, and what each side made of it.

    The sides have numbers, for `resolve`; what they started from stands below them.

    \b
    statecore conflicts trip.db trip-planner
    """
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch)
        found = manager.at(moment(manager, at)).conflicts
        if as_json:
            echo_json(*conflicts_data(found))
        else:
            echo(conflict_lines(found) if found else ["(no conflicts)"])


@commands.command(context_settings={"ignore_unknown_options": True})  # -5 is a value
def resolve(
    store: Store,
    agent: Agent,
    key: Key,
    value: Annotated[
        str | None,
        typer.Argument(metavar="VALUE", help="JSON; - is standard input.", show_default=False),
    ] = None,
    pick: Annotated[
        int | None,
        typer.Option(min=0, help="Take the side of this number.", show_default=False),
    ] = None,
    path: InValue = None,
    remember: Annotated[bool, typer.Option("--remember", help="For merges with --reuse.")] = False,
    actor: Actor = None,
    reason: Reason = None,
    branch: Branch = MAIN,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Decide a conflict by a value, or by a side's number.

    \b
    statecore resolve trip.db trip-planner goal --pick 0
    statecore resolve trip.db trip-planner plan '"the train at noon"' --path days.3.morning
    """
    if (value is None) == (pick is None):
        raise statecore.InputError("decide by a VALUE or by --pick")
    content = None if value is None else value_from(value)
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, branch, actor=actor)
        place = place_among(manager.conflicts(), key, path)
        version = manager.resolve(
            key, content, path=place, pick=pick, remember=remember, reason=reason
        )
        if as_json:
            echo_json({"agent": agent, "branch": branch, "key": key, "version": version})
        else:
            echo([f"version {version}"])


@commands.command()
def strategy(
    store: Store,
    agent: Agent,
    pattern: Annotated[
        str | None, typer.Argument(metavar="PATTERN", help="Of keys.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The strategy.", show_default=False)
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Take it back.")] = False,
    actor: Actor = None,
    reason: Reason = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """List how keys are merged, or say how from now on.

    Patterns are of the shell's kind, and the longest one counts first. Strategies: conflict, ours,
    theirs, latest, max, min, sum, union, append, text, objects, objects:field.

    \b
    statecore strategy trip.db trip-planner
    statecore strategy trip.db trip-planner 'note*' latest
    statecore strategy trip.db trip-planner 'note*' --delete
    """
    asked = pattern is not None, name is not None, delete
    if asked not in ((False, False, False), (True, True, False), (True, False, True)):
        raise statecore.InputError("a strategy has a PATTERN and a NAME; --delete takes no NAME")
    with opened(store, passphrase=passphrase) as there:
        manager = agent_in(there, agent, MAIN, actor=actor)
        if pattern is not None:
            manager.set_strategy(pattern, name, reason=reason)
        recorded = manager.strategies()
    if as_json:
        echo_json(*({"pattern": each, "strategy": way} for each, way in recorded.items()))
    else:
        lines = (printable(f"{each} = {way}") for each, way in recorded.items())
        echo(lines if recorded else ["(no strategies)"])
