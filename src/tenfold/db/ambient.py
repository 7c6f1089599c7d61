"""The transaction of a whole operation, which its ``db.tx()`` blocks join.

An operation with an Idempotency-Key commits its effects and its stored reply together. The guard makes an
:class:`Ambient`, puts it into the context, runs the handler, writes the reply through :meth:`Ambient.tx` and calls
:meth:`Ambient.finish`; nothing is durable, or seen by others, before that.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tenfold.db.contract import Channel
from tenfold.db.plan import refuse_writes
from tenfold.db.tx import Tx
from tenfold.errors import TransactionMisuse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType
    from typing import Self

    from tenfold._core.context import Context
    from tenfold.db.contract import Args, DatabaseBackend, Isolation, Rows, TxChannel
    from tenfold.db.database import Database
    from tenfold.db.plan import Plan

AMBIENT: Final = "db.ambient"
"""Where ``Context.state`` holds the operation's Ambient."""


HELD: Final = "db.held"
"""Where ``Context.state`` of a call holds the Ambient of whoever called: never joined, but in the way of another
transaction once it has begun."""


def held(context: Context) -> dict[str, Any] | None:
    """The ``state`` of a call between services that is made in ``context``."""
    state = context.state
    ambient = None if state is None else state.get(AMBIENT) or state.get(HELD)
    return None if ambient is None else {HELD: ambient}


def holding(context: Context, backend: DatabaseBackend) -> Ambient | None:
    """The operation's transaction, or that of whoever called it, if it has begun on ``backend``."""
    state = context.state
    ambient: Ambient | None = None if state is None else state.get(AMBIENT) or state.get(HELD)
    return ambient if ambient is not None and _in_the_way(ambient, backend) else None


def _in_the_way(ambient: Ambient, backend: DatabaseBackend | None) -> bool:
    return ambient.backend is backend and ambient.tx.channel.started


def refuse_beside(ambient: Ambient, backend: DatabaseBackend | None) -> None:
    """Raise TransactionMisuse for a transaction that would wait for ``ambient``, which waits for it."""
    if _in_the_way(ambient, backend):
        raise TransactionMisuse(
            "a transaction in a call between services, made by an operation whose own transaction has begun: the two "
            "would wait for each other. Make the call before the first statement, or enqueue a job or publish an "
            "event instead."
        )


class Ambient:
    """One operation's transaction on the backend of ``db``. It takes the writer with its first statement."""

    def __init__(self, db: Database) -> None:
        self.backend: DatabaseBackend = db.backend
        self.tx = Tx(db, db.backend.transaction())
        """For what has to commit together with the operation (its stored reply)."""
        self._turn = asyncio.Lock()
        self._block: _Joined | None = None
        """The block that is open now."""
        self.backend.ambients.add(self)

    def install(self, context: Context) -> None:
        """From now on ``db.tx()`` joins in this context."""
        if context.state is None:
            context.state = {}
        context.state[AMBIENT] = self

    def remove(self, context: Context) -> None:
        """``db.tx()`` opens transactions of its own again."""
        if context.state is not None:
            context.state.pop(AMBIENT, None)

    def join(self, db: Database, isolation: Isolation = "default") -> Tx:
        """A block that is part of this transaction. Raises TransactionMisuse when it has to be serializable and the
        transaction has begun as something less."""
        if isolation == "serializable" and not self.tx.channel.require_serializable():
            raise TransactionMisuse(
                "a serializable transaction inside an operation's transaction that has begun already and is READ "
                "COMMITTED. Call db.transact() before the operation's first statement, or lock the rows that you read: "
                "select(…).with_for_update()."
            )
        return _Joined(db, self)

    def reader(self) -> Channel | None:
        """Where the operation reads, so that it finds what its own ``db.tx()`` blocks wrote; None before there is
        anything to find."""
        channel = self.tx.channel
        return _Within(channel) if channel.started else None

    async def finish(self, commit: bool) -> None:
        """Commit everything that joined, or undo it. Call it exactly once.

        Raises TransactionMisuse, and undoes everything, when a block is still open in another task: half of what
        it writes would be committed.
        """
        open_ = self._block
        try:
            if not commit or open_ is not None:
                await self.tx._roll_back()  # pyright: ignore[reportPrivateUsage]
            else:
                await self.tx._commit()  # pyright: ignore[reportPrivateUsage]
        finally:
            self.backend.ambients.discard(self)
        if commit and open_ is not None:
            raise TransactionMisuse(
                "the operation ended while a task that it had started was inside `async with db.tx()`. Await the "
                "task first, or enqueue a job for what may happen later."
            )

    async def acquire(self, block: _Joined) -> None:
        """One block at a time: savepoints are a stack, and two tasks of an operation would tangle it."""
        outer = _inside.get()
        if outer is not None and outer is self._block:
            raise TransactionMisuse(
                f"a transaction inside a transaction: a task that was started inside an open one on database "
                f"{outer.database.name!r} opens another, and would wait for it. Hand the open tx on to the task."
            )
        await self._turn.acquire()
        self._block = block

    def release(self) -> None:
        self._block = None
        self._turn.release()


_inside: ContextVar[_Joined | None] = ContextVar("tenfold_joined_block", default=None)
"""The block in which the running code, or what started its task, is or was."""


class _Within(Channel):
    """Reads inside the operation's transaction."""

    __slots__ = ("_channel",)

    def __init__(self, channel: TxChannel) -> None:
        self._channel = channel

    def fetch_now(self, plan: Plan, args: Args, limit: int) -> Rows | None:
        return None if plan.writes else self._channel.fetch_now(plan, args, limit)

    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        refuse_writes(plan)
        return await self._channel.fetch(plan, args, limit)

    async def fetch_each(self, plan: Plan, many: Sequence[Args], limit: int) -> list[Rows]:
        refuse_writes(plan)
        return await self._channel.fetch_each(plan, many, limit)

    def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        refuse_writes(plan)
        return self._channel.stream(plan, args, chunk)


class _Joined(Tx):
    """A ``db.tx()`` block inside an operation's transaction: undone by itself, committed with the whole."""

    __slots__ = ("_ambient", "_mark")

    def __init__(self, db: Database, ambient: Ambient) -> None:
        super().__init__(db, ambient.tx.channel)
        self._ambient = ambient

    async def __aenter__(self) -> Self:
        self._register()
        try:
            await self._ambient.acquire(self)
        except BaseException:
            self._unregister()
            raise
        try:
            await self._channel.savepoint()
        except BaseException:
            self._leave()
            raise
        _inside.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._keep()
            else:
                await self._undo()
        finally:
            self._leave()

    async def _keep(self) -> None:
        try:
            await self._flush()
            if self._tags:
                self._ended += await self._db.announce(self._tags)
            if self._orm is not None:
                await self._orm.close()
            await self._channel.release()
        except BaseException:
            await self._undo()
            raise
        whole = self._ambient.tx
        whole._ended += self._ended
        self._ended = ()
        if self._tags:
            whole.on_commit(partial(self._db.invalidated, self._tags))
        for fn in self._after:
            whole.on_commit(fn)

    async def _undo(self) -> None:
        await self._channel.rollback_to()
        if self._orm is not None:
            await self._orm.close()
        await self._end(committed=False)

    def _leave(self) -> None:
        self._ambient.release()
        self._unregister()
