"""Inventory: how much of each product is available. It never goes below zero.

`hold` takes goods from the shelf for an order that is about to be placed; the event `order-placed` turns the hold
into a sale, `order-cancelled` puts the goods back. orders/placing.py tells the whole story.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta, Struct

from shop import catalog
from shop.catalog import Sku
from shop.columns import NAMING, Utc
from shop.orders import sales
from shop.orders.declared import Item, OrderCancelled, OrderPlaced, cancelled, placed
from tenfold import Clock, Service, Tx, injected, public, roles
from tenfold.errors import Conflict, FieldError, InvalidInput, NotFound

inventory = Service("inventory", tags=["inventory"])

metadata = sa.MetaData(naming_convention=NAMING)
stock_table = sa.Table(
    "stock",
    metadata,
    sa.Column("sku", sa.String(32), primary_key=True),
    sa.Column("available", sa.Integer, nullable=False),
    # The last line of defence: should the code ever be wrong, the order fails instead.
    sa.CheckConstraint("available >= 0", name="available"),
)
hold_table = sa.Table(
    "holds",
    metadata,
    sa.Column("order_id", sa.String(36), primary_key=True),
    sa.Column("goods", sa.LargeBinary, nullable=False),
    sa.Column("sold", sa.Boolean, nullable=False),
    sa.Column("held_at", Utc, nullable=False),
    sa.Index("ix_holds_open", "sold", "held_at"),
)
delivery_table = sa.Table(
    "deliveries",
    metadata,
    sa.Column("note", sa.String(64), primary_key=True),
    sa.Column("delivered_at", Utc, nullable=False),
)
db = inventory.database(metadata)

HOLD_FOR = timedelta(minutes=15)
"""A request lives for seconds, so a hold of this age without an order has been abandoned."""


class Stock(Struct):
    sku: Sku
    available: int


class Delivery(Struct):
    """Goods that arrived. The number on the delivery ``note`` makes sure that they are counted once."""

    note: Annotated[str, Meta(min_length=1, max_length=64)]
    items: Annotated[list[Item], Meta(min_length=1, max_length=2000)]


class OutOfStock(Conflict):
    """Some lines cannot be delivered; ``lines`` of the problem lists them as :class:`Short`."""

    kind = "out-of-stock"


class Short(Struct):
    """A line that cannot be delivered: it wants ``quantity``, ``available`` are left."""

    path: str
    sku: Sku
    quantity: int
    available: int


_one = sa.select(stock_table).where(stock_table.c.sku == sa.bindparam("sku"))
_many = (
    sa.select(stock_table)
    .where(stock_table.c.sku.in_(sa.bindparam("skus", expanding=True)))
    .with_for_update()  # on PostgreSQL; SQLite has one writer at a time anyway
)
_move = (
    sa.update(stock_table)
    .where(stock_table.c.sku == sa.bindparam("sku_"))
    .values(available=stock_table.c.available + sa.bindparam("change"))
)
_add = sa.insert(stock_table)
_hold_of = sa.select(hold_table.c.goods).where(hold_table.c.order_id == sa.bindparam("order_id"))
_drop_hold = sa.delete(hold_table).where(hold_table.c.order_id == sa.bindparam("order_id"))
_add_hold = sa.insert(hold_table)
_sell = sa.update(hold_table).where(hold_table.c.order_id == sa.bindparam("order_id_")).values(sold=True)
_abandoned = (
    sa.select(hold_table.c.order_id)
    .where(hold_table.c.sold.is_(False), hold_table.c.held_at < sa.bindparam("before"))
    .order_by(hold_table.c.held_at)
    .limit(500)
)
_still_abandoned = sa.select(hold_table.c.order_id).where(
    hold_table.c.order_id == sa.bindparam("order_id"),
    hold_table.c.sold.is_(False),
    hold_table.c.held_at < sa.bindparam("before"),
)
_add_delivery = sa.insert(delivery_table)
_delivery = sa.select(delivery_table.c.note).where(delivery_table.c.note == sa.bindparam("note"))


@inventory.get("/stock/{sku}", auth=public, errors=(NotFound,))
async def get_stock(sku: Sku) -> Stock:
    """How many of a product can be ordered now."""
    stock = await db.read().maybe(_one, Stock, sku=sku)
    if stock is None:
        raise NotFound(f"There never was any stock of {sku!r}.")
    return stock


@inventory.post("/deliveries", auth=roles("admin"), status=201)
async def receive(delivery: Delivery, clock: Clock) -> Delivery:
    """Add goods to the stock. A delivery note that was received before changes nothing."""
    known = await catalog.find_products([item.sku for item in delivery.items])
    if unknown := [
        FieldError(in_="body", path=f"items[{n}].sku", message=f"There is no product {item.sku!r}.")
        for n, item in enumerate(delivery.items)
        if item.sku not in known
    ]:
        raise InvalidInput(errors=unknown)
    async with db.tx() as tx:
        await store(tx, delivery, _now(clock))
    return delivery


@inventory.internal
async def hold(order_id: str, items: list[Item], tx: Tx = injected(), clock: Clock = injected()) -> None:
    """Take ``items`` for an order that is about to be placed: all of them, or none and OutOfStock.

    A hold that the order has already is exchanged for this one, so a second attempt takes nothing twice.
    """
    await _put_back(tx, order_id)
    wanted = _sum(items)
    available = {row.sku: row.available for row in await tx.all(_many, Stock, skus=list(wanted))}
    if short := shortages(items, available):
        raise OutOfStock(_sentence(short), lines=short)
    await _change(tx, {sku: -quantity for sku, quantity in wanted.items()})
    await tx.execute(
        _add_hold, order_id=order_id, goods=msgspec.json.encode(wanted), sold=False, held_at=_now(clock)
    )


@inventory.on(placed)
async def confirm(event: OrderPlaced, tx: Tx) -> None:
    """The order exists: its hold is a sale now."""
    await tx.execute(_sell, order_id_=event.order_id)


@inventory.on(cancelled)
async def put_back(event: OrderCancelled, tx: Tx) -> None:
    """The order is off: its goods return to the shelf."""
    await _put_back(tx, event.order_id)


@inventory.every(timedelta(minutes=1))
async def release_abandoned(clock: Clock) -> None:
    """Put back what is held for orders that never came to be."""
    before = _now(clock) - HOLD_FOR
    held = await db.read().all(_abandoned, str, before=before)
    if not held:
        return
    # A placed order whose event is still under way (the worker may have been off for hours) keeps its goods.
    exist = set(await sales.exist(held))
    for order_id in held:
        if order_id not in exist:
            async with db.tx() as tx:
                # Look again inside the transaction: a late second attempt may have renewed the hold by now.
                if await tx.maybe(_still_abandoned, str, order_id=order_id, before=before) is not None:
                    await _put_back(tx, order_id)


def shortages(items: list[Item], available: dict[str, int]) -> list[Short]:
    """The lines that cannot be served from what is ``available``, counting the lines in front of each.

    >>> shortages([Item("mug", 2), Item("mug", 2)], {"mug": 3})
    [Short(path='lines[1]', sku='mug', quantity=2, available=1)]
    """
    left, short = dict(available), []
    for n, item in enumerate(items):
        if item.quantity > (have := left.get(item.sku, 0)):
            short.append(Short(f"lines[{n}]", item.sku, item.quantity, have))
        else:
            left[item.sku] = have - item.quantity
    return short


async def store(tx: Tx, delivery: Delivery, at: datetime) -> None:
    """Count the goods of a delivery, once."""
    if await tx.maybe(_delivery, str, note=delivery.note) is None:
        await tx.execute(_add_delivery, note=delivery.note, delivered_at=at)
        await _change(tx, _sum(delivery.items))


def _sentence(short: list[Short]) -> str:
    first, more = short[0], len(short) - 1
    what = f"{first.path} wants {first.quantity} of {first.sku!r}, and {first.available or 'none'} are left"
    return f"{what} (and {more} more lines are short)." if more else f"{what}."


def _sum(items: list[Item]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for item in items:
        total[item.sku] += item.quantity
    return dict(total)


async def _put_back(tx: Tx, order_id: str) -> None:
    goods = await tx.maybe(_hold_of, bytes, order_id=order_id)
    if goods is not None:
        await tx.execute(_drop_hold, order_id=order_id)
        await _change(tx, msgspec.json.decode(goods, type=dict[str, int]))


async def _change(tx: Tx, change: dict[str, int]) -> None:
    """Add to (or take from) the stock of each product."""
    known = {row.sku for row in await tx.all(_many, Stock, skus=list(change))}
    if new := [{"sku": sku, "available": 0} for sku in change if sku not in known]:
        await tx.execute(_add, new)
    await tx.execute(_move, [{"sku_": sku, "change": by} for sku, by in change.items()])


def _now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.now(), UTC)
