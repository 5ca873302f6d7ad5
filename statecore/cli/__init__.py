"""The command line, ``statecore``: an extra, so that the engine asks for neither Typer nor Rich."""

from __future__ import annotations

import io
import sys

__all__ = ["main"]

_EXTRAS = ("typer", "rich")


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        from statecore.cli.app import app

        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # what the terminal can't spell
        app(prog_name="statecore")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRAS:
            raise
        sys.stderr.write('statecore: the command line is an extra: pip install "statecore[cli]"\n')
        sys.exit(2)
    except KeyboardInterrupt:  # before the commands could tell
        sys.exit(130)
