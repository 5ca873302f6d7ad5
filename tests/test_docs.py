"""The documentation, executed: every block of code runs, what it shows is what comes out."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from statecore import new_key

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NEEDS = {  # pages whose code runs where a framework is there
    "openai-agents.md": "agents.testing",
    "google-adk.md": "google.adk",
    "pydantic-ai.md": "pydantic_ai.conversation_store",
    "langgraph.md": "langgraph.graph",
    "langgraph-store.md": "langgraph.store.base",
}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(
    r"`((?:statecore|projections|snapshots|tests|benchmarks|docs)/[\w./-]+)(::\w+)?`"
)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(#[^)]*)?\)")


class Example(NamedTuple):
    line: int
    code: str
    output: str | None  # what the block of text right after it shows


def examples(page: Path) -> Iterator[Example]:
    text = page.read_text()
    fences = list(_FENCE.finditer(text))
    for fence, after in zip_longest(fences, fences[1:]):
        if fence[1] != "python":
            continue
        is_shown = after and after[1] == "text" and not text[fence.end() : after.start()].strip()
        line = text[: fence.start()].count("\n") + 2
        yield Example(line, fence[2], after[2] if after and is_shown else None)


def run(page: Path, example: Example, names: dict[str, Any]) -> str:
    """Execute a block, with the line numbers of its page; return what it printed."""
    printed = io.StringIO()
    code = compile("\n" * (example.line - 1) + example.code, str(page), "exec", dont_inherit=True)
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_block_of_code_does_what_its_page_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if page.name in NEEDS:
        pytest.importorskip(NEEDS[page.name], reason=f"needs the extra of {page.stem}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATECORE_KEY", new_key())
    names: dict[str, Any] = {"__name__": "__main__"}

    for example in examples(page):
        printed = run(page, example, names)

        if example.output is not None:
            checker = doctest.OutputChecker()
            if not checker.check_output(example.output, printed, doctest.ELLIPSIS):
                pytest.fail(f"{page.name}:{example.line} printed\n{printed}")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_and_test_named_on_a_page_exists(page: Path) -> None:
    for name, function in _FILE.findall(page.read_text()):
        path = ROOT / name

        assert path.exists(), name
        if function:
            assert f"def {function.removeprefix('::')}(" in path.read_text(), name + function


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_to_a_page(page: Path) -> None:
    for target, _ in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_has_exactly_two_commands() -> None:
    consoles = [
        fence[2] for fence in _FENCE.finditer(PAGES[0].read_text()) if fence[1] == "console"
    ]

    assert [console.count("$ ") for console in consoles] == [1, 1]
