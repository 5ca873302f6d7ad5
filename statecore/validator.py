"""The rules of an agent: set and listed, a state checked, and its values brought up to them.

They hold on every branch, for every writer of every process, from the event on that sets them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from fnmatch import fnmatchcase
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, Final, Unpack

from statecore.appends import WriteOptions
from statecore.brancher import StateBrancher
from statecore.change import Change
from statecore.codec import read_time
from statecore.diff import difference
from statecore.errors import Conflict, InputError, Path, Violation
from statecore.events import Event, to_time
from statecore.json_schema import JsonSchema
from statecore.judge import checks_of, names_by, whole
from statecore.moments import Point, Position
from statecore.operations import Operation
from statecore.packed import same_packed, thaw
from statecore.policy import Permission
from statecore.references import OnDelete
from statecore.register import CONSTRAINT, REFERENCE, REGISTER, RULES, SCHEMA
from statecore.rulebook import RecordedSchema, Rulebook, is_of_rules
from statecore.sight import Sees
from statecore.state import Root
from statecore.stream import MAIN, StreamName
from statecore.transaction import Transaction
from statecore.validation import Local, has_conflict, schema_of, spelled
from statecore.values import Value, check_key, pack, same
from statecore.writer import ATTEMPTS_MAX

_KEYS_MAX: Final = 100
_WAYS: Final = ("refuse", "clear", "keep")


class StateValidator(StateBrancher):
    """The part of ``StateManager`` that keeps rules."""

    async def set_schema(
        self,
        pattern: str,
        schema: object,
        **options: Unpack[WriteOptions],
    ) -> int:
        """Record what the values of keys must be; return the version of the rules it is of.

        From then on a write that would make it otherwise is refused, with ``ValidationFailed``.
        Values that are there already stay: ``check`` finds them, ``migrate`` changes them. Setting
        what is set already records nothing.

        Args:
            pattern: which keys, as for ``set_strategy``; all schemas that fit a key hold.
            schema: a JSON Schema (``statecore/json_schema.py`` says how it sees values), or a type
                that pydantic knows, such as a model or ``Annotated[int, Gt(0)]``. Of a type the
                JSON Schema is recorded; in this process its own validators hold, too.
                ``None`` takes the schema back.

        Raises:
            AccessDenied: it may not be set; or it is a type, whose validators would be told of
                values that may not be read.
            InputError: it is no schema.
        """
        self._guard.require(Permission.RULES)  # first: what a type says holds here at once
        recorded = None
        if schema is not None:
            recorded, adapter = schema_of(schema)
            JsonSchema(recorded)  # refuses what is none
            if adapter is not None:
                self._guard.require_all(Permission.READ, pattern)
                self._local.types[pattern, spelled(recorded)] = adapter
        return await self._set_rule(SCHEMA + pattern, {"schema": recorded}, options)

    async def schemas(self, at: Point | None = None) -> dict[str, RecordedSchema]:
        """Return the schemas that hold now, or held at a moment, by pattern."""
        return dict((await self.rules(at)).schemas)

    async def constrain(
        self,
        pattern: str,
        function: Callable[[Value], object] | None,
        *,
        name: str | None = None,
        **options: Unpack[WriteOptions],
    ) -> int:
        """Hold values of keys to a function, in this process; return the version of the rules.

        Only its name is recorded, so that it shows in ``rules``; a process that was not given the
        function does not hold its writes to it. It runs while others wait to write, so it must be
        quick, and must not touch the store. What it says when it refuses is not told: it might show
        the value.

        Args:
            pattern: which keys.
            function: gets a fresh value; returns ``False``, or raises, to refuse it.
                ``None`` takes back the one of the name, or all of the pattern.
            name: what to call it, where its own name is not it.

        Raises:
            AccessDenied: it may not be set, or would be told of values that may not be read.
        """
        self._guard.require(Permission.RULES)  # first: the function holds here at once
        given = name or getattr(function, "__name__", None)
        if function is not None:
            if not given or given == "<lambda>":
                raise InputError("a constraint needs a name")
            if iscoroutinefunction(function):
                raise InputError(f"the constraint {given!r} can't be a coroutine function")
            self._guard.require_all(Permission.READ, pattern)
            self._local.functions[pattern, given] = function

        def names(old: dict[str, Any] | None) -> dict[str, Any]:
            before = old["names"] if old else []
            if function is None:
                return {"names": [each for each in before if name not in (None, each)]}
            return {"names": before if given in before else [*before, given]}

        return await self._set_rule(CONSTRAINT + pattern, names, options)

    async def set_reference(
        self,
        pattern: str,
        path: Path,
        to: str | None,
        *,
        agent: str | None = None,
        on_delete: OnDelete | None = None,
        **options: Unpack[WriteOptions],
    ) -> int:
        """Record that values name other keys, which must be there; return the rules' version.

        Args:
            pattern: which keys refer.
            path: where in their values the name stands, or names, if it is a list there; it leads
                into every item of a list on its way. ``None`` there is no reference.
            to: the pattern of the keys referred to. ``None`` takes the reference back.
            agent: whose keys, where they are not of the same state: then on its branch main, and
                looked at only when the reference is written.
            on_delete: what to do when a key that is referred to is deleted: ``"refuse"`` that,
                ``"clear"`` the reference in the same event, or ``"keep"`` it, leading nowhere.
                References to other agents are kept.

        Raises:
            AccessDenied: it may not be set, or would tell which keys are there of some that may not
                be read.
            InputError: the path or ``on_delete`` is none.
        """
        self._guard.require(Permission.RULES)
        if isinstance(path, str) or not all(type(part) in (str, int) for part in path):
            raise InputError(f"a path is a tuple of fields and places in lists, not {path!r}")
        on_delete = on_delete or ("refuse" if agent is None else "keep")
        if on_delete not in _WAYS or (agent is not None and on_delete != "keep"):
            ways = ", ".join(_WAYS) if agent is None else "keep, for another agent's keys"
            raise InputError(f"on_delete is {ways}, not {on_delete!r}")
        if to is not None:
            where = {} if agent is None else {"agent_id": agent, "branch": MAIN}
            self._guard.require_all(Permission.READ, to, **where)
        made = {"path": list(path), "to": to, "agent": agent, "on_delete": on_delete}

        def references(old: dict[str, Any] | None) -> dict[str, Any]:
            kept = [each for each in (old or {}).get("references", []) if each["path"] != [*path]]
            return {"references": kept if to is None else [*kept, made]}

        return await self._set_rule(REFERENCE + pattern, references, options)

    async def rules(self, at: Point | None = None) -> Rulebook:
        """Return all rules that hold now, or held at a moment: of this branch, if it is a version.

        They are events like all others, in a history of their own.
        """
        await self._load()
        self._guard.require(Permission.READ)
        moment = None if at is None else self._in_the_log(at)
        if moment is None and at is not None:
            return Rulebook()
        state = await self._register().at(moment)
        return Rulebook.read({key: state[key] for key in state if is_of_rules(key)})

    async def check(self) -> list[Violation]:
        """Return all that violates the rules in the state now, by path; conflicts are exempt.

        Keys that may not be read are left out: no function is told of them either.
        """
        await self._load()
        sees = self._guard.sight(Permission.READ)
        return await self._engine.waiter.away(self._check, sees)

    async def migrate(
        self,
        pattern: str,
        function: Callable[[Value], Value],
        *,
        keys_max: int = _KEYS_MAX,
        **options: Unpack[WriteOptions],
    ) -> int:
        """Bring values up to their schema, by a function of the old one; return how many.

        It gets only values that were last written before the schema was set, so a second run, or
        one after a crash, goes on where it stopped, and never sees its own work. Others may write
        in the meantime. What it returns is held to the rules like any write.

        Args:
            pattern: of the schema, as it was set.
            function: makes the new value of a fresh old one, which may be of any time before the
                schema; what it returns unchanged stays.
            keys_max: so many keys at most are changed by one event.

        Raises:
            InputError: no schema is set for this pattern.
            ValidationFailed: what it made violates rules; what came before is recorded.
        """
        if options.keys() & {"event_id", "expected_version"}:
            raise InputError("a migration is several events; event_id and expected_version fit one")
        event, version = await self._schema_event(pattern)
        options.setdefault("reason", f"brought up to schema {pattern!r}, version {version}")
        await self._load()
        limit = self._version(Position(event.position) if event.position else event.time)
        keys = sorted(key for key in self._root().cells if fnmatchcase(key, pattern))
        for key in keys:
            self._guard.require(Permission.READ, key)  # which the function does
        done = 0
        for start in range(0, len(keys), keys_max):
            done += await self._migrate_some(
                keys[start : start + keys_max], limit, function, options
            )
        return done

    async def _migrate_some(
        self,
        keys: list[str],
        limit: int,
        function: Callable[[Value], Value],
        options: WriteOptions,
    ) -> int:
        """Migrate those of some keys that were not written after a version, by one event."""
        for attempt in range(ATTEMPTS_MAX):
            root = self._root()
            steps = _brought_up(root, keys, limit, function)
            if not steps:
                return 0
            try:
                based: WriteOptions = {**options, "expected_version": root.version}
                await self._write(Change(steps), based, set(steps))
            except Conflict:
                if attempt == ATTEMPTS_MAX - 1:
                    raise
            else:
                return len(steps)
        raise AssertionError  # the last attempt returned or raised

    async def _schema_event(self, pattern: str) -> tuple[Event, int]:
        """Return the event that set a schema, and the rules' version it is of."""
        recorded = (await self.schemas()).get(pattern)
        if recorded is not None:
            history = self._register().history(SCHEMA + pattern, newest_first=True)
            async for event in history:
                return event, recorded.version
        raise InputError(f"no schema is set for {pattern!r}")

    async def _set_rule(
        self,
        key: str,
        entry: dict[str, Any] | Callable[[dict[str, Any] | None], dict[str, Any]],
        options: WriteOptions,
    ) -> int:
        """Record a rule, unless it is recorded already; return the version it is of."""
        check_key(key)

        def work(tx: Transaction) -> int:
            old = tx.get(key)
            new = entry(old) if callable(entry) else entry
            version = int(tx.get(RULES, 0))
            if old is None and all(value in (None, []) for value in new.values()):
                return version  # there was nothing to take back
            if old is not None and same({**new, "version": old["version"]}, old):
                return int(old["version"])
            version += 1
            tx.set(key, {**new, "version": version})
            tx.set(RULES, version)
            return version

        options.setdefault("actor", self.actor)
        await self._load()  # a register lives as long as its state, which is to be known first
        has_begun = self._ttl is None or self._stream.expires is not None
        if not has_begun or self._stream.has_expired(self._engine.clock()):
            raise InputError("the rules of a temporary state end with it: write to it first")
        return await self._register().atomic_transaction(work, **options)

    def _check(self, sees: Sees | None) -> list[Violation]:
        streams, agent_id = self._engine.streams, self.agent_id
        root_of = partial(streams.living_root, now=self._engine.clock())
        register = streams.open(StreamName(agent_id, REGISTER))
        checks = checks_of(root_of(register), streams, agent_id)
        cells = self._root().cells
        shown = {key: cell for key, cell in cells.items() if sees is None or sees(key)}
        return whole(checks, shown, names_by(cells, streams, root_of))

    @property
    def _local(self) -> Local:
        return self._engine.streams.local_rules_of(self.agent_id)

    def _in_the_log(self, point: Point) -> datetime | Position | None:
        """Return a moment of this branch as one of the whole log; ``None`` before everything."""
        if isinstance(point, datetime | Position):
            return point
        version = self._version(point)
        rows = self._engine.timeline.rows(self._stream, version - 1, version, 1) if version else []
        for _, position, stored in rows:
            return Position(position) if position else to_time(read_time(stored))
        return None


def _brought_up(
    root: Root, keys: list[str], limit: int, function: Callable[[Value], Value]
) -> dict[str, Operation]:
    """Return what a function makes of the values that were last written up to a version."""
    steps: dict[str, Operation] = {}
    for key in keys:
        version, packed = root.cells.get(key, (limit + 1, b""))
        if version > limit or has_conflict(packed):
            continue
        new = pack(function(thaw(packed)), (key,))
        if not same_packed(packed, new):
            steps[key] = difference(packed, new)
    return steps
