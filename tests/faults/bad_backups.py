"""Backups that are not what they were: a flipped bit, an end or a file gone, another's put in."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import statecore
from statecore.backup import take
from statecore.errors import StatecoreError
from tests.conftest import KEY
from tests.faults.damage import AGENTS, LOG, Files, Told, in_memory, tell
from tests.faults.fault import Trial

EVENTS: Final = 30
EVENTS_MAX: Final = 8  # of a segment
HEAD: Final = "head"  # kept outside


@dataclass(frozen=True, slots=True)
class Backed:
    """A store, all files of its backup, and what tells whether that is still it."""

    path: Path
    place: Path
    policy: bytes
    files: Files
    told: dict[str, Told]

    @property
    def outside(self) -> dict[str, Any]:
        """What was kept elsewhere: whom to trust, and a head."""
        return {"policy": self.policy, "anchors": [self.path.with_name(HEAD)]}


def _write(path: Path, first: int, last: int, text: str) -> bytes:
    """Write to a store, so many events, and sign a head; return whom to trust."""
    with statecore.open(path, key=KEY, durability="relaxed") as store:
        for number in range(first, last):
            with store.manager(AGENTS[number % len(AGENTS)]).transaction() as tx:
                tx.set("n", number)
                tx.set(f"k{number % 7}", f"{text} {number}")
        path.with_name(HEAD).write_bytes(store.signed_head())
        return store.audit_policy()


def _back_up(path: Path, policy: bytes) -> Backed:
    place = path.with_name("backup")
    for _ in range(2):  # the second time there is nothing new but what lies there
        take(path, place, events_max=EVENTS_MAX)
    files = {file.name: file.read_bytes() for file in sorted(place.iterdir())}
    return Backed(path, place, policy, files, tell(path))


def make_backup(folder: Path, text: str = "value") -> Backed:
    """Make a store in a folder, and its backup."""
    folder.mkdir()
    return _back_up(folder / LOG, _write(folder / LOG, 0, EVENTS, text))


def make_other(one: Backed, folder: Path) -> Backed:
    """Make a copy of a store as it once was that went on otherwise, and its backup."""
    folder.mkdir()
    shutil.copytree(one.path.parent / "half", folder, dirs_exist_ok=True)
    return _back_up(folder / LOG, _write(folder / LOG, EVENTS // 2, EVENTS + 3, "other"))


def make_three(folder: Path) -> list[Backed]:
    """Make a store, another copy of it with a history of its own, and another store."""
    first = folder / "one"
    first.mkdir()
    _write(first / LOG, 0, EVENTS // 2, "value")
    shutil.copytree(first, first / "half")
    one = _back_up(first / LOG, _write(first / LOG, EVENTS // 2, EVENTS, "value"))
    return [one, make_other(one, folder / "copy"), make_backup(folder / "another", "another")]


def _lay_out(place: Path, files: Files) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, content in files.items():
        (place / name).write_bytes(content)


def _restored(backed: Backed, **outside: Any) -> dict[str, Told] | None:
    """Return what a restored backup tells; nothing where it is refused."""
    path = backed.path.with_name("restored.db")
    try:
        statecore.restore(backed.place, path, key=KEY, key_store=f"{backed.path}-keys", **outside)
        return tell(path)
    except StatecoreError:
        return None
    finally:
        for file in path.parent.glob(f"*{path.name}*"):
            file.unlink()


def judge(trial: Trial, name: str, backed: Backed, whole: Sequence[Backed]) -> None:
    """Look what verification and restoring make of a backup that was harmed.

    With what was kept outside, what is restored is the store, and what is not is told of. Alone, it
    is some store's that was backed up there, or an older state of it.
    """
    found = statecore.verify_backup(backed.place, **backed.outside).findings
    told = _restored(backed, **backed.outside)
    trial.require(told in (None, backed.told), f"{name}: restored, and is wrong")
    trial.require(bool(found) or told is not None, f"{name}: refused, though nothing is found")
    trial.prove("found" if found else "of no consequence")
    alone = _restored(backed)
    if alone is None:
        trial.prove("not restored")
    elif any(alone == each.told for each in whole):
        trial.prove("restored whole")
    else:
        is_older = any(_begins(alone, each.told) for each in whole)
        trial.require(is_older, f"{name}: restored, and of no store")
        trial.require(bool(found), f"{name}: restored in part, and nothing is found")
        trial.prove("restored in part")


def _begins(told: dict[str, Told], whole: dict[str, Told]) -> bool:
    return all(told[agent].begins(whole[agent]) for agent in AGENTS)


def harm(trial: Trial, change: Callable[[bytes, int], bytes | None], cases: Cases) -> None:
    """Change each file of a backup in each way, and judge it each time."""
    with in_memory(trial.folder) as folder:
        backed = make_backup(folder / "one")
        for name, at in trial.cases([*cases(backed.files)]):
            changed = change(backed.files[name], at)
            rest = {file: data for file, data in backed.files.items() if file != name}
            _lay_out(backed.place, rest if changed is None else {**rest, name: changed})
            judge(trial, f"{name} at {at}", backed, [backed])


Cases = Callable[[Files], Iterator[tuple[str, int]]]


def _bytes(files: Files) -> Iterator[tuple[str, int]]:
    yield from ((name, at) for name, content in files.items() for at in range(len(content)))


def _ends(files: Files) -> Iterator[tuple[str, int]]:
    yield from _bytes(files)
    yield from ((name, -1) for name in files)


def flip_bits_of_backups(trial: Trial) -> None:
    """A bit is flipped in each byte of a backup: of its segments and its signed heads.

    Verification finds it, and with whom to trust nothing is restored of it, or the store itself.
    """

    def flip(whole: bytes, at: int) -> bytes:
        changed = bytearray(whole)
        changed[at] ^= 1 << trial.chance.randrange(8)
        return bytes(changed)

    harm(trial, flip, _bytes)


def cut_backups(trial: Trial) -> None:
    """A file of a backup is cut off at each length, or gone.

    Verification finds it, but for a head that a segment holds as well. A head from outside tells
    where the end is missing with all that signed it; without one that is an older backup.
    """
    harm(trial, lambda whole, length: None if length < 0 else whole[:length], _ends)


def mix_backups(trial: Trial) -> None:
    """Files of another store's backup, or of another history's, are put into one.

    Beside its own files or in place of them, under their names or moved to others.
    """
    with in_memory(trial.folder) as folder:
        one, *others = three = make_three(folder)
        while trial.goes_on:
            trial.done += 1
            mixed = dict(one.files)
            theirs = trial.chance.choice(others).files
            for name in trial.chance.sample(sorted(theirs), trial.chance.randint(1, len(theirs))):
                ours = trial.chance.choice(sorted(mixed))
                is_moved = trial.chance.random() < 0.2 and Path(ours).suffix == Path(name).suffix
                mixed[ours if is_moved else name] = theirs[name]
            _lay_out(one.place, mixed)
            judge(trial, f"mix {trial.done}", one, three)


def share_a_place(trial: Trial) -> None:
    """Two stores, or two copies of one that both went on, back up to one place at the same time.

    All but one are refused, or verification finds it; what is restored is one of them.
    """
    with in_memory(trial.folder) as folder:
        one, *others = make_three(folder)
        while trial.goes_on:
            trial.done += 1
            name, both = f"together {trial.done}", [one, trial.chance.choice(others)]
            shutil.rmtree(one.place)
            refused = _take_together(trial, both, one.place)
            trial.prove("refused", refused)
            if refused < 1:
                found = statecore.verify_backup(one.place).findings
                trial.require(bool(found), f"{name}: nobody was refused, and nothing is found")
            judge(trial, name, one, both)
            for each in both:
                refused += _take(each.path, one.place, EVENTS_MAX)
            trial.require(refused > 0, f"{name}: nobody is ever refused")


def _take_together(trial: Trial, both: Sequence[Backed], place: Path) -> int:
    """Have each bring its events there, in a thread of its own; return how many were refused."""
    refused: list[bool] = []
    begin = threading.Barrier(len(both))

    def work(path: Path, events_max: int) -> None:
        begin.wait()
        refused.append(_take(path, place, events_max))

    threads = [
        threading.Thread(target=work, args=(each.path, trial.chance.choice((5, EVENTS_MAX, 64))))
        for each in both
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == len(both), "one ended with an error that is none of ours"
    return sum(refused)


def _take(path: Path, place: Path, events_max: int) -> bool:
    """Bring a store's events there; tell whether that was refused."""
    try:
        take(path, place, events_max=events_max)
    except StatecoreError:
        return True
    return False
