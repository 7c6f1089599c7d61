"""SQLAlchemy's PostgreSQL dialect, made to mean what the same statement means on the other databases."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from tenfold.errors import StatementError


class _DateTime(sa.DateTime):
    """Naive and aware times are not mixed: the driver would take a naive one for local time."""

    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        aware = self.timezone

        def process(value: Any) -> Any:
            if value is None:
                return None
            if not isinstance(value, dt.datetime) or (value.tzinfo is not None) is not aware:
                wanted = "with a time zone" if aware else "without one"
                raise StatementError(f"{value!r} does not fit its column, which holds times {wanted}.")
            return value

        return process


class _Whole(sa.Integer):
    """The driver would cut the fraction off."""

    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        return _whole


class _SmallWhole(sa.SmallInteger):
    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        return _whole


class _BigWhole(sa.BigInteger):
    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        return _whole


class _Numeric(sa.Numeric[Any]):
    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> None:
        return None

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> Any:
        return None if self.asdecimal else _to_float


class _Uuid(sa.Uuid[Any]):
    """The standard library's class, not the driver's."""

    render_bind_cast = True

    def bind_processor(self, dialect: sa.Dialect) -> None:
        return None

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> Any:
        return _to_uuid if self.as_uuid else _to_text


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


def _to_uuid(value: Any) -> uuid.UUID | None:
    return None if value is None else uuid.UUID(int=value.int)


def _to_text(value: Any) -> str | None:
    return None if value is None else str(value)


_FRACTIONS = (float, decimal.Decimal)


def _whole(value: Any) -> Any:
    if isinstance(value, _FRACTIONS):  # a union would be made anew for every value
        raise StatementError(f"{value!r} is given where an integer is wanted. Round it as you mean it.")
    return value


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
        sa.Integer: _Whole,
        sa.SmallInteger: _SmallWhole,
        sa.BigInteger: _BigWhole,
        sa.Numeric: _Numeric,
        sa.Float: _Float,
        sa.LargeBinary: _Binary,
        sa.Uuid: _Uuid,
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            json_serializer=lambda value: msgspec.json.encode(value).decode(),
            json_deserializer=msgspec.json.decode,
            paramstyle="numeric_dollar",
            **options,
        )


def _only(type_: type[Any], wanted: type[Any]) -> type[Any]:
    """``type_`` that refuses values which the server would cast to it."""

    def process(value: Any) -> Any:
        if value is not None and not isinstance(value, wanted):
            raise StatementError(f"{value!r} is given where a {wanted.__name__} is wanted.")
        return value

    def bind_processor(_self: Any, _dialect: Any) -> Any:
        return process

    return type(type_.__name__, (type_,), {"bind_processor": bind_processor, "__module__": __name__})


class PooledDialect(Dialect):
    """For psycopg, which sends text where asyncpg knows the types and checks them."""

    supports_statement_cache = True
    colspecs: Any = {  # noqa: RUF012 - SQLAlchemy declares it like this
        **Dialect.colspecs,
        sa.String: _only(Dialect.colspecs[sa.String], str),
        sa.Date: _only(Dialect.colspecs[sa.Date], dt.date),
        sa.LargeBinary: _only(_Binary, bytes),
    }
