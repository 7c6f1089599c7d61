"""Reading: rows in the caller's types, and clear errors where they do not fit."""

from __future__ import annotations

import dataclasses
from contextlib import aclosing
from typing import Any, TypedDict

import attrs
import pydantic
import pytest
import sqlalchemy as sa

from support.orders_db import Order, add_order, count_orders, order_by_id, orders
from tenfold import errors
from tenfold.db import Database, Row

pytestmark = pytest.mark.anyio


@dataclasses.dataclass
class DataOrder:
    customer: str
    id: int
    total: int = 0


@attrs.define
class AttrsOrder:
    id: int
    customer: str
    _total: int


class DictOrder(TypedDict):
    id: int
    customer: str
    total: int


class PydanticOrder(pydantic.BaseModel):
    id: int
    customer: str
    total: int


async def fill(db: Database, count: int) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.insert(orders), [{"customer": f"c{n}", "total": n} for n in range(1, count + 1)])


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        (Order, Order(1, "c1", 1)),
        (DataOrder, DataOrder(customer="c1", id=1, total=1)),
        (DictOrder, {"id": 1, "customer": "c1", "total": 1}),
        (PydanticOrder, PydanticOrder(id=1, customer="c1", total=1)),
        (dict, {"id": 1, "customer": "c1", "total": 1}),
        (tuple, (1, "c1", 1)),
        (tuple[int, str, float], (1, "c1", 1.0)),
    ],
)
async def test_a_row_arrives_as_the_type_that_was_asked_for(db: Database, type_: Any, expected: Any) -> None:
    await fill(db, 1)
    found = await db.read().one(order_by_id, type_, id=1)
    assert found == expected
    assert type(found) is type(expected)


async def test_attrs_fields_go_by_their_alias(db: Database) -> None:
    await fill(db, 1)
    labelled = sa.select(orders.c.id, orders.c.customer, orders.c.total.label("_total"))
    assert await db.read().one(labelled, AttrsOrder) == AttrsOrder(1, "c1", 1)


async def test_without_a_type_a_row_has_its_columns_as_attributes(db: Database) -> None:
    await fill(db, 1)
    row = await db.read().one(order_by_id, id=1)
    assert isinstance(row, Row)
    assert (row.id, row.customer, row[2]) == (1, "c1", 1)
    assert row.as_dict() == {"id": 1, "customer": "c1", "total": 1}


async def test_one_maybe_and_scalar_say_when_there_is_not_exactly_one_row(db: Database) -> None:
    await fill(db, 2)
    reader = db.read()
    assert await reader.maybe(order_by_id, Order, id=9) is None
    assert await reader.scalar(count_orders) == 2
    with pytest.raises(errors.NoRow, match="SELECT orders"):
        await reader.one(order_by_id, Order, id=9)
    for many in (reader.one, reader.maybe, reader.scalar):
        with pytest.raises(errors.ManyRows):
            await many(sa.select(orders))
    assert await reader.one(order_by_id, Order, id=1) == Order(1, "c1", 1)


async def test_columns_that_do_not_fit_are_named_with_the_fields(db: Database) -> None:
    await fill(db, 1)
    with pytest.raises(errors.RowMismatch) as caught:
        await db.read().one(sa.select(orders.c.id, orders.c.customer.label("customr")), Order)
    assert str(caught.value) == (
        "the columns (id, customr) do not fit Order (id, customer, total): no column for the field 'customer', "
        "'total'; no field for the column 'customr'. Did you mean 'customer'? Name the columns in the statement, or "
        "label them."
    )


async def test_stream_gives_every_row_in_order_of_one_state(db: Database) -> None:
    await fill(db, 1_203)
    ids: list[int] = []
    async for order in db.read().stream(sa.select(orders).order_by(orders.c.id), Order):
        ids.append(order.id)
        if order.id == 1:
            async with db.tx() as tx:
                await tx.execute(sa.delete(orders).where(orders.c.id > 1_000))
    assert ids == list(range(1, 1_204))


async def test_a_stream_that_is_left_early_gives_its_connection_back(tmp_path: Any) -> None:
    from support.orders_db import opened

    async with opened(tmp_path, readers=1) as db:
        await fill(db, 2_000)
        for _ in range(3):
            async with aclosing(db.read().stream(sa.select(orders), Order)) as rows:  # type: ignore[type-var]
                async for _ in rows:
                    break
        assert await db.read().scalar(count_orders) == 2_000


async def test_statements_of_a_snapshot_see_one_state_and_the_next_reader_the_new_one(db: Database) -> None:
    await fill(db, 1)
    async with db.read() as reader:
        before = await reader.scalar(count_orders)
        await fill(db, 5)
        assert await reader.scalar(count_orders) == before == 1
    assert await db.read().scalar(count_orders) == 6


async def test_a_reader_refuses_to_write(db: Database) -> None:
    with pytest.raises(errors.TransactionMisuse, match=r"Use `async with db\.tx"):
        await db.read().one(add_order, Order, customer="x")
    with pytest.raises(errors.TransactionMisuse, match="given to a reader"):
        await db.read().all(sa.text("DELETE FROM orders"))
    async with db.read() as reader:
        with pytest.raises(errors.TransactionMisuse):
            await reader.all(sa.text("DELETE FROM orders"))


async def test_an_unbound_database_says_so() -> None:
    db = Database("shop", sa.MetaData())
    with pytest.raises(errors.NotBound, match="database 'shop' was used before its app started"):
        db.read()
    with pytest.raises(errors.NotBound):
        db.tx()


async def test_many_rows_are_decoded_in_slices(db: Database) -> None:
    await fill(db, 4_500)
    found = await db.read().all(sa.select(orders).order_by(orders.c.id), Order)
    assert [order.id for order in found] == list(range(1, 4_501))


async def test_a_prebuilt_read_costs_few_calls(db: Database) -> None:
    """The budget counts Python and C calls of one typed row by key, as ``bench/sqlite_tx.py`` does."""
    import sys

    await fill(db, 1)
    for _ in range(5):
        await db.read().one(order_by_id, Order, id=1)
    calls = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        await db.read().one(order_by_id, Order, id=1)
    finally:
        sys.setprofile(None)
    assert calls <= 24
