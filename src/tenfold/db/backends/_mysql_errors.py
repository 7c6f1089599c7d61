"""The server's error numbers as Tenfold's errors.

The server's own words are repeated where they name tables, columns and syntax; never where they hold the values of
a row, which belong in no log.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from asyncmy import errors as vendor

from tenfold.errors import (
    CheckViolation,
    ConfigError,
    DatabaseError,
    DatabaseUnavailable,
    ForeignKeyViolation,
    NotNullViolation,
    SerializationFailure,
    StatementError,
    StatementTimeout,
    TransactionMisuse,
    UniqueViolation,
    ValueRefused,
)

if TYPE_CHECKING:
    from tenfold.db.plan import Plan

VendorError = vendor.MySQLError

READ_ONLY_SERVER = frozenset({1290, 1836})
"""The server takes no writes: after a fail-over it is the wrong one, and so are its other connections."""
LOST = frozenset(
    {0, 1053, 1077, 1079, 1080, 1152, 1184, 1927, 1928, 2003, 2006, 2013, 2014, 2027, 2055, 4031}
)
"""The connection is gone."""
UNREACHABLE = LOST | {2002, 2005}
NO_PREPARING = 1295
"""The statement can be sent only as it is, not prepared."""
TOO_MANY_PREPARED = 1461
KILLED = frozenset({1317, 1969, 3024, 4024})
"""KILL QUERY, or the server's own limit of time."""

_FULL = frozenset({3, 1020 + 1, 1026, 1030, 1041, 1114})
_TOO_MANY = {
    1040: "the server has no connection left",
    1203: "its user has no connection left on the server",
    1226: "its user has used up a limit of the server",
    TOO_MANY_PREPARED: "the server's limit of prepared statements (max_prepared_stmt_count) is reached",
}
DENIED = frozenset({1044, 1045, 1142, 1143, 1227, 1370, 1698})
"""The user may not do it."""
_DUPLICATE = re.compile(r"for key '(?P<key>.*?)'$")
_COLUMN = re.compile(r"(?:[Cc]olumn|[Ff]ield) '(?P<column>[^']*)'")
# Names are quoted by ` or, with ANSI_QUOTES, by ".
_CHECK = re.compile(r"""CONSTRAINT [`"](?P<maria>[^`"]*)[`"]|constraint '(?P<mysql>[^']*)'""")
_FOREIGN = re.compile(
    r"""[`"](?P<child>[^`"]*)[`"], CONSTRAINT [`"](?P<name>[^`"]*)[`"] FOREIGN KEY \((?P<columns>[^)]*)\) """
    r"""REFERENCES [`"](?:[^`"]*[`"]\.[`"])?(?P<parent>[^`"]*)[`"]"""
)


def number(error: BaseException) -> int:
    """The error's number; 0 where the driver itself gave up."""
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


def is_lost(error: BaseException) -> bool:
    """True when the connection that raised ``error`` cannot be used any more."""
    return isinstance(error, OSError | vendor.InterfaceError) or number(error) in LOST


def translate(error: BaseException, plan: Plan | None = None) -> DatabaseError:
    """What a caller gets for what the server or the driver said."""
    statement = f" The statement: {plan.describe()}" if plan is not None else ""
    if isinstance(error, TypeError | ValueError | OverflowError):  # UnicodeEncodeError is a ValueError
        return StatementError(f"a parameter cannot be stored: {error}.{statement}")
    code, said = number(error), _said(error)
    if code in _CONSTRAINTS:
        return _CONSTRAINTS[code](said, plan)
    if code in KILLED:
        return StatementTimeout(f"the statement ran past its deadline and was stopped.{statement}")
    if is_lost(error):
        return DatabaseUnavailable(f"the connection to the database broke ({said}).")
    return _state(code, said) or _refusal(code, said, statement)


def _state(code: int, said: str) -> DatabaseError | None:
    """What is the matter with the server or the transaction, not with the statement."""
    if code in (1213, 1020, 1412, 1467):  # 1467 is a deadlock, too: one at the lock of the next number
        return SerializationFailure(
            "the transaction collided with another one and was rolled back; it may be tried again."
        )
    if code in (1205, 3572):
        return DatabaseUnavailable(
            "a row (or table) was locked by another transaction for longer than database.lock_timeout_s. Keep "
            "transactions short, and await nothing slow inside them."
        )
    if code in READ_ONLY_SERVER:
        return DatabaseUnavailable(
            f"the server does not take writes now ({said}). Its connections are replaced; try again."
        )
    if code in _TOO_MANY:
        return DatabaseUnavailable(f"{_TOO_MANY[code]} ({said}).")
    if code in _FULL:
        return DatabaseUnavailable(
            f"the server has no room left ({said}): nothing was written. Reads go on; writes work again as soon as "
            "there is room."
        )
    if code in UNREACHABLE:
        return DatabaseUnavailable(f"the database server cannot be reached ({said}).")
    return None


def _refusal(code: int, said: str, statement: str) -> DatabaseError:
    if code == 1792:
        return TransactionMisuse(
            f"the statement writes, but it was given to a reader. Use db.tx().{statement}"
        )
    if code in DENIED:
        return StatementError(
            f"the user of database.url may not do this ({said}). Grant it the right, or use another user.{statement}"
        )
    if code in (1406, 1264, 1366, 1292, 1411, 22003, 1690, 1265):
        return ValueRefused(f"a value does not fit its column: {_without_values(said)}.{statement}")
    if code == 1170:
        return StatementError(
            f"{said}. On MySQL and MariaDB text in a key needs a length: write sa.String(255) instead of sa.Text."
        )
    return StatementError(f"the server refuses the statement ({code}): {said}.{statement}")


def refused_at_start(error: BaseException) -> ConfigError | DatabaseUnavailable:
    """Why no connection could be made: what is wrong with the setting, or that the server is away."""
    code, said = number(error), _said(error)
    if code in (1045, 1698, 1251, 2059):
        return ConfigError(
            "the server refuses the user or the password.", where="database.url",
            remedy="Check them; characters such as @ : / are written %40 %3A %2F in a URL.",
        )  # fmt: skip
    if code == 1049:
        return ConfigError(
            f"the database does not exist ({said}).", where="database.url",
            remedy="Create it (CREATE DATABASE … CHARACTER SET utf8mb4), or correct the name.",
        )  # fmt: skip
    if code in DENIED:
        return ConfigError(
            f"the user may not use the database ({said}).", where="database.url",
            remedy="Let an administrator run: GRANT ALL ON <the database>.* TO <that user>",
        )  # fmt: skip
    if code in _TOO_MANY:
        return DatabaseUnavailable(
            f"{_TOO_MANY[code]} ({said}). Raise the limit there, or lower database.pool_max of the processes that use "
            "the server of database.url."
        )
    if _is_unknown_host(error):
        return DatabaseUnavailable(
            f"no address is known for its name ({said}). Correct the host in database.url, or mend the name service."
        )
    return DatabaseUnavailable(
        f"the database server cannot be reached ({said}). Start it, or correct database.url"
        + (" (its option ssl asks for encryption)." if "SSL" in said else ".")
    )


def _is_unknown_host(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, socket.gaierror):
            return True
        error = error.__cause__ or error.__context__
    return False


def _said(error: BaseException) -> str:
    text = str(error.args[1]) if len(error.args) > 1 else str(error) or type(error).__name__
    return text.rstrip(".")


def _without_values(said: str) -> str:
    """``Incorrect integer value: 'secret' for column `d`.`t`.`c` at row 1`` → without the value."""
    return re.sub(r"(value:?|Data truncated) '.*' (for (?:column|function))", r"\1 \2", said, flags=re.DOTALL)


# ── constraints ──


def _unique(said: str, plan: Plan | None) -> UniqueViolation:
    found = _DUPLICATE.search(said)
    key = (found.group("key") if found else "").rpartition(".")[2]  # MySQL says table.key
    table = plan.table if plan is not None else None
    columns = _columns_of(table, key)
    name = table.name if table is not None else ""
    what = " and ".join(columns) or (f"key {key!r}" if key else "key")
    return UniqueViolation(
        f"a row of {name or 'the table'} with the same {what} exists.",
        constraint=key, table=name, columns=columns,
    )  # fmt: skip


def _columns_of(table: sa.Table | None, key: str) -> tuple[str, ...]:
    """The columns of a unique key. One without a name of its own is named after its first column."""
    if table is None:
        return ()
    if key == "PRIMARY":
        return tuple(column.name for column in table.primary_key.columns)
    for index in table.indexes:
        if index.name == key:
            return tuple(column.name for column in index.columns)
    unique = [c for c in table.constraints if isinstance(c, sa.UniqueConstraint)]
    for constraint in unique:
        if constraint.name == key:
            return tuple(column.name for column in constraint.columns)
    for constraint in unique:
        names = tuple(column.name for column in constraint.columns)
        if constraint.name is None and re.fullmatch(re.escape(names[0]) + r"(_\d+)?", key):
            return names
    return ()


def _foreign(said: str, plan: Plan | None) -> ForeignKeyViolation:
    found = _FOREIGN.search(said)
    table = plan.table.name if plan is not None and plan.table is not None else ""
    if found is None:
        return ForeignKeyViolation(
            "a row that is referred to does not exist, or is still referred to.", table=table
        )
    columns = tuple(part.strip(' `"') for part in found.group("columns").split(","))
    child, parent = found.group("child"), found.group("parent")
    if said.startswith("Cannot delete or update a parent"):
        what = f"a row of {parent} is still referred to by {child} ({', '.join(columns)})."
    else:
        what = f"a row of {child} refers to one of {parent} that does not exist ({', '.join(columns)})."
    return ForeignKeyViolation(what, constraint=found.group("name"), table=child, columns=columns)


def _not_null(said: str, plan: Plan | None) -> NotNullViolation:
    found = _COLUMN.search(said)
    column = found.group("column") if found else ""
    table = plan.table.name if plan is not None and plan.table is not None else ""
    named = ".".join(filter(None, (table, column)))
    return NotNullViolation(
        f"{named or 'a column'} must have a value.",
        constraint=named, table=table, columns=(column,) if column else (),
    )  # fmt: skip


def _check(said: str, plan: Plan | None) -> CheckViolation:
    found = _CHECK.search(said)
    name = (found.group("maria") or found.group("mysql") or "") if found else ""
    table = plan.table.name if plan is not None and plan.table is not None else ""
    return CheckViolation(
        f"the check {name.rpartition('.')[2]!r} refuses the value.",
        constraint=name.rpartition(".")[2], table=table,
    )  # fmt: skip


_CONSTRAINTS: dict[int, Callable[[str, Any], DatabaseError]] = {
    1062: _unique,
    1586: _unique,
    1451: _foreign,
    1452: _foreign,
    1216: _foreign,
    1217: _foreign,
    1048: _not_null,
    1364: _not_null,
    3819: _check,
    4025: _check,
}
