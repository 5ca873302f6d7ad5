"""Statecore behind the frameworks that agents are built with, each behind its extra."""
