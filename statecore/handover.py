"""A state handed to another party: an age file that holds lines of JSON, read without this store.

The first line says what it is, one follows for each key, the last says how many there were. Values
stand in the form that keeps their type (``statecore/typed_json.py``).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final

from statecore import age
from statecore.agent_state import AgentState
from statecore.errors import DamagedRecord, InputError, NewerFormat
from statecore.typed_json import freeze, from_json, loads, thaw_exposed, to_json
from statecore.values import Value, check_key, check_text

FORMAT: Final = 1  # In files that others keep. Never renumber.
_KIND: Final = "statecore state"


@dataclass(frozen=True, slots=True)
class ImportedState:
    """A state that somebody else exported. What it says of itself is theirs to answer for."""

    agent_id: str
    branch: str
    version: int
    timestamp: datetime | None
    data: dict[str, Value]


def export_state(state: AgentState, target: BinaryIO, recipients: Sequence[str]) -> None:
    """Write a state to a stream, as an age file to recipients, key by key."""
    with io.BufferedReader(_Lines(_lines(state))) as source:
        age.encrypt_stream(source, target, recipients)


def import_state(source: BinaryIO, identity: str) -> ImportedState:
    """Read what ``export_state`` wrote. Nothing of it is looked at before all of it was opened.

    Raises:
        InvalidKey, WrongKey: the identity is none, or the file is to others.
        DamagedRecord, NewerFormat: it was changed, is no state, or a newer statecore's.
    """
    opened = io.BytesIO()  # and never a file: it is in clear
    age.decrypt_stream(source, opened, identity)
    opened.seek(0)
    try:
        return _read(opened)
    except (InputError, ValueError, TypeError, KeyError) as error:
        raise DamagedRecord("the file was opened, but does not hold a state") from error


def _lines(state: AgentState) -> Iterator[bytes]:
    time = state.timestamp
    about = {"agent": state.id, "branch": state.branch, "version": state.version}
    yield _line(
        {"kind": _KIND, "format": FORMAT, **about, "time": time and time.isoformat()},
    )
    for key in state:
        packed = state.packed(key)
        assert packed is not None
        yield _line({"key": key, "value": to_json(thaw_exposed(packed))})
    yield _line({"keys": len(state)})


def _line(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode() + b"\n"


def _read(lines: BinaryIO) -> ImportedState:
    about: Any = loads(next(lines, b"{}").decode())
    if about["kind"] != _KIND:
        raise ValueError("another kind")
    if _number(about["format"]) != FORMAT:
        raise NewerFormat(f"a state of format {about['format']}; this statecore reads {FORMAT}")
    data: dict[str, Value] = {}
    for line in lines:
        entry: Any = loads(line.decode())
        if "keys" in entry:
            if _number(entry["keys"]) != len(data) or lines.read(1):
                raise ValueError("keys are missing")
            return _imported(about, data)
        key = entry["key"]
        check_key(key)
        if key in data:
            raise ValueError("a key twice")
        data[key] = from_json(entry["value"])
        freeze(data[key], (key,))  # refuses what could not be recorded
    raise ValueError("the end is missing")


def _imported(about: Any, data: dict[str, Value]) -> ImportedState:
    agent_id, branch, time = about["agent"], about["branch"], about["time"]
    check_text("agent", agent_id)
    check_text("branch", branch)
    moment = None if time is None else datetime.fromisoformat(time)
    if moment is not None and moment.utcoffset() is None:
        raise ValueError("a time without its zone")
    return ImportedState(agent_id, branch, _number(about["version"]), moment, data)


def _number(value: object) -> int:
    """Return what should be a number of things, and no ``true``, which Python takes for 1."""
    if type(value) is not int or value < 0:
        raise ValueError("what should be a number is none")
    return value


class _Lines(io.RawIOBase):
    """Lines as a stream, each made when it is read."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._left = self._left or next(self._lines, b"")
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count
