"""Faults, each caused for real, many times over: ``python -m tests.faults``."""
