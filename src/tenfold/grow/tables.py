"""What is moved: every table that the services and the framework declare. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from tenfold.db import schema
from tenfold.errors import ConfigError
from tenfold.queue.tables import lock

if TYPE_CHECKING:
    from tenfold.db.database import Database

NOT_MOVED = frozenset({schema.versions.name, lock.name})
"""Written by the migrations of the target."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One table with what it takes to copy it."""

    table: sa.Table
    keys: tuple[sa.Column[Any], ...]
    """Its primary key; empty for a table without one, which is copied whole while everything is held."""
    columns: tuple[sa.Column[Any], ...]
    """Those that hold data: without columns that the database computes."""

    @property
    def name(self) -> str:
        return self.table.name


def subjects(databases: Iterable[Database]) -> list[Subject]:
    """Every table to move, each once, by name."""
    declared = [table for database in databases for table in database.metadata.tables.values()]
    framework = [table for name, table in schema.framework.tables.items() if name not in NOT_MOVED]
    found = {table.name: table for table in (*declared, *framework)}
    return [_subject(found[name]) for name in sorted(found)]


def check_types(found: Sequence[Subject], dialect: sa.Dialect, target: str) -> None:
    """Raises ConfigError naming the column whose type ``target`` does not have."""
    for subject in found:
        for column in subject.columns:
            try:
                column.type.compile(dialect=dialect)
            except SQLAlchemyError as error:
                raise ConfigError(
                    f"{target} has no type for the column {subject.name}.{column.name}, which is {column.type!r}: "
                    f"{str(error).splitlines()[0]}.",
                    where="grow",
                    remedy="Declare it with a type of SQLAlchemy that every database has.",
                ) from None


def undeclared(existing: Iterable[str], found: Sequence[Subject]) -> list[str]:
    """Tables of the source that nobody declares, so that nobody knows what is in them."""
    known = {subject.name for subject in found} | NOT_MOVED
    return sorted(
        name
        for name in existing
        if name not in known and not name.startswith(("sqlite_", "alembic_version", "tenfold_grow"))
    )


def _subject(table: sa.Table) -> Subject:
    columns = tuple(column for column in table.columns if column.computed is None)
    return Subject(table, tuple(table.primary_key.columns), columns)
