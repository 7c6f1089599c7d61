"""``Aggregate``: entities whose state is what their events have made of them.

``decide(state, command)`` says which events a command leads to, ``evolve(state, event)`` what an event makes of the
state. Both are plain functions without I/O; the aggregate loads, appends, and settles who was first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from tenfold._core.resolve import backend_class
from tenfold.db.database import Tx
from tenfold.db.gate import through
from tenfold.errors import (
    DeclarationError,
    NotBound,
    NotFound,
    SerializationFailure,
    VersionConflict,
    WrongArguments,
)
from tenfold.eventstore.contract import END, Bounds, Last, NewEvent, SnapshotRow, Stamp, Want
from tenfold.eventstore.deciding import Decide, Decided
from tenfold.eventstore.journal import Appended, Applied, Batch, Journal, is_touched, routes_of
from tenfold.eventstore.loading import PAGE, Folded, Loader
from tenfold.eventstore.metadata import metadata_of_now
from tenfold.eventstore.record import ANY, Event, Loaded, Recorded
from tenfold.eventstore.states import Known, States
from tenfold.eventstore.tables import CATEGORY_MAX_CHARS, STREAM_MAX_CHARS
from tenfold.eventstore.types import EventTypes, StateCodec

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.database import Database, Reader
    from tenfold.events.topic import Topic
    from tenfold.eventstore.contract import EventStoreBackend

S = TypeVar("S")
C = TypeVar("C")

STATES_MAX = 10_000
"""States that one process keeps in memory, per aggregate."""
ATTEMPTS = 20
"""How often a command is decided anew because somebody else was faster."""


class Aggregate(Generic[S, C]):
    """``inventory.aggregate("stock", events=[Received, Sold], state=Stock, evolve=evolve, decide=decide)``.

    Each entity has a stream of its own, named by its id. ``state`` is the type of the states; ``initial()`` makes the
    one before the first event (default: ``state()``).

    Every ``snapshot_every`` events the state is kept beside them, so that loading reads no more than so many (default:
    never). A snapshot counts as long as ``state`` has the same shape and ``revision`` the same number: raise it when
    ``evolve`` has learnt to make another state of old events.

    States that cannot be changed in place (frozen all through) are also kept in memory, 10,000 per process: loading
    then reads what was appended since.

    ``publish={Sold: sold}`` also publishes events of a type to a topic of that type, in the same transaction and with
    the entity's id as key; ``(topic, convert)`` publishes what ``convert(recorded)`` makes of them.
    """

    def __init__(
        self,
        service: str,
        name: str,
        database: Database,
        *,
        events: Sequence[type[Any] | Event[Any]],
        state: type[S],
        evolve: Callable[[S, Any], S],
        decide: Decide[S, C] | None = None,
        initial: Callable[[], S] | None = None,
        snapshot_every: int | None = None,
        revision: int = 1,
        publish: Mapping[type[Any], Topic[Any] | tuple[Topic[Any], Callable[[Recorded[Any]], Any]]]
        | None = None,
    ) -> None:
        self.service = service
        self.name = f"{service}.{name}"
        self.database = database
        _check(self.name, snapshot_every)
        self.state = state
        self._decide = decide
        self._types = EventTypes(self.name, events)
        self._codec = StateCodec(self.name, state, revision)
        self._loader = Loader(self.name, self._types, self._codec, initial or state, evolve)
        self._journal = Journal(
            self.name, self._types, routes_of(self.name, publish or {}, self._types.classes)
        )
        self._snapshot_every = snapshot_every
        self._states: States[S] = States(STATES_MAX)
        self._clock: Clock | None = None
        self._applied: Sequence[Applied] = ()
        self._wake: Callable[[], None] | None = None
        self._store: tuple[DatabaseBackend, EventStoreBackend, int] | None = None

    def __repr__(self) -> str:
        return f"Aggregate({self.name!r})"

    # ── loading ──

    async def load(
        self, reader: Reader, stream: str, *, version: int | None = None, at: datetime | None = None
    ) -> Loaded[S]:
        """The state of one entity: now, after its event ``version``, or at a time in the past.

        ``reader`` is ``db.read()`` or a transaction. An entity without events is at version 0. Raises
        :class:`~tenfold.errors.NotFound` for a version that the entity has not come to.
        """
        if version is None and at is None:
            return (await self.load_many(reader, [stream]))[stream]
        if at is not None and at.tzinfo is None:
            raise WrongArguments(f"{self.name}: at={at!r} has no timezone; give one, such as datetime.UTC.")
        bounds = Bounds(
            END if version is None else version,
            float(END) if at is None else at.timestamp(),
            self._fingerprint,
        )
        reader = await through(reader)
        folded = (await self._loader.load(self._backend(), reader, [self._named(stream)], bounds))[stream]
        if version is not None and version != folded.version and at is None:
            raise NotFound(f"{self.name} {stream!r} has no version {version}: it is at {folded.version}.")
        return Loaded(stream, folded.version, folded.state)

    async def load_many(self, reader: Reader, streams: Iterable[str]) -> dict[str, Loaded[S]]:
        """The states of many entities, by one statement."""
        folded = await self._newest(reader, streams)
        return {stream: Loaded(stream, found.version, found.state) for stream, found in folded.items()}

    async def history(
        self, reader: Reader, stream: str, *, after: int = 0, until: int | None = None
    ) -> AsyncIterator[Recorded[Any]]:
        """The events of one entity, oldest first, with versions above ``after`` and up to ``until``; read in pages."""
        bounds = Bounds(END if until is None else until)
        reader = await through(reader)
        while True:
            rows = await self._backend().read(reader, self.name, [Want(stream, after)], bounds, PAGE)
            for row in rows:
                yield self._types.decode(row)
            if len(rows) < PAGE:
                return
            after = rows[-1].version

    # ── changing ──

    async def handle(
        self, tx: Tx, stream: str, command: C, *, metadata: Mapping[str, Any] | None = None
    ) -> Loaded[S]:
        """Decide ``command`` on the newest state and append the events that it leads to.

        A state that this process has in memory is decided on without reading: the append, one statement, finds out
        whether it is the newest. When somebody else has appended meanwhile, the state is loaded and the command decided
        again, in the same transaction. Raises what ``decide`` raises; :class:`~tenfold.errors.VersionConflict` when others were faster 20
        times; :class:`~tenfold.errors.SerializationFailure` in a serializable transaction that collided
        (``Database.transact`` runs it again).
        """
        return (await self.handle_many(tx, {stream: command}, metadata=metadata))[stream]

    async def handle_many(
        self, tx: Tx, commands: Mapping[str, C], *, metadata: Mapping[str, Any] | None = None
    ) -> dict[str, Loaded[S]]:
        """As :meth:`handle`, for a command each of many entities, in as many statements as for one.

        What one command leads to may be appended before another is decided anew: whoever catches an error has to undo
        the others, by leaving the transaction or its savepoint.
        """
        decide = self._decide
        if decide is None:
            raise DeclarationError(
                "it has no function that decides.", where=self.name, remedy="Add decide=…."
            )
        done: dict[str, Loaded[S]] = {}
        recorded: list[Recorded[Any]] = []
        left = dict(commands)
        appended = Appended([], {}, {})
        decided = self._decided_from_memory(tx, decide, left)
        for _ in range(ATTEMPTS):
            from_memory = decided is not None
            if decided is None:
                decided = Decided.of(decide, await self._newest(tx, left), left)
            appended = await self._append(tx, decided.batches(), metadata)
            recorded += appended.recorded
            fresh = {
                stream: self._evolved(at, stream, decided.events[stream])
                for stream, at in decided.states.items()
                if stream not in appended.refused
            }
            await self._remember(tx, fresh, appended)
            done.update(fresh)
            if not appended.refused:
                await self._react(tx, recorded)
                return {stream: done[stream] for stream in commands}
            left = {stream: left[stream] for stream in appended.refused}
            decided = None
            if not from_memory:
                await self._check_movable(tx, appended.refused)
        raise await self._conflict(tx, *next(iter(appended.refused.items())))

    async def append(
        self,
        tx: Tx,
        stream: str,
        events: Sequence[Any],
        *,
        expected: int = ANY,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Append ``events`` without deciding anything; returns the new version.

        ``expected`` is the version that the stream must have, ``NONE`` for a stream that must not exist yet, ``ANY``
        for whatever it has. Raises :class:`~tenfold.errors.VersionConflict`; the transaction can go on.
        """
        self._named(stream)
        if not events:
            return (await self._backend().versions(tx, self.name, [stream])).get(stream, 0)
        for _ in range(ATTEMPTS):
            appended = await self._append(tx, [Batch(stream, expected, events)], metadata)
            if not appended.refused:
                await self._react(tx, appended.recorded)
                return appended.recorded[-1].version
            if expected != ANY:
                break
        raise await self._conflict(tx, stream, expected)

    # ── for the app ──

    def bind(self, clock: Clock, applied: Sequence[Applied], wake: Callable[[], None] | None) -> None:
        """From now on append by ``clock``, let ``applied`` have its effect, and call ``wake`` after commits."""
        self._clock, self._applied, self._wake = clock, applied, wake

    def unbind(self) -> None:
        """Back to the state before :meth:`bind`."""
        self._clock, self._applied, self._wake, self._store = None, (), None, None
        self._states.clear()

    @property
    def types(self) -> EventTypes:
        """Its types of events."""
        return self._types

    # ── inside ──

    @property
    def _fingerprint(self) -> str:
        return self._codec.fingerprint if self._snapshot_every else ""

    def _backend(self) -> EventStoreBackend:
        if self._clock is None:
            raise NotBound(
                f"aggregate {self.name} was used before its app started; use it in operations, jobs or on_start "
                "functions, or inside `async with app.test()` in tests."
            )
        backend = self.database.backend
        if self._store is None or self._store[0] is not backend or self._store[2] != backend.undone:
            made: EventStoreBackend = backend_class("eventstore", backend.url, where="database.url")()
            self._store = (backend, made, backend.undone)
            self._states.clear()
        return self._store[1]

    def _named(self, stream: str) -> str:
        if not 1 <= len(stream) <= STREAM_MAX_CHARS or "\0" in stream:
            raise WrongArguments(
                f"{self.name}: {stream[:80]!r} is no id: it has 1 to {STREAM_MAX_CHARS} characters, and no NUL."
            )
        return stream

    async def _newest(self, reader: Reader, streams: Iterable[str]) -> dict[str, Folded[S]]:
        reader = await through(reader)
        store = self._backend()
        named = [self._named(stream) for stream in streams]
        folded = await self._loader.refresh(store, reader, named, self._states, self._fingerprint)
        for stream, at in folded.items():
            known = at.known()
            if known is not None and not (isinstance(reader, Tx) and is_touched(reader, self.name, stream)):
                self._states.put(stream, known)
        return folded

    def _decided_from_memory(
        self, tx: Tx, decide: Decide[S, C], commands: Mapping[str, C]
    ) -> Decided[S] | None:
        """What the commands lead to where the states in memory are the newest: the append finds out whether they are,
        and nothing needs to be read before. None where it would not: a command that leads to nothing, or raises, has
        to be decided on what is there."""
        self._backend()  # forgets the states of another database
        known = {stream: self._states.get(stream) for stream in commands}
        if not isinstance(tx, Tx):  # pyright: ignore[reportUnnecessaryIsInstance] - said when it is appended
            return None
        folded: dict[str, Folded[S]] = {}
        lasts: dict[str, Last] = {}
        for stream, at in known.items():
            if at is None or is_touched(tx, self.name, stream):
                return None
            folded[stream] = Folded(at.state, at.version)
            lasts[stream] = Last(at.data, at.at)
        try:
            decided = Decided.of(decide, folded, commands, lasts)
        except Exception:
            return None  # of a state that may be old
        return decided if all(decided.events.values()) else None

    async def _append(self, tx: Tx, batches: Sequence[Batch], metadata: Mapping[str, Any] | None) -> Appended:
        if not isinstance(tx, Tx):  # pyright: ignore[reportUnnecessaryIsInstance] - users hand in the database
            raise WrongArguments(
                f"{self.name}: it takes an open transaction first, not {type(tx).__name__}: "
                "`async with db.tx() as tx: await aggregate.handle(tx, …)`."
            )
        store = self._backend()
        if not batches:
            return Appended([], {}, {})
        stamp = Stamp(cast("Clock", self._clock).now(), metadata_of_now(metadata))
        return await self._journal.append(store, tx, batches, stamp, gated=bool(self._applied))

    async def _react(self, tx: Tx, recorded: Sequence[Recorded[Any]]) -> None:
        """What goes with the events: synchronous projections, publications, and waking who follows."""
        if not recorded:
            return
        for apply in self._applied:
            await apply(tx, recorded)
        await self._journal.publish(tx, recorded)
        if self._wake is not None:
            tx.on_commit(self._wake)

    def _evolved(self, at: Folded[S], stream: str, events: Sequence[Any]) -> Loaded[S]:
        state = at.state
        for event in events:
            state = self._loader.evolve(state, event)
        return Loaded(stream, at.version + len(events), state, tuple(events))

    async def _remember(self, tx: Tx, fresh: Mapping[str, Loaded[S]], appended: Appended) -> None:
        """In memory once it is committed; as a snapshot, in the transaction, when enough has come together."""
        every = self._snapshot_every
        snapshots: list[SnapshotRow] = []
        at = appended.recorded[-1].time_s if appended.recorded else 0.0
        for stream, new in fresh.items():
            if not new.events:
                continue
            tx.on_commit(partial(self._put, stream, new, appended.last[stream], at))
            if every and new.version // every > (new.version - len(new.events)) // every:
                snapshots.append(SnapshotRow(stream, new.version, self._codec.encode(new.state), at))
        if snapshots:
            await self._backend().save(tx, self.name, self._fingerprint, snapshots)

    def _put(self, stream: str, new: Loaded[S], last: NewEvent, at: float) -> None:
        self._states.put(stream, Known(new.version, new.state, last.data, at))

    async def _check_movable(self, tx: Tx, refused: Mapping[str, int]) -> None:
        """A transaction that keeps to one state of the database never sees who was faster."""
        versions = await self._backend().versions(tx, self.name, list(refused))
        for stream, expected in refused.items():
            if versions.get(stream, 0) == expected:
                raise SerializationFailure(
                    f"{self.name}: somebody else has appended to {stream!r}, and this transaction cannot see it."
                )

    async def _conflict(self, tx: Tx, stream: str, expected: int) -> VersionConflict:
        versions = await self._backend().versions(tx, self.name, [stream])
        return VersionConflict(self.name, stream, expected, versions.get(stream, 0))


def _check(name: str, snapshot_every: int | None) -> None:
    if len(name) > CATEGORY_MAX_CHARS:
        raise DeclarationError(f"its name has more than {CATEGORY_MAX_CHARS} characters.", where=name)
    if snapshot_every is not None and snapshot_every < 1:
        raise DeclarationError(
            f"snapshot_every is {snapshot_every}.", where=name, remedy="Give at least 1, or None for never."
        )
