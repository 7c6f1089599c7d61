"""A transaction: statements, savepoints, an ORM session, and what other layers do before and after its commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from tenfold._core.causal import BEYOND
from tenfold.db.load import load
from tenfold.db.reader import Reader
from tenfold.db.tracing import at_once, committed, timed
from tenfold.errors import OutcomeUnknown, TransactionMisuse
from tenfold.telemetry.trace import recorded

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncSession

    from tenfold.db.contract import TxChannel
    from tenfold.db.database import Database, Ended
    from tenfold.db.session import TxSession

log = logging.getLogger("tenfold.db")

BeforeCommit = Callable[["Tx"], Awaitable[None]]
AfterCommit = Callable[[], object]


_inside: ContextVar[object | None] = ContextVar("tenfold_savepoint", default=None)
"""The savepoint in which the running code is, or what started its task was."""


class Tx(Reader):
    """One transaction; use it as ``async with db.tx() as tx``.

    It begins with its first statement, commits when the block ends and rolls back when the block raises or is
    cancelled. Once the block was left without an error the changes are durable. A statement that failed leaves the
    transaction unusable, on every backend; put what may fail into :meth:`savepoint`.
    """

    __slots__ = (
        "_after", "_before", "_channel", "_db", "_ended", "_innermost", "_orm", "_tags", "_task", "final", "state",
    )  # fmt: skip
    _channel: TxChannel

    def __init__(self, db: Database, channel: TxChannel) -> None:
        self._backend = db.backend
        self._bind = db.backend.plans.bind
        self._channel = channel
        self._db = db
        self._task: asyncio.Task[Any] | None = None
        self._before: list[tuple[BeforeCommit, bool]] = []
        self._after: list[AfterCommit] = []
        self._tags: list[str] = []
        self._ended: tuple[Ended, ...] = ()
        self._orm: TxSession | None = None
        self._innermost: object | None = None
        """The savepoint that is open, of several the last one."""
        self.state: dict[str, Any] = {}
        """Other layers keep here what they write in :meth:`before_commit`. Inside a savepoint it is another one."""
        self.final = False
        """True for a function of :meth:`before_commit` that may be the last, and that nothing comes after but the commit:
        should it make one statement only, it may say so (:meth:`TxChannel.commit_with_next`)."""

    @property
    def channel(self) -> TxChannel:
        """The backend's side of the transaction; for the layers of this package."""
        return self._channel

    @property
    def database(self) -> Database:
        """The database that the transaction was opened on."""
        return self._db

    async def execute(
        self, stmt: Any, params: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None, /, **kw: Any
    ) -> int:
        """Run a statement for its effect; returns the number of rows changed.

        A list of mappings runs it once for each of them, all with the same names.
        """
        if params is not None:
            if not isinstance(params, Mapping):
                return await self._execute_many(stmt, params)
            kw = {**params, **kw}
        plan, args = self._bind(stmt, kw)
        now = self._channel.run_now
        changed = now(plan, args) if recorded() is None else at_once(now, plan, args)
        return await timed(self._channel.run(plan, args), plan, args) if changed is None else changed

    async def ahead(self, stmt: Any, /, **params: Any) -> None:
        """Run a statement that answers no rows, and whose effect nobody counts: at once, or together with the next one,
        which must follow. For the layers of this package."""
        plan, args = self._bind(stmt, params)
        if not self._channel.precede_next(plan, args):
            await self.execute(stmt, params)

    async def _execute_many(self, stmt: Any, many: Sequence[Mapping[str, Any]]) -> int:
        if not many:
            return 0
        plan, bound = self._bound(stmt, many)
        return await timed(self._channel.run_many(plan, bound), plan, bound[0])

    async def load(self, table: sa.Table, rows: Iterable[Mapping[str, Any]]) -> int:
        """Insert many rows the fastest way that the database has (COPY on PostgreSQL); returns their number.

        ``rows`` map column names to values, all with the same names; it may be a generator, of any length. Columns
        that are left out get their defaults. Keys that the database makes are not told.
        """
        return await load(self._channel, self._db.backend, table, rows)

    @property
    def session(self) -> AsyncSession:
        """An SQLAlchemy ORM session on this transaction. It is flushed before the commit; ``session.commit()``
        flushes only, and ``session.rollback()`` is refused (leave the block by an exception instead)."""
        if self._orm is None:
            from tenfold.db.session import TxSession  # the ORM costs start-up time that few need

            self._orm = TxSession(self._channel, self._db.backend)
        return self._orm.session

    def invalidate(self, *tags: str) -> None:
        """Tell every cache of the app, once this has committed, to forget what carries one of ``tags``."""
        self._tags.extend(tags)

    def on_commit(self, fn: AfterCommit) -> None:
        """Call ``fn`` right after the commit. A crash in between loses the call, so it may wake but never carry
        data; what it raises is logged only."""
        self._after.append(fn)

    def before_commit(self, fn: BeforeCommit, *, may_be_last: bool = False) -> None:
        """Await ``fn(tx)`` inside the transaction, once: before the commit, or before a savepoint begins or ends.
        What it raises rolls back. ``may_be_last`` is for layers whose ``fn`` looks at :attr:`final`: it writes what they
        have buffered, and calls nobody else."""
        self._before.append((fn, may_be_last))

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[Tx]:
        """A part that can fail by itself: when the block raises, what was done inside is undone (statements,
        enqueued messages, invalidations), the error goes on, and the transaction can still commit.

        Parts lie within each other, never side by side: raises TransactionMisuse while one is open in another task.
        What other tasks do in the transaction meanwhile belongs to the part that is open."""
        with self._nested():
            await self._flush()
            mark = self._enter_part()
            part = self._part() if self._orm is None else self._orm.session.begin_nested()
            try:
                async with part:
                    yield self
                    await self._flush()
            except BaseException:
                self._leave_part(mark, keep=False)
                raise
            self._leave_part(mark, keep=True)

    @contextmanager
    def _nested(self) -> Generator[None]:
        """Refuse a part that would undo, or be undone with, one that it knows nothing of: savepoints are a stack."""
        outer, around = self._innermost, _inside.get()
        if outer is not None and around is not outer:
            raise TransactionMisuse(
                "two savepoints of one transaction at the same time: another task has one open, and would undo what "
                "this one does, or the other way round. Await one part before the next, or give each task a "
                "transaction of its own (db.tx())."
            )
        self._innermost = mine = object()
        _inside.set(mine)
        try:
            yield
        finally:
            self._innermost = outer
            _inside.set(around)

    @asynccontextmanager
    async def _part(self) -> AsyncGenerator[None]:
        await self._channel.savepoint()
        try:
            yield
            await self._channel.release()
        except BaseException:
            if self._orm is not None:  # opened inside: all it knows belongs to what is undone
                await self._orm.close()
                self._orm = None
            await self._channel.rollback_to()
            raise

    async def __aenter__(self) -> Self:
        self._register()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._commit()
            else:
                await self._roll_back()
        finally:
            self._unregister()

    # ── for the layers of this package ──

    def _register(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_ = self._db.backend.open_by_task
        if task in open_:
            raise TransactionMisuse(
                f"a transaction inside a transaction: this task has one open on database {self._db.name!r} (or one "
                "that shares its file). Hand the open tx on, or use tx.savepoint() for a part that may fail."
            )
        open_[task] = self
        self._task = task

    def _unregister(self) -> None:
        if self._task is not None:
            self._db.backend.open_by_task.pop(self._task, None)
            self._task = None

    async def _flush(self, *, last: bool = False) -> None:
        """Let the layers above write what they have buffered; they may register again while this goes on, and use the
        session. ``last``: the commit follows."""
        while True:
            if self._orm is not None:
                await self._orm.flush()
            if not self._before:
                return
            hooks, self._before = self._before, []
            for hook, may_be_last in hooks:
                alone = len(hooks) == 1 and not self._tags and self._orm is None
                self.final = last and may_be_last and alone
                await hook(self)
            self.final = False

    async def _commit(self) -> None:
        try:
            if self._before or self._orm is not None:
                await self._flush(last=True)
            if self._tags:
                self._ended += await self._db.announce(self._tags)
        except BaseException:
            await self._roll_back()
            raise
        if self._orm is not None:
            await self._orm.close()
        replicas = self._db.replicas
        try:
            active = recorded()
            commit = self._channel.commit()
            cancelled = await (commit if active is None else committed(active, commit))
        except OutcomeUnknown:
            if replicas is not None:
                replicas.committed(BEYOND)
            raise  # what was announced stays so until it runs out: the commit may still happen
        except BaseException:
            await self._end(committed=False)
            raise
        if replicas is not None:
            replicas.committed(self._channel.position)
        self._committed()
        await self._end(committed=True)
        if cancelled:
            raise asyncio.CancelledError

    def _committed(self) -> None:
        if self._tags:
            self._db.invalidated(self._tags)
        for fn in self._after:
            try:
                fn()
            except Exception:
                log.exception("a function that was to run after a commit failed; the commit stands")

    async def _end(self, *, committed: bool) -> None:
        """Tell those who were told of the commit beforehand; what they raise is logged only."""
        if not self._ended:
            return
        ended, self._ended = self._ended, ()
        for tell in ended:
            try:
                waiting = tell(committed)
                if waiting is not None:
                    await waiting
            except Exception:
                log.exception("a listener failed to take note of the end of an announced transaction")

    async def _roll_back(self) -> None:
        cancelled = await self._channel.rollback()
        if self._orm is not None:
            await self._orm.close()
        await self._end(committed=False)
        if cancelled:
            raise asyncio.CancelledError

    def _enter_part(self) -> tuple[dict[str, Any], int, int]:
        mark = (self.state, len(self._tags), len(self._after))
        self.state = {}
        return mark

    def _leave_part(self, mark: tuple[dict[str, Any], int, int], *, keep: bool) -> None:
        self.state, tags, after = mark
        if not keep:
            self._before.clear()
            del self._tags[tags:], self._after[after:]
