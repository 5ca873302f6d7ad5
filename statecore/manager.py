"""One agent's state: read it, change it, travel through its past, try another future.

Every method is a coroutine. ``statecore.blocking`` gives the same ones to plain functions.
"""

from __future__ import annotations

from statecore.inquirer import StateInquirer


class StateManager(StateInquirer):
    """One agent's state on one branch. Cheap to make; holds nothing that needs closing."""
