"""The commands of keys: list and check them, change them, destroy them, back them up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

import statecore
from statecore.cli.access import (
    agent_in,
    ask_passphrase,
    opened,
    require_directory,
    require_yes,
    secret_of,
)
from statecore.cli.arguments import Actor, Agent, AskPassphrase, Json, Reason, Store
from statecore.cli.output import echo, echo_json
from statecore.cli.render import printable, time_text
from statecore.stream import MAIN

commands: Final = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

# The names of variables of the environment, not what is in them.
_NEW_PASSPHRASE: Final = "STATECORE_NEW_PASSPHRASE"  # noqa: S105 - see above
_BACKUP_PASSPHRASE: Final = "STATECORE_BACKUP_PASSPHRASE"  # noqa: S105 - see above

Recipients = Annotated[
    list[str] | None,
    typer.Option("--to", metavar="RECIPIENT", help="Of age: age1...", show_default=False),
]
Identity = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The age identity that opens it.", show_default=False),
]


@commands.callback()
def about() -> None:
    """List, check, change, destroy and back up keys.

    \b
    statecore keys list trip.db
    statecore keys check trip.db
    statecore keys backup trip.db keys.backup
    statecore keys rotate-data trip.db trip-planner --reason yearly
    statecore keys rotate trip.db --to-key-file new.key
    """


@commands.command("list")
def list_(store: Store, passphrase: AskPassphrase = False, as_json: Json = False) -> None:
    """List the data keys: whose, since when, until when, which are destroyed. Nothing secret.

    \b
    statecore keys list trip.db
    """
    with opened(store, passphrase=passphrase) as there:
        entries = there.keys.entries()
    if as_json:
        echo_json(*map(_entry_data, entries))
    else:
        echo(map(_entry_line, entries))


@commands.command()
def check(store: Store, passphrase: AskPassphrase = False, as_json: Json = False) -> None:
    """Try every data key, and look for missing ones; if anything is wrong the exit code is 5.

    \b
    statecore keys check trip.db
    """
    with opened(store, passphrase=passphrase) as there:
        found = there.keys.check()
    about = {"keys": found.keys, "destroyed": found.destroyed, "provider": found.provider}
    if as_json:
        echo_json({**about, "problems": list(found.problems)})
    else:
        echo(map(printable, found.problems))
        echo([f"{found.keys} keys, {found.destroyed} destroyed; the key is from: {found.provider}"])
    if found.problems:
        raise statecore.Damage(f"{store}: {len(found.problems)} of its keys are not as they should")


@commands.command()
def rotate(
    store: Store,
    key_file: Annotated[
        Path | None,
        typer.Option("--to-key-file", metavar="FILE", help="Made if need be.", show_default=False),
    ] = None,
    to_passphrase: Annotated[
        bool, typer.Option("--to-passphrase", help=f"Ask for it, or take {_NEW_PASSPHRASE}.")
    ] = False,
    variable: Annotated[
        str | None,
        typer.Option("--to-env", metavar="NAME", help="A variable it is in.", show_default=False),
    ] = None,
    keyring: Annotated[
        str | None,
        typer.Option("--to-keyring", metavar="NAME", help="Made if need be.", show_default=False),
    ] = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Change the key of a store. All of its data keys are wrapped anew; no event is touched.

    Keep the old key until this is done: a kill leaves the one or the other in force. From then on
    the old one opens nothing of this store, but for backups taken before.

    \b
    statecore keys rotate trip.db --to-key-file ~/safe/new.key
    statecore keys rotate trip.db --to-passphrase
    """
    given = [to_passphrase or None, key_file, variable, keyring]
    if sum(each is not None for each in given) != 1:
        raise statecore.InputError(
            "say one place for the new key: see statecore keys rotate --help"
        )
    provider: statecore.KeyProvider
    if key_file is not None:
        require_directory(key_file)
        provider = statecore.KeyFile(key_file)
    elif variable is not None:
        provider = statecore.KeyInEnvironment(variable)
    elif keyring is not None:
        provider = statecore.KeyInKeyring(keyring)
    else:
        words = ask_passphrase(confirm=True, variable=_NEW_PASSPHRASE, what="New passphrase")
        provider = statecore.Passphrase(words)
    with opened(store, passphrase=passphrase) as there:
        count = there.keys.rotate(provider)
    if as_json:
        echo_json({"keys": count})
    else:
        echo([f"{count} keys are wrapped by the new key"])


@commands.command("rotate-data")
def rotate_data(
    store: Store,
    agent: Agent,
    actor: Actor = None,
    reason: Reason = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Give an agent new data keys for what is written from now on; what was stays readable.

    \b
    statecore keys rotate-data trip.db trip-planner --reason yearly
    """
    with opened(store, passphrase=passphrase) as there:
        branches = there.keys.rotate_data(agent, actor=actor, reason=reason)
    if not branches:
        raise statecore.NotFound(f"there is no agent {agent}")
    if as_json:
        echo_json({"agent": agent, "branches": branches})
    else:
        echo([printable(f"new keys: {', '.join(name or '(register)' for name in branches)}")])


@commands.command()
def erase(
    store: Store,
    whose: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="Whose data.", show_default=False)
    ],
    agent: Annotated[bool, typer.Option("--agent", help="It is an agent's id.")] = False,
    actor: Actor = None,
    reason: Reason = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Destroy the data keys of all states that hold a person's data, or of one agent. For good.

    The events stay, unreadable; an event on each branch says that it was erased. Copies of the key
    store from before still hold the keys: delete those.

    \b
    statecore keys erase trip.db user-42 --actor dpo --reason "asked for, ticket 7"
    statecore keys erase trip.db trip-planner --agent
    """
    with opened(store, passphrase=passphrase) as there:
        ids = [
            birth.agent_id
            for birth in there.agents()
            if whose == (birth.agent_id if agent else birth.subject)
        ]
        if agent and not ids:
            agent_in(there, whose, MAIN)  # says that it is not there, or may not be seen
        if not ids:
            what = "agent" if agent else "state that holds data of"
            raise statecore.NotFound(f"there is no {what} {whose}")
        if not yes:
            require_yes(f"Erase {', '.join(ids)}, for good?")
        if agent:
            there.erase(whose, actor=actor, reason=reason)
        else:
            ids = there.erase_subject(whose, actor=actor, reason=reason)
    if as_json:
        echo_json({"erased": ids})
    else:
        echo(printable(f"erased {agent_id}") for agent_id in ids)


@commands.command()
def backup(
    store: Store,
    target: Annotated[Path, typer.Argument(metavar="DEST", help="A new file.", show_default=False)],
    to: Recipients = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Write all data keys to a new file, encrypted to a passphrase, or to age recipients.

    Asks for the passphrase, or takes STATECORE_BACKUP_PASSPHRASE. Whoever opens the file can read
    the store: keep it apart from the backups of the log.

    \b
    statecore keys backup trip.db keys.backup
    statecore keys backup trip.db keys.age --to age1...
    """
    require_directory(target)
    recipients: Sequence[str] = to or ()
    words = None if recipients else _backup_passphrase(confirm=True)
    with opened(store, passphrase=passphrase) as there:
        count = there.keys.backup(target, passphrase=words, recipients=recipients)
    if as_json:
        echo_json({"keys": count, "file": str(target)})
    else:
        echo([printable(f"{count} keys are in {target}")])


@commands.command()
def restore(
    store: Store,
    source: Annotated[
        Path, typer.Argument(metavar="BACKUP", help="What backup wrote.", show_default=False)
    ],
    identity: Identity = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Put the key store back beside its log, from a backup, under the key that is given now.

    Refuses another log's, and does not replace a key store that is there. What was erased since
    the backup stays erased.

    \b
    statecore keys restore trip.db keys.backup
    statecore keys restore trip.db keys.age --identity identity.txt
    """
    given: dict[str, Any] = {}
    if identity is not None:
        given["identity"] = _text_of(identity)
    else:
        given["backup_passphrase"] = _backup_passphrase(confirm=False)
    given["passphrase"] = secret_of(new=True, asked=passphrase)
    count = statecore.restore_keys(source, store.absolute(), **given)
    if as_json:
        echo_json({"keys": count})
    else:
        echo([f"{count} keys are back"])


def _backup_passphrase(*, confirm: bool) -> str:
    what = "Passphrase of the backup"
    return ask_passphrase(confirm=confirm, variable=_BACKUP_PASSPHRASE, what=what)


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError as error:
        raise statecore.NotFound(f"there is no file {path}") from error
    except UnicodeDecodeError as error:
        raise statecore.InvalidKey(f"{path} holds no age identity") from error


def _entry_line(entry: statecore.KeyEntry) -> str:
    birth = entry.birth
    whose = entry.stream if birth is None else birth.agent_id
    if birth is not None and birth.branch != MAIN:
        whose += f"@{birth.branch or '(register)'}"
    if entry.epoch == 0:
        whose = "(the log)"
    line = f"{whose}  key {entry.epoch}  from version {entry.since}"
    if entry.begun is not None:
        line += f"  {time_text(entry.begun)}"
    if birth is not None and birth.subject is not None:
        line += f"  of {birth.subject}"
    if entry.is_destroyed:
        return printable(f"{line}  destroyed")
    return printable(line + (f"  until {time_text(entry.expires)}" if entry.expires else ""))


def _entry_data(entry: statecore.KeyEntry) -> dict[str, Any]:
    birth = entry.birth
    return {
        "stream": entry.stream,
        "agent": birth and birth.agent_id,
        "branch": birth and birth.branch,
        "subject": birth and birth.subject,
        "epoch": entry.epoch,
        "since": entry.since,
        "begun": None if entry.begun is None else time_text(entry.begun),
        "expires": None if entry.expires is None else time_text(entry.expires),
        "destroyed": entry.is_destroyed,
    }
