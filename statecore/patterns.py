"""Patterns of the shell's kind, held against each other. Pure.

Where it can't be told, it is not told: what is said to hold all does, what may meet might not.
"""

from __future__ import annotations

from fnmatch import fnmatchcase, translate
from re import split
from typing import Final

_SPECIAL: Final = r"[*?\[]"


def holds_all(outer: str, inner: str) -> bool:
    """Tell whether all that fits the inner pattern surely fits the outer one."""
    if outer in ("*", inner):
        return True
    if _is_plain(inner):
        return fnmatchcase(inner, outer)
    # A star of the inner one, taken as a letter, is matched by nothing but a star of the outer.
    return not {*outer} & {*"?["} and "[" not in inner and fnmatchcase(inner, outer)


def may_meet(one: str, other: str) -> bool:
    """Tell whether anything may fit both patterns."""
    if _is_plain(one):
        return fnmatchcase(one, other)
    if _is_plain(other):
        return fnmatchcase(other, one)
    (begin, *_, end), (other_begin, *_, other_end) = split(_SPECIAL, one), split(_SPECIAL, other)
    ends = "]" in end or "]" in other_end or end.endswith(other_end) or other_end.endswith(end)
    return ends and (begin.startswith(other_begin) or other_begin.startswith(begin))


def fits_nothing(pattern: str) -> bool:
    """Tell whether no text fits a pattern, as none does ``[9-0]``."""
    return "(?!)" in translate(pattern)  # an empty range; what looks so in a pattern is escaped


def _is_plain(pattern: str) -> bool:
    return not {*pattern} & {*"*?["}
