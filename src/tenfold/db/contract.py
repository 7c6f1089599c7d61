"""What a database backend promises, and the two kinds of channel through which statements reach it.

* **Order.** Statements of one channel run in the order in which they were awaited.
* **Loss.** ``TxChannel.commit`` returns only after the change is as durable as the backend's documentation says.
* **Atomicity.** A transaction happens whole or not at all, also when the process is killed at any point.
* **Consistency.** A read that starts after a commit was acknowledged sees it. Transactions with ``isolation=
  "serializable"`` happen as if one after another; one that cannot raises SerializationFailure. The others are as
  ``Capabilities.isolation`` says: also serializable, or "read committed", where a statement sees what was committed
  before it began and waits for the rows that another transaction has changed (``with_for_update()`` locks rows).
* **Time.** A statement that outlives the deadline of the context, or else ``statement_timeout_s``, is interrupted
  and raises :class:`~tenfold.errors.StatementTimeout`. A cancelled statement leaves no open transaction behind.
* **Errors.** Only those below :class:`~tenfold.errors.DatabaseError`; the vendor's never leave the backend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tenfold._core.fairness import WeightOf
from tenfold.db.hints import Callback, Hints

if TYPE_CHECKING:
    import asyncio

    import sqlalchemy as sa

    from tenfold._core.causal import Position
    from tenfold._core.clock import Clock
    from tenfold._core.sections import DatabaseSettings
    from tenfold.db.ambient import Ambient
    from tenfold.db.ownership import Owned, Step
    from tenfold.db.plan import Plan, PlanCache
    from tenfold.db.watch import Watch
    from tenfold.errors import TenfoldError

Args = tuple[Any, ...]
Rows = list[tuple[Any, ...]]
Isolation = Literal["default", "serializable"]
"""What a transaction asks for; "default" is what ``Capabilities.isolation`` says."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What differs between backends; suites and callers branch on these, never on a name."""

    isolation: Literal["serializable", "read committed"]
    """What a transaction has that asks for nothing."""
    parallel_writers: bool
    """Several transactions write at the same time: they may deadlock, and serializable ones collide."""
    skip_locked: bool
    """``SELECT … FOR UPDATE SKIP LOCKED`` works."""
    listen: bool
    """Hints reach other processes; without it they wake this one only."""
    durable: bool
    """Acknowledged commits survive power loss."""
    replicas: bool
    """``database.replicas`` may name copies that serve reads."""
    transactional_ddl: bool = True
    """Tables are made and removed inside transactions; without it by :meth:`DatabaseBackend.change_tables`."""


class Channel(ABC):
    """Where statements that read go. ``fetch_now`` is a short cut that must never block the event loop."""

    __slots__ = ()

    def fetch_now(self, plan: Plan, args: Args, limit: int) -> Rows | None:
        """The rows at once, or None when :meth:`fetch` has to be awaited."""
        return None

    @abstractmethod
    async def fetch(self, plan: Plan, args: Args, limit: int) -> Rows:
        """All rows, or as soon as there are ``limit`` of them only those (0: no limit)."""

    async def fetch_each(self, plan: Plan, many: Sequence[Args], limit: int) -> list[Rows]:
        """As :meth:`fetch`, once for each of ``many``, in their order. Backends that can send them together do, in one
        round trip. When one of them fails all do."""
        found: list[Rows] = []
        for args in many:
            rows = self.fetch_now(plan, args, limit)
            found.append(await self.fetch(plan, args, limit) if rows is None else rows)
        return found

    @abstractmethod
    def stream(self, plan: Plan, args: Args, chunk: int) -> AsyncIterator[Rows]:
        """The rows in pieces of ``chunk``; the next piece is read when the consumer asks for it."""

    def snapshot(self) -> AbstractAsyncContextManager[Channel]:
        """A channel whose statements all see one state: that of the first of them. A transaction's is one as it is;
        a backend's :meth:`DatabaseBackend.reader` has :meth:`DatabaseBackend.snapshot` instead."""
        return nullcontext(self)


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

    @property
    def position(self) -> Position | None:
        """After a commit on a backend that was told to :attr:`~DatabaseBackend.track_positions`: where the changes are
        at or before, or None when there were none. ``BEYOND`` when that could not be learnt."""
        return None

    async def load(self, plan: Plan, columns: Sequence[str], many: Sequence[Args]) -> int:
        """The fastest way to insert many rows. ``plan`` inserts one row into ``plan.table``, and its arguments are
        the values of ``columns``; returns the number of rows."""
        return await self.run_many(plan, many)

    def require_serializable(self) -> bool:
        """Be serializable, if that can still be had: False when the transaction has begun as something less."""
        return True

    def commit_with_next(self, hint: str = "") -> None:
        """For who knows that of this transaction one more statement comes, by :meth:`fetch`, and nothing that could
        undo it: the statement may then be committed at once, which saves a round trip. :meth:`commit` is still
        called. Should the deadline end the statement, the outcome is unknown (OutcomeUnknown). A ``hint`` on this topic
        may be given to the other processes right behind the commit; :attr:`hinted` then tells."""

    @property
    def hinted(self) -> bool:
        """After the commit: the hint of :meth:`commit_with_next` is on its way to the other processes."""
        return False

    def precede_next(self, plan: Plan, args: Args) -> bool:
        """Send ``plan``, which answers no rows, in front of the next statement, which follows at once: that saves a
        round trip, and what fails here fails there. False, and nothing happens, where that cannot be had."""
        return False

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
    track_positions: bool = False
    """Set by :mod:`tenfold.db.replicas`: transactions that write learn their ``position`` with the commit."""
    undone: int = 0
    """How often what was committed has been undone (:meth:`sandbox`): who keeps rows in memory forgets them then."""
    times_fetches: bool = False
    """:meth:`Channel.fetch` of all its channels keeps in the plan how long the statement took (:meth:`Plan.ran`), and
    :meth:`Channel.fetch_now` has nothing at once."""
    rows_max: int = 0
    """Set before the start: more rows than these are not read into memory at once. 0: without a bound."""
    copy: bool = False
    """Set before the start by :mod:`tenfold.db.replicas`: the node is a copy, and only reads are asked of it."""

    weight_of: WeightOf | None = None
    """Set before the start: the weights of tenants, between which those that wait take turns. None: all alike."""

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
    def transaction(self, *, isolation: Isolation = "default") -> TxChannel:
        """A new transaction; it holds nothing before its first statement."""

    @cached_property
    def ambients(self) -> set[Ambient]:
        """Operations' transactions on this backend that are not over, begun or not."""
        return set()

    @property
    def address(self) -> str:
        """Where the node is, for messages: without user and password."""
        return self.url.rpartition("@")[2].partition("?")[0]

    async def watch(self, lost: Callable[[], None]) -> Watch:
        """A connection to look at this node by; ``lost()`` is called when it breaks. Backends with
        ``Capabilities.replicas`` have it. Raises DatabaseUnavailable or ConfigError."""
        raise NotImplementedError

    @cached_property
    def hints(self) -> Hints:
        """Who waits for which hint in this process."""
        return Hints()

    def hint(self, topic: str, *, far: bool = True) -> None:
        """Wake whoever called :meth:`on_hint` with ``topic``: here, and in other processes where
        ``Capabilities.listen`` (unless ``far`` is False: they have been told). Returns at once, never fails, and many
        calls become one. A hint may be lost, or come without a cause, so it carries nothing. Call it after the commit
        of what there is to see."""
        self.hints.give(topic)

    def on_hint(self, topic: str, callback: Callback) -> Callable[[], None]:
        """Call ``callback()`` on the event loop after hints; also when some may have been lost. Returns the function
        that ends this."""
        return self.hints.on(topic, callback)

    @abstractmethod
    def sandbox(self) -> AbstractAsyncContextManager[None]:
        """Inside, commits are acknowledged and seen by everybody here, and all is undone at the end (for tests)."""

    @abstractmethod
    def session_connection(self, channel: Channel) -> sa.Connection:
        """What an ORM session on ``channel`` is bound to. On a transaction of the backend's, its savepoints are the
        channel's, and it neither begins nor ends it; on another channel, also of a copy, it reads."""

    async def change_tables(self, statements: Sequence[str]) -> None:
        """Make and remove tables, one statement after the other, none of which can be undone. Backends without
        ``Capabilities.transactional_ddl`` have it. Raises TransactionMisuse inside :meth:`sandbox`."""
        raise NotImplementedError

    def missing_rights(
        self, connection: sa.Connection, written: Sequence[sa.Table], read: Sequence[sa.Table]
    ) -> TenfoldError | None:
        """What is to be granted to the user of the URL so that it may read and write the tables ``written`` (the
        framework's) and see the tables ``read``; None when it may. ``connection`` is of :meth:`sync_engine`."""
        return None

    def plan_roles(
        self, connection: sa.Connection, services: Sequence[Owned], shared: Sequence[sa.Table]
    ) -> list[Step] | None:
        """What leads to a role for each of ``services`` that reaches its tables and the ``shared`` ones, and none of the
        others; empty when all is so. None where the engine has no roles that could. ``connection`` is of
        :meth:`sync_engine`."""
        return None

    def usable(self, connection: sa.Connection, tables: Sequence[sa.Table]) -> list[str]:
        """Those of ``tables`` that the user of the URL may read or change, where :meth:`plan_roles` could have kept it
        from them; none on other engines."""
        return []

    def explain(self, error: BaseException | None) -> TenfoldError | None:
        """What a driver's error under :meth:`sync_engine` asks to be changed; None when it speaks for itself."""
        return None

    @abstractmethod
    def sync_engine(self, *, write: bool = True) -> sa.Engine:
        """A blocking SQLAlchemy engine on connections of its own, for migrations; dispose of it after use.

        With ``write`` a transaction excludes the other migrations from its start, and on SQLite every other writer;
        there, foreign keys are not enforced, so that tables can be rebuilt.
        """
