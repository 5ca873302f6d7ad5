"""A small disk that is full again and again, and has space again."""

from __future__ import annotations

import os

import statecore
from statecore.errors import StoreFull
from tests.conftest import KEY
from tests.faults.bad_disk import is_sound
from tests.faults.fault import Trial
from tests.faults.mounts import Filler, small_disk

ROUNDS_OF_A_DISK = 20
WRITES = 30
LEFT_BYTES_MAX = 200_000


def fill_the_disk(trial: Trial) -> None:
    """The disk is full, but for a few bytes, while an old agent and new ones write.

    A write is acknowledged and there, or refused with StoreFull and not there, by the log or by
    the key store. Reading goes on; and once there is space so does writing, at once.
    """
    while trial.goes_on:
        kind = "tmpfs" if trial.done // ROUNDS_OF_A_DISK % 2 == 0 else "ext4"
        folder = trial.folder / f"{kind}-{trial.done}"
        folder.mkdir()
        with small_disk(kind, folder) as disk:
            path = disk / "agents.db"
            written: dict[str, list[str]] = {"old": []}
            with statecore.open(path, key=KEY) as store:
                store.manager("old").set_state("n", 0)
                for _ in range(min(ROUNDS_OF_A_DISK, trial.times - trial.done)):
                    if trial.goes_on:
                        _fill_once(trial, store, Filler(disk), written)
            with statecore.open(path, key=KEY) as store:
                for name, ids in written.items():
                    stored = [e.reason for e in store.manager(name).history() if e.reason]
                    trial.require(stored == ids, f"{name} has {stored}, was told {ids}")
            trial.require(is_sound(path), "SQLite finds damage")


def _fill_once(
    trial: Trial, store: statecore.BlockingStore, filler: Filler, written: dict[str, list[str]]
) -> None:
    filler.fill(trial.chance.randrange(LEFT_BYTES_MAX))
    for number in range(WRITES):
        name = "old" if number % 2 else f"new-{trial.done}-{number}"
        told = _write(trial, store, name, f"{trial.done}-{number}")
        if told:
            written.setdefault(name, []).append(told)
    trial.require(store.manager("old").get_state("n") == 0, "reading does not go on")
    filler.free()
    trial.done += 1
    told = _write(trial, store, "old", f"{trial.done}-after")
    trial.require(told != "", "writing does not go on, though there is space")
    written["old"].append(told)


def _write(trial: Trial, store: statecore.BlockingStore, name: str, event_id: str) -> str:
    """Write once; return the id if that was acknowledged."""
    value = os.urandom(trial.chance.randrange(8_000))
    try:
        store.manager(name).set_state("value", value, event_id=event_id, reason=event_id)
    except StoreFull as error:
        where = "key store" if "-keys" in str(error) else "log"
        trial.prove(f"refused by the {where}")
        return ""
    trial.prove("acknowledged")
    return event_id
