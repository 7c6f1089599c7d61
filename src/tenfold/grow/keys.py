"""Primary keys as JSON text, made and read by SQLite itself: exact for whatever it stores. SQL text only.

``["3f2c", 7]`` is the key of a row with two key columns, as they are stored. Binary columns stand in hexadecimal.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tenfold.grow.tables import Subject


def key_of(subject: Subject, row: str = "") -> str:
    """SQL that makes the key of a row; ``row`` is ``NEW`` or ``OLD`` in a trigger."""
    prefix = f"{row}." if row else ""
    parts = [
        f"hex({prefix}{quoted(column.name)})" if _is_binary(column) else f"{prefix}{quoted(column.name)}"
        for column in subject.keys
    ]
    return f"json_array({', '.join(parts)})"


def parts_of(subject: Subject, key: Any) -> list[Any]:
    """Expressions for the key columns' stored values, out of the key ``key``."""
    return [_part(column, key, at) for at, column in enumerate(subject.keys)]


def is_key(subject: Subject, key: Any) -> Any:
    """The condition that a row of the table is the one of ``key``."""
    return sa.and_(*(c == part for c, part in zip(subject.keys, parts_of(subject, key), strict=True)))


def up_to(subject: Subject, key: Any) -> Any:
    """The condition that a row is not behind ``key`` in the order of the primary key."""
    return sa.tuple_(*subject.keys) <= sa.tuple_(*parts_of(subject, key))


def after(subject: Subject, key: Any) -> Any:
    """The condition that a row is behind ``key`` in the order of the primary key."""
    return sa.tuple_(*subject.keys) > sa.tuple_(*parts_of(subject, key))


def quoted(name: str) -> str:
    """An identifier in SQLite's quotes."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def literal(text: str) -> str:
    """A text in SQLite's quotes."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def _part(column: sa.Column[Any], key: Any, at: int) -> Any:
    found: Any = sa.func.json_extract(key, sa.literal_column(f"'$[{at}]'"))
    return sa.func.unhex(found) if _is_binary(column) else found


def _is_binary(column: sa.Column[Any]) -> bool:
    from tenfold.db.backends._apsw_dbapi import ApswDialect

    return "BLOB" in column.type.compile(dialect=ApswDialect()).upper()
