"""One psycopg connection to a pooler in transaction mode: nothing is prepared, and nothing kept in the session.

It has the methods of :class:`~tenfold.db.backends._postgresql_link.AsyncpgLink`, and the same values go in and come
out. What begins a transaction is a round trip of its own here.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import decimal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import sql as compose
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.string import TextLoader

from tenfold.db.backends import _postgresql_errors as errors
from tenfold.db.backends._postgresql_driver import PgLink, Prefix
from tenfold.db.backends._postgresql_errors import Report
from tenfold.db.backends._postgresql_url import Address
from tenfold.db.contract import Args, Rows
from tenfold.db.plan import Plan
from tenfold.errors import ConfigError, DatabaseError, StatementError, StatementTimeout

_DISCARD_S = 1.0
_CANCEL_AGAIN_S = 0.1
_CANCELS_MAX = 50
T = TypeVar("T")
_NUMERIC_OID = 1700


class PsycopgLink(PgLink):
    """See the module."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection = connection
        self._stopping: asyncio.Task[None] | None = None

    # ── statements ──

    async def fetch(self, plan: Plan, args: Args, limit: int, timeout_s: float, prefix: Prefix = ()) -> Rows:
        rows, _, _ = await self.result(plan, args, timeout_s, prefix)
        return rows[:limit] if limit else rows

    async def run(self, plan: Plan, args: Args, timeout_s: float, prefix: Prefix = ()) -> int:
        return (await self.result(plan, args, timeout_s, prefix))[1]

    async def result(
        self, plan: Plan, args: Args, timeout_s: float, prefix: Prefix = ()
    ) -> tuple[Rows, int, Sequence[str]]:
        async def work(cursor: Any) -> tuple[Rows, int, Sequence[str]]:
            await cursor.execute(plan.sql, args)
            names = [column.name for column in cursor.description or ()]
            rows = await cursor.fetchall() if cursor.description is not None else []
            self._learn(plan, cursor)
            return rows, _changed(cursor), names

        return await self._do(work, timeout_s, prefix)

    async def run_many(self, plan: Plan, many: Sequence[Args], timeout_s: float, prefix: Prefix = ()) -> int:
        async def work(cursor: Any) -> int:
            await cursor.executemany(plan.sql, many)
            return int(max(cursor.rowcount, 0))

        return await self._do(work, timeout_s, prefix)

    async def load(
        self, plan: Plan, columns: Sequence[str], many: Sequence[Args], timeout_s: float, prefix: Prefix = ()
    ) -> int:
        table = plan.table
        assert table is not None
        into = compose.SQL("COPY {} ({}) FROM STDIN").format(
            compose.Identifier(*filter(None, (table.schema, table.name))),
            compose.SQL(", ").join(map(compose.Identifier, columns)),
        )

        async def work(cursor: Any) -> int:
            async with cursor.copy(into) as copy:
                for args in many:
                    await copy.write_row(args)
            return len(many)

        return await self._do(work, timeout_s, prefix)

    async def command(self, sql: str, timeout_s: float) -> str:
        async def work(cursor: Any) -> str:
            await cursor.execute(sql.encode())
            while cursor.nextset():
                pass
            return cursor.statusmessage or ""

        return await self._do(work, timeout_s)

    # ── portals, for streams ──

    async def open_portal(
        self, name: str, plan: Plan, args: Args, timeout_s: float, prefix: Prefix = ()
    ) -> Any:
        portal = psycopg.AsyncRawServerCursor(self.connection, name)

        async def work(_: Any) -> None:
            await portal.execute(plan.sql.encode(), args)
            self._learn(plan, portal)

        await self._do(work, timeout_s, prefix)
        return portal

    async def piece(self, name: str, portal: Any, count: int, timeout_s: float) -> Rows:
        async def work(_: Any) -> Rows:
            rows: Rows = await portal.fetchmany(count)
            return rows

        return await self._do(work, timeout_s)

    async def close_portal(self, name: str, timeout_s: float) -> None:
        await self.command(f"CLOSE {name}", timeout_s)

    # ── inside ──

    async def _do(self, work: Callable[[Any], Awaitable[T]], timeout_s: float, prefix: Prefix = ()) -> T:
        """``work(cursor)`` in a task of its own: psycopg makes who is cancelled wait for the server, and asks it to
        stop only once, which a pooler forgets when the statement has not reached a server yet."""
        if prefix:
            timeout_s = await self.run_ahead(prefix, timeout_s)
        await self._at_rest()

        async def run() -> T:
            async with psycopg.AsyncRawCursor(self.connection) as cursor:
                return await work(cursor)

        running = asyncio.get_running_loop().create_task(run())
        try:
            await asyncio.wait([running], timeout=timeout_s)
        except asyncio.CancelledError:
            self._stop(running)
            raise
        if not running.done():
            self._stop(running)
            raise TimeoutError
        return running.result()

    def _stop(self, running: asyncio.Task[Any]) -> None:
        self.doubtful = True
        self._stopping = asyncio.get_running_loop().create_task(self._keep_cancelling(running))

    async def _keep_cancelling(self, running: asyncio.Task[Any]) -> None:
        """Until the statement has ended; a connection on which it does not is closed."""
        for _ in range(_CANCELS_MAX):
            if running.done():
                break
            with contextlib.suppress(Exception):
                await self.connection.cancel_safe(timeout=_DISCARD_S)
            await asyncio.wait([running], timeout=_CANCEL_AGAIN_S)
        else:
            self.connection.pgconn.finish()
            running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # seen: whoever waited for it has gone

    async def _at_rest(self) -> None:
        """A statement that was given up has ended."""
        if self._stopping is not None:
            await asyncio.shield(self._stopping)
            self._stopping = None

    @staticmethod
    def _learn(plan: Plan, cursor: Any) -> None:
        if not plan.learned:
            columns = cursor.description or ()
            plan.learn([(c.name, decimal.Decimal if c.type_code == _NUMERIC_OID else None) for c in columns])

    # ── failures and the end ──

    def failed(self, error: Exception, plan: Plan | None, *, read_only: bool = False) -> DatabaseError:
        if isinstance(error, DatabaseError):
            return error
        said = f" The statement: {plan.describe()}" if plan is not None else ""
        if isinstance(error, TimeoutError):
            self.doubtful = True
            return StatementTimeout(f"the statement ran past its deadline and was stopped.{said}")
        report = _report_of(error)
        if report is not None:
            self.doubtful |= errors.lost(report.state) or errors.demoted(report)
            return errors.translate(report, plan, read_only=read_only)
        if self.closed or isinstance(error, OSError | psycopg.OperationalError):
            self.doubtful = True
            return errors.broken(error)
        if isinstance(error, psycopg.DataError):
            return errors.unreadable(error, plan)
        return StatementError(f"the parameters do not fit: {error}.{said}")

    @property
    def closed(self) -> bool:
        return bool(self.connection.closed or self.connection.broken)

    @property
    def reported_name(self) -> str:
        return self.connection.info.parameter_status("application_name") or ""

    @property
    def in_transaction(self) -> bool:
        idle = psycopg.pq.TransactionStatus.IDLE
        return not self.closed and self.connection.info.transaction_status != idle

    async def discard(self) -> None:
        await self._at_rest()
        await self.close()

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_DISCARD_S):
                await self.connection.close()


class _UtcLoader(TimestamptzLoader):
    """A pooler's session has whatever time zone; times are told in UTC everywhere."""

    def load(self, data: Any) -> dt.datetime:
        return super().load(data).astimezone(dt.UTC)


async def connect(address: Address, timeout_s: float) -> PsycopgLink:
    """A connection. Raises ConfigError for what only a changed configuration mends, DatabaseUnavailable otherwise."""
    try:
        async with asyncio.timeout(timeout_s):
            connection = await psycopg.AsyncConnection.connect(
                address.dsn, autocommit=True, prepare_threshold=None
            )
    except psycopg.OperationalError as error:
        raise errors.refused_in_words(str(error), address) from error
    except (OSError, TimeoutError) as error:
        raise errors.unreachable(address.hosts, error) from error
    except psycopg.Error as error:
        raise ConfigError(f"it cannot be used: {error}.", where=errors.SETTING) from error
    for json in ("json", "jsonb"):
        connection.adapters.register_loader(json, TextLoader)
    connection.adapters.register_loader("timestamptz", _UtcLoader)
    version = connection.info.server_version // 10_000
    if version < errors.SERVER_MIN:
        await connection.close()
        raise errors.too_old(str(version))
    return PsycopgLink(connection)


def _changed(cursor: Any) -> int:
    verb = (cursor.statusmessage or "").partition(" ")[0]
    return max(cursor.rowcount, 0) if verb in ("INSERT", "UPDATE", "DELETE", "MERGE") else 0


def _report_of(error: BaseException) -> Report | None:
    """What the server said; None for what it did not say."""
    if not isinstance(error, psycopg.Error) or error.sqlstate is None:
        return None
    said = error.diag
    return Report(
        state=error.sqlstate, message=said.message_primary or str(error), detail=said.message_detail or "",
        table=said.table_name or "", column=said.column_name or "", constraint=said.constraint_name or "",
        source=said.source_function or "",
    )  # fmt: skip
