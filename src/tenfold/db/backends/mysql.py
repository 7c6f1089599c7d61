"""MariaDB and MySQL, through asyncmy.

Needs ``pip install 'tenfold[mysql]'`` and MariaDB 10.6 or MySQL 8.0.17, or newer, with InnoDB.

* ``mysql://user:password@host:3306/database`` (or ``mariadb://``); ``?ssl=verify&ssl_ca=/path`` checks the server,
  ``?ssl=on`` encrypts only. With several hosts (``host1:3306,host2:3306``) the first that takes writes is used.

Durable where the server has ``innodb_flush_log_at_trx_commit = 1``, which is its default. Tables that are created
through Tenfold compare text by code points, as SQLite and PostgreSQL do. What is weaker than elsewhere: changes of
tables are not part of a transaction, so a migration that fails half-way leaves what it has done; hints wake this
process only; ``database.replicas`` is refused. The suites have been run on MariaDB, never on a MySQL server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tenfold._core.context import current, owned
from tenfold.db.ambient import holding
from tenfold.db.backends import _mysql_errors as errors
from tenfold.db.backends import _mysql_rights as rights
from tenfold.db.backends._mysql_channels import AutoChannel, snapshot
from tenfold.db.backends._mysql_dialect import Dialect
from tenfold.db.backends._mysql_links import Links, OneLink
from tenfold.db.backends._mysql_returning import Plans
from tenfold.db.backends._mysql_tx import MysqlTx
from tenfold.db.backends._mysql_url import targets_of
from tenfold.db.backends._session_dbapi import Reading, Statements, engine_of, lent
from tenfold.db.backends._time import Time
from tenfold.db.contract import (
    Args,
    Capabilities,
    Channel,
    DatabaseBackend,
    HasChannel,
    Isolation,
    Rows,
    TxChannel,
)
from tenfold.db.plan import Plan
from tenfold.errors import DatabaseUnavailable, NotBound, TenfoldError, TransactionMisuse

if TYPE_CHECKING:
    import sqlalchemy as sa

    from tenfold._core.clock import Clock
    from tenfold._core.sections import DatabaseSettings
    from tenfold.db.backends._mysql_link import Link
    from tenfold.db.backends._mysql_target import Target

log = logging.getLogger("tenfold.db")

_FLUSHES = "SELECT @@global.innodb_flush_log_at_trx_commit"


class Backend(DatabaseBackend):
    """One database on a MariaDB or MySQL server."""

    def __init__(self, url: str, targets: list[Target], settings: DatabaseSettings, clock: Clock) -> None:
        self.url = url
        self.clock = clock
        self._mysql = Dialect()
        self.dialect = self._mysql
        self.plans = Plans(self._mysql)
        self.open_by_task: dict[asyncio.Task[object], HasChannel] = {}
        self.capabilities = Capabilities(
            isolation="read committed", parallel_writers=True, skip_locked=True, listen=False, durable=True,
            replicas=False, transactional_ddl=False,
        )  # fmt: skip
        self._targets = targets
        self._settings = settings
        self._time = Time(clock, settings.statement_timeout_s, settings.lock_timeout_s)
        self._links: Links | None = None
        self._auto: AutoChannel | None = None
        self._sandbox: OneLink | None = None
        self._session_engine: sa.Engine | None = None
        self._session_statements = Statements()

    @classmethod
    def from_url(cls, url: str, *, settings: DatabaseSettings, data_dir: Path, clock: Clock) -> Self:
        return cls(url, targets_of(url, settings), settings, clock)

    # ── life ──

    async def start(self) -> None:
        links = Links(self._targets, self._settings, self._time, self.weight_of)
        try:
            async with links.pool.link() as link:
                await self._learn(link)
        except BaseException:
            await links.close()
            raise
        self._links = links
        self._auto = AutoChannel(links)

    async def _learn(self, link: Link) -> None:
        self._mysql.learn(link.version, mariadb=link.mariadb)
        said = await link.perform(_FLUSHES, (), self._time.statement_timeout_s)
        if int(said.rows[0][0]) != 1:
            log.warning(
                "the server writes its log to disk about once a second (innodb_flush_log_at_trx_commit is not 1): "
                "acknowledged commits may be lost with its power"
            )
            self.capabilities = replace(self.capabilities, durable=False)

    async def stop(self) -> None:
        links, self._links, self._auto = self._links, None, None
        if links is not None:
            await links.close()

    async def health(self) -> None:
        if self._links is None:
            raise DatabaseUnavailable("the database is not connected.")
        with owned():
            await self._links.read(lambda link: link.perform("SELECT 1", (), self._time.statement_s()))

    def stats(self) -> Mapping[str, int | float]:
        if self._links is None:
            return {}
        links = self._links
        return {**vars(links.counters), **links.pool.stats(), "statements_killed": links.killer.kills}

    # ── channels ──

    def reader(self) -> Channel:
        return self._started()[1]

    def snapshot(self) -> AbstractAsyncContextManager[Channel]:
        links, auto = self._started()
        return _reuse(auto) if auto.detour is not None else snapshot(links)

    def transaction(self, *, isolation: Isolation = "default") -> MysqlTx:
        links, _ = self._started()
        return MysqlTx(self._sandbox or links, isolation)

    @asynccontextmanager
    async def sandbox(self) -> AsyncGenerator[None]:
        links, auto = self._started()
        link = await links.begun("START TRANSACTION READ WRITE")
        self._sandbox, auto.detour = OneLink(link, self._time), self._read_in_sandbox
        try:
            yield
        finally:
            self._sandbox = auto.detour = None
            try:
                await link.command("ROLLBACK", self._time.statement_timeout_s)
            finally:
                links.give(link)

    async def _read_in_sandbox(self, plan: Plan, args: Args, limit: int) -> Rows:
        """What was said to be committed is to be found on the sandbox's connection only."""
        task = asyncio.current_task()
        if task is not None and task in self.open_by_task:  # its own transaction, for which it would wait
            return await self.open_by_task[task].channel.fetch(plan, args, limit)
        ambient = holding(current(), self)  # likewise that of its operation, or its caller's
        if ambient is not None:
            return await ambient.tx.channel.fetch(plan, args, limit)
        tx = self.transaction()
        try:
            rows = await tx.fetch(plan, args, limit)
        except BaseException:
            await tx.rollback()
            raise
        await tx.commit()
        return rows

    def _started(self) -> tuple[Links, AutoChannel]:
        if self._links is None or self._auto is None:
            raise NotBound("the database backend was used before it was started, or after it was stopped.")
        return self._links, self._auto

    async def change_tables(self, statements: Sequence[str]) -> None:
        if self._sandbox is not None:
            raise TransactionMisuse(
                "tables cannot be made or removed inside app.test() on MySQL and MariaDB: it would end the transaction "
                "that is undone at its end. Use `async with app.lifespan()` on a database of the test's own."
            )
        await asyncio.to_thread(self._change_tables, statements)

    def _change_tables(self, statements: Sequence[str]) -> None:
        engine = self.sync_engine()
        try:
            with engine.begin() as connection:
                for statement in statements:
                    connection.exec_driver_sql(statement)
        finally:
            engine.dispose()

    # ── SQLAlchemy ──

    def session_connection(self, channel: Channel) -> sa.Connection:
        from tenfold.db.backends import _mysql_orm as orm

        if self._session_engine is None:
            dialect = orm.SessionDialect()
            dialect.learn(self._mysql.server_version_info, mariadb=self._mysql.is_mariadb)
            self._session_engine = engine_of(dialect)
        if not isinstance(channel, TxChannel):
            return lent(self._session_engine, Reading(channel, self._session_statements))
        mysql: Any = channel
        return lent(self._session_engine, orm.Connection(mysql))

    def explain(self, error: BaseException | None) -> TenfoldError | None:
        if error is None or errors.number(error) not in errors.DENIED:
            return None
        return rights.refused_change(str(error.args[-1]), self._started()[0].target)

    def missing_rights(
        self, connection: sa.Connection, written: Sequence[sa.Table], read: Sequence[sa.Table]
    ) -> TenfoldError | None:
        return rights.missing_rights(connection, self._started()[0].target, written, read)

    def sync_engine(self, *, write: bool = True) -> sa.Engine:
        from tenfold.db.backends import _mysql_sync as sync

        return sync.sync_engine(self._started()[0].target, write=write)


@asynccontextmanager
async def _reuse(channel: Channel) -> AsyncGenerator[Channel]:
    yield channel
