"""Where the tour is shown: with a little colour on a terminal, as clean plain text elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich import box
from rich.console import Console, JustifyMethod
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_BEGINS_NUMBER: Final = tuple("+-0123456789")


class _Output(Console):
    """Rich's console, but a closed pipe ends it as it ends every other command."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Screen:
    """Shows titles, sentences and tables. What it is given is shown as it is, never as markup."""

    def __init__(self) -> None:
        self._console = _Output(highlight=False)
        self._styled = self._console.is_terminal

    def title(self, text: str, below: str) -> None:
        """Show what all of it is about."""
        if self._styled:
            self._console.print(Panel(Text(below), title=Text(text, "bold"), expand=False))
        else:
            self.say(f"{text}\n{'=' * len(text)}\n{below}")

    def chapter(self, text: str, call: str = "") -> None:
        """Show what comes now, and the call that answers it."""
        self.say(f"\n{text}", "bold cyan")
        if call:
            self.say(f"  {call}", "dim")

    def say(self, text: str, style: str = "") -> None:
        """Show some lines."""
        self._console.print(Text(text, style), soft_wrap=True)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]], marked: int = -1) -> None:
        """Show a table, numbers to the right, one of its rows marked."""
        rows = list(rows)
        style = box.SIMPLE_HEAD if self._styled else None
        table = Table(box=style, show_edge=False, pad_edge=False)
        for name, value in zip(head, rows[-1], strict=True):
            side: JustifyMethod = "right" if value[:1] in _BEGINS_NUMBER else "left"
            table.add_column(Text(name), justify=side, no_wrap=True)
        for at, row in enumerate(rows):
            table.add_row(*map(Text, row), style="bold yellow" if at == marked else "")
        self._console.print(Padding(table, (0, 0, 0, 2)))
