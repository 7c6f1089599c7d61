"""Many executions of one read: each with its own answer, in the order of the values, whole or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from tenfold import errors
from tenfold.conformance._database_case import (
    DatabaseCase,
    Order,
    add_order,
    endless,
    number,
    order,
    order_by_id,
    place,
)
from tenfold.conformance._database_failures import works
from tenfold.conformance.kit import PATIENCE_S, together
from tenfold.db.database import Database
from tenfold.db.decode import Row

by_total = (
    sa.select(order)
    .where(order.c.total >= sa.bindparam("low"), order.c.total < sa.bindparam("high"))
    .order_by(order.c.total.desc())
)
number_is = sa.select(number.c.n).where(number.c.n == sa.bindparam("n"))
blank = sa.select(sa.null().label("blank"), number.c.n).where(number.c.n == sa.bindparam("n"))


class EachClaims(DatabaseCase):
    async def test_each_value_gets_its_own_answer_in_order(self, db: Database) -> None:
        """Values may repeat, miss, or find several rows; what belongs to one is never counted for another."""
        placed = [await place(db, f"c{total}", total) for total in range(6)]
        one, two = placed[1], placed[2]
        reader = db.read()
        assert await reader.one_each(order_by_id, Order, id=[two.id, one.id, two.id]) == [two, one, two]
        assert await reader.maybe_each(order_by_id, Order, id=[-1, one.id, -2]) == [None, one, None]
        found = await reader.all_each(by_total, Order, low=[4, 9, 0, 2], high=[9, 9, 3, 2])
        assert [[each.total for each in rows] for rows in found] == [[5, 4], [], [2, 1, 0], []]
        assert await reader.one_each(order_by_id, Order, id=[]) == []

    async def test_each_says_which_value_has_not_one_row(self, db: Database) -> None:
        """`one_each` and `maybe_each` name the first position that has none or several."""
        placed = await place(db, "a", 1)
        await place(db, "b", 2)
        with pytest.raises(errors.NoRow, match=r"no row for the value at \[1\] of id. The statement: SELECT"):
            await db.read().one_each(order_by_id, Order, id=[placed.id, -1])
        with pytest.raises(
            errors.ManyRows, match=r"more than one row for the value at \[2\] of low and high"
        ):
            await db.read().maybe_each(by_total, Order, low=[1, 5, 0], high=[2, 9, 9])

    async def test_each_of_more_values_than_go_at_once(self, db: Database) -> None:
        """Any number of values, of several callers, find what is theirs."""
        wanted = [*range(1, 251), 999_999] * 3
        found = await together(db.read().maybe_each(number_is, int, n=wanted) for _ in range(4))
        assert found == [[n if n < 999_999 else None for n in wanted]] * 4

    async def test_a_row_of_nothing_is_a_row(self, db: Database) -> None:
        """NULL in the only row is an answer, and not a missing row; rows know the names of their columns."""
        for row in await db.read().one_each(blank, n=[3, 4]):
            assert isinstance(row, Row)
            assert list(row.as_dict()) == ["blank", "n"]
            assert row.blank is None
        first = sa.select(order.c.total).where(order.c.id == sa.bindparam("id"))
        placed = await place(db, "a", 7)
        assert await db.read().one_each(first, int, id=[placed.id] * 2) == [7, 7]
        assert await db.read().one_each(first, int, id=[placed.id]) == [7]

    async def test_each_in_transactions_snapshots_and_by_hand(self, db: Database, other: Database) -> None:
        """A transaction's executions see its own changes, a snapshot's its state; textual SQL works, too."""
        async with db.tx() as tx:
            mine = await tx.one(add_order, Order, customer="mine")
            assert await tx.one_each(order_by_id, Order, id=[mine.id, mine.id]) == [mine, mine]
        text = sa.text("SELECT id, customer, total FROM conf_order WHERE id = :id")
        async with db.read() as reader:
            assert await reader.maybe_each(order_by_id, Order, id=[mine.id]) == [mine]
            async with other.tx() as tx:
                await tx.execute(sa.delete(order))
            assert await reader.maybe_each(order_by_id, Order, id=[mine.id, -1]) == [mine, None]
            assert await reader.one_each(text, Order, id=[mine.id]) == [mine]
        assert await db.read().maybe_each(order_by_id, Order, id=[mine.id] * 2) == [None, None]
        assert await db.read().maybe_each(text, Order, id=[mine.id]) == [None]

    async def test_one_that_fails_fails_all_and_harms_nothing(self, db: Database) -> None:
        """Values that cannot be stored, and statements that write, are errors for all of them."""
        for wrong in (object(), [1]):
            with pytest.raises(errors.StatementError):
                await db.read().maybe_each(number_is, int, n=[1, 2, wrong, 3])
        with pytest.raises(errors.TransactionMisuse, match=r"db\.tx"):
            await db.read().one_each(add_order, Order, customer=["x"])
        assert await db.read().one_each(number_is, int, n=[5, 6]) == [5, 6]
        await works(db)

    async def test_each_does_not_read_more_rows_than_it_may(
        self, db: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The bound `rows_max` is for all rows of one call."""
        monkeypatch.setattr(db.backend, "rows_max", 5)
        up_to = sa.select(number.c.n).where(number.c.n <= sa.bindparam("n")).order_by(number.c.n)
        assert await db.read().all_each(up_to, int, n=[2, 3]) == [[1, 2], [1, 2, 3]]
        for wanted in ([3, 3], [200]):
            with pytest.raises(errors.ManyRows, match=r"more than 5 rows \(database.rows_max\)"):
                await db.read().all_each(up_to, int, n=wanted)

    async def test_a_wrong_number_of_values_is_told(self, db: Database) -> None:
        """Every parameter is a sequence, and all have the same length."""
        wrong: list[tuple[dict[str, Any], str]] = [
            ({"low": [1], "high": [1, 2]}, "low has 1, high has 2"),
            ({"low": 1, "high": [1]}, "low is to be a sequence .* is int"),
            ({"low": "12", "high": [1, 2]}, "low is to be a sequence .* is str"),
            ({}, "each value of what"),
        ]
        for params, said in wrong:
            with pytest.raises(errors.StatementError, match=said):
                await db.read().all_each(by_total, Order, **params)
        with pytest.raises(errors.StatementError):
            await db.read().all_each(by_total, Order, low=[1], highest=[2])

    async def test_each_that_is_cancelled_gives_its_connection_back(self, db: Database) -> None:
        """Cancelled executions end soon, any number of times."""
        slow = endless.where(sa.bindparam("k", type_=sa.Integer) > 0)
        began = db.backend.clock.monotonic()
        for _ in range(12):  # more often than the pool has connections
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.03):
                    await db.read().maybe_each(slow, int, k=[1, 2, 3])
        assert db.backend.clock.monotonic() - began < 3 * PATIENCE_S
        await works(db)
