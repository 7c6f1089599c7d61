"""SQLite's result codes as Tenfold's errors."""

from __future__ import annotations

import re

import apsw

from tenfold.db.moved import FENCE
from tenfold.db.plan import Plan
from tenfold.errors import (
    CheckViolation,
    DatabaseError,
    DatabaseUnavailable,
    ForeignKeyViolation,
    IntegrityError,
    NotNullViolation,
    StatementError,
    StatementTimeout,
    TransactionMisuse,
    UniqueViolation,
    ValueRefused,
)

_COLUMNS = re.compile(r"constraint failed: (.+)$")
_UNIQUE = {
    apsw.SQLITE_CONSTRAINT_UNIQUE,
    apsw.SQLITE_CONSTRAINT_PRIMARYKEY,
    apsw.SQLITE_CONSTRAINT_ROWID,
}


def translate(error: Exception, plan: Plan | None = None) -> DatabaseError:
    """What a caller gets for what SQLite said."""
    statement = f" The statement: {plan.describe()}" if plan is not None else ""
    if isinstance(error, apsw.ConstraintError):
        return _constraint(error, plan)
    if isinstance(error, apsw.InterruptError):
        return StatementTimeout(f"the statement ran past its deadline and was stopped.{statement}")
    if isinstance(error, apsw.FullError):
        return DatabaseUnavailable(
            "the disk (or the size limit of the database) is full: nothing was written. Reads go on; writes work "
            "again as soon as there is room."
        )
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return DatabaseUnavailable("the database file is locked by another process for too long. Try again.")
    if isinstance(error, apsw.ReadOnlyError):
        return TransactionMisuse(
            f"the statement writes, but it was given to a reader (or the file is read-only). Use db.tx().{statement}"
        )
    if isinstance(error, apsw.IOError | apsw.CantOpenError | apsw.NoMemError | apsw.ProtocolError):
        return DatabaseUnavailable(f"the database file cannot be used: {error}.")
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return DatabaseUnavailable(f"the database file is damaged ({error}). Restore it from a backup.")
    if isinstance(error, TypeError):
        return StatementError(f"a parameter has a type that SQLite cannot store: {error}.{statement}")
    if isinstance(error, OverflowError):
        return ValueRefused(f"a parameter is an integer of more than 64 bits.{statement}")
    return StatementError(f"SQLite refuses the statement: {error}.{statement}")


def deferred_foreign_keys() -> ForeignKeyViolation:
    """A transaction that ends with unmet DEFERRABLE constraints."""
    return ForeignKeyViolation(
        "a deferred foreign key is still violated at the end of the transaction: a row that is referred to is missing."
    )


def _constraint(error: apsw.ConstraintError, plan: Plan | None) -> DatabaseError:
    text, code = str(error), getattr(error, "extendedresult", 0)  # apsw sets it on instances only
    if FENCE in text:
        return DatabaseUnavailable(f"nothing was written: {text[text.index(FENCE) :]}.")
    found = _COLUMNS.search(text)
    named = found.group(1) if found else ""
    if code in _UNIQUE:
        table, columns = _split(named)
        return UniqueViolation(
            f"a row of {table or 'the table'} with the same {' and '.join(columns) or 'key'} exists.",
            constraint=named, table=table, columns=columns,
        )  # fmt: skip
    if code == apsw.SQLITE_CONSTRAINT_NOTNULL:
        table, columns = _split(named)
        return NotNullViolation(f"{named} must have a value.", constraint=named, table=table, columns=columns)
    if code == apsw.SQLITE_CONSTRAINT_CHECK:
        table = plan.table.name if plan is not None and plan.table is not None else ""
        return CheckViolation(f"the check {named!r} refuses the value.", constraint=named, table=table)
    if code == apsw.SQLITE_CONSTRAINT_FOREIGNKEY:
        return _foreign_key(plan)
    return IntegrityError(f"a constraint refuses the change: {text}.", constraint=named)


def _split(named: str) -> tuple[str, tuple[str, ...]]:
    """``t.a, t.b`` → ``t`` and its columns; an index name where SQLite names an expression index."""
    parts = [part.strip().rpartition(".") for part in named.split(",")]
    if not named or not all(dot for _, dot, _ in parts):
        return "", ()
    return parts[0][0], tuple(column for *_, column in parts)


def _foreign_key(plan: Plan | None) -> ForeignKeyViolation:
    """SQLite does not say which key it was; the table's declared ones are named instead."""
    table = plan.table if plan is not None else None
    if table is None:
        return ForeignKeyViolation("a row that is referred to does not exist, or is still referred to.")
    keys = sorted(table.foreign_keys, key=lambda key: key.parent.name)
    if not keys:
        return ForeignKeyViolation(f"a row of {table.name} is still referred to.", table=table.name)
    named = " or ".join(f"{key.parent.name} → {key.target_fullname}" for key in keys)
    return ForeignKeyViolation(
        f"a row of {table.name} refers to one that does not exist ({named}), or is still referred to.",
        table=table.name,
        columns=tuple(key.parent.name for key in keys) if len(keys) == 1 else (),
    )
