"""Inventory: how much of each product is available. It never goes below zero.

`hold` takes goods from the shelf for an order that is about to be placed; the event `order-placed` turns the hold
into a sale, `order-cancelled` puts the goods back. orders/placing.py tells the whole story.

The stock is a ledger: every movement of a product is an event, and what is available is what they come to. Each product
has a stream of its own, so that orders meet only where they want the same goods, and in the order of their arrival
there; one ledger of everything would make every order wait for every other. The table `stock` is a projection that
commits with the events: it answers readers, and can be rebuilt.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import sqlalchemy as sa
from msgspec import Meta, Struct
from msgspec.structs import replace

from shop import catalog
from shop.catalog import Sku
from shop.columns import NAMING, Utc
from shop.orders import sales
from shop.orders.declared import Item, OrderCancelled, OrderPlaced, cancelled, placed
from tenfold import Clock, Service, Tx, injected, public, roles
from tenfold.errors import Conflict, FieldError, InvalidInput, NotFound
from tenfold.eventstore import Recorded

inventory = Service("inventory", tags=["inventory"], calls=["catalog.find_products", "orders.exist"])

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


class Received(Struct, frozen=True):
    """Goods arrived, with a delivery note."""

    quantity: int
    note: str


class Held(Struct, frozen=True):
    """Goods were taken from the shelf for an order."""

    quantity: int
    order_id: str


class Released(Struct, frozen=True):
    """What an order held is back on the shelf."""

    quantity: int
    order_id: str


Movement = Received | Held | Released


class Shelf(Struct, frozen=True):
    """How much of one product can be held now."""

    available: int = 0


class TooFew(Exception):
    """The shelf has less than was wanted."""


def after(shelf: Shelf, event: Movement) -> Shelf:
    """The shelf after a movement."""
    return replace(shelf, available=shelf.available + change(event))


def change(event: Movement) -> int:
    """What a movement adds to the shelf."""
    return -event.quantity if isinstance(event, Held) else event.quantity


def move(shelf: Shelf, wanted: Movement) -> list[Movement]:
    """Commands and movements are the same here, but for one thing: what is not there cannot be held."""
    if isinstance(wanted, Held) and wanted.quantity > shelf.available:
        raise TooFew
    return [wanted]


ledger = inventory.aggregate(
    "stock", events=[Received, Held, Released], state=Shelf, evolve=after, decide=move, snapshot_every=100
)


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


@inventory.projection(ledger, mode="sync", tables=[stock_table])
async def keep_stock(events: list[Recorded[Movement]], tx: Tx) -> None:
    """The table `stock` goes with the ledger."""
    if new := [{"sku": event.stream, "available": 0} for event in events if event.version == 1]:
        await tx.execute(_add, new)
    total: Counter[str] = Counter()
    for event in events:
        total[event.stream] += change(event.data)
    await tx.execute(_move, [{"sku_": sku, "change": by} for sku, by in total.items()])


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
    try:
        await ledger.handle_many(tx, {sku: Held(quantity, order_id) for sku, quantity in wanted.items()})
    except TooFew:
        shelves = await ledger.load_many(tx, wanted)
        short = shortages(items, {sku: shelf.state.available for sku, shelf in shelves.items()})
        raise OutOfStock(_sentence(short), lines=short) from None
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
        received = {sku: Received(quantity, delivery.note) for sku, quantity in _sum(delivery.items).items()}
        await ledger.handle_many(tx, received)


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
        held = msgspec.json.decode(goods, type=dict[str, int])
        await ledger.handle_many(tx, {sku: Released(quantity, order_id) for sku, quantity in held.items()})


def _now(clock: Clock) -> datetime:
    return datetime.fromtimestamp(clock.now(), UTC)
