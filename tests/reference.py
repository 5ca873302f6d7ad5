"""Writes the reference of the command line from its help: ``python -m tests.reference``.

What stands in docs/commands.md is nothing but this, and tests/test_cli_whole.py sees to that.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from statecore.cli.app import app
from statecore.cli.catalog import panels
from statecore.cli.failures import EXIT_CODES

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"

_HEAD = """# Commands

`statecore[cli]` brings them. `statecore COMMAND --help` says what stands here, and this page is
made of it (`python -m tests.reference`). `statecore --version` says which it is.

**For programs:** each command has `--json`: one line of JSON for each answer, on standard output,
and nothing else there. What goes wrong is a line on standard error, and an exit code. Progress is
shown on standard error, and only on a terminal; so are colours, of which `demo` alone has any.

**For shells:** `statecore --install-completion` has commands and options completed by bash, zsh,
fish and PowerShell.

**Secrets** are never arguments, which everybody on the machine could see: the key comes from
`STATECORE_KEY` or a key file, passphrases are asked for at the terminal, or come from the
environment.
"""


def leaves() -> Iterator[tuple[str, Any]]:
    """Yield each command that does something, by all words of its name."""
    root = typer.main.get_command(app)
    for name in root.commands:
        yield from _below(name, root.commands[name])


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    commands = getattr(command, "commands", None)
    if commands is None:
        yield name, command
    else:
        for each in commands:
            yield from _below(f"{name} {each}", commands[each])


def reference() -> str:
    """Return the page."""
    root, parts = typer.main.get_command(app), [_HEAD, *_exit_codes()]
    for title, names in panels():
        parts.append(f"\n## {title}\n")
        for name in names:
            for each, command in _below(name, root.commands[name]):
                parts += _entry(each, command)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes\n\n| code | |\n|---|---|"
    for code, text in re.findall(r"(\d+) ([^;]+?)(?:;|\.$)", EXIT_CODES.partition(": ")[2]):
        yield f"| {code} | {text} |"


def _entry(name: str, command: Any) -> Iterator[str]:
    about, _, examples = (command.help or "").partition("\b\n")
    yield f"### {name}\n"
    yield "\n\n".join(" ".join(part.split()) for part in about.strip().split("\n\n")) + "\n"
    yield "```console"
    yield from examples.strip().splitlines()
    yield "```\n\n| | |\n|---|---|"
    hints = get_type_hints(inspect.unwrap(command.callback))
    for parameter in command.params:
        choices = _choices(hints[parameter.name])
        yield f"| `{_spelled(parameter, choices)}` | {_said(parameter, choices)} |"
    yield ""


def _choices(hint: Any) -> list[str]:
    """Return what an argument may be, where that is one of a few."""
    kinds = [hint, *get_args(hint)]
    return [
        str(each.value)
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, Enum)
        for each in kind
    ]


def _spelled(parameter: Any, choices: list[str]) -> str:
    if parameter.param_type_name == "argument":
        name = parameter.metavar or parameter.name.upper()
        return name if parameter.required else f"[{name}]"
    kind = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    return ", ".join(parameter.opts) + (" " + "/".join(choices) if choices else kind)


def _said(parameter: Any, choices: list[str]) -> str:
    text = (parameter.help or "").replace("|", "\\|")
    if parameter.param_type_name == "argument":
        return " ".join([text, *([f"One of {', '.join(choices)}."] if choices else [])])
    given = parameter.default
    return f"{text} By default `{given}`." if isinstance(given, str) and given else text


if __name__ == "__main__":
    PAGE.write_text(reference())
