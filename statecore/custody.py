"""What the owner of a store does with its keys: list, check and change them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from statecore.access import FULL, Authority
from statecore.appends import Append, Source, WriteOptions
from statecore.change import EMPTY
from statecore.codec import read_epoch, read_time
from statecore.codec.cut import is_cut
from statecore.database import explain_os
from statecore.engine import Engine
from statecore.erasure import ended
from statecore.errors import Damage, Erased, InputError, KeyFailure, StoreFailure
from statecore.events import Birth, EventType, to_time
from statecore.gate import Request
from statecore.keys import KeyProvider, WrappedKey, provider_of
from statecore.keys.backup import open_contents, seal_contents
from statecore.keys.files import write_private
from statecore.keys.ring import LOG_EPOCH, LOG_STREAM
from statecore.manager import Housekeeper
from statecore.policy import Permission
from statecore.recorders import EVERYTHING
from statecore.stream import Stream, StreamName
from statecore.waiting import run


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A data key, and what is known of it. Nothing secret."""

    stream: str  # the pseudonym of what it seals, in hexadecimal; all zeros: the log itself
    epoch: int  # which of the stream's keys it is
    since: int  # the first version it seals
    begun: datetime | None  # when that was recorded; ``None`` while nothing was
    expires: datetime | None
    is_destroyed: bool
    birth: Birth | None  # of the stream; ``None`` of one that was erased, and of the log


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What a check of all keys found."""

    keys: int
    destroyed: int
    provider: str  # the kind of source that the store's key is from
    problems: tuple[str, ...]  # each a sentence


class KeyCustody:
    """The keys of one store. Made by ``StateStore.keys``; each method asks for ``keys`` anew."""

    def __init__(
        self,
        engine: Engine,
        births: Callable[[], Iterator[Birth]],
        authority: Authority = FULL,
    ) -> None:
        self._engine = engine
        self._authority = authority
        self._births = births
        self._log = engine.streams.log
        self._ring = engine.streams.ring

    def _require(self) -> None:
        gate = self._engine.gate
        gate.decide(gate.now(), self._authority, Request(Permission.KEYS))

    async def entries(self) -> list[KeyEntry]:
        """Return the data keys, those of the oldest streams first, the destroyed ones too."""
        self._require()
        return await self._engine.waiter.away(self._entries)

    def _entries(self) -> list[KeyEntry]:
        streams, births = self._engine.streams, {}
        for birth in self._births():
            name = StreamName(birth.agent_id, birth.branch, birth.generation)
            births[streams.id_of(name)] = birth
        order = {stream: at for at, stream in enumerate([LOG_STREAM, *self._log.streams()])}
        kept = sorted(self._ring.kept(), key=lambda key: (order.get(key.stream, -1), key.epoch))
        return [self._entry(key, births.get(key.stream)) for key in kept]

    def _entry(self, key: WrappedKey, birth: Birth | None) -> KeyEntry:
        return KeyEntry(
            stream=key.stream.hex(),
            epoch=key.epoch,
            since=key.since,
            begun=self._begun(key),
            expires=None if key.expires is None else to_time(key.expires),
            is_destroyed=key.wrapped is None,
            birth=birth,
        )

    def _begun(self, key: WrappedKey) -> datetime | None:
        for _, _, stored in self._log.read(key.stream, key.since - 1, key.since):
            if read_epoch(stored) == key.epoch:
                return to_time(read_time(stored))
        return None

    async def check(self) -> KeyReport:
        """Try every data key: whether it opens, and is the one that the log commits to; whether
        none is missing, and none is there that the log says was destroyed. Changes nothing."""
        self._require()
        return await self._engine.waiter.away(self._check)

    def _check(self) -> KeyReport:
        kept = self._ring.kept()
        problems = [problem for stream in self._log.streams() for problem in self._flaws(stream)]
        for stream, end in ended(self._log, self._ring.log_key).items():
            if self._ring.has_keys(stream, end):
                problems.append(f"stream {stream.hex()}: was erased, but its key is there")
        destroyed = sum(key.wrapped is None for key in kept)
        return KeyReport(len(kept), destroyed, self._ring.provider_name, tuple(problems))

    def _flaws(self, stream_id: bytes) -> Iterator[str]:
        try:
            keys = self._ring.keys(stream_id)
        except (Damage, KeyFailure) as error:
            yield f"stream {stream_id.hex()}: {error}"
            return
        for _, _, stored in self._log.read(stream_id, 0, EVERYTHING, 1, back=True):
            epoch = read_epoch(stored)
            if epoch != LOG_EPOCH and keys.get(epoch) is None:
                yield f"stream {stream_id.hex()}: its key is gone, and no event says why"
        stream = self._engine.streams.adopt(StreamName(""), stream_id)
        stream.load_keys(keys)
        for key in filter(None, keys.values()):
            for version, _, stored in self._log.read(stream_id, key.since - 1, key.since):
                try:
                    if read_epoch(stored) == key.epoch and not is_cut(stored):
                        stream.sealer.open(version, stored)
                except Damage as error:
                    yield f"stream {stream_id.hex()}: {error}"

    async def rotate(self, key: bytes | str | KeyProvider) -> int:
        """Change the key of the store: wrap all data keys anew; return how many.

        All or none, and durable when it returns; from then on the old key opens nothing of it, and
        its wrapped keys are gone from the file. Killed before, the store has the one or the other:
        keep both until it returned. No event is touched. Other processes that have the store open
        go on with what they have opened; for more they need the new key, and say so.

        Args:
            key: the new one: 32 bytes, or as ``new_key`` writes one, or a provider, which makes it
                if it does not exist.

        Raises:
            InputError: it is the key that the store has.
            DamagedRecord: a data key does not open; nothing was changed.
        """
        self._require()
        return await self._engine.waiter.away(self._rotate, provider_of(key))

    def _rotate(self, provider: KeyProvider) -> int:
        with self._log.turn():  # no key is on its way to its first event
            self._ring.rewrap(provider)
        return sum(key.wrapped is not None for key in self._ring.kept())

    async def rotate_data(
        self, agent_id: str, *, actor: str | None = None, reason: str | None = None
    ) -> list[str]:
        """Give an agent new data keys for what is written from now on; return on which branches.

        What was sealed before stays as readable as it was, by the keys it was sealed with. An event
        on each branch that was written to says when, by whom and why.

        Args:
            agent_id: whose.
            actor: who does it; where a principal does, its id by default.
            reason: why.

        Raises:
            AccessDenied: ``keys`` is not permitted.
        """
        self._require()
        who = self._authority.principals
        actor = actor or (who[0].id if who else None)
        manager = Housekeeper(self._engine, StreamName(agent_id), actor=actor)
        done = []
        for name in await manager.branches_ever():
            stream = self._engine.streams.open(name)
            await self._engine.waiter.away(self._engine.streams.refresh, stream)
            if stream.key is None or stream.is_erased:
                continue
            stream.require_kind(None, actor)
            options: WriteOptions = {"actor": actor, "reason": reason}
            append = Append(stream, partial(_erased, stream), EMPTY, options, actor=actor)
            append.source = Source(EventType.REKEYED)
            append.authority = self._authority
            await self._engine.waiter.write(append, self._engine.write_seconds)
            done.append(name.branch)
        return done

    async def backup(
        self, target: str | Path, *, passphrase: str | None = None, recipients: Sequence[str] = ()
    ) -> int:
        """Write all data keys to a new file, for ``restore_keys``; return how many.

        Encrypted to a passphrase (Argon2id) or to age recipients (``statecore[age]``), not to the
        store's own key: whoever can open the file can read the log, without any other key. It is
        private, read back before it gets its name, and durable when this returns.

        Raises:
            InputError: there is a file of this name, or nobody to encrypt it to.
        """
        self._require()
        work = partial(self._backup, Path(target), passphrase, recipients)
        return await self._engine.waiter.away(work)

    def _backup(self, target: Path, passphrase: str | None, recipients: Sequence[str]) -> int:
        contents = self._ring.contents()
        sealed = seal_contents(contents, passphrase, recipients)

        def check(written: bytes) -> None:
            # What is to others can't be opened here: that it is what was sealed must do.
            opens = not passphrase or open_contents(written, passphrase, None) == contents
            if written != sealed or not opens:
                raise StoreFailure(f"{target}: what was written is not what is there")

        try:
            if not write_private(target, sealed, check):
                raise InputError(f"there is a file {target}; a backup is not written over another")
        except OSError as error:
            raise explain_os(error, target, "written") from error
        return sum(secret is not None for _, secret in contents.keys)


def _erased(stream: Stream) -> Birth:
    raise Erased(f"{stream.name} was erased; there is nothing to give a new key to")


class BlockingKeyCustody:
    """The keys of one store, for plain functions."""

    def __init__(self, custody: KeyCustody) -> None:
        self._custody = custody

    def entries(self) -> list[KeyEntry]:
        """Return the data keys; see ``KeyCustody.entries``."""
        return run(self._custody.entries())

    def check(self) -> KeyReport:
        """Try every data key; see ``KeyCustody.check``."""
        return run(self._custody.check())

    def rotate(self, key: bytes | str | KeyProvider) -> int:
        """Change the key of the store; see ``KeyCustody.rotate``."""
        return run(self._custody.rotate(key))

    def rotate_data(
        self, agent_id: str, *, actor: str | None = None, reason: str | None = None
    ) -> list[str]:
        """Give an agent new data keys; see ``KeyCustody.rotate_data``."""
        return run(self._custody.rotate_data(agent_id, actor=actor, reason=reason))

    def backup(
        self, target: str | Path, *, passphrase: str | None = None, recipients: Sequence[str] = ()
    ) -> int:
        """Write all data keys to a new file; see ``KeyCustody.backup``."""
        return run(self._custody.backup(target, passphrase=passphrase, recipients=recipients))
