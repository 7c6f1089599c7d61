"""SQLAlchemy's MySQL dialect, made to mean what the same statement means on the other databases.

Statements are compiled with ``?`` and prepared by the server, so values never become part of the SQL. Types keep
what SQLite and PostgreSQL keep: microseconds, double precision, text and bytes of any length. Tables that are
created through it compare text by code points, trailing blanks included.
"""

# ruff: noqa: N802 - SQLAlchemy names its visitors after the types
from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.mysql.base import (
    MySQLCompiler,
    MySQLDDLCompiler,
    MySQLDialect,
    MySQLTypeCompiler,
)
from sqlalchemy.exc import CompileError

from tenfold.db.backends._strict import Strict
from tenfold.errors import StatementError

COLLATION = {True: "utf8mb4_nopad_bin", False: "utf8mb4_0900_bin"}
"""By ``is_mariadb``: text is compared by code points, and "a" is not "a "."""

SQL_MODE = ",".join(
    (
        "STRICT_ALL_TABLES",
        "ONLY_FULL_GROUP_BY",
        "ANSI_QUOTES",
        "PIPES_AS_CONCAT",
        "NO_BACKSLASH_ESCAPES",
        "NO_ZERO_DATE",
        "NO_ZERO_IN_DATE",
        "ERROR_FOR_DIVISION_BY_ZERO",
        "NO_ENGINE_SUBSTITUTION",
    )
)
"""Set on every connection, whatever the server's is: standard quoting, and an error where data would be bent."""


class Types(MySQLTypeCompiler):
    """The column types that keep as much as those of the other databases."""

    def visit_DATETIME(self, type_: Any, **kw: Any) -> str:
        fsp = getattr(type_, "fsp", None)
        return f"DATETIME({6 if fsp is None else fsp})"

    def visit_TIME(self, type_: Any, **kw: Any) -> str:
        fsp = getattr(type_, "fsp", None)
        return f"TIME({6 if fsp is None else fsp})"

    def visit_FLOAT(self, type_: Any, **kw: Any) -> str:
        return super().visit_FLOAT(type_, **kw) if type_.precision is not None else "DOUBLE"

    def visit_TEXT(self, type_: Any, **kw: Any) -> str:
        return super().visit_TEXT(type_, **kw) if type_.length else self._extend_string(type_, {}, "LONGTEXT")

    def visit_VARCHAR(self, type_: Any, **kw: Any) -> str:
        if type_.length is None:
            return self._extend_string(type_, {}, "LONGTEXT")
        return super().visit_VARCHAR(type_, **kw)

    def visit_large_binary(self, type_: Any, **kw: Any) -> str:
        return "LONGBLOB"

    def visit_BLOB(self, type_: Any, **kw: Any) -> str:
        return f"BLOB({type_.length})" if type_.length else "LONGBLOB"

    def visit_NUMERIC(self, type_: Any, **kw: Any) -> str:
        _sized(type_)
        return super().visit_NUMERIC(type_, **kw)

    def visit_DECIMAL(self, type_: Any, **kw: Any) -> str:
        _sized(type_)
        return super().visit_DECIMAL(type_, **kw)


def _sized(type_: Any) -> None:
    if type_.precision is None:
        raise CompileError(
            "a Numeric without precision would lose its decimal places on MySQL and MariaDB; write, for example, "
            "sa.Numeric(12, 2)"
        )


class Ddl(MySQLDDLCompiler):
    """Tables are InnoDB and compare by code points, unless their ``mysql_…`` options say otherwise."""

    def post_create_table(self, table: sa.Table) -> str:
        said = super().post_create_table(table)
        given = {name.lower() for name in table.kwargs}
        parts = [said] if said else []
        if "mysql_engine" not in given:
            parts.append("ENGINE=InnoDB")
        if not any("charset" in name or "character_set" in name or "collate" in name for name in given):
            dialect: Any = self.dialect
            parts.append(f"DEFAULT CHARACTER SET utf8mb4 COLLATE {COLLATION[bool(dialect.is_mariadb)]}")
        return " ".join(parts)

    def define_constraint_deferrability(self, constraint: Any) -> str:
        if constraint.deferrable:
            raise CompileError(
                "MySQL and MariaDB check every constraint at once and cannot defer one; declare it without "
                "deferrable=True"
            )
        return ""

    def visit_create_index(self, create: Any, *args: Any, **kw: Any) -> str:
        """There are no partial indexes: those of the framework begin with the column of their condition."""
        text = super().visit_create_index(create, *args, **kw)
        lead = create.element.info.get("lead")
        return text.replace(" (", f" ({lead}, ", 1) if lead else text


class Sql(Strict, MySQLCompiler):
    """Statements that the server would refuse, or answer with another type, although the others do not."""

    def visit_in_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return self._in(binary, "IN", **kw)

    def visit_not_in_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return f"({self._in(binary, 'NOT IN', **kw)})"

    def _in(self, binary: Any, word: str, **kw: Any) -> str:
        left, right = self.process(binary.left, **kw), self.process(binary.right, **kw)
        if _limited(binary.right):
            # A subquery of IN may not have a LIMIT, but what it selects from may.
            right = f"(SELECT * FROM {right} AS tenfold_limited)"  # noqa: S608 - compiled, as it was
        return f"{left} {word} {right}"

    def visit_sum_func(self, fn: Any, **kw: Any) -> str:
        """The sum of integers is DECIMAL here, and an integer everywhere else."""
        text = f"sum{self.function_argspec(fn, **kw)}"
        return f"CAST({text} AS SIGNED)" if isinstance(fn.type, sa.Integer) else text


def _limited(element: Any) -> bool:
    select = getattr(element, "element", element)
    return getattr(select, "_limit_clause", None) is not None


class _DateTime(sa.DateTime):
    """UTC in the database; aware and in UTC for ``timezone=True``, naive otherwise."""

    def bind_processor(self, dialect: sa.Dialect) -> Any:
        aware = self.timezone

        def process(value: Any) -> Any:
            if value is None or isinstance(value, str):
                return value
            if (value.tzinfo is not None) is not aware:
                wanted = "with a time zone" if aware else "without one"
                raise StatementError(f"{value!r} does not fit its column, which holds times {wanted}.")
            return value.astimezone(dt.UTC).replace(tzinfo=None) if aware else value

        return process

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> Any:
        if not self.timezone:
            return None
        utc = dt.UTC
        return lambda value: None if value is None else value.replace(tzinfo=utc)


class _Binary(sa.LargeBinary):
    """The driver takes and gives bytes."""

    def bind_processor(self, dialect: sa.Dialect) -> None:
        return None

    def result_processor(self, dialect: sa.Dialect, coltype: Any) -> None:
        return None


COLSPECS: dict[Any, Any] = {
    **MySQLDialect.colspecs,
    sa.DateTime: _DateTime,
    sa.LargeBinary: _Binary,
}


def json_text(value: Any) -> str:
    """JSON, as it is stored."""
    return msgspec.json.encode(value).decode()


class Shared:
    """What every dialect here has in common, whatever reaches the server."""

    statement_compiler = Sql
    ddl_compiler = Ddl
    type_compiler_cls = Types
    colspecs = COLSPECS
    supports_statement_cache = True
    supports_native_uuid = False  # CHAR(32) works in every version, and in MySQL
    _support_float_cast = True
    supports_for_update_of = False
    max_identifier_length = 64


class Dialect(Shared, MySQLDialect):  # type: ignore[misc] # the attributes are SQLAlchemy's to annotate
    """For compiling only: what it makes is prepared on the driver's connection."""

    driver = "tenfold"
    default_paramstyle = "qmark"
    supports_statement_cache = True

    def __init__(self, **options: Any) -> None:
        super().__init__(
            json_serializer=json_text, json_deserializer=msgspec.json.decode, is_mariadb=True, paramstyle="qmark",
            **options,
        )  # fmt: skip
        self._backslash_escapes = False
        self.server_version_info = (10, 6)

    def learn(self, version: tuple[int, ...], *, mariadb: bool) -> None:
        """The server's version and kind, before the first statement is compiled."""
        self.server_version_info = version
        self.is_mariadb = mariadb
        self.insert_returning = self.delete_returning = mariadb
        self.use_mysql_for_share = not mariadb
        self._requires_alias_for_on_duplicate_key = not mariadb and version >= (8, 0, 20)
