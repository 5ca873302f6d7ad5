"""Files whose pages contradict themselves, and everything that may be asked of such a store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import statecore
from statecore.backup.taking import take
from statecore.doctor import examine
from statecore.errors import StatecoreError
from statecore.salvaging import salvage
from tests.conftest import KEY
from tests.faults.damage import AGENTS, KEYS, LOG, in_memory, lay_out, tell, write_stores
from tests.faults.fault import Trial

_POINTERS_AT: Final = {2: 12, 5: 12, 10: 8, 13: 8}
"""Where the pointers to its cells begin on a page, by its kind (SQLite's file format, 1.6)."""
_CELL_HEAD: Final = 12  # pointer, size, number of the row, and the types of its first columns

Question = Callable[[Path, Path], object]


def _of_an_open_store(ask: Callable[[statecore.BlockingStore], object]) -> Question:
    def question(path: Path, _: Path) -> object:
        with statecore.open(path, key=KEY, create=False) as store:
            return ask(store)

    return question


def _write(store: statecore.BlockingStore) -> None:
    for name in (*AGENTS, "another"):
        store.manager(name).set_state("new", 1, event_id="new")


def _change_keys(store: statecore.BlockingStore) -> None:
    store.keys.check()
    store.keys.rotate_data("agent")
    store.keys.rotate(bytes(32))


QUESTIONS: Final[dict[str, Question]] = {
    "read": lambda path, _: tell(path),
    "verify": lambda path, _: statecore.verify(path, depth="replay", key=KEY),
    "doctor": lambda path, _: examine(path, key=KEY),
    "salvage": lambda path, place: salvage(path, place / "new.db", key=KEY),
    "backup": lambda path, place: take(path, place / "backup"),
    "audit": _of_an_open_store(lambda store: list(store.audit())),
    "check": _of_an_open_store(lambda store: store.check()),
    "rebuild": _of_an_open_store(lambda store: store.rebuild()),
    "write": _of_an_open_store(_write),
    "keys": _of_an_open_store(_change_keys),
    "erase": _of_an_open_store(lambda store: store.erase("agent")),
}


def flip_bits_of_pages(trial: Trial) -> None:
    """Each bit that SQLite finds its way by is flipped, and everything is asked of the store.

    Whatever it is, it comes to an end: with an answer, or with a typed error.
    """
    _, files = next(write_stores(trial.folder))
    places = [(name, at) for name in (LOG, KEYS) for at in waymarks(files[name])]
    every = [(*place, bit) for place in places for bit in range(8)]
    with in_memory(trial.folder) as folder:
        for file, at, bit in trial.cases(every):
            changed = bytearray(files[file])
            changed[at] ^= 1 << bit
            for name, question in QUESTIONS.items():
                what = f"{name}, bit {bit} at {at} of {file}"
                store, place = folder / "store", folder / "place"
                for each in (store, place):
                    shutil.rmtree(each, ignore_errors=True)
                    each.mkdir()
                lay_out(store, {**files, file: bytes(changed)})
                _ask(trial, what, partial(question, store / LOG, place))


def _ask(trial: Trial, what: str, question: Callable[[], object]) -> None:
    name = what.partition(",")[0]
    try:
        question()
    except StatecoreError:
        trial.prove(f"{name}: refused")
    except Exception as error:
        trial.require(False, f"{what}: an error of no type of ours: {error!r}")
    else:
        trial.prove(f"{name}: answered")


def waymarks(whole: bytes) -> list[int]:
    """Return where in a database the bytes are that lead from page to page and from row to row."""
    size = int.from_bytes(whole[16:18], "big")
    found = {at for begin in range(0, len(whole), size) for at in _of_page(whole, begin, size)}
    return sorted(found)


def _of_page(whole: bytes, begin: int, size: int) -> Iterator[int]:
    head = begin + (100 if begin == 0 else 0)
    pointers = head + _POINTERS_AT.get(whole[head], 0)
    if pointers == head:
        return  # of no tree
    cells = int.from_bytes(whole[head + 3 : head + 5], "big")
    yield from range(head, pointers + 2 * cells)
    for pointer in range(pointers, pointers + 2 * cells, 2):
        at = begin + int.from_bytes(whole[pointer : pointer + 2], "big")
        yield from range(at, min(at + _CELL_HEAD, begin + size))
