"""SQLite gives back what PostgreSQL would, or refuses."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from collections.abc import AsyncGenerator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.orders_db import opened
from tenfold import errors
from tenfold.db import Database

pytestmark = pytest.mark.anyio


class State(enum.Enum):
    OPEN = 1


metadata = sa.MetaData()
kinds = sa.Table(
    "kinds",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("price", sa.Numeric(12, 2)),
    sa.Column("exact", sa.Numeric),
    sa.Column("aware", sa.DateTime(timezone=True)),
    sa.Column("naive", sa.DateTime),
    sa.Column("made", sa.DateTime(timezone=True), server_default=sa.func.now()),
    sa.Column("day", sa.Date),
    sa.Column("data", sa.LargeBinary),
    sa.Column("flag", sa.Boolean),
    sa.Column("doc", sa.JSON),
    sa.Column("ident", sa.Uuid),
    sa.Column("state", sa.Enum(State)),
    sa.Column("span", sa.Interval),
)


@pytest.fixture
async def db(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Database]:
    async with opened(tmp_path, metadata=metadata) as database:
        yield database


async def through(db: Database, **values: Any) -> Any:
    (name,) = values
    async with db.tx() as tx:
        row = await tx.one(sa.insert(kinds).returning(kinds), dict, **values)
    assert row == await db.read().one(sa.select(kinds).where(kinds.c.id == row["id"]), dict)
    return row[name]


SUMMER = dt.timezone(dt.timedelta(hours=2))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("price", Decimal("12.30")),
        ("price", Decimal("-9999999999.99")),
        ("exact", Decimal("0.1")),
        ("naive", dt.datetime(2026, 1, 2, 3, 4, 5, 6)),
        ("naive", dt.datetime(7, 1, 2)),
        ("day", dt.date(2026, 1, 2)),
        ("data", b"\x00\xff"),
        ("flag", True),
        ("doc", {"a": [1, None, "x"]}),
        ("ident", uuid.UUID(int=7)),
        ("state", State.OPEN),
        ("span", dt.timedelta(days=1, microseconds=3)),
    ],
)
async def test_what_goes_in_comes_out(db: Database, column: str, value: Any) -> None:
    found = await through(db, **{column: value})
    assert found == value
    assert type(found) is type(value)
    assert await through(db, **{column: None}) is None


async def test_numbers_are_rounded_to_their_scale_and_keep_it(db: Database) -> None:
    assert str(await through(db, price=Decimal("1.005"))) == "1.01"
    assert str(await through(db, price=Decimal(3))) == "3.00"


@pytest.mark.parametrize("value", [Decimal("1234567890123456.78"), Decimal("NaN")])
async def test_numbers_that_sqlite_would_change_are_refused(db: Database, value: decimal.Decimal) -> None:
    with pytest.raises(errors.StatementError, match=r"SQLite keeps 15 digits .* Store it as an integer"):
        await through(db, exact=value)


async def test_aware_times_come_back_aware_in_utc_and_compare(db: Database) -> None:
    at = dt.datetime(2026, 7, 1, 12, tzinfo=SUMMER)
    found = await through(db, aware=at)
    assert found == at
    assert found.tzinfo == dt.UTC
    later = sa.select(kinds.c.id).where(kinds.c.aware > sa.bindparam("since"))
    assert await db.read().maybe(later, int, since=at - dt.timedelta(microseconds=1)) == 1
    assert await db.read().maybe(later, int, since=at) is None
    made = await db.read().one(sa.select(kinds.c.made), dt.datetime)
    assert made.tzinfo == dt.UTC


async def test_a_time_with_the_wrong_kind_of_zone_is_refused(db: Database) -> None:
    with pytest.raises(errors.StatementError, match="holds times with a time zone"):
        await through(db, aware=dt.datetime(2026, 1, 1))
    with pytest.raises(errors.StatementError, match="holds times without one"):
        await through(db, naive=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))


async def test_a_value_of_no_sql_type_is_refused(db: Database) -> None:
    with pytest.raises(errors.StatementError, match="a type that SQLite cannot store"):
        await db.read().all(sa.text("SELECT :x"), x=object())
