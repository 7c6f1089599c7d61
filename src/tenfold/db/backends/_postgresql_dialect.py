"""SQLAlchemy's PostgreSQL dialect, made to mean what the same statement means on the other databases."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from tenfold.errors import StatementError


class _DateTime(sa.DateTime):
    """Naive and aware times are not mixed: the driver would take a naive one for local time."""

    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], Any]:
        aware = self.timezone

        def process(value: Any) -> Any:
            if isinstance(value, dt.datetime) and (value.tzinfo is not None) is not aware:
                wanted = "with a time zone" if aware else "without one"
                raise StatementError(f"{value!r} does not fit its column, which holds times {wanted}.")
            return value

        return process


class _Numeric(sa.Numeric[Any]):
    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> None:
        return None

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> Any:
        return None if self.asdecimal else _to_float


class _Float(sa.Float[Any]):
    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> None:
        return None

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> Any:
        return _to_decimal if self.asdecimal else None


class _Binary(sa.LargeBinary):
    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> None:
        return None

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> None:
        return None


def _to_decimal(value: Any) -> decimal.Decimal | None:
    return None if value is None else decimal.Decimal(repr(value))


def _to_float(value: Any) -> float | None:
    return None if value is None else float(value)


class Dialect(PGDialect_asyncpg):
    """Compiles to ``$1`` with casts, for both drivers; JSON comes and goes as text."""

    supports_statement_cache = True
    supports_native_json_deserialization = False
    dialect_injects_custom_json_deserializer = False
    colspecs: Any = {  # noqa: RUF012 - SQLAlchemy declares it like this
        **PGDialect_asyncpg.colspecs,
        sa.DateTime: _DateTime,
        sa.Numeric: _Numeric,
        sa.Float: _Float,
        sa.LargeBinary: _Binary,
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            json_serializer=lambda value: msgspec.json.encode(value).decode(),
            json_deserializer=msgspec.json.decode,
            paramstyle="numeric_dollar",
            **options,
        )
