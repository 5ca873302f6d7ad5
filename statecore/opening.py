"""The front door: opens a store, and wires the engine and its wings together."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from statecore.backup import BackupResult, take
from statecore.caretaking import Caretaker
from statecore.database import explain_os
from statecore.engine import Engine
from statecore.erasure import settle
from statecore.errors import (
    InputError,
    OutcomeUnknown,
    StatecoreError,
    StoreClosed,
    StoreForked,
)
from statecore.events import Birth
from statecore.gate import Gate
from statecore.keys import (
    DataKey,
    KeyProvider,
    KeyRing,
    Passphrase,
    default_provider,
    provider_of,
)
from statecore.keys.providers import GivenKey
from statecore.ledger import Ledger
from statecore.lineage import InheritedKeyHistory
from statecore.log import Sequencer, now
from statecore.projections import FoldedKeyHistory, StoredKeyHistory
from statecore.projections.catalog import births
from statecore.projections.heads import HeadKeeper
from statecore.recorders import LogStore
from statecore.recorders.sqlite.archive import Archives
from statecore.snapshots import NoSnapshots, SnapshotKeeper, WarmRoots, WarmValues
from statecore.store import BlockingStore, StateStore
from statecore.stream import Aids
from statecore.streams import Streams
from statecore.sweeper import Sweeper
from statecore.timeline import Timeline
from statecore.transparency.signers import Ed25519Signer, Signer
from statecore.unlocking import Options, open_file, open_memory, open_module
from statecore.waiting import BlockingWaiter, Waiter
from statecore.xaes import KEY_BYTES

MEMORY: Final = "memory:"
_MEBIBYTE: Final = 1024 * 1024

_logger = logging.getLogger("statecore")


def open(  # noqa: A001 - read as statecore.open
    location: str | Path = MEMORY,
    *,
    key: bytes | str | KeyProvider | None = None,
    passphrase: str | None = None,
    create: bool = True,
    durability: str = "full",
    cache_mib: int = 256,
    write_seconds: float = 30.0,
    snapshots: bool = True,
    clock: Callable[[], int] = now,
    persistence_module: str | None = None,
    environment: Mapping[str, str] | None = None,
    key_store: str | Path | None = None,
    signer: Signer | None = None,
    check_seconds: float | None = None,
    archives: Sequence[str | Path] = (),
) -> Opening:
    """Open a store: ``async with statecore.open("agents.db") as store``, or ``with``.

    Args:
        location: a SQLite file, or ``"memory:"``.
        key: the key-encryption key: 32 bytes, or as ``new_key`` writes one, or a provider. Without
            it the environment's ``STATECORE_KEY``, or the user's key file, made on first use.
        passphrase: derive the key from this instead.
        create: make the store if there is none.
        durability: ``"full"``, durable when a call returns; ``"relaxed"``, may lose the last
            moments when the power fails, but not when the process does.
        cache_mib: mebibytes for current and past states in memory.
        write_seconds: give a write up if other processes keep it from beginning for so long.
        snapshots: keep snapshots, which shorten cold reads and change no answer.
        clock: microseconds since 1970, UTC.
        persistence_module: any persistence module of ``eventsourcing`` in place of a location.
        environment: that module's settings.
        key_store: the file to keep wrapped data keys in, for such a module, or not beside the log.
        signer: signs the heads of the audit tree, in place of a key that is derived from the log's.
        check_seconds: check the store every so many seconds, in the background; see ``last_check``.
        archives: files that ``StateStore.archive`` made of this store; what is in them is then read
            as if it were here.

    Raises, on entering:
        StoreNotFound: there is no store, or no directory to make it in.
        NotFound, InputError: there is no such archive, or it is another store's.
        KeyMissing, WrongKey, InvalidKey: the key is not there, another's, or none at all.
        StoreReadOnly, StoreUnsupported: it can't be written, or not safely.
        ForeignSchema, NewerFormat, Damage: the file is not a store this statecore can open.
    """
    if durability not in ("full", "relaxed"):
        raise InputError(f"durability is 'full' or 'relaxed', not {durability!r}")
    if str(location).startswith(("postgresql:", "postgres:")):
        raise InputError("use persistence_module='eventsourcing.postgres' and its environment")
    options = Options(
        provider=provider_from(key, passphrase),
        create=create,
        durability=durability,
        cache_mib=cache_mib,
        write_seconds=write_seconds,
        snapshots=snapshots,
        clock=clock,
        environment=environment or {},
        key_store=None if key_store is None else Path(key_store),
        signer=signer,
        check_seconds=check_seconds,
        archives=tuple(Path(each).expanduser() for each in archives),
        file=None if persistence_module else Path(location).expanduser(),
    )
    return Opening(location, persistence_module, options)


def provider_from(key: bytes | str | KeyProvider | None, passphrase: str | None) -> KeyProvider:
    """Return where the key is from that somebody gave, or did not give."""
    if key is not None and passphrase is not None:
        raise InputError("give a key or a passphrase, not both")
    if passphrase is not None:
        return Passphrase(passphrase)
    if key is None:
        return default_provider()
    return provider_of(key)


class Opening:
    """A store about to be opened: by ``async with``, ``with``, ``await`` or ``blocking()``."""

    def __init__(self, location: str | Path, module: str | None, options: Options) -> None:
        self._location = location
        self._module = module
        self._options = options
        self._async: StateStore | None = None
        self._blocking: BlockingStore | None = None

    def blocking(self) -> BlockingStore:
        """Open the store for plain functions; close it when done."""
        return BlockingStore(StateStore(self._wire(BlockingWaiter)))

    async def _open(self) -> StateStore:
        from asyncio import to_thread  # which blocking programs can do without

        from statecore.tasks import AsyncWaiter

        return StateStore(await to_thread(self._wire, AsyncWaiter))

    def _wire(self, waiter: Callable[[Sequencer], Waiter]) -> _Parts:
        options = self._options
        if self._module is not None:
            log, ring = open_module(self._module, options)
        elif str(self._location) == MEMORY:
            log, ring = open_memory(GivenKey(secrets.token_bytes(KEY_BYTES)))
        else:
            path = Path(self._location).expanduser()
            try:
                log, ring = open_file(path, options)
            except OSError as error:
                raise explain_os(error, path, "opened") from error
        with ExitStack() as undo:
            undo.callback(ring.close)
            undo.callback(log.close)
            archives = Archives(options.archives, log.log_id)
            undo.callback(archives.close)
            parts = _Parts(log, ring, options, waiter, archives=archives)
            undo.pop_all()
        parts.settle()
        return parts

    def __await__(self) -> Generator[Any, None, StateStore]:
        return self._open().__await__()

    async def __aenter__(self) -> StateStore:
        self._async = await self._open()
        return self._async

    async def __aexit__(self, *_: object) -> None:
        if self._async is not None:
            await self._async.close()

    def __enter__(self) -> BlockingStore:
        self._blocking = self.blocking()
        return self._blocking

    def __exit__(self, *_: object) -> None:
        if self._blocking is not None:
            self._blocking.close()


class _Parts:
    """One open log, wired."""

    def __init__(
        self,
        log: LogStore,
        ring: KeyRing,
        options: Options,
        waiter: Callable[[Sequencer], Waiter],
        gate: Gate | None = None,
        archives: Archives | None = None,
    ) -> None:
        self._log = log
        self._ring = ring
        self._archives = archives or Archives((), log.log_id)
        self._options = options
        self._new_waiter = waiter
        self._keeper = SnapshotKeeper(log, _report)
        aids = self._aids()
        cache_bytes = options.cache_mib * _MEBIBYTE // 2
        streams = Streams(log, ring, aids, cache_bytes, self._archives.body_of)
        self._gate = gate or Gate(streams)
        sequencer = Sequencer(streams, self._gate, options.clock)
        self._ledger: Ledger | None = None
        if gate is None:
            self._ledger = Ledger(streams, sequencer, options.clock, _report)
            self._gate.witness = self._ledger
        self.heads = HeadKeeper(
            log, options.signer or log_signer(ring.log_id, ring.log_key), _report
        )
        self.care = Caretaker(streams, options.cache_mib * _MEBIBYTE // 16, options.clock)
        self._sweeper = Sweeper(ring, sequencer, options.clock, _report)
        self._runtime: _Parts | None = None
        self._process = os.getpid()
        self.engine = Engine(
            streams=streams,
            gate=self._gate,
            sequencer=sequencer,
            timeline=Timeline(streams),
            waiter=waiter(sequencer),
            clock=options.clock,
            write_seconds=options.write_seconds,
        )
        ring.on_expiring = self._sweeper.attend
        if ring.next_expiry() is not None:
            self._sweeper.attend()
        if options.check_seconds is not None:
            self.care.check_every(options.check_seconds)

    def _aids(self) -> Aids:
        kept, options = self._log.history, self._options
        return Aids(
            history=InheritedKeyHistory(
                FoldedKeyHistory() if kept is None else StoredKeyHistory(kept)
            ),
            snapshots=self._keeper if options.snapshots else NoSnapshots(),
            roots=WarmRoots(options.cache_mib * _MEBIBYTE // 4),
            values=WarmValues(options.cache_mib * _MEBIBYTE // 4),
        )

    def runtime(self) -> Engine:
        if self._runtime is None:
            log, ring = open_memory(GivenKey(secrets.token_bytes(KEY_BYTES)))
            # What may be done to a state does not depend on how long it lives.
            self._runtime = _Parts(log, ring, self._options, self._new_waiter, self._gate)
        return self._runtime.engine

    def births(self, engine: Engine | None = None) -> Iterator[Birth]:
        return births((engine or self.engine).streams)

    def engines(self) -> list[Engine]:
        return [self.engine, *([self._runtime.engine] if self._runtime else [])]

    def backup(self, place: str | Path, on_progress: Callable[[int, int], None]) -> BackupResult:
        if self._options.file is None or str(self._options.file) == MEMORY:
            raise InputError("only a store in a SQLite file can be backed up so")
        self.heads.head()
        return take(self._options.file, place, on_progress=on_progress)

    def sweep(self) -> int:
        return self._sweeper.sweep()

    def settle(self) -> None:
        """Destroy what keys are left of what was erased, where keys outlive the process."""
        try:
            if self._ring.is_kept:
                settle(self._log, self._ring)
        except (StoreClosed, StoreForked, OutcomeUnknown):
            return  # closed before, another process's to close, or told to who wrote
        except StatecoreError as error:
            _report(error)  # it is not read all the same: the events decide

    def close(self) -> None:
        if os.getpid() != self._process:
            return  # after a fork: threads that are not here hold locks, and files are the parent's
        with ExitStack() as last_first:  # all of it, whatever fails
            last_first.callback(self._archives.close)
            last_first.callback(self._ring.close)
            last_first.callback(self._log.close)
            last_first.callback(self.settle)
            last_first.callback(self._keeper.close)
            last_first.callback(self.heads.close)
            last_first.callback(self.engine.sequencer.close)
            last_first.callback(self.care.close)
            last_first.callback(self._sweeper.close)
            if self._ledger is not None:
                last_first.callback(self._ledger.close)
            if self._runtime is not None:
                last_first.callback(self._runtime.close)


def log_signer(log_id: bytes, log_key: DataKey) -> Ed25519Signer:
    """Return what signs a log's heads: Ed25519, with a key derived from the log's own data key."""
    seed = Ed25519PrivateKey.from_private_bytes(log_key.head_seed)
    return Ed25519Signer(f"statecore/{log_id.hex()}", seed)


def _report(error: StatecoreError) -> None:
    _logger.warning("a background task failed: %s", error)
