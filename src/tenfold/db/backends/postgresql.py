"""PostgreSQL 13 or newer, through asyncpg; through psycopg where a pooler stands in between.

* ``postgresql://user:password@host:5432/database?sslmode=require``; several hosts, separated by commas, where there
  is a fail-over: the one that takes writes is used.
* ``postgresql+psycopg://…`` for a pooler in transaction mode (pgbouncer): nothing is kept in the session then, so
  statements are not prepared, and hints reach this process only.

Needs ``pip install 'tenfold[postgresql]'``. Transactions are READ COMMITTED unless they ask for more. An acknowledged
commit is as durable as the server's ``synchronous_commit`` and ``fsync``, which are on by default. A session may only
read outside of transactions (``default_transaction_read_only``), as everywhere. Weakens nothing else of the contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tenfold._core.context import owned
from tenfold.db.backends import _postgresql_rights as rights
from tenfold.db.backends import _postgresql_roles as roles
from tenfold.db.backends import _postgresql_session as orm
from tenfold.db.backends._pool import Pool
from tenfold.db.backends._postgresql_dialect import Dialect, PooledDialect
from tenfold.db.backends._postgresql_driver import Manner, PgLink
from tenfold.db.backends._postgresql_errors import SETTING
from tenfold.db.backends._postgresql_hints import Wire
from tenfold.db.backends._postgresql_link import connect
from tenfold.db.backends._postgresql_positions import PgWatch
from tenfold.db.backends._postgresql_reads import BEGIN_SNAPSHOT, Auto, reading
from tenfold.db.backends._postgresql_sandbox import Sandbox
from tenfold.db.backends._postgresql_tx import BEGIN, BEGIN_SERIALIZABLE, PgTx
from tenfold.db.backends._postgresql_url import Address, parse
from tenfold.db.backends._session_dbapi import Reading, Statements, engine_of, lent
from tenfold.db.backends._time import Time
from tenfold.db.contract import Capabilities, Channel, DatabaseBackend, HasChannel, Isolation, TxChannel
from tenfold.db.plan import Plan, PlanCache
from tenfold.errors import ConfigError, DatabaseUnavailable, NotBound, TenfoldError

if TYPE_CHECKING:
    import sqlalchemy as sa

    from tenfold._core.clock import Clock
    from tenfold._core.sections import DatabaseSettings
    from tenfold.db.hints import Callback
    from tenfold.db.ownership import Owned, Step
    from tenfold.db.watch import Watch

STATEMENT_MAX_S = 3600
"""The server stops what runs longer, whatever became of the process that asked for it."""
IDLE_IN_TX_MAX_S = 600
"""The server ends a transaction whose process is silent for so long: it is frozen, and holds locks."""
_HEALTHY = Plan("SELECT pg_is_in_recovery()", (), None, named=False)
_ROLE = Plan(
    "SELECT pg_is_in_recovery(), current_schema()::text, current_setting('search_path')",
    (),
    None,
    named=False,
)
_HEALTH_S = 5.0


class Backend(DatabaseBackend):
    """One PostgreSQL database."""

    times_fetches = True

    def __init__(self, url: str, address: Address, settings: DatabaseSettings, clock: Clock) -> None:
        self.url = url
        self.clock = clock
        self._address = address
        self.dialect = PooledDialect() if address.pooled else Dialect()
        self._session_engine = engine_of(orm.SessionDialect())
        self._session_statements = Statements()
        self.plans = PlanCache(self.dialect)
        self.open_by_task: dict[asyncio.Task[Any], HasChannel] = {}
        self.capabilities = Capabilities(
            isolation="read committed", parallel_writers=True, skip_locked=True, listen=not address.pooled,
            durable=True, replicas=True,
        )  # fmt: skip
        self._settings = settings
        self._time = Time(clock, settings.statement_timeout_s, settings.lock_timeout_s)
        self._manner = Manner(address.pooled, settings.lock_timeout_s)
        self._pool: Pool[PgLink] | None = None
        self._auto: Auto | None = None
        self._wire: Wire | None = None
        self._sandbox: Sandbox | None = None

    @classmethod
    def from_url(cls, url: str, *, settings: DatabaseSettings, data_dir: Path, clock: Clock) -> Self:
        return cls(url, parse(url), settings, clock)

    @property
    def address(self) -> str:
        return self._address.hosts

    # ── life ──

    async def start(self) -> None:
        pool: Pool[PgLink] = Pool(
            self._connect,
            size=self._settings.pool_max,
            wait_s=self._settings.pool_wait_s,
            time=self._time,
            weight_of=self.weight_of,
        )
        try:
            async with pool.link() as link:
                await self._check_role(link)
        except BaseException:
            await pool.close()
            raise
        self._pool = pool
        self._auto = Auto(pool, self._time, self._manner)
        self._wire = Wire(pool, self._connect, self.hints, self.clock)

    async def _connect(self) -> PgLink:
        settings = self._settings
        timeout_s = self._time.patience_s(settings.connect_timeout_s)
        try:
            if self._address.pooled:
                from tenfold.db.backends import _postgresql_psycopg as pooled

                return await pooled.connect(self._address, timeout_s)
            return await connect(self._address, timeout_s, primary=not self.copy, session=self._session())
        except ConfigError as error:
            if self._auto is None:
                raise
            raise DatabaseUnavailable(str(error)) from error  # it was right at the start

    def _session(self) -> dict[str, str]:
        """What every session of ours begins with."""
        return {
            "application_name": "tenfold", "timezone": "UTC", "default_transaction_read_only": "on",
            "lock_timeout": str(int(self._settings.lock_timeout_s * 1000)),
            "statement_timeout": str(STATEMENT_MAX_S * 1000),
            "idle_in_transaction_session_timeout": str(IDLE_IN_TX_MAX_S * 1000),
        }  # fmt: skip

    async def _check_role(self, link: PgLink) -> None:
        ((standby, schema, search_path),) = await link.fetch(_ROLE, (), 0, self._settings.connect_timeout_s)
        if schema is None and not self.copy:
            raise rights.no_schema(self._address, search_path)
        if standby and not self.copy:
            raise ConfigError(
                f"the server at {self.address} is a read-only standby.", where=SETTING,
                remedy="Name the primary, or all hosts separated by commas; a standby belongs into database.replicas.",
            )  # fmt: skip

    async def stop(self) -> None:
        pool, wire = self._pool, self._wire
        self._auto = self._wire = None
        if wire is not None:
            await wire.stop()
        if pool is not None:
            await pool.close()
        self._pool = None

    async def health(self) -> None:
        if self._pool is None:
            raise DatabaseUnavailable("the database is not connected.")
        with owned():
            await self._look(self._pool)

    async def _look(self, pool: Pool[PgLink]) -> None:
        async with pool.link() as link:
            try:
                standby = await link.fetch(_HEALTHY, (), 0, _HEALTH_S)
            except Exception as error:
                raise DatabaseUnavailable(
                    f"the database does not answer: {link.failed(error, None)}"
                ) from error
        if standby[0][0] and not self.copy:
            pool.flush()
            raise DatabaseUnavailable("the server is a read-only standby now: a fail-over goes on.")

    def stats(self) -> Mapping[str, int | float]:
        return {} if self._pool is None else self._pool.stats()

    async def watch(self, lost: Callable[[], None]) -> Watch:
        return PgWatch(await self._connect(), lost)

    # ── channels ──

    def _started(self) -> Auto:
        if self._auto is None:
            raise NotBound("the database backend was used before it was started, or after it was stopped.")
        return self._auto

    def reader(self) -> Channel:
        return self._started()

    def snapshot(self) -> AbstractAsyncContextManager[Channel]:
        auto = self._started()
        assert self._pool is not None
        if auto.detour is not None:
            return _reuse(auto)
        return reading(self._pool, self._time, self._manner.begin(BEGIN_SNAPSHOT))

    def transaction(self, *, isolation: Isolation = "default") -> TxChannel:
        if self._sandbox is not None:
            return self._sandbox.transaction(isolation)
        return self._transaction(isolation)

    def _transaction(self, isolation: Isolation) -> PgTx:
        self._started()
        assert self._pool is not None
        begin = BEGIN_SERIALIZABLE if isolation == "serializable" else BEGIN
        wire = self._wire if self.capabilities.listen and self._sandbox is None else None
        return PgTx(self._pool, self._time, self._manner.begin(begin), tells=self.track_positions, wire=wire)

    @asynccontextmanager
    async def sandbox(self) -> AsyncGenerator[None]:
        auto = self._started()
        outer = self._transaction("default")
        self._sandbox = Sandbox(self, outer)
        auto.detour = self._sandbox.read
        try:
            yield
        finally:
            auto.detour = self._sandbox = None
            await outer.rollback()

    def session_connection(self, channel: Channel) -> sa.Connection:
        statements = self._session_statements
        if not isinstance(channel, TxChannel):
            return lent(self._session_engine, Reading(channel, statements))
        pg: Any = channel
        return lent(self._session_engine, orm.Connection(pg, statements))

    def sync_engine(self, *, write: bool = True) -> sa.Engine:
        return orm.sync_engine(self._address, self._settings.connect_timeout_s, write=write)

    def explain(self, error: BaseException | None) -> TenfoldError | None:
        state = getattr(error, "sqlstate", None)
        if state == "3F000":
            return rights.no_schema(self._address)
        if state == "42501":
            return rights.refused_change(str(error).partition("\n")[0], self._address)
        return None

    def missing_rights(
        self, connection: sa.Connection, written: Sequence[sa.Table], read: Sequence[sa.Table]
    ) -> TenfoldError | None:
        return rights.missing_rights(connection, self._address, written, read)

    def plan_roles(
        self, connection: sa.Connection, services: Sequence[Owned], shared: Sequence[sa.Table]
    ) -> list[Step]:
        return roles.plan_roles(connection, services, shared)

    def usable(self, connection: sa.Connection, tables: Sequence[sa.Table]) -> list[str]:
        return roles.usable(connection, tables)

    # ── hints ──

    def hint(self, topic: str, *, far: bool = True) -> None:
        self.hints.give(topic)
        if far and self._wire is not None and self.capabilities.listen and self._sandbox is None:
            self._wire.give(topic)

    def on_hint(self, topic: str, callback: Callback) -> Callable[[], None]:
        if self._wire is not None and self.capabilities.listen:
            self._wire.listen()
        return self.hints.on(topic, callback)


@asynccontextmanager
async def _reuse(channel: Channel) -> AsyncGenerator[Channel]:
    yield channel
