"""Bulk loads: any number of rows, checked names, defaults as in an INSERT."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from support.orders_db import count_orders, orders
from tenfold import errors
from tenfold.db import Database, load

pytestmark = pytest.mark.anyio

_numbers = itertools.count(1)
stamped = sa.Table(
    "stamped",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True)),
    sa.Column("number", sa.Integer, default=lambda: next(_numbers)),
    sa.Column("state", sa.Text, default="new"),
)
computed = sa.Table(
    "computed",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, default=sa.func.upper("made")),
)


def _rows(count: int) -> Iterator[dict[str, Any]]:
    return ({"customer": f"c{n}", "total": n} for n in range(count))


async def test_a_generator_longer_than_a_piece_is_loaded_whole(db: Database) -> None:
    async with db.tx() as tx:
        assert await tx.load(orders, _rows(load.PIECE + 1)) == load.PIECE + 1
        assert await tx.load(orders, []) == 0
    assert await db.read().scalar(count_orders) == load.PIECE + 1


async def test_values_are_processed_and_columns_left_out_get_their_defaults(db: Database) -> None:
    at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    async with db.tx() as tx:
        await tx.execute(
            sa.text("CREATE TABLE stamped (id INTEGER PRIMARY KEY, at TEXT, number INTEGER, state TEXT)")
        )
        await tx.load(stamped, [{"id": 1, "at": at}, {"id": 2, "at": None}])
        rows = await tx.all(sa.select(stamped).order_by(stamped.c.id), tuple)
    assert [(row[1], row[3]) for row in rows] == [(at, "new"), (None, "new")]
    assert rows[1][2] == rows[0][2] + 1


async def test_a_default_that_the_database_computes_is_computed(db: Database) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.text("CREATE TABLE computed (id INTEGER PRIMARY KEY, name TEXT)"))
        assert await tx.load(computed, [{"id": 1}, {"id": 2}]) == 2
        assert await tx.all(sa.select(computed.c.name), str) == ["MADE", "MADE"]


async def test_a_wrong_or_missing_name_is_a_sentence_and_nothing_is_loaded(db: Database) -> None:
    with pytest.raises(errors.StatementError, match="has no column 'custmer'"):
        async with db.tx() as tx:
            await tx.load(orders, [{"custmer": "a"}])
    with pytest.raises(errors.StatementError, match="every row must have the same columns"):
        async with db.tx() as tx:
            await tx.load(orders, [*_rows(1), {"customer": "b"}])
    assert await db.read().scalar(count_orders) == 0
