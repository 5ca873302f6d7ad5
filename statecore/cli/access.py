"""From what was typed to what is meant: stores, keys, agents, moments."""

from __future__ import annotations

import getpass
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import typer

import statecore
from statecore.cli.arguments import possible
from statecore.cli.failures import report
from statecore.cli.render import printable

_PASSPHRASE_VARIABLE: Final = "STATECORE_PASSPHRASE"  # noqa: S105 - its name, not its value
_PRINCIPAL_VARIABLE: Final = "STATECORE_PRINCIPAL"
_ARCHIVES_VARIABLE: Final = "STATECORE_ARCHIVES"
_NAMED_MAX: Final = 5
_VERSION: Final = re.compile(r"[0-9]{1,18}")
# A time, if one that never was, such as one o'clock past midnight written as 25:00.
_LIKE_A_TIME: Final = re.compile(r"[0-9]{4}-?W?[0-9]{2}-?[0-9]{1,2}([T ][-0-9:.,+Zz]*)?")


def require_directory(path: Path) -> None:
    """Refuse a file in a directory that is not there: a misspelled one is not to be made.

    Raises:
        InputError: names the directory.
    """
    if not path.absolute().parent.is_dir():
        raise statecore.InputError(f"there is no directory {path.parent}")


def require_yes(question: str) -> None:
    """Ask whether to do what can't be taken back; go on if the answer is yes.

    Raises:
        InputError: it is not.
    """
    typer.echo(f"{printable(question)} [y/N]: ", nl=False, err=True)
    answer = b"" if sys.stdin is None else sys.stdin.buffer.readline()
    if not answer:
        typer.echo(err=True)  # ends the line that asked
        raise statecore.InputError("nobody answered, and nothing was changed: say --yes")
    if answer.strip().lower() not in (b"y", b"yes"):
        raise statecore.InputError("nothing was changed")


@contextmanager
def opened(
    path: Path, *, passphrase: bool, create: bool = False, principal: str | None = None
) -> Iterator[statecore.BlockingStore]:
    """Open a store for a principal, asking for its passphrase if there is one."""
    path = path.absolute()  # a file, whatever its name looks like
    new = create and not path.exists()
    secret = secret_of(new=new, asked=passphrase)
    archives = archives_at_hand()
    opening = statecore.open(path, passphrase=secret, create=create, archives=archives)
    with ExitStack() as stack:
        with _advising(asked=passphrase):
            store = stack.enter_context(opening)
        if new:
            announce(path, passphrase=passphrase)
        principal = principal or os.environ.get(_PRINCIPAL_VARIABLE)
        yield store.as_principal(principal) if principal else store


def archives_at_hand() -> list[str]:
    """Return the archives that are named in the environment, as a list of paths is."""
    named = os.environ.get(_ARCHIVES_VARIABLE, "")
    return [str(possible(each)) for each in named.split(os.pathsep) if each]


def announce(path: Path, *, passphrase: bool) -> None:
    """Say that a store was made, and what must not be lost."""
    if passphrase:
        key = "its passphrase"
    elif "STATECORE_KEY" in os.environ:
        key = "the key in STATECORE_KEY"
    else:
        key = f"the key file {os.environ.get('STATECORE_KEY_FILE', statecore.KeyFile().path)}"
    report(f"made the store {path}; without {key} nobody can read it, so keep a copy of that")


@contextmanager
def _advising(*, asked: bool) -> Iterator[None]:
    """Say of a store that has a passphrase what to do, where it does not open."""
    try:
        yield
    except statecore.KeyFailure as error:
        if not str(error).endswith("made with a key from: passphrase"):
            raise
        advice = "not this store's passphrase" if asked else "it has a passphrase: say --passphrase"
        raise statecore.WrongKey(advice) from error


def secret_of(*, new: bool, asked: bool) -> str | None:
    """Return a store's passphrase; ``None`` where its key is elsewhere.

    Raises:
        InputError: a new store would not have the passphrase that lies ready for it.
    """
    if asked:
        return ask_passphrase(confirm=new)
    if new and os.environ.get(_PASSPHRASE_VARIABLE):
        raise statecore.InputError(
            f"{_PASSPHRASE_VARIABLE} is set: say --passphrase to use it, or unset it"
        )
    return None


def ask_passphrase(
    *, confirm: bool, variable: str = _PASSPHRASE_VARIABLE, what: str = "Passphrase"
) -> str:
    """Return a passphrase from the environment, or from who sits in front of the terminal."""
    secret = os.environ.get(variable)
    if secret is None:
        secret = _prompt(f"{what}: ", variable)
        if confirm and secret != _prompt("The same again: ", variable):
            raise statecore.InvalidKey("the two passphrases differ")
    if not secret:
        raise statecore.InvalidKey("an empty passphrase protects nothing")
    try:
        secret.encode()
    except UnicodeEncodeError:  # not chained to it: that has the passphrase in it
        raise statecore.InvalidKey("the passphrase is not UTF-8") from None
    return secret


def _prompt(text: str, variable: str) -> str:
    """Ask at the terminal, even where standard input is a pipe; never show what is typed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(text)
        except getpass.GetPassWarning as error:
            raise statecore.KeyMissing(
                f"there is no terminal to ask for the passphrase: set {variable}"
            ) from error
        except EOFError as error:
            raise statecore.KeyMissing("no passphrase was given") from error


def agent_in(
    store: statecore.BlockingStore,
    agent_id: str,
    branch: str,
    *,
    actor: str | None = None,
    create: bool = False,
) -> statecore.BlockingManager:
    """Return the manager of an agent that is there, or that may be made, on a branch.

    Raises:
        NotFound: the agent or the branch is not there; names some that are.
    """
    agent = store.manager(agent_id, actor=actor)
    is_main = branch == agent.branch_name
    if not is_main:
        with suppress(statecore.BranchNotFound):
            return agent.branch(branch, create=False)
    if agent.version() == 0 and not create:
        there = [birth.agent_id for birth in store.agents()]
        raise statecore.NotFound(f"there is no agent {agent_id}; {_some(there)}")
    if not is_main:
        names = _some([agent.branch_name, *agent.branch_names()])
        raise statecore.BranchNotFound(f"{agent_id} has no branch {branch}; {names}")
    return agent


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return f"there are: {', '.join(names[:_NAMED_MAX])}{more}" if names else "none is"


def moment(agent: statecore.BlockingManager, text: str | None) -> statecore.Point | None:
    """Return the moment that a text names; ``None`` where there is none."""
    return None if text is None else point_of(agent, text)


def point_of(agent: statecore.BlockingManager, text: str) -> statecore.Point:
    """Return the moment that a text names: a version, a time with its zone, or a tag.

    Raises:
        InputError: it is a time without a zone, or that never was, and no tag.
    """
    try:
        return time_or_version(text)
    except statecore.InputError:
        if text in agent.tags() or not _LIKE_A_TIME.fullmatch(text):
            return text
        raise


def time_or_version(text: str, what: str = "version") -> int | datetime:
    """Return the moment that a text names: a version, or another number, or a time with its zone.

    Raises:
        InputError: it is neither.
    """
    if _VERSION.fullmatch(text):
        return int(text)
    if not _LIKE_A_TIME.fullmatch(text):
        raise statecore.InputError(f"{text} is neither a {what} nor a time")
    return time_of(text)


def time_of(text: str) -> datetime:
    """Return the time that a text names, with its zone.

    Raises:
        InputError: it is none.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise statecore.InputError(f"{text} is no time, as 2026-03-02T09:30:00Z is one") from error
    if time.tzinfo is None:
        raise statecore.InputError(f"{text}: a time needs a zone, as in {time.isoformat()}Z")
    return time
