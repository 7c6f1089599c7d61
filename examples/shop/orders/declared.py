"""The service, its tables, and the events that it publishes."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

import sqlalchemy as sa
from msgspec import Meta, Struct

from shop.catalog import Sku
from shop.columns import NAMING, Utc
from shop.demo import PAYMENT_SECRET as DEMO_PAYMENT_SECRET
from shop.money import Pence
from tenfold import Service


class OrderSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[services.orders]"""

    payment_secret: str = DEMO_PAYMENT_SECRET
    """What the payment provider signs its webhooks with. The default is known to everybody: set another one."""


orders = Service(
    "orders",
    settings=OrderSettings,
    tags=["orders"],
    calls=["catalog.find_products", "inventory.hold"],
)

metadata = sa.MetaData(naming_convention=NAMING)
order_table = sa.Table(
    "orders",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("customer_id", sa.String(64), nullable=False),
    sa.Column("reference", sa.String(64), unique=True),
    sa.Column("email", sa.String(254), nullable=False),
    sa.Column("country", sa.String(60), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("ordered_at", Utc, nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("line_count", sa.Integer, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("paid_at", Utc),
    sa.Index("ix_orders_history", "customer_id", "ordered_at", "id"),
    sa.Index("ix_orders_sales", "day", "country"),
)
line_table = sa.Table(
    "order_lines",
    metadata,
    sa.Column("order_id", sa.ForeignKey("orders.id"), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("sku", sa.String(32), nullable=False),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("quantity", sa.Integer, nullable=False),
    sa.Column("unit_price", sa.Integer, nullable=False),
    sa.CheckConstraint("quantity > 0", name="quantity"),
)
db = orders.database(metadata)

Quantity = Annotated[int, Meta(ge=1, le=100_000)]


class Item(Struct, frozen=True):
    """So many of one product."""

    sku: Sku
    quantity: Quantity


class OrderPlaced(Struct, frozen=True):
    order_id: str
    ordered_at: datetime


class OrderCancelled(Struct, frozen=True):
    order_id: str


class OrderPaid(Struct, frozen=True):
    order_id: str
    payment_id: str


class OrderDay(Struct, frozen=True):
    """What was sold on one day to one country; cancelled orders do not count."""

    country: str
    orders: int
    lines: int
    revenue: int


class DaySold(OrderDay, frozen=True, kw_only=True):
    """The same with its day."""

    day: date


class Line(Struct):
    """A line as it was sold: name and price are those of that moment."""

    sku: Sku
    name: str
    quantity: Quantity
    unit_price: Pence


class ReceiptOf(Struct, frozen=True):
    """What the receipt of an order says, and to whom."""

    order_id: str
    email: str
    country: str
    ordered_at: datetime
    total: int
    lines: list[Line]


def lines_of_order() -> sa.Select[Any, Any, Any, Any]:
    """The lines of the order ``:id``, in the order in which they were placed."""
    columns = (line_table.c.sku, line_table.c.name, line_table.c.quantity, line_table.c.unit_price)
    return (
        sa.select(*columns).where(line_table.c.order_id == sa.bindparam("id")).order_by(line_table.c.position)
    )


placed = orders.topic("order-placed", OrderPlaced)
cancelled = orders.topic("order-cancelled", OrderCancelled)
paid = orders.topic("order-paid", OrderPaid)
