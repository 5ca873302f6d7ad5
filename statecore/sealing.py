"""A state sealed to be kept elsewhere: under its own data key, so that it ends with the state."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgpack
from immutables import Map

from statecore.agent_state import AgentState
from statecore.engine import Engine
from statecore.errors import DamagedRecord, Erased, InputError
from statecore.events import Event, Kind
from statecore.packed import to_bytes
from statecore.state import Root
from statecore.stream import StreamName

_MAGIC: Final = b"statecore state 1\n"  # On disk. Never change; another format is another.
FORMAT: Final = 1  # of what is inside. On disk. Never renumber.
_STREAM_BYTES: Final = 16
_VERSION_BYTES: Final = 8


def encrypt_state(engine: Engine, state: AgentState) -> bytes:
    """Return a state, sealed with the data key of its branch.

    Raises:
        InputError: nothing was ever written to it here, so it has no key.
        Erased, Expired: it has ended meanwhile.
    """
    streams = engine.streams
    stream = streams.open(StreamName(state.id, state.branch, state.generation))
    streams.refresh(stream)
    stream.require_readable(engine.clock())
    owner = stream.owner(state.version)
    if state.version < owner.first_own or owner.key is None:
        if state.version:
            raise Erased(f"{stream.name}: version {state.version} was erased")
        raise InputError(f"{stream.name} has no key: nothing was written to it in this store")
    place = owner.id + state.version.to_bytes(_VERSION_BYTES, "big")
    body = _pack(state, owner.name)
    sealed = owner.sealer.seal_state(owner.key, state.version, state.root.time, body)
    return _MAGIC + place + sealed


def decrypt_state(
    engine: Engine, sealed: bytes, agent_id: str | None, version: int | None
) -> AgentState:
    """Return a state that ``encrypt_state`` sealed, if it is the one expected.

    Raises:
        InputError: it is another agent's, or of another version.
        Erased, Expired: the state has ended since.
        DamagedRecord: it was changed, is another store's, or no sealed state.
    """
    start = len(_MAGIC) + _STREAM_BYTES
    end = start + _VERSION_BYTES
    if not sealed.startswith(_MAGIC) or len(sealed) <= end:
        raise DamagedRecord("this is no sealed state")
    stream_id, at = sealed[len(_MAGIC) : start], int.from_bytes(sealed[start:end], "big")
    streams = engine.streams
    stream = streams.adopt(StreamName(""), stream_id)
    stream.load_keys(streams.ring.keys(stream_id))
    state, name = _unpack(at, stream.sealer.open_state(at, sealed[end:]), engine)
    if streams.id_of(name) != stream_id:
        raise DamagedRecord("this sealed state is not of the agent that it says")
    owner = streams.open(name)
    streams.refresh(owner)
    owner.require_readable(engine.clock())
    engine.timeline.require_version(owner, at)
    for what, found, wanted in (("agent", state.id, agent_id), ("version", at, version)):
        if wanted is not None and found != wanted:
            raise InputError(f"this sealed state is of another {what} than {wanted}")
    return state


def _pack(state: AgentState, owner: StreamName) -> bytes:
    root = state.root
    keys = sorted(root.cells)
    cells = [root.cells[key] for key in keys]
    body = [
        FORMAT,
        [state.id, state.branch, state.generation],
        list(owner[1:]),
        None if state.kind is None else str(state.kind),
        root.time,
        root.weight,
        dict(root.tags),
        keys,
        [touched for touched, _ in cells],
        [to_bytes(packed) for _, packed in cells],
        [[*line, version] for line, version in root.past.items()],
    ]
    return msgpack.packb(body)  # type: ignore[no-any-return]


def _unpack(version: int, body: bytes, engine: Engine) -> tuple[AgentState, StreamName]:
    try:
        number, name, owner, kind, *rest = msgpack.unpackb(body)
        time, weight, tags, keys, touched, values, past = rest
        if number != FORMAT:
            raise DamagedRecord(f"a sealed state of format {number}; this one reads {FORMAT}")
        cells = Map(zip(keys, zip(touched, values, strict=True), strict=True))
        lines = {(branch, generation): at for branch, generation, at in past}
        root = Root(version, time, cells, weight, tags, None, lines)
        agent_id, branch, generation = name
        from_stream = StreamName(agent_id, *owner)
        load = partial(_event, engine, from_stream)
        kept = None if kind is None else Kind(kind)
        return AgentState(agent_id, branch, kept, root, load, None, generation), from_stream
    except (msgpack.UnpackException, ValueError, TypeError) as error:
        raise DamagedRecord("this sealed state does not parse") from error


def _event(engine: Engine, name: StreamName, root: Root) -> Event:
    stream = engine.streams.open(name)
    engine.streams.refresh(stream)
    return engine.timeline.event(stream, root)
