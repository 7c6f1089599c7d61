"""The new database during a move: to whom it belongs, how far it is, its schema, its rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, ProgrammingError

from tenfold.db import migrations
from tenfold.db.database import Database
from tenfold.errors import ConfigError, DatabaseUnavailable
from tenfold.grow.dialects import Dialect, dialect_of
from tenfold.grow.steps import TargetState
from tenfold.grow.tables import Subject

if TYPE_CHECKING:
    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.tx import Tx

T = TypeVar("T")

notes = sa.Table(
    "tenfold_grow",
    sa.MetaData(),
    sa.Column("item", sa.String(255), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
"""What is known of the move: its id, whether the tables are made, their foreign keys, how far each is copied."""

_put = sa.insert(notes)
_change = (
    sa.update(notes).where(notes.c.item == sa.bindparam("of_item")).values(value=sa.bindparam("new_value"))
)
_drop = sa.delete(notes).where(notes.c.item == sa.bindparam("of_item"))


class Progress(msgspec.Struct):
    """How far one table is copied."""

    key: str | None = None
    """The last primary key that was copied (:mod:`tenfold.grow.keys`)."""
    rows: int = 0
    done: bool = False


class Target:
    """The database behind ``backend``. ``databases`` are the app's: their twins here are migrated."""

    def __init__(
        self, backend: DatabaseBackend, databases: Sequence[Database], found: Sequence[Subject]
    ) -> None:
        self.backend = backend
        self.dialect: Dialect = dialect_of(backend.dialect)
        self.database = Database("target", sa.MetaData())
        self._twins = [Database(d.name, d.metadata, migrations=d.migrations) for d in databases]
        self._subjects = found
        self.progress: dict[str, Progress] = {}
        self._keys: list[tuple[str, str, str]] = []

    def bind(self) -> None:
        """The backend has started."""
        for database in (self.database, *self._twins):
            database.bind(self.backend)

    # ── state ──

    async def state(self) -> TargetState:
        """How far the move is; also reads how far each table is."""
        return await self._read(self._state)

    def _state(self, connection: sa.Connection) -> TargetState:
        existing = set(sa.inspect(connection).get_table_names())
        tables = tuple(sorted(existing - {notes.name}))
        if notes.name not in existing:
            return TargetState(None, tables)
        known = {row.item: row.value for row in connection.execute(sa.select(notes))}
        self._keys = msgspec.json.decode(known.get("keys", "[]"), type=list[tuple[str, str, str]])
        self.progress = {
            item.removeprefix("table:"): msgspec.json.decode(value, type=Progress)
            for item, value in known.items()
            if item.startswith("table:")
        }
        copied = bool(self.progress) and all(one.done for one in self.progress.values())
        return TargetState(known.get("id"), tables, "made" in known, copied)

    # ── steps ──

    async def claim(self, id_: str) -> None:
        """Write to which move the database belongs."""

        def write(connection: sa.Connection) -> None:
            notes.create(connection, checkfirst=True)
            connection.execute(_drop, {"of_item": "id"})
            connection.execute(_put, {"item": "id", "value": id_})

        await self._write(write)

    async def make(self) -> list[str]:
        """The tables, empty, without foreign keys. What an interrupted run has left is dropped first."""
        await self._write(lambda connection: self.dialect.drop_all(connection, notes.name))
        said = await migrations.upgrade(self._twins, create_without_scripts=True)
        await self._write(self._made)
        return said

    def _made(self, connection: sa.Connection) -> None:
        self._keys = self.dialect.loosen(connection)
        if self.dialect.relax:
            connection.exec_driver_sql(self.dialect.relax)
        for subject in self._subjects:  # rows that the migrations put in are in the source too
            connection.execute(sa.delete(subject.table))
        connection.execute(sa.delete(notes).where(notes.c.item != "id"))
        put = [{"item": f"table:{s.name}", "value": _text(Progress())} for s in self._subjects if s.keys]
        rest = {"keys": msgspec.json.encode(self._keys).decode(), "made": "1"}
        connection.execute(_put, [*put, *({"item": item, "value": value} for item, value in rest.items())])

    async def loosen(self) -> None:
        """Take off foreign keys that a cut-over which was given up has put back."""
        await self._write(lambda connection: self.dialect.loosen(connection) and None)

    async def finish(self, last: Mapping[str, int]) -> None:
        """Sequences beyond the ids in ``last``, by table, and the foreign keys."""

        def write(connection: sa.Connection) -> None:
            for subject in self._subjects:
                if subject.name in last:
                    self.dialect.set_sequence(connection, subject, last[subject.name])
            self.dialect.tighten(connection, self._keys)

        await self._write(write)

    async def settle(self, watch: Callable[[str], None]) -> None:
        """Check what was copied against the foreign keys, gather statistics, and forget the move."""
        names = [subject.name for subject in self._subjects]
        for statement in self.dialect.settle(self._keys, names):
            watch(statement)
            await self._write(partial(_execute, statement))
        await self._write(notes.drop)

    async def roll_back(self) -> None:
        """Drop everything that the move has made."""
        await self._write(lambda connection: self.dialect.drop_all(connection, notes.name))
        await self._write(lambda connection: notes.drop(connection, checkfirst=True))

    # ── rows, in the caller's transaction ──

    async def begin(self, tx: Tx) -> None:
        """To be called first in every transaction that copies."""
        if self.dialect.relax:
            await tx.execute(sa.text(self.dialect.relax))

    async def load(self, tx: Tx, subject: Subject, rows: Iterable[Sequence[Any]]) -> int:
        """Insert rows, their values in the order of ``subject.columns``."""
        names = [column.key for column in subject.columns]
        return await tx.load(subject.table, (dict(zip(names, row, strict=True)) for row in rows))

    async def delete(self, tx: Tx, subject: Subject, keys: Sequence[Sequence[Any]]) -> None:
        """Remove the rows of these primary keys, as far as they are there."""
        named = [{f"key{at}": value for at, value in enumerate(key)} for key in keys]
        await tx.execute(delete_statement(subject), named)

    async def note(self, tx: Tx, subject: Subject, progress: Progress) -> None:
        """How far ``subject`` is, in the transaction that got there."""
        await tx.execute(_change, of_item=f"table:{subject.name}", new_value=_text(progress))

    # ── within ──

    async def _read(self, call: Callable[[sa.Connection], T]) -> T:
        return await asyncio.to_thread(_once, self.backend, call, False)

    async def _write(self, call: Callable[[sa.Connection], T]) -> T:
        return await asyncio.to_thread(_once, self.backend, call, True)


def delete_statement(subject: Subject) -> Any:
    """DELETE of one row by its primary key: ``key0``, ``key1`` …"""
    conditions = [c == sa.bindparam(f"key{at}", type_=c.type) for at, c in enumerate(subject.keys)]
    return sa.delete(subject.table).where(*conditions)


def _execute(statement: str, connection: sa.Connection) -> None:
    connection.exec_driver_sql(statement)


def _text(progress: Progress) -> str:
    return msgspec.json.encode(progress).decode()


def _once(backend: DatabaseBackend, call: Callable[[sa.Connection], T], write: bool) -> T:
    engine = backend.sync_engine(write=write)
    try:
        with closing(engine.connect()) as connection, connection.begin():
            return call(connection)
    except ProgrammingError as error:
        raise ConfigError(f"the new database refuses: {_first(error)}.", where="--to") from error
    except DBAPIError as error:
        raise DatabaseUnavailable(f"the new database: {_first(error)}.") from error
    finally:
        engine.dispose()


def _first(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0].rstrip(".")
