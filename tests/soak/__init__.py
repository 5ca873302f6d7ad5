"""A day of a store in a few minutes: ``python -m tests.soak --minutes 10``."""
