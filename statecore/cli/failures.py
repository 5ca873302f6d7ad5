"""What goes wrong, as one line on standard error and an exit code."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import typer
from typer.core import TyperGroup

import statecore
from statecore.cli.catalog import Catalog, panels
from statecore.cli.render import printable

_UNAVAILABLE: Final = 6
EXIT_INVALID: Final = 7
_UNANCHORED: Final = 8
_DIVERGED: Final = 9
_NOT_VALID: Final = 10
EXIT_DENIED: Final = 11
_UNTOLD: Final = 12
_INTERRUPTED: Final = 130  # 128 and the number of SIGINT, as shells have it

# Scripts rely on these. Never renumber.
_CODES: Final = {
    statecore.NotFound: 1,
    statecore.Erased: 1,
    statecore.ValidationFailed: EXIT_INVALID,
    statecore.InputError: 2,  # as Typer does for a command line that makes no sense
    statecore.AccessDenied: EXIT_DENIED,
    statecore.Conflict: 3,
    statecore.KeyFailure: 4,
    statecore.Unproven: 10,
    statecore.Damage: 5,
    statecore.StoreFailure: _UNAVAILABLE,
}

# Of `verify`. Never renumber.
VERDICT_CODES: Final = {
    statecore.Verdict.WITNESSED: 0,
    statecore.Verdict.ANCHORED: 0,
    statecore.Verdict.UNANCHORED: _UNANCHORED,
    statecore.Verdict.DIVERGED: _DIVERGED,
    statecore.Verdict.INVALID: _NOT_VALID,
}

EXIT_CODES: Final = (
    "Exit codes: 0 done; 1 no such store, agent, branch, key, version or tag; 2 the command makes"
    " no sense, or nobody said yes to it; 3 conflict, others were first; 4 the key is missing or"
    " wrong; 5 the store is damaged or of another format; 6 the store is unavailable; 7 the"
    " agent's rules are violated; 8 verified, but held against nothing from outside; 9 not the log"
    " that was signed before; 10 not as it was recorded; 11 not permitted; 12 done, but standard"
    " output could not be written; 130 interrupted; 129 and 143 ended by SIGHUP and SIGTERM."
)


class Commands(TyperGroup):
    """The commands: what they raise ends here, as a line and a code rather than a traceback."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = Catalog()  # type: ignore[assignment]  # nobody adds to it

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands, without importing any."""
        return list(self.commands)

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Parse the command line; printing the help is a part of that."""
        with _ending():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _ending(), warnings.catch_warnings():
            # A command tells of conflicts in its own words, or shows them as what they are.
            warnings.simplefilter("ignore", statecore.UnresolvedWarning)
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands of each panel under its title."""
        width = max(map(len, self.commands))
        for title, names in panels():
            with formatter.section(title):
                room = formatter.width - width - 6
                formatter.write_dl(
                    (name.ljust(width), self.commands[name].get_short_help_str(room))
                    for name in names
                )


@contextmanager
def _ending() -> Iterator[None]:
    """End what fails by a line and a code."""
    try:
        yield
    except statecore.StatecoreError as error:
        report(str(error))
        raise typer.Exit(exit_code(error)) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(_INTERRUPTED) from error
    except BrokenPipeError as error:  # whoever reads has read enough
        _silence()
        raise typer.Exit(0) from error
    except OSError as error:  # a path that can't be, a full disk behind standard output
        if not _is_of_output(error):
            report(str(error))
            raise typer.Exit(_UNAVAILABLE) from error
        _silence()
        # Whoever did it again would do it twice: commands answer when all is done.
        report(f"standard output can't be written ({error.strerror}); what was to be done is done")
        raise typer.Exit(_UNTOLD) from error


def _is_of_output(error: OSError) -> bool:
    """Tell whether it was an answer that could not be written."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_code is typer.echo.__code__


def _silence() -> None:
    """Write nothing more: Python flushes standard output as it ends, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code(error: statecore.StatecoreError) -> int:
    """Return the exit code of an error."""
    return code_of(type(error))


def code_of(error: type[statecore.StatecoreError]) -> int:
    """Return the exit code of a kind of error."""
    return next((code for kind, code in _CODES.items() if issubclass(error, kind)), _UNAVAILABLE)


def report(message: str) -> None:
    """Say something to the person in front of it, and not to the program behind the pipe."""
    typer.echo(f"statecore: {printable(message)}", err=True)
