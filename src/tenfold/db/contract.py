"""What a database backend promises, and the two kinds of channel through which statements reach it.

* **Order.** Statements of one channel run in the order in which they were awaited.
* **Loss.** ``TxChannel.commit`` returns only after the change is as durable as the backend's documentation says.
* **Atomicity.** A transaction happens whole or not at all, also when the process is killed at any point.
* **Consistency.** Transactions are serializable. A read that starts after a commit was acknowledged sees it.
* **Time.** A statement that outlives the deadline of the context, or else ``statement_timeout_s``, is interrupted
  and raises :class:`~tenfold.errors.StatementTimeout`. A cancelled statement leaves no open transaction behind.
* **Errors.** Only those below :class:`~tenfold.errors.DatabaseError`; the vendor's never leave the backend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio

    import sqlalchemy as sa

    from tenfold._core.clock import Clock
    from tenfold._core.settings import DatabaseSettings
    from tenfold.db.plan import Plan, PlanCache

Args = tuple[Any, ...]
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What differs between backends; suites and callers branch on these, never on a name."""

    parallel_writers: bool
    """Several transactions write at the same time (and may fail with SerializationFailure)."""
    skip_locked: bool
    """``SELECT … FOR UPDATE SKIP LOCKED`` works."""
    listen: bool
    """The server can wake other processes."""
    durable: bool
    """Acknowledged commits survive power loss."""


class Channel(ABC):
    """Where statements that read go. ``fetch_now`` is a short cut that must never block the event loop."""

    __slots__ = ()

    def fetch_now(self, plan: Plan, args: Args, limit: int) -> Rows | None:
        """The rows at once, or None when :meth:`fetch` has to be awaited."""
        return None

    @abstractmethod
    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        """All rows, or as soon as there are ``limit`` of them only those (0: no limit)."""

    @abstractmethod
    def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        """The rows in pieces of ``chunk``; the next piece is read when the consumer asks for it."""


class TxChannel(Channel):
    """One transaction. It begins with its first statement and ends with ``commit`` or ``rollback``."""

    __slots__ = ()

    @property
    @abstractmethod
    def started(self) -> bool:
        """True after the first statement."""

    def run_now(self, plan: Plan, args: Args) -> int | None:
        """Rows affected, at once, or None when :meth:`run` has to be awaited."""
        return None

    @abstractmethod
    async def run(self, plan: Plan, args: Args) -> int:
        """Execute for effect; returns the number of rows changed."""

    @abstractmethod
    async def run_many(self, plan: Plan, many: Sequence[Args]) -> int:
        """Execute once per element of ``many``; returns the number of rows changed in all."""

    @abstractmethod
    async def savepoint(self) -> None:
        """Open a savepoint inside the innermost open one."""

    @abstractmethod
    async def release(self) -> None:
        """Close the innermost savepoint and keep its changes."""

    @abstractmethod
    async def rollback_to(self) -> None:
        """Close the innermost savepoint and undo its changes."""

    @abstractmethod
    async def commit(self) -> bool:
        """Make the changes durable. A cancellation in the meantime waits for the outcome; then True is returned
        instead of False, and the caller lets the cancellation go on."""

    @abstractmethod
    async def rollback(self) -> bool:
        """Undo everything and let go. Never raises; True when it was cancelled meanwhile, as for ``commit``."""

    @abstractmethod
    async def raw(self, call: Callable[[Any], Any]) -> Any:
        """``call(driver's connection)``, in the transaction and outside the event loop (for the ORM)."""


class HasChannel(Protocol):
    """An open transaction, as far as a backend knows it."""

    @property
    def channel(self) -> TxChannel: ...


class DatabaseBackend(ABC):
    """One database. Everything that is given the same URL in one app shares one backend."""

    url: str
    clock: Clock
    dialect: sa.Dialect
    capabilities: Capabilities
    plans: PlanCache
    open_by_task: dict[asyncio.Task[Any], HasChannel]
    """The transaction that each task has open, to find transactions inside transactions."""

    @classmethod
    @abstractmethod
    def from_url(
        cls, url: str, *, settings: DatabaseSettings, data_dir: Path, clock: Clock
    ) -> DatabaseBackend:
        """Check the URL and keep the settings; connects to nothing. Raises ConfigError."""

    @abstractmethod
    async def start(self) -> None:
        """Connect. Raises DatabaseUnavailable or ConfigError."""

    @abstractmethod
    async def stop(self) -> None:
        """Let open transactions end, then disconnect."""

    @abstractmethod
    async def health(self) -> None:
        """Returns when a read works; raises DatabaseUnavailable otherwise."""

    @abstractmethod
    def stats(self) -> Mapping[str, int | float]:
        """Counters since the start and gauges of now, by name; cheap enough to be scraped."""

    @abstractmethod
    def reader(self) -> Channel:
        """Each statement by itself, on the latest committed state."""

    @abstractmethod
    def snapshot(self) -> AbstractAsyncContextManager[Channel]:
        """All statements on the same committed state: that of the first of them."""

    @abstractmethod
    def transaction(self) -> TxChannel:
        """A new transaction; it holds nothing before its first statement."""

    @abstractmethod
    def sandbox(self) -> AbstractAsyncContextManager[None]:
        """Inside, commits are acknowledged and seen by everybody here, and all is undone at the end (for tests)."""

    @abstractmethod
    def session_engine(self, channel: TxChannel) -> sa.Engine:
        """An SQLAlchemy engine for an ORM session on ``channel``: its savepoints are the channel's, and it neither
        begins nor ends the transaction."""

    @abstractmethod
    def sync_engine(self, *, write: bool = True) -> sa.Engine:
        """A blocking SQLAlchemy engine on connections of its own, for migrations; dispose of it after use.

        With ``write`` a transaction excludes all other writers from its start; foreign keys are not enforced, so
        that tables can be rebuilt.
        """
