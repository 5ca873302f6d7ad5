"""The command line, ``statecore``: an extra, so that the engine asks for neither Typer nor Rich."""

from __future__ import annotations

import io
import signal
import sys

__all__ = ["main"]

_EXTRAS = ("typer", "rich")


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        _end_orderly()
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


def _end_orderly() -> None:
    """Have what stops a service, or closes a terminal, leave as little behind as Ctrl-C does.

    What whoever started it has it ignore, as ``nohup`` does, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _: object) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # shell and terminal send one each
    sys.exit(128 + number)
