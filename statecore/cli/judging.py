"""Judging states by a command, as ``git bisect run`` does: https://git-scm.com/docs/git-bisect."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from statecore import InputError
from statecore.bisection import Judge, Look
from statecore.cli.failures import report
from statecore.cli.outcomes import verdict_word
from statecore.interchange import state_to_json

_SKIP: Final = 125
_BAD_MAX: Final = 127  # beyond, shells tell of a signal
_STANDARD_ERROR: Final = 2  # what the command prints is for the person, not part of the answer


def judge_by(
    command: Sequence[str], keys: Sequence[str] | None, variables: Mapping[str, str]
) -> Judge:
    """Return what judges a state by the exit code of a command.

    The command gets the state as JSON on standard input, or only these keys of it.

    Args:
        command: the program and its arguments; no shell takes part.
        keys: what it is to see; all of them where ``None``.
        variables: for its environment, beside ``STATECORE_VERSION``.
    """

    def judge(state: Look) -> bool | None:
        seen = state if keys is None else {key: state[key] for key in keys if key in state}
        environment = {**os.environ, **variables, "STATECORE_VERSION": str(state.version)}
        verdict = _verdict(_run(command, state_to_json(seen), environment), state.version)
        report(f"version {state.version}: {verdict_word(verdict)}")
        return verdict

    return judge


def _run(command: Sequence[str], text: str, environment: Mapping[str, str]) -> int:
    try:
        ended = subprocess.run(  # noqa: S603 - to run what the user says is the point
            command,
            input=f"{text}\n".encode(),
            env=environment,
            stdout=_STANDARD_ERROR,
            check=False,
        )
    except OSError as error:
        raise InputError(f"{command[0]} can't be run: {error.strerror}") from error
    return ended.returncode


def _verdict(code: int, version: int) -> bool | None:
    """Return what an exit code says.

    Raises:
        InputError: it says that the command itself failed.
    """
    if not 0 <= code <= _BAD_MAX:
        how = f"by signal {-code}" if code < 0 else f"with {code}"
        raise InputError(f"the command ended {how} on version {version}, which is no verdict")
    return None if code == _SKIP else code == 0
