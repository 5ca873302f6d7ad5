"""The plan of the house: which room may import which, and how big anything may grow."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import statecore

ROOT = Path(__file__).parent.parent
WINGS = ("projections", "snapshots")

# Every import points up this list, to a room before its own.
ROOMS = [
    "errors",
    "tally",
    "values",
    "packed",
    "conflict",
    "json_document",
    "typed_json",
    "operations",
    "change",
    "events",
    "diff",
    "json_patch",
    "interchange",
    "merging",
    "strategies",
    "paths",
    "patterns",
    "policy",
    "access",
    "bisection",
    "xaes",
    "transparency",
    "age",
    "database",
    "keys",
    "codec",
    "state",
    "root_image",
    "recorders",
    "erasure",
    "stream",
    "register",
    "json_schema",
    "references",
    "rulebook",
    "validation",
    "replay",
    "streams",
    "recount",
    "sizing",
    "checking",
    "rebuilding",
    "caretaking",
    "survey",
    "lineage",
    "appends",
    "conflicts",
    "judge",
    "sight",
    "gate",
    "scribe",
    "log",
    "ledger",
    "timeline",
    "merges",
    "ancestry",
    "taking_back",
    "agent_state",
    "history",
    "moments",
    "waiting",
    "tasks",
    "transaction",
    "engine",
    "metrics",
    "reader",
    "writer",
    "brancher",
    "validator",
    "merger",
    "resolver",
    "cursor",
    "inquirer",
    "manager",
    "went_back",
    "blocking",
    "sweeper",
    "backup",
    "warden",
    "archiving",
    "custody",
    "sealing",
    "handover",
    "security",
    "caring",
    "parts",
    "erasing",
    "audit_record",
    "audit_opener",
    "audit_text",
    "proving",
    "store",
    "unlocking",
    "opening",
    "salvaging",
    "verifying",
    "doctor",
    "anchoring",
    "backup_check",
    "backup_restore",
    "upgrading",
    "reviewing",
    "restoring",
    "exporting",
    "__init__",
    "integrations",
    "cli",
]
# They compose what there is: they know the wings.
FRONT_DOORS = (
    "checking",
    "rebuilding",
    "caretaking",
    "survey",
    "opening",
    "salvaging",
    "verifying",
    "doctor",
    "exporting",
    "backup",
    "backup_check",
    "backup_restore",
)

LINES_OF_A_FILE_MAX = 400
LINES_OF_A_FUNCTION_MAX = 50


def sources() -> list[Path]:
    """Every source file; the links to the wings lead to files listed once."""
    house = [p for p in ROOT.glob("statecore/**/*.py") if p.parent.name not in WINGS]
    return sorted([*house, *(p for wing in WINGS for p in ROOT.glob(f"{wing}/*.py"))])


def is_for_types_only(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the modules of ours that code imports when it runs, wherever it does."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and is_for_types_only(node):
            continue
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "statecore")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "statecore":
                yield from (f"statecore.{a.name}" for a in node.names)
            elif node.module and node.module.startswith("statecore."):
                yield node.module
        else:
            yield from imports(node)


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "statecore" else parts[0]


def imported_rooms(path: Path) -> set[str]:
    modules = imports(ast.parse(path.read_text()))
    rooms = {module.split(".")[1] if "." in module else "__init__" for module in modules}
    known = {*ROOMS, *WINGS}
    # What ``from statecore import name`` gives is a room, or a name of the face.
    return {room if room in known else "__init__" for room in rooms}


def sized(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield each function with the number of its lines, its docstring apart."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = 0
            if ast.get_docstring(node) is not None:
                docstring = (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - docstring


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
class TestEachFile:
    def test_imports_only_rooms_before_its_own(self, path: Path) -> None:
        room = room_of(path)

        found = imported_rooms(path) - {room}

        if room in WINGS:
            after_streams = set(ROOMS[ROOMS.index("appends") :])
            assert not found & {*WINGS, *after_streams}
            return
        if room in FRONT_DOORS:
            found -= set(WINGS)
        assert found <= set(ROOMS[: ROOMS.index(room)])

    def test_stays_small(self, path: Path) -> None:
        text = path.read_text()

        assert len(text.splitlines()) <= LINES_OF_A_FILE_MAX
        assert [f for f in sized(ast.parse(text)) if f[1] > LINES_OF_A_FUNCTION_MAX] == []

    def test_says_what_it_is(self, path: Path) -> None:
        docstring = ast.get_docstring(ast.parse(path.read_text()))

        assert docstring is not None
        assert docstring.splitlines()[0].endswith((".", "?")), "the first line is a sentence"


def test_every_room_is_in_the_plan() -> None:
    assert {room_of(path) for path in sources()} - {*ROOMS, *WINGS} == set()


def test_contact_with_eventsourcing_stays_in_the_recorders() -> None:
    contacts = {
        room_of(path)
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eventsourcing")
    }

    assert contacts == {"recorders"}


def test_the_face_is_sorted_and_whole() -> None:
    tree = ast.parse((ROOT / "statecore/__init__.py").read_text())
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("statecore")
        for alias in node.names
    }

    assert set(statecore.__all__) == imported
    assert all(getattr(statecore, name) is not None for name in statecore.__all__)
    assert statecore.__all__ == sorted(statecore.__all__, key=lambda n: (not n.isupper(), n))


def test_the_face_has_the_names_of_the_specification() -> None:
    for name in ("AgentState", "StateHistory", "StateManager", "StateStore"):
        assert name in statecore.__all__
    for name in ("get_state", "set_state", "delete_state", "clear_state", "atomic_update"):
        assert hasattr(statecore.StateManager, name)
        assert hasattr(statecore.BlockingManager, name)


def test_every_error_stands_in_the_tree_and_on_the_face() -> None:
    tree = statecore.errors.__doc__ or ""
    errors = {
        name
        for name, value in vars(statecore.errors).items()
        if isinstance(value, type) and issubclass(value, statecore.StatecoreError)
    }

    assert {name for name in errors if name not in tree} == set()
    assert errors <= set(statecore.__all__)


def test_both_faces_have_the_same_methods() -> None:
    def public(face: type) -> set[str]:
        return {name for name in dir(face) if not name.startswith("_")}

    assert public(statecore.StateManager) <= public(statecore.BlockingManager)
    assert public(statecore.StateStore) <= public(statecore.BlockingStore)
