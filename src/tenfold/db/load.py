"""Inserting rows in bulk: values as the driver takes them, in pieces that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from tenfold._core.text import nearest
from tenfold.db.blueprint import default_of
from tenfold.db.plan import Plan
from tenfold.errors import StatementError

if TYPE_CHECKING:
    from tenfold.db.contract import Args, DatabaseBackend, TxChannel

PIECE = 5_000
"""Rows that are handed to the driver at a time."""


async def load(
    channel: TxChannel, backend: DatabaseBackend, table: sa.Table, rows: Iterable[Mapping[str, Any]]
) -> int:
    """Insert ``rows`` through ``channel``; returns their number. Raises StatementError for names that do not fit."""
    source = iter(rows)
    first = next(source, None)
    if first is None:
        return 0
    _check_names(table, first)
    source = chain([first], source)
    if any(_is_computed(column) for column in table.columns if column.key not in first):
        return await _insert(channel, backend, table, source)
    into = _Target(backend.dialect, table, first)
    loaded = 0
    while piece := [into.args(row) for row in islice(source, PIECE)]:
        loaded += await channel.load(into.plan, into.columns, piece)
    return loaded


async def _insert(
    channel: TxChannel, backend: DatabaseBackend, table: sa.Table, source: Iterator[Mapping[str, Any]]
) -> int:
    """Where a default is an expression of the INSERT statement, so that only such a statement can load."""
    statement = sa.insert(table)
    loaded = 0
    while bound := [backend.plans.bind(statement, row) for row in islice(source, PIECE)]:
        plan = bound[0][0]
        if any(other is not plan for other, _ in bound):
            raise StatementError("every row must have the same columns.")
        loaded += await channel.run_many(plan, [args for _, args in bound])
    return loaded


class _Target:
    """One table with the columns of the first row: what has to be done to each value, and to those left out."""

    def __init__(self, dialect: sa.Dialect, table: sa.Table, first: Mapping[str, Any]) -> None:
        self._given = frozenset(first)
        self._makers: list[Callable[[Mapping[str, Any]], Any]] = []
        columns = [column for column in table.columns if column.key in first or _has_default(column)]
        for column in columns:
            self._makers.append(_maker(column, dialect, given=column.key in first))
        self.columns = [column.name for column in columns]
        statement = sa.insert(table)
        compiled: Any = statement.compile(
            dialect=dialect, column_keys=[column.key for column in columns], for_executemany=True
        )
        self.plan = Plan(compiled.string, (), statement)

    def args(self, row: Mapping[str, Any]) -> Args:
        if row.keys() != self._given:
            raise StatementError(
                f"every row must have the same columns: the first has {', '.join(sorted(self._given))}, another "
                f"{', '.join(sorted(row))}."
            )
        return tuple([make(row) for make in self._makers])


def _check_names(table: sa.Table, first: Mapping[str, Any]) -> None:
    for name in first:
        if name not in table.columns:
            known = table.columns.keys()
            raise StatementError(
                f"the table {table.name} has no column {name!r}; it has {', '.join(known)}.{nearest(name, known)}"
            )


def _has_default(column: sa.Column[Any]) -> bool:
    return column.default is not None and not _is_computed(column)


def _is_computed(column: sa.Column[Any]) -> bool:
    default = column.default
    return default is not None and (default.is_sequence or default.is_clause_element)


def _maker(column: sa.Column[Any], dialect: sa.Dialect, *, given: bool) -> Callable[[Mapping[str, Any]], Any]:
    key = column.key
    value: Callable[[Mapping[str, Any]], Any] = (
        (lambda row: row[key]) if given else default_of(column.default)
    )
    process = column.type._cached_bind_processor(dialect)
    return value if process is None else lambda row: process(value(row))
