"""What tables and statements become for MariaDB and MySQL."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import CompileError
from sqlalchemy.schema import CreateIndex, CreateTable

from tenfold.db.backends._mysql_dialect import Dialect
from tenfold.db.backends._mysql_values import BULK_BYTES, BULK_ROWS, in_pieces, refuse_ends
from tenfold.errors import TransactionMisuse
from tenfold.queue.tables import message

mariadb, mysql = Dialect(), Dialect()
mysql.learn((8, 0, 36), mariadb=False)


def column(type_: Any) -> str:
    table = sa.Table("t", sa.MetaData(), sa.Column("c", type_))
    return str(CreateTable(table).compile(dialect=mariadb)).partition("c ")[2].partition("\n")[0].strip()


@pytest.mark.parametrize(
    ("type_", "made"),
    [
        (sa.DateTime(), "DATETIME(6)"),
        (sa.DateTime(timezone=True), "DATETIME(6)"),
        (sa.Time(), "TIME(6)"),
        (sa.Float(), "DOUBLE"),
        (sa.Text(), "LONGTEXT"),
        (sa.String(), "LONGTEXT"),
        (sa.String(20), "VARCHAR(20)"),
        (sa.LargeBinary(), "LONGBLOB"),
        (sa.Uuid(), "CHAR(32)"),
        (sa.Numeric(12, 2), "NUMERIC(12, 2)"),
    ],
)
def test_a_type_keeps_as_much_as_elsewhere(type_: Any, made: str) -> None:
    assert column(type_) == made


def test_a_number_without_precision_is_refused() -> None:
    with pytest.raises(CompileError, match=r"sa\.Numeric\(12, 2\)"):
        column(sa.Numeric())


def test_a_deferrable_constraint_is_refused() -> None:
    metadata = sa.MetaData()
    sa.Table("a", metadata, sa.Column("id", sa.Integer, primary_key=True))
    child = sa.Table("b", metadata, sa.Column("a", sa.ForeignKey("a.id", deferrable=True)))
    with pytest.raises(CompileError, match="deferrable"):
        str(CreateTable(child).compile(dialect=mariadb))


def test_tables_compare_by_code_points_unless_they_say_otherwise() -> None:
    plain = sa.Table("t", sa.MetaData(), sa.Column("c", sa.String(5)))
    own = sa.Table("t", sa.MetaData(), sa.Column("c", sa.String(5)), mysql_collate="utf8mb4_unicode_ci")
    assert "COLLATE utf8mb4_nopad_bin" in str(CreateTable(plain).compile(dialect=mariadb))
    assert "COLLATE utf8mb4_0900_bin" in str(CreateTable(plain).compile(dialect=mysql))
    made = str(CreateTable(own).compile(dialect=mariadb))
    assert "utf8mb4_unicode_ci" in made
    assert "nopad" not in made


def test_partial_indexes_of_the_framework_begin_with_their_condition() -> None:
    ready = next(index for index in message.indexes if index.name == "tenfold_message_ready")
    made = str(CreateIndex(ready).compile(dialect=mariadb))
    assert made.endswith("(state, queue, lane, share, priority, id)")


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (id INT)", "  alter table t", "/* why */ DROP TABLE t", "-- why\nTRUNCATE t", "COMMIT",
        "start transaction", "LOCK TABLES t WRITE", "rollback",
    ],
)  # fmt: skip
def test_what_ends_a_transaction_is_refused(sql: str) -> None:
    with pytest.raises(TransactionMisuse):
        refuse_ends(sql)


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "CREATE TEMPORARY TABLE t (id INT)", "INSERT INTO lock_ VALUES (1)", "WITH x AS (SELECT 1)"],
)
def test_other_statements_are_not(sql: str) -> None:
    refuse_ends(sql)


def test_pieces_are_bounded_in_rows_and_bytes() -> None:
    small = [(n,) for n in range(2 * BULK_ROWS + 1)]
    assert [len(piece) for piece in in_pieces(small)] == [BULK_ROWS, BULK_ROWS, 1]
    large = [(b"x" * (BULK_BYTES // 2),)] * 5
    assert [len(piece) for piece in in_pieces(large)] == [2, 2, 1]
    assert [row for piece in in_pieces(small) for row in piece] == small
