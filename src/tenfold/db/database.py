"""``Database``: what users hold. It binds to a backend when the app starts."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tenfold._core.backoff import full_jitter_s
from tenfold._core.context import _current as context_var
from tenfold.db.ambient import AMBIENT, HELD, Ambient, refuse_beside
from tenfold.db.gate import Gate, HeldReads, HeldTx
from tenfold.db.reader import ReadBlock, Reader
from tenfold.db.routing import check_consistency
from tenfold.db.tx import Tx
from tenfold.errors import NotBound, SerializationFailure

if TYPE_CHECKING:
    import sqlalchemy as sa

    from tenfold.db.contract import Channel, DatabaseBackend, Isolation
    from tenfold.db.replicas import Replicas
    from tenfold.db.routing import Consistency

__all__ = ["Database", "Reader", "Tx"]

log = logging.getLogger("tenfold.db")
R = TypeVar("R")
Tags = frozenset[str]
Ended = Callable[[bool], Awaitable[None] | None]
Listener = Callable[[Tags], Awaitable[Ended | None] | Ended | None]

_RETRY_BASE_S, _RETRY_MAX_S = 0.02, 1.0


class Database:
    """A service's database. ``metadata`` holds its tables, ``migrations`` is the folder of its scripts."""

    def __init__(self, name: str, metadata: sa.MetaData, *, migrations: Path | None = None) -> None:
        self.name = name
        self.metadata = metadata
        self.migrations = migrations
        self._backend: DatabaseBackend | None = None
        self._channel: Channel | None = None
        """None while nothing new may begin: unbound, or held at :attr:`_gate`."""
        self._gate: Gate | None = None
        self.replicas: Replicas | None = None
        """Copies that reads may go to; for the layers of this package."""
        self._listeners: list[Callable[[Tags], object]] = []
        self._announced: list[Listener] = []

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    # ── for users ──

    def read(self, *, consistency: Consistency = "own") -> ReadBlock:
        """Reads outside of a transaction.

        ``await db.read().one(…)`` sees committed state; ``async with db.read() as reader`` gives all its statements
        the same state: the one at the first of them. It is the latest state, unless ``database.replicas`` are read
        from; then it is at least

        * ``"own"``: what the caller wrote before, in this request or an earlier one of the same client, in the calls
          it made, or before the event or job that this is; and at most ``database.lag_max_s`` old;
        * ``"strong"``: everything that was acknowledged: the primary is asked;
        * a number: everything that was acknowledged so many seconds ago, whoever wrote it.

        Inside an operation with ``idempotent=True`` reads also find what its ``db.tx()`` blocks wrote.
        """
        backend, channel = self._backend, self._channel
        if backend is None or channel is None:
            return self._read_held(backend, consistency)
        context = context_var.get()
        if context is not None and context.state is not None:
            ambient: Ambient | None = context.state.get(AMBIENT)
            if ambient is not None and ambient.backend is backend:
                return ReadBlock(backend, ambient.reader() or channel)
        if consistency != "own":
            channel = self._less_or_more(consistency, backend, channel)
        return ReadBlock(backend, channel)

    def _less_or_more(self, consistency: Consistency, backend: DatabaseBackend, channel: Channel) -> Channel:
        check_consistency(consistency)
        if self.replicas is None or consistency == "own":
            return channel
        return backend.reader() if consistency == "strong" else self.replicas.aged(float(consistency))

    def tx(self, *, isolation: Isolation = "default") -> Tx:
        """A transaction: ``async with db.tx() as tx``. See :class:`Tx`.

        Transactions are serializable on SQLite. On servers they are READ COMMITTED: two that change the same row
        wait for each other, and ``select(…).with_for_update()`` keeps a row as it was read. With
        ``isolation="serializable"`` the block happens as if alone, or raises :class:`SerializationFailure`;
        :meth:`transact` does the same and tries again.

        Inside an operation with ``idempotent=True`` it joins the transaction of the operation, as a part that can
        fail by itself, and is committed together with the operation's reply.
        """
        context = context_var.get()
        if context is not None and context.state is not None:
            ambient: Ambient | None = context.state.get(AMBIENT)
            if ambient is not None and ambient.backend is self.backend:
                return ambient.join(self, isolation)
            if (beside := context.state.get(HELD)) is not None:
                refuse_beside(beside, self._backend)
        backend = self.backend
        if self._channel is None and not self._passes(backend):
            return HeldTx(self, isolation)
        return Tx(self, backend.transaction(isolation=isolation))

    async def transact(self, fn: Callable[[Tx], Awaitable[R]], *, attempts: int = 5) -> R:
        """``fn`` in a serializable transaction, again (up to ``attempts`` times) when it collided with another one.

        ``fn`` may run several times, so it must change nothing but the transaction. Raises
        :class:`SerializationFailure` when no attempt got through, at once inside a joined transaction.
        """
        clock = self.backend.clock
        for attempt in range(1, attempts + 1):
            try:
                async with self.tx(isolation="serializable") as tx:
                    return await fn(tx)
            except SerializationFailure:
                if attempt == attempts:
                    raise
                wait_s = full_jitter_s(attempt, clock.random, base_s=_RETRY_BASE_S, most_s=_RETRY_MAX_S)
                await clock.sleep(wait_s)
        raise ValueError("attempts must be at least 1.")

    async def health(self) -> None:
        """Returns when a read works; raises :class:`~tenfold.errors.DatabaseUnavailable` otherwise."""
        await self.backend.health()

    def stats(self) -> Mapping[str, int | float]:
        """The backend's counters and gauges by name."""
        return self.backend.stats()

    # ── for the app and the other layers ──

    @property
    def backend(self) -> DatabaseBackend:
        """What the database is bound to. Raises NotBound before the app has started."""
        if self._backend is None:
            raise self._unbound()
        return self._backend

    def bind(self, backend: DatabaseBackend, replicas: Replicas | None = None) -> None:
        """Use ``backend``, which is started, from now on, and ``replicas`` of it for reads. Databases of one URL share
        both."""
        self._backend = backend
        self.replicas = replicas
        self._channel = backend.reader() if replicas is None else replicas.own
        self._gate = None

    def unbind(self) -> None:
        """Back to the state before :meth:`bind`; the backend is the caller's to stop."""
        self._backend = self._channel = self._gate = self.replicas = None

    def hold(self, gate: Gate) -> None:
        """Until the next :meth:`bind`, let what begins wait at ``gate``; what has begun goes on. Open the gate after
        binding."""
        self._gate, self._channel = gate, None

    async def passage(self) -> None:
        """Wait while the database is held."""
        while self._gate is not None:
            await self._gate.passage()

    def _read_held(self, backend: DatabaseBackend | None, consistency: Consistency) -> ReadBlock:
        if backend is None:
            raise self._unbound()
        if not self._passes(backend):
            return HeldReads(self, partial(self.read, consistency=consistency))
        context = context_var.get()
        state = context.state if context is not None else None
        ambient: Ambient | None = None if state is None else state.get(AMBIENT)
        own = ambient.reader() if ambient is not None and ambient.backend is backend else None
        return ReadBlock(backend, own or backend.reader())

    def _passes(self, backend: DatabaseBackend) -> bool:
        """Whether the running task has a transaction open, which would wait for what waits at the gate."""
        context = context_var.get()
        state = context.state if context is not None else None
        ambient: Ambient | None = None if state is None else state.get(AMBIENT) or state.get(HELD)
        return (ambient is not None and ambient.backend is backend) or (
            asyncio.current_task() in backend.open_by_task
        )

    def on_invalidate(self, listener: Callable[[Tags], object]) -> Callable[[], None]:
        """Call ``listener(tags)`` after a commit with invalidations, before the commit is acknowledged.

        Returns the function that ends this.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def on_announce(self, listener: Listener) -> Callable[[], None]:
        """Call (and await) ``listener(tags)`` before a commit with invalidations can be seen by anyone. The
        transaction may still fail afterwards; when the listener raises, it does.

        A listener may return a function. It is called (and awaited) with whether the transaction has committed,
        before that is acknowledged; never, when the connection broke at COMMIT and nobody knows.
        Returns the function that ends this.
        """
        self._announced.append(listener)
        return lambda: self._announced.remove(listener)

    async def announce(self, tags: Iterable[str]) -> tuple[Ended, ...]:
        """Tell the listeners of :meth:`on_announce`; returns what is to be called when the transaction has ended."""
        ended: tuple[Ended, ...] = ()
        frozen = frozenset(tags)
        try:
            for listener in self._announced:
                answer = listener(frozen)
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer is not None:
                    ended = (*ended, answer)
        except BaseException:
            for tell in ended:
                tell(False)
            raise
        return ended

    def invalidated(self, tags: Iterable[str]) -> None:
        """Tell the listeners of :meth:`on_invalidate`; what they raise is logged, since the commit stands."""
        frozen = frozenset(tags)
        for listener in self._listeners:
            try:
                listener(frozen)
            except Exception:
                log.exception("a listener failed to invalidate %s", sorted(frozen))

    @asynccontextmanager
    async def sandbox(self) -> AsyncGenerator[None]:
        """Undo at the end of the block everything that was committed inside it, on this database and those that
        share its backend. For tests."""
        backend = self.backend
        async with backend.sandbox():
            go_on = self.replicas.pause() if self.replicas is not None else None
            try:
                yield
            finally:
                backend.undone += 1
                if go_on is not None:
                    go_on()

    def _unbound(self) -> NotBound:
        return NotBound(
            f"database {self.name!r} was used before its app started; use it in operations, jobs or on_start "
            "functions, or inside `async with app.test()` in tests."
        )
