"""What statements and transactions raise."""

from __future__ import annotations

from tenfold.errors._start import TenfoldError


class DatabaseError(TenfoldError):
    """A statement or a transaction failed."""


class NoRow(DatabaseError):
    """``one`` or ``scalar`` found nothing; use ``maybe`` where that is an ordinary answer."""

    status = 404


class ManyRows(DatabaseError):
    """``one``, ``maybe`` or ``scalar`` found more than one row, or ``all`` more than ``database.rows_max``."""


class RowMismatch(DatabaseError):
    """The columns of a statement and the fields of the type asked for do not fit."""


class StatementError(DatabaseError):
    """The engine refuses the statement (syntax, unknown table), or its parameters do not fit."""


class ValueRefused(StatementError):
    """A value that its column cannot keep: too long, out of range, or with the character NUL in a text."""

    status = 422


class IntegrityError(DatabaseError):
    """A constraint refused the change; ``constraint`` and ``columns`` name it where the engine tells."""

    status = 409

    def __init__(
        self,
        message: str,
        *,
        constraint: str = "",
        table: str = "",
        columns: tuple[str, ...] = (),
    ) -> None:
        self.constraint, self.table, self.columns = constraint, table, columns
        super().__init__(message)


class UniqueViolation(IntegrityError):
    """A row with the same key exists."""


class ForeignKeyViolation(IntegrityError):
    """A row that is referred to does not exist, or is still referred to."""


class NotNullViolation(IntegrityError):
    """A column that must have a value got none."""


class CheckViolation(IntegrityError):
    """A CHECK constraint refused the value."""


class SerializationFailure(DatabaseError):
    """The transaction collided with another and was rolled back whole; it may be tried again."""

    status = 503


class StatementTimeout(DatabaseError):
    """The deadline passed while the statement ran; the statement was interrupted."""

    status = 504


class DatabaseUnavailable(DatabaseError):
    """The database cannot be reached, is locked for too long, or its disk is full."""

    status = 503


class PoolExhausted(DatabaseUnavailable):
    """All connections of this process were taken, and none came free in time. The server may be well."""


class OutcomeUnknown(DatabaseError):
    """The connection broke at COMMIT: the transaction may or may not have happened."""

    status = 503


class TransactionMisuse(DatabaseError):
    """A transaction inside a transaction on the same database, or one used after its end."""
