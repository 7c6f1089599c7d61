"""Triggers note every row that changes, by its key, whatever the statement; and the fence refuses every write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import apsw
import pytest
import sqlalchemy as sa

from tenfold.db.backends._apsw_dbapi import ApswDialect
from tenfold.db.moved import FENCE
from tenfold.grow import capture
from tenfold.grow.copier import changed_keys, changed_rows, unread_rows
from tenfold.grow.tables import Subject, subjects

metadata = sa.MetaData()
person = sa.Table(
    "person",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("email", sa.String(50), unique=True),
    sa.Column("parent", sa.ForeignKey("person.id", ondelete="CASCADE")),
)
place = sa.Table(
    "odd \"name's",
    metadata,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), primary_key=True),
    sa.Column("text", sa.Text),
    sqlite_with_rowid=False,
)
loose = sa.Table("loose", metadata, sa.Column("n", sa.Integer))


class _Database:
    def __init__(self, tables: sa.MetaData) -> None:
        self.metadata = tables


FOUND = {s.name: s for s in subjects([_Database(metadata)]) if s.table.metadata is metadata}  # type: ignore[list-item]
PERSON, PLACE = FOUND["person"], FOUND["odd \"name's"]


@pytest.fixture
def file() -> Iterator[apsw.Connection]:
    with closing(apsw.Connection(":memory:")) as connection:
        connection.execute("PRAGMA foreign_keys=ON; PRAGMA recursive_triggers=ON")
        for table in metadata.sorted_tables:
            connection.execute(str(sa.schema.CreateTable(table).compile(dialect=ApswDialect())))
        for statement in capture.install(list(FOUND.values())):
            connection.execute(statement)
        yield connection


def noted(file: apsw.Connection, table: str = "person") -> list[Any]:
    rows = file.execute(f"SELECT key FROM {capture.LOG} WHERE tbl = ? ORDER BY seq", (table,)).fetchall()
    file.execute(f"DELETE FROM {capture.LOG}")
    return [json.loads(key) for (key,) in rows]


def run(file: apsw.Connection, statement: Any, subject: Subject, **params: Any) -> list[tuple[Any, ...]]:
    """What a statement finds, its values read by the columns' types."""
    dialect = ApswDialect()
    compiled = statement.compile(dialect=dialect)
    values = compiled.construct_params(params)
    rows = file.execute(str(compiled), tuple(values[name] for name in compiled.positiontup)).fetchall()
    readers = [
        column.type.dialect_impl(dialect).result_processor(dialect, None)
        for column in statement.selected_columns
    ]
    return [tuple(v if r is None else r(v) for v, r in zip(row, readers, strict=True)) for row in rows]


def test_inserts_updates_and_deletes_are_noted_by_key(file: apsw.Connection) -> None:
    file.execute("INSERT INTO person (id, email) VALUES (1, 'a'), (2, 'b')")
    assert noted(file) == [[1], [2]]
    file.execute("UPDATE person SET email = 'c' WHERE id = 2")
    assert noted(file) == [[2]]
    file.execute("DELETE FROM person")
    assert noted(file) == [[1], [2]]


def test_a_changed_key_is_noted_as_both(file: apsw.Connection) -> None:
    file.execute("INSERT INTO person (id) VALUES (1)")
    noted(file)
    file.execute("UPDATE person SET id = 9 WHERE id = 1")
    assert sorted(noted(file)) == [[1], [9]]


def test_what_a_cascade_or_a_replacement_removes_is_noted(file: apsw.Connection) -> None:
    file.execute("INSERT INTO person (id, email, parent) VALUES (1, 'a', NULL), (2, 'b', 1), (3, 'c', 2)")
    noted(file)
    file.execute("DELETE FROM person WHERE id = 1")
    assert sorted(noted(file)) == [[1], [2], [3]]
    file.execute("INSERT INTO person (id, email) VALUES (4, 'x')")
    noted(file)
    file.execute("INSERT OR REPLACE INTO person (id, email) VALUES (5, 'x')")
    assert sorted(noted(file)) == [[4], [5]]


def test_what_is_rolled_back_is_not_noted(file: apsw.Connection) -> None:
    file.execute("BEGIN; INSERT INTO person (id) VALUES (1); ROLLBACK")
    assert noted(file) == []


def test_keys_of_any_type_lead_back_to_their_rows(file: apsw.Connection) -> None:
    file.execute(
        'INSERT INTO "odd ""name\'s" VALUES (?, ?, ?)', (b"\x00'\xff", "2026-01-02 03:04:05.000006", "here")
    )
    ((key, at),) = run(file, changed_keys(PLACE), PLACE)
    ((_, _, text),) = run(file, changed_rows(PLACE, partly=False), PLACE)
    assert (key, at.isoformat(), text) == (b"\x00'\xff", "2026-01-02T03:04:05.000006+00:00", "here")


def test_rows_are_read_on_from_any_key_and_followed_only_up_to_it(file: apsw.Connection) -> None:
    moments = [f"2026-01-0{day} 00:00:00.000000" for day in range(1, 5)]
    for moment in moments:
        file.execute('INSERT INTO "odd ""name\'s" VALUES (?, ?, ?)', (b"k", moment, moment))
    rows = run(file, unread_rows(PLACE, begun=False), PLACE)
    assert [row[2] for row in rows] == moments
    middle = rows[1][-1]
    assert [row[2] for row in run(file, unread_rows(PLACE, begun=True), PLACE, behind=middle)] == moments[2:]
    assert [row[2] for row in run(file, changed_rows(PLACE, partly=True), PLACE, until=middle)] == moments[:2]


def test_the_fence_refuses_every_write_until_it_is_taken_down(file: apsw.Connection) -> None:
    file.execute("INSERT INTO person (id) VALUES (1)")
    for statement in capture.fence(["person", "loose"], "postgresql://there's"):
        file.execute(statement)
    for write in (
        "INSERT INTO person (id) VALUES (2)",
        "UPDATE person SET email = 'x'",
        "DELETE FROM person",
    ):
        with pytest.raises(apsw.ConstraintError, match=f"{FENCE} to postgresql://there's"):
            file.execute(write)
    for statement in capture.unfence(["person", "loose"]):
        file.execute(statement)
    file.execute("DELETE FROM person")


def test_removing_the_capture_leaves_nothing(file: apsw.Connection) -> None:
    for statement in capture.remove(list(FOUND.values())):
        file.execute(statement)
    left = file.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'tenfold_grow%'").fetchall()
    assert left == [(0,)]


def test_as_many_triggers_are_expected_as_are_made(file: apsw.Connection) -> None:
    made = file.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchall()
    assert made == [(capture.expected(list(FOUND.values())),)]
