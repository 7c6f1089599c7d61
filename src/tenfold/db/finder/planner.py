"""Asking a database's planner: which tables it scans for a statement, and whether an index would change its mind."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from tenfold.db.finder.plans import explain_sql, scans, steps
from tenfold.db.plan import Plan
from tenfold.errors import DatabaseError

if TYPE_CHECKING:
    from tenfold.db.contract import Args, Channel, DatabaseBackend, TxChannel
    from tenfold.db.finder.plans import Scan, Step
    from tenfold.db.finder.shape import Index

ROWS_MIN = 1000
"""Smaller tables are read whole faster than by an index."""
TRIAL_ROWS_MAX = 1_000_000
"""Larger tables get no index on trial: making it would take long."""


class Planner:
    """The planner of one backend. ``trial``: an index may be made in a transaction that is rolled back, which keeps
    writers of the table waiting for a moment; for development."""

    def __init__(self, backend: DatabaseBackend, *, trial: bool) -> None:
        self._backend = backend
        self._dialect = backend.dialect.name
        self._trial = trial

    async def scans(self, plan: Plan, args: Args) -> list[Scan]:
        """Tables of at least :data:`ROWS_MIN` rows that the statement reads whole. Empty where the planner cannot be
        asked."""
        channel = self._backend.reader()
        try:
            found = await self._explain(channel, plan, args)
            return [scan for scan in found if await self._has_rows(scan.table, ROWS_MIN)]
        except DatabaseError:
            return []

    async def steps(self, plan: Plan, args: Args) -> list[Step]:
        """How the statement would be carried out now. It is not run. Raises DatabaseError."""
        rows = await self._backend.reader().fetch(
            self._textual(explain_sql(self._dialect, plan.sql)), args, 0
        )
        return steps(self._dialect, rows)

    async def _explain(self, channel: Channel, plan: Plan, args: Args) -> list[Scan]:
        rows = await channel.fetch(self._textual(explain_sql(self._dialect, plan.sql)), args, 0)
        return scans(self._dialect, rows)

    async def _has_rows(self, table: str, count: int) -> bool:
        quoted = self._backend.dialect.identifier_preparer.quote(table)
        sql = f"SELECT 1 FROM {quoted} LIMIT 1 OFFSET {count - 1}"  # noqa: S608 - a name from the planner, quoted
        return bool(await self._backend.reader().fetch(self._textual(sql), (), 1))

    async def would_use(self, index: Index, plan: Plan, args: Args) -> bool | None:
        """Whether ``plan`` no longer scans the table when it has the index; None where that cannot be tried."""
        if self._dialect == "sqlite":
            return await self._on_empty_copy(index, plan, args)
        if self._dialect != "postgresql":
            return None
        if (known := await self._hypothetical(index, plan, args)) is not None:
            return known
        if not self._trial or await self._has_rows(index.table, TRIAL_ROWS_MAX):
            return None
        setup = ("SET LOCAL lock_timeout = '200ms'", index.sql)
        return await self._in_transaction(setup, index, plan, args)

    async def _hypothetical(self, index: Index, plan: Plan, args: Args) -> bool | None:
        """With PostgreSQL's extension hypopg, where it is installed: indexes that only the planner knows."""
        sql = "SELECT 1 FROM pg_extension WHERE extname = 'hypopg'"
        if not await self._backend.reader().fetch(self._textual(sql), (), 1):
            return None
        create = f"SELECT hypopg_create_index('{index.sql.replace(chr(39), chr(39) * 2)}')"
        return await self._in_transaction((create,), index, plan, args)

    async def _in_transaction(
        self, setup: tuple[str, ...], index: Index, plan: Plan, args: Args
    ) -> bool | None:
        tx: TxChannel = self._backend.transaction()
        try:
            for sql in setup:
                await tx.fetch(self._textual(sql), (), 0)
            left = await self._explain(tx, plan, args)
            return all(scan.table != index.table.rpartition(".")[2] for scan in left)
        except DatabaseError:
            return None
        finally:
            await tx.rollback()

    async def _on_empty_copy(self, index: Index, plan: Plan, args: Args) -> bool | None:
        """SQLite: its tables without rows, in memory, with the index. Its planner decides by the schema alone, as long
        as nobody ran ANALYZE."""
        import apsw

        rows = await self._backend.reader().fetch(
            self._textual("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"),
            (),
            0,
        )
        copy = apsw.Connection(":memory:")
        try:
            for (sql,) in rows:
                with suppress(apsw.Error):  # a virtual table of a module that is not here
                    copy.execute(sql)
            copy.execute(index.sql)
            left = scans("sqlite", copy.execute(explain_sql("sqlite", plan.sql), args).fetchall())
            return all(scan.table != index.table for scan in left)
        except apsw.Error:
            return None
        finally:
            copy.close()

    async def unused_indexes(self, metadata: list[sa.MetaData]) -> list[tuple[str, str, int]]:
        """``(table, index, bytes)`` of indexes that no statement has used since the database counts, unique ones left
        out. PostgreSQL only: the others do not count."""
        if self._dialect != "postgresql":
            return []
        sql = (
            "SELECT s.relname, s.indexrelname, pg_relation_size(s.indexrelid) FROM pg_stat_user_indexes s "
            "JOIN pg_index i ON i.indexrelid = s.indexrelid WHERE s.idx_scan = 0 AND NOT i.indisunique "
            "AND s.schemaname = ANY (current_schemas(false)) ORDER BY 3 DESC"
        )
        try:
            rows = await self._backend.reader().fetch(self._textual(sql), (), 0)
        except DatabaseError:
            return []
        tables = {table.name for one in metadata for table in one.tables.values()}
        return [(table, index, size) for table, index, size in rows if table in tables]

    def _textual(self, sql: str) -> Plan:
        return Plan(sql, (), sa.text(sql), named=False)
