"""Stores as released versions wrote them. Frozen: every later version must open them."""
