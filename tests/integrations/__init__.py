"""Statecore behind agent frameworks. What needs a framework that is not there is skipped."""
