"""PostgreSQL's SQLSTATEs as Tenfold's errors: the same classes, fields and sentences as the other databases'."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from tenfold.db.backends._postgresql_url import Address
from tenfold.db.plan import Plan
from tenfold.errors import (
    CheckViolation,
    ConfigError,
    DatabaseError,
    DatabaseUnavailable,
    ForeignKeyViolation,
    IntegrityError,
    NotNullViolation,
    SerializationFailure,
    StatementError,
    StatementTimeout,
    TransactionMisuse,
    UniqueViolation,
    ValueRefused,
)

_KEY = re.compile(r"\((?P<columns>.+?)\)=")
SETTING = "database.url"
SERVER_MIN = 13
_STATE_BY_WORDS = {
    "authentication failed": "28P01", "does not exist": "3D000", "too many": "53300",
    "connection slots are reserved": "53300",
}  # fmt: skip
"""A pooler refuses in words of its own."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the server said, in either driver's words."""

    state: str
    message: str = ""
    detail: str = ""
    table: str = ""
    column: str = ""
    constraint: str = ""
    source: str = ""
    """The server's function that raised it; the only part of some errors that does not depend on its language."""


def demoted(report: Report) -> bool:
    """A server that took writes is a standby now (SELECT works there): every connection to it is useless."""
    return report.state == "25006" or (
        report.state == "0A000" and report.source == "call_bool_check_hook"
    )  # BEGIN READ WRITE during recovery


def stale_plan(report: Report) -> bool:
    """A table was changed after the statement had been prepared."""
    return report.state == "0A000" and report.source == "RevalidateCachedQuery"


def lost(state: str) -> bool:
    """The connection is of no use any more. (26000: somebody's DISCARD or a pooler took its prepared statements.)"""
    return state.startswith(("08", "57P0")) or state == "26000"


def translate(report: Report, plan: Plan | None = None, *, read_only: bool = False) -> DatabaseError:
    """What a caller gets for what the server said. ``read_only``: we had asked for a transaction that only reads."""
    if report.state.startswith("23"):
        return _constraint(report, plan)
    statement = f" The statement: {plan.describe()}" if plan is not None else ""
    if report.state == "25006" and read_only:
        return TransactionMisuse(
            f"the statement writes, but it was given to a reader. Use db.tx().{statement}"
        )
    if demoted(report):
        return DatabaseUnavailable(
            "the server is a read-only standby now, so a fail-over goes on. The connections are made anew; try again."
        )
    if stale_plan(report):
        return SerializationFailure(
            f"a table was changed by another transaction while this one used it. Try again.{statement}"
        )
    if (known := _by_state(report)) is not None:
        return known
    if report.state == "57014":
        return StatementTimeout(f"the statement ran past its deadline and was stopped.{statement}")
    kind = ValueRefused if report.state in _VALUES else StatementError
    return kind(f"PostgreSQL refuses the statement: {report.message}.{statement}")


_VALUES = frozenset({"22001", "22003", "22008", "22021", "22P05"})
"""Too long, out of range, a date out of range, NUL, a character that the server's encoding has not."""


def _by_state(report: Report) -> DatabaseError | None:
    state, said = report.state, report.message
    if state in ("40001", "40P01"):
        return SerializationFailure(
            f"the transaction collided with another one ({said}). Try the whole of it again."
        )
    if state == "55P03":
        return DatabaseUnavailable("a row or table is locked by another transaction for too long. Try again.")
    if state == "53100":
        return DatabaseUnavailable(
            "the disk of the database server is full: nothing was written. Reads go on; writes work again as soon "
            "as there is room."
        )
    if state == "53300":
        return DatabaseUnavailable(
            f"the server of {SETTING} has no connection left for us ({said}). Raise the limit there (max_connections, "
            "or CONNECTION LIMIT of the role or database), or lower database.pool_max of the processes that share it."
        )
    if state == "42501":
        return DatabaseUnavailable(
            f"the user of {SETTING} may not do this ({said}). Grant the right, or use a user that owns the tables."
        )
    if state in ("57P01", "57P02", "57P03") or state.startswith(("08", "53", "58", "57P0")):
        return DatabaseUnavailable(f"the database server cannot serve now: {said}. Try again.")
    if state.startswith("XX"):
        return DatabaseUnavailable(f"the database is damaged, or the server at fault: {said}.")
    return None


def broken(error: object) -> DatabaseUnavailable:
    """The connection broke under a statement."""
    said = str(error) or type(error).__name__
    return DatabaseUnavailable(
        f"the connection to the database broke ({said}). What was not committed is undone; try again."
    )


def unreachable(where: str, error: object) -> DatabaseUnavailable:
    """No connection could be made."""
    said = (str(error) or type(error).__name__).strip().rstrip("?.")
    if isinstance(error, socket.gaierror) or "resolve host" in said:
        return DatabaseUnavailable(
            f"no address is known for the database server {where} ({said}). Correct the host in {SETTING}, or mend the "
            "name service."
        )
    if "SSL" in said:
        said += " (sslmode in the URL asks for it, or forbids it)"
    return DatabaseUnavailable(
        f"the database server at {where} cannot be reached: {said}. Start it, or correct {SETTING}."
    )


def unreadable(error: object, plan: Plan | None) -> ValueRefused:
    """The driver cannot make a value of Python of what the server sent: dates before Christ, the time 24:00."""
    statement = f" The statement: {plan.describe()}" if plan is not None else ""
    return ValueRefused(
        f"the answer has a value that Python has none for ({error}): dates are in the years 1 to 9999, times before "
        f"24:00. Select it as text, or leave such rows out.{statement}"
    )


def too_old(version: str) -> ConfigError:
    """A server that lacks what we need."""
    return ConfigError(
        f"the server is PostgreSQL {version}, which is too old.",
        where=SETTING, remedy=f"Use PostgreSQL {SERVER_MIN} or newer.",
    )  # fmt: skip


def refusal(report: Report, *, user: str, database: str) -> ConfigError | DatabaseUnavailable:
    """What the server said instead of accepting a connection."""
    if report.state in ("28P01", "28000"):
        return ConfigError(
            f"the server refuses the user {user!r} or its password: {report.message}.",
            where=SETTING, remedy="Correct them in the URL (special characters percent-encoded), or pg_hba.conf.",
        )  # fmt: skip
    if report.state == "3D000":
        return ConfigError(
            f"the server has no database {database!r}.", where=SETTING, remedy=f"Run: createdb {database}"
        )
    if report.state in ("3F000", "42704", "22023", "42501"):
        return ConfigError(f"the server refuses the connection: {report.message}.", where=SETTING)
    if report.state == "53300":
        return DatabaseUnavailable(str(_by_state(report)))
    return DatabaseUnavailable(
        f"the database server accepts no connections now: {report.message}. Try again."
    )


def refused_in_words(text: str, address: Address) -> ConfigError | DatabaseUnavailable:
    """The same of psycopg, which tells no SQLSTATE of a connection that was not made."""
    said = text.strip().rpartition("\n")[2]
    for words, state in _STATE_BY_WORDS.items():
        if words in said:
            report = Report(state, said.rpartition("FATAL:")[2].strip().rstrip("."))
            return refusal(report, user=address.user, database=address.database)
    return unreachable(address.hosts, said)


# ── constraints ──


def _constraint(report: Report, plan: Plan | None) -> IntegrityError:
    table = report.table or (plan.table.name if plan is not None and plan.table is not None else "")
    found = _KEY.search(report.detail)
    columns = tuple(part.strip().strip('"') for part in found["columns"].split(",")) if found else ()
    if report.state == "23505":
        return UniqueViolation(
            f"a row of {table or 'the table'} with the same {' and '.join(columns) or 'key'} exists.",
            constraint=report.constraint, table=table, columns=columns,
        )  # fmt: skip
    if report.state == "23502":
        named = f"{table}.{report.column}"
        columns = (report.column,) if report.column else ()
        return NotNullViolation(f"{named} must have a value.", constraint=named, table=table, columns=columns)
    if report.state == "23514":
        return CheckViolation(
            f"the check {report.constraint!r} refuses the value.", constraint=report.constraint, table=table
        )
    if report.state == "23503":
        return ForeignKeyViolation(
            f"a row of {table or 'the table'} refers to one that does not exist ({report.constraint}), or is still "
            "referred to.",
            constraint=report.constraint, table=table, columns=columns,
        )  # fmt: skip
    return IntegrityError(
        f"a constraint refuses the change: {report.message}.",
        constraint=report.constraint, table=table, columns=columns,
    )  # fmt: skip
