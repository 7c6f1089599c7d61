"""The server's numbers as errors: the class, what is named, and no value of a row."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from asyncmy import errors as vendor

from tenfold import errors
from tenfold.db.backends._mysql_errors import refused_at_start, translate
from tenfold.db.plan import Plan

users = sa.Table(
    "users",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("email", sa.String(20), unique=True),
    sa.Column("first", sa.String(20)),
    sa.Column("last", sa.String(20)),
    sa.UniqueConstraint("first", "last"),
    sa.Index("by_last", "last", unique=True),
)
plan = Plan("INSERT INTO users …", (), sa.insert(users))


@pytest.mark.parametrize(
    ("key", "columns"),
    [
        ("PRIMARY", ("id",)),
        ("email", ("email",)),
        ("users.email", ("email",)),
        ("first_2", ("first", "last")),
        ("by_last", ("last",)),
        ("unheard_of", ()),
    ],
)
def test_a_duplicate_names_the_columns_of_its_key(key: str, columns: tuple[str, ...]) -> None:
    error = translate(vendor.IntegrityError(1062, f"Duplicate entry 'secret' for key '{key}'"), plan)
    assert isinstance(error, errors.UniqueViolation)
    assert error.columns == columns
    assert error.table == "users"
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "said",
    [
        "Cannot add or update a child row: a foreign key constraint fails (`d`.`lines`, CONSTRAINT `fk` FOREIGN KEY "
        "(`order_id`) REFERENCES `orders` (`id`))",
        'Cannot delete or update a parent row: a foreign key constraint fails ("d"."lines", CONSTRAINT "fk" FOREIGN KEY '
        '("order_id") REFERENCES "d"."orders" ("id"))',
    ],
)
def test_a_foreign_key_is_named(said: str) -> None:
    error = translate(vendor.IntegrityError(1452, said), None)
    assert isinstance(error, errors.ForeignKeyViolation)
    assert (error.constraint, error.table, error.columns) == ("fk", "lines", ("order_id",))
    assert "orders" in str(error)


@pytest.mark.parametrize(
    ("number", "said", "kind", "part"),
    [
        (1048, "Column 'name' cannot be null", errors.NotNullViolation, "name must have a value"),
        (1364, "Field 'name' doesn't have a default value", errors.NotNullViolation, "name"),
        (4025, "CONSTRAINT `positive` failed for `d`.`t`", errors.CheckViolation, "'positive'"),
        (3819, "Check constraint 'positive' is violated.", errors.CheckViolation, "'positive'"),
        (1406, "Data too long for column 'name' at row 1", errors.ValueRefused, "name"),
        (1213, "Deadlock found", errors.SerializationFailure, "tried again"),
        (1205, "Lock wait timeout exceeded", errors.DatabaseUnavailable, "lock_timeout_s"),
        (1317, "Query execution was interrupted", errors.StatementTimeout, "deadline"),
        (1969, "max_statement_time exceeded", errors.StatementTimeout, "deadline"),
        (1290, "running with the --read-only option", errors.DatabaseUnavailable, "does not take writes"),
        (1040, "Too many connections", errors.DatabaseUnavailable, "no connection left"),
        (1461, "Can't create more than max_prepared_stmt_count", errors.DatabaseUnavailable, "max_prepared"),
        (1114, "The table 't' is full", errors.DatabaseUnavailable, "no room left"),
        (2013, "Lost connection", errors.DatabaseUnavailable, "broke"),
        (1792, "Cannot execute statement in a READ ONLY transaction", errors.TransactionMisuse, "db.tx()"),
        (1142, "INSERT command denied", errors.StatementError, "database.url"),
        (1064, "You have an error in your SQL syntax", errors.StatementError, "1064"),
    ],
)
def test_numbers(number: int, said: str, kind: type[errors.DatabaseError], part: str) -> None:
    error = translate(vendor.OperationalError(number, said), None)
    assert type(error) is kind
    assert part in str(error)


def test_a_value_that_does_not_fit_is_not_repeated() -> None:
    said = "Incorrect integer value: 'my secret' for column `d`.`t`.`c` at row 1"
    error = translate(vendor.DataError(1366, said), None)
    assert "secret" not in str(error)
    assert "`c`" in str(error)


@pytest.mark.parametrize(
    ("number", "part"), [(1045, "user or the password"), (1049, "does not exist"), (1044, "may not use")]
)
def test_what_is_wrong_with_the_setting_is_said_at_start(number: int, part: str) -> None:
    error = refused_at_start(vendor.OperationalError(number, "said"))
    assert isinstance(error, errors.ConfigError)
    assert str(error).startswith("database.url: ")
    assert part in str(error)
