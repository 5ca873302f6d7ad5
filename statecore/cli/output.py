"""Standard output: lines for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

from statecore.cli.render import json_line


def echo(lines: Iterable[str]) -> None:
    """Print each line as it comes."""
    for line in lines:
        typer.echo(line)


def echo_json(*answers: Any) -> None:
    """Print each answer on a line of its own."""
    for answer in answers:
        typer.echo(json_line(answer))


def echo_whole(data: bytes) -> None:
    """Print bytes as they are."""
    typer.echo(data, nl=False)
