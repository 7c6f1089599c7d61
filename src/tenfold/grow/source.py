"""The SQLite side of a move: the mark, the capture, the log, consistent reading, the last lock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from tenfold.db.database import Database
from tenfold.db.moved import GROWTH, READ_MARK, Mark
from tenfold.errors import ConfigError, DatabaseUnavailable
from tenfold.grow import capture
from tenfold.grow.steps import SourceState
from tenfold.grow.tables import Subject

if TYPE_CHECKING:
    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.reader import Reader

T = TypeVar("T")

TRIM_MAX = 5_000
"""Log entries that one transaction removes: the app waits for it."""

log_table = sa.table(capture.LOG, sa.column("seq"), sa.column("tbl"), sa.column("key"))
_SCHEMA_VERSION = sa.text("PRAGMA schema_version")
_KNOWN_VERSION = sa.text(f"SELECT schema_version FROM {GROWTH}")  # noqa: S608 - a constant
_TOP = sa.select(sa.func.max(log_table.c.seq), sa.func.count(), sa.func.min(log_table.c.seq))


class Source:
    """The file behind ``backend``. What changes it runs in transactions of its own connections."""

    def __init__(self, backend: DatabaseBackend, found: Sequence[Subject]) -> None:
        self.backend = backend
        self.subjects = found
        self.database = Database("source", sa.MetaData())

    def bind(self) -> None:
        """The backend has started."""
        self.database.bind(self.backend)

    # ── state ──

    async def state(self) -> SourceState:
        """How far the move is."""
        return await self._read(self._state)

    def _state(self, connection: sa.Connection) -> SourceState:
        if not sa.inspect(connection).has_table(GROWTH):
            return SourceState()
        row = connection.exec_driver_sql(READ_MARK).fetchone()
        if row is None:
            return SourceState()
        count = connection.exec_driver_sql(
            "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'tenfold\\_grow\\_%' ESCAPE '\\'"
        ).scalar_one()
        return SourceState(
            Mark(*row), captured=count == capture.expected(self.subjects) and self._same(connection)
        )

    def _same(self, connection: sa.Connection) -> bool:
        now = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
        known = connection.execute(_KNOWN_VERSION).scalar_one()
        return bool(now == known)

    async def tables(self) -> list[str]:
        """What is in the file, declared or not."""
        return await self._read(lambda connection: sorted(sa.inspect(connection).get_table_names()))

    async def orphans(self) -> list[str]:
        """Rows that refer to missing ones, described; at most five."""

        def look(connection: sa.Connection) -> list[str]:
            found = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(5)
            return [f"{row[0]} (row {row[1]}) → {row[2]}" for row in found]

        return await self._read(look)

    # ── steps ──

    async def claim(self, mark: Mark, now: float) -> None:
        """Write that the database is being moved."""

        def write(connection: sa.Connection) -> None:
            connection.exec_driver_sql(capture.STATE_TABLE)
            if connection.exec_driver_sql(READ_MARK).fetchone() is None:
                insert = f"INSERT INTO {GROWTH} (id, target, started_at) VALUES (?, ?, ?)"  # noqa: S608 - a constant
                connection.exec_driver_sql(insert, (mark.id, mark.target, now))

        await self._write(write)

    async def capture(self) -> None:
        """Begin to note changes; what was noted before a change of the schema is worth nothing."""

        def write(connection: sa.Connection) -> None:
            for statement in [*capture.remove(self.subjects), *capture.install(self.subjects)]:
                connection.exec_driver_sql(statement)
            version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
            connection.exec_driver_sql(f"UPDATE {GROWTH} SET schema_version = ?", (version,))  # noqa: S608 - a constant

        await self._write(write)

    async def roll_back(self) -> None:
        """Forget the move."""

        def write(connection: sa.Connection) -> None:
            for statement in capture.remove(self.subjects):
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {GROWTH}")

        await self._write(write)

    async def unmark(self) -> None:
        """Make a file that has moved usable again, as it was then."""

        def write(connection: sa.Connection) -> None:
            for statement in capture.unfence(sa.inspect(connection).get_table_names()):
                connection.exec_driver_sql(statement)
            connection.exec_driver_sql(f"DROP TABLE {GROWTH}")

        await self._write(write)

    async def lock(self) -> Lock:
        """Keep everybody from writing. Raises DatabaseUnavailable when it cannot be had."""
        lock = Lock(self)
        await asyncio.to_thread(lock.take)
        return lock

    # ── the log ──

    async def pending(self, reader: Reader) -> tuple[int, int]:
        """The newest entry of the log and how many there are, as ``reader`` sees them.

        Raises ConfigError when the schema was changed since the capture began.
        """
        now, known = await reader.scalar(_SCHEMA_VERSION), await reader.scalar(_KNOWN_VERSION)
        if now != known:
            raise ConfigError(
                "the tables of the database were changed during the move, so what was noted is not complete.",
                where="grow",
                remedy="Begin anew: tenfold grow --rollback, then tenfold grow --to …",
            )
        top, count, _ = await reader.one(_TOP, tuple)
        return top or 0, count

    async def trim(self, top: int) -> None:
        """Remove what was followed, in pieces that keep nobody waiting."""
        delete = (
            f"DELETE FROM {capture.LOG} WHERE seq IN (SELECT seq FROM {capture.LOG} WHERE seq <= ? LIMIT ?)"  # noqa: S608
        )

        def piece(connection: sa.Connection) -> int:
            return connection.exec_driver_sql(delete, (top, TRIM_MAX)).rowcount

        while await self._write(piece) >= TRIM_MAX:
            pass

    # ── within ──

    async def _read(self, call: Callable[[sa.Connection], T]) -> T:
        return await asyncio.to_thread(_once, self.backend, call, False)

    async def _write(self, call: Callable[[sa.Connection], T]) -> T:
        return await asyncio.to_thread(_once, self.backend, call, True)


class Lock:
    """The file's write lock, held by a connection of its own until the mark is written, or let go."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._engine = source.backend.sync_engine(write=True)
        self._connection: sa.Connection | None = None

    def take(self) -> None:
        """In a thread: waits in line."""
        self._connection = self._engine.connect()
        try:
            self._connection.begin()
        except DBAPIError as error:
            self.release()
            raise DatabaseUnavailable(
                f"the write lock of the file could not be had: {error.orig}."
            ) from error

    def release(self) -> None:
        """Let others write again; nothing has changed. Again is harmless."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.rollback()
            connection.close()
            self._engine.dispose()

    async def mark(self, target: str, now: float) -> None:
        """The cut-over: one commit after which the file is history and refuses writes."""
        await asyncio.to_thread(self._mark, target, now)

    def _mark(self, target: str, now: float) -> None:
        connection = self._connection
        assert connection is not None
        tables = [
            name for name in sa.inspect(connection).get_table_names() if name not in (GROWTH, capture.LOG)
        ]
        for statement in [*capture.remove(self._source.subjects), *capture.fence(tables, target)]:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"UPDATE {GROWTH} SET moved_at = ?", (now,))  # noqa: S608 - a constant
        connection.commit()
        self.release()


def _once(backend: DatabaseBackend, call: Callable[[sa.Connection], T], write: bool) -> T:
    engine = backend.sync_engine(write=write)
    try:
        with closing(engine.connect()) as connection, connection.begin():
            return call(connection)
    except DBAPIError as error:
        raise DatabaseUnavailable(f"the file of the database: {error.orig}.") from error
    finally:
        engine.dispose()
