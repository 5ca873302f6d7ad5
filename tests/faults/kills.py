"""Writers killed at any moment."""

from __future__ import annotations

from tests.acknowledged import Store, kill_some
from tests.faults.fault import Trial
from tests.writer import Writers

ROUNDS_OF_A_STORE = 20


def kill_writers(trial: Trial) -> None:
    """Writers are killed at random moments, alone or two at once.

    Each time the store is opened again: every acknowledged event is there, each is what its writer
    meant to write, and it is written to at once.
    """
    with Writers() as writers:
        while trial.goes_on:
            store = Store(trial.folder / f"after-{trial.done}")
            for number in range(ROUNDS_OF_A_STORE):
                trial.done += kill_some(writers, store, f"round-{number}", trial.chance)
                store.check(trial.chance)
                if not trial.goes_on:
                    break
            store.check(trial.chance, all_of_it=True)
            trial.prove("acknowledged", len(store.told))
            trial.prove("unacknowledged and whole", store.unacknowledged)
    trial.require(trial.proved["acknowledged"] > 0, "nobody lived long enough to write")
