"""One agent's state: read it, change it, travel through its past, try another future.

Every method is a coroutine. ``statecore.blocking`` gives the same ones to plain functions.
"""

from __future__ import annotations

from statecore.inquirer import StateInquirer


class StateManager(StateInquirer):
    """One agent's state on one branch. Cheap to make; holds nothing that needs closing."""


class Housekeeper(StateManager):
    """A manager by which the house looks for itself: what is asked is asked where it is told."""

    _is_of_the_house = True
