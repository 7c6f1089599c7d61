"""Which index would serve a statement: read off its conditions and its order, not guessed from text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql import operators, visitors

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS_MAX = 4
"""More columns make an index that costs every write more than it saves this read."""

_EQUAL = frozenset({operators.eq, operators.in_op, operators.is_})
_RANGE = frozenset({operators.lt, operators.le, operators.gt, operators.ge, operators.between_op})


class Index(NamedTuple):
    """Columns of one table, in the order in which an index should have them."""

    table: str
    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        """As SQLAlchemy would name it."""
        return f"ix_{self.table.replace('.', '_')}_{'_'.join(self.columns)}"[:63]

    @property
    def sql(self) -> str:
        """The statement that makes it, in the SQL that all our databases share."""
        return f"CREATE INDEX {self.name} ON {self.table} ({', '.join(self.columns)})"


def served(table: sa.Table, columns: tuple[str, ...]) -> bool:
    """Whether an index (or the primary key) that the model declares begins with these columns."""
    known = [tuple(c.name for c in table.primary_key.columns)]
    known += [tuple(c.name for c in index.columns) for index in table.indexes]
    known += [
        tuple(c.name for c in constraint.columns)
        for constraint in table.constraints
        if isinstance(constraint, sa.UniqueConstraint)
    ]
    return any(found[: len(columns)] == columns for found in known)


def wanted(statement: Any, table_name: str) -> Index | None:
    """The index that would let ``statement`` find its rows of one table: first the columns that are compared for
    equality, then one with a range or the order. None where no condition is on a plain column, or where the model
    has such an index already."""
    where = getattr(statement, "whereclause", None)
    equal: dict[str, sa.Column[Any]] = {}
    ranged: dict[str, sa.Column[Any]] = {}
    for column, operator in _conditions(where):
        if column.table.name == table_name:
            (equal if operator in _EQUAL else ranged).setdefault(column.name, column)
    ordered = [] if ranged else [c for c in _order(statement) if c.table.name == table_name]
    columns = [*equal.values(), *list(ranged.values())[:1], *(c for c in ordered if c.name not in equal)]
    if not columns or not (equal or ranged or ordered):
        return None
    table = columns[0].table
    names = tuple(column.name for column in columns[:COLUMNS_MAX])
    if isinstance(table, sa.Table) and served(table, names):
        return None
    return Index(getattr(table, "fullname", table_name), names)


def _conditions(where: Any) -> Iterator[tuple[sa.Column[Any], Any]]:
    """Comparisons of a column with a value, as far as all of them must hold."""
    if where is None:
        return
    if isinstance(where, sa.BooleanClauseList):
        if where.operator is operators.and_:
            for clause in where.clauses:
                yield from _conditions(clause)
        return
    if isinstance(where, sa.Grouping):
        yield from _conditions(where.element)
        return
    if not isinstance(where, sa.BinaryExpression):
        return
    for column, other in ((where.left, where.right), (where.right, where.left)):
        if isinstance(column, sa.Column) and not _has_column(other, column.table):
            if where.operator in _EQUAL or where.operator in _RANGE:
                yield column, where.operator
            return


def _has_column(expression: Any, table: Any) -> bool:
    """Whether the other side depends on the same table's row, so that no index can look it up."""
    return any(isinstance(part, sa.Column) and part.table is table for part in visitors.iterate(expression))


def _order(statement: Any) -> Iterator[sa.Column[Any]]:
    for clause in getattr(statement, "_order_by_clauses", ()):
        column = clause.element if isinstance(clause, sa.UnaryExpression) else clause
        if not isinstance(column, sa.Column):
            return
        yield column
