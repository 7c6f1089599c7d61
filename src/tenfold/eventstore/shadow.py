"""Shadow tables: the same columns under other names, and a transaction whose statements go there."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable
from sqlalchemy.sql import visitors

from tenfold.db.database import Tx
from tenfold.errors import StatementError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from tenfold.db.database import Database

NAME_MAX_CHARS = 60
SHADOW = "tenfold_shadow_"
"""What the names of shadow tables begin with."""


class Shadows:
    """The shadow tables of one projection. Their names follow from its name, so that another process finds them."""

    def __init__(self, projection: str, tables: Sequence[sa.Table]) -> None:
        self.tables = tuple(tables)
        self.metadata = sa.MetaData()
        mark = f"{SHADOW}{zlib.crc32(projection.encode()):08x}_"
        self.of: Mapping[sa.Table, sa.Table] = {
            table: self._shadow(table, (mark + table.name)[:NAME_MAX_CHARS]) for table in tables
        }
        self._known: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._translated: WeakSet[Any] = WeakSet()
        names = "|".join(re.escape(table.name) for table in tables)
        self._named = re.compile(rf"(?<![\w.])(?:{names})(?!\w)" if names else r"(?!)", re.IGNORECASE)

    def _shadow(self, table: sa.Table, name: str) -> sa.Table:
        """Columns, keys, unique constraints, checks and indexes; no foreign keys, which name the tables that serve.
        Constraints and indexes get names of the database's choice, for theirs are taken."""
        shadow = sa.Table(name, self.metadata, *(_column(column) for column in table.columns))
        for constraint in table.constraints:
            if isinstance(constraint, sa.UniqueConstraint):
                shadow.append_constraint(sa.UniqueConstraint(*(c.name for c in constraint.columns)))
            elif isinstance(constraint, sa.CheckConstraint):
                shadow.append_constraint(sa.CheckConstraint(str(constraint.sqltext)))
        for n, index in enumerate(sorted(table.indexes, key=lambda index: str(index.name))):
            if all(isinstance(part, sa.Column) for part in index.expressions):
                sa.Index(f"{name[:50]}_i{n}", *(shadow.c[c.name] for c in index.columns), unique=index.unique)
        return shadow

    def translate(self, statement: Any) -> Any:
        """The statement about the shadow tables; raises StatementError for text that names one of the tables."""
        if isinstance(statement, sa.TextClause):
            if found := self._named.search(statement.text):
                raise StatementError(
                    "a projection that is rebuilt runs on other tables for a while, and the text of a statement names "
                    f"{found.group()!r}. Write it with SQLAlchemy Core instead of text()."
                )
            return statement
        if statement in self._translated:
            return statement
        known = self._known.get(statement)
        if known is None:
            known = visitors.replacement_traverse(statement, {}, self._replace)
            self._known[statement] = known
            self._translated.add(known)
        return known

    def _replace(self, element: Any, **_: Any) -> Any:
        if isinstance(element, sa.Table):
            return self.of.get(element)
        if isinstance(element, sa.Column) and element.table in self.of:
            return self.of[element.table].c[element.key]
        return None

    async def make(self, database: Database) -> None:
        """Make them anew, empty."""
        await self.drop(database)
        steps: list[Any] = []
        for shadow in self.of.values():
            steps += [CreateTable(shadow), *(CreateIndex(index) for index in shadow.indexes)]
        await _change(database, steps)

    async def drop(self, database: Database) -> None:
        """Remove them, if they are there."""
        await _change(database, [DropTable(shadow, if_exists=True) for shadow in self.of.values()])

    def ordered(self) -> list[sa.Table]:
        """The tables that serve, those that are referred to before those that refer to them."""
        return list(sa.schema.sort_tables(self.tables))


class ShadowTx(Tx):
    """A transaction in which a projection fills the shadows of its tables."""

    __slots__ = ("shadows",)

    def __init__(self, database: Database, shadows: Shadows) -> None:
        super().__init__(database, database.backend.transaction())
        self.shadows = shadows
        bind = self._bind
        self._bind = lambda statement, params: bind(shadows.translate(statement), params)

    async def execute_as_it_is(self, statement: str) -> int:
        """Execute a statement that means the tables which it names."""
        plan, args = self._db.backend.plans.bind(_literally(statement), {})
        return await self._channel.run(plan, args)

    async def _execute_many(self, stmt: Any, many: Sequence[Mapping[str, Any]]) -> int:
        return await super()._execute_many(self.shadows.translate(stmt), many)

    async def load(self, table: sa.Table, rows: Iterable[Mapping[str, Any]]) -> int:
        """See :meth:`Tx.load`."""
        return await super().load(self.shadows.of.get(table, table), rows)

    @property
    def session(self) -> AsyncSession:
        """ORM sessions know the tables that serve only."""
        raise StatementError(
            "a projection that is rebuilt runs on other tables for a while, and ORM sessions cannot. Write its "
            "statements with SQLAlchemy Core."
        )


def past_keys(table: sa.Table, dialect: sa.Dialect) -> str | None:
    """The statement by which keys that the database makes go on behind those of rows that brought theirs along; None
    where it sees to that by itself."""
    key = table.autoincrement_column
    if key is None or dialect.name != "postgresql":
        return None
    quote = dialect.identifier_preparer
    name = quote.format_table(table)
    owner, owned = (text.replace("'", "''") for text in (name, key.name))
    sequence = f"pg_get_serial_sequence('{owner}', '{owned}')"
    return f"SELECT setval({sequence}, greatest(max({quote.format_column(key)}), nextval({sequence}))) FROM {name}"  # noqa: S608 - quoted


def _literally(statement: str) -> sa.TextClause:
    """Without parameters, whatever it contains."""
    return sa.text(statement.replace(":", r"\:"))


async def _change(database: Database, steps: Sequence[Any]) -> None:
    """Make or remove tables; half of it does no harm, for what is begun is begun by removing them."""
    await database.passage()
    backend = database.backend
    statements = [str(step.compile(dialect=backend.dialect)) for step in steps]
    if not backend.capabilities.transactional_ddl:
        await backend.change_tables(statements)
        return
    async with database.tx() as tx:
        for statement in statements:
            await tx.execute(_literally(statement))


def _column(column: sa.Column[Any]) -> sa.Column[Any]:
    return sa.Column(
        column.name, column.type, key=column.key, primary_key=column.primary_key, nullable=column.nullable,
        autoincrement=column.autoincrement, default=column.default, server_default=column.server_default,
        onupdate=column.onupdate,
    )  # fmt: skip
