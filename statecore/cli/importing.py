"""The commands that bring in what other engines kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

import statecore
from statecore.cli.access import announce, secret_of
from statecore.cli.arguments import AskPassphrase, Json
from statecore.cli.output import echo, echo_json
from statecore.cli.render import printable

if TYPE_CHECKING:
    from statecore.integrations.langgraph.importing import Counts, Import

_LOG: Final = "-wal"
_CACHE_MIB: Final = 64  # each thread is read once, from its beginning to its end

commands = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@commands.callback()
def about() -> None:
    """Bring in what another engine kept, with its history."""


@commands.command()
def langgraph(
    old: Annotated[
        Path,
        typer.Argument(metavar="OLD", help="The database of its SqliteSaver.", show_default=False),
    ],
    store: Annotated[
        Path | None,
        typer.Argument(
            metavar="STORE", help="The store's file; without it, OLD.statecore.", show_default=False
        ),
    ] = None,
    passphrase: AskPassphrase = False,
    as_json: Json = False,
) -> None:
    """Bring in a database of LangGraph's SqliteSaver or AsyncSqliteSaver.

    All threads, namespaces, forks, metadata and pending writes; then every checkpoint is compared
    with what was there. The database is only read. Interrupted, or with new checkpoints there, the
    same command goes on and adds nothing twice. Where it was encrypted, LANGGRAPH_AES_KEY is the
    key, as for LangGraph.

    \b
    statecore import langgraph checkpoints.sqlite agents.db
    """
    importing = _importer()
    path = old.with_name(old.name + ".statecore") if store is None else store
    if path.exists() and old.exists() and path.samefile(old):
        raise statecore.InputError("OLD and STORE are the same file")
    with importing(old) as job:
        _carry_out(job, path.absolute(), passphrase=passphrase)
        sizes = _size(old), _size(path)
        if as_json:
            answer = {**asdict(job.counts), "bytes_old": sizes[0], "bytes_new": sizes[1]}
            echo_json({"old": str(old), "store": str(path), **answer})
        else:
            echo(_told(job.counts, old, path, sizes))
        job.require_equal()


def _importer() -> Any:
    try:
        from statecore.integrations.langgraph.importing import importing
    except ImportError as error:
        raise statecore.InputError(
            f"this needs statecore[langgraph], which is not installed ({error.name} is missing)"
        ) from error
    return importing


def _carry_out(job: Import, path: Path, *, passphrase: bool) -> None:
    """Bring in, then compare.

    Power that fails in between may take the last checkpoints along, which the next attempt brings
    in again; closing the store makes it durable, before anything is compared.
    """
    new = not path.exists()
    secret = secret_of(new=new, asked=passphrase)
    opening = statecore.open(path, passphrase=secret, durability="relaxed", cache_mib=_CACHE_MIB)
    with opening as there:
        if new:
            announce(path, passphrase=passphrase)
        _watch("bringing in", job, job.bring(there))
    with statecore.open(path, passphrase=secret, create=False, cache_mib=_CACHE_MIB) as there:
        _watch("comparing", job, job.compare(there))


def _watch(what: str, job: Import, sizes: Iterable[int]) -> None:
    from statecore.cli.progress import watch  # slow to import, and needed only here

    count, total = job.old.size()
    watch(f"{what} {count:,} checkpoints", sizes, total)


def _size(path: Path) -> int:
    """Return how many bytes a database takes, with its log."""
    files = path, path.with_name(path.name + _LOG)
    return sum(file.stat().st_size for file in files if file.exists())


def _told(counts: Counts, old: Path, path: Path, sizes: tuple[int, int]) -> Iterable[str]:
    found = f"{counts.threads:,} threads, {counts.checkpoints:,} checkpoints"
    yield f"{found} and {counts.writes:,} writes found, {counts.added:,} checkpoints new"
    if counts.orphans:
        yield f"{counts.orphans:,} writes of checkpoints that are not there left out"
    yield f"{counts.equal:,} of {counts.checkpoints:,} checkpoints compared equal"
    for name in counts.different:
        yield printable(f"  not equal: {name}")
    before, after = (f"{size / 1e6:,.1f} MB" for size in sizes)
    yield printable(f"{old} {before} -> {path} {after}")
