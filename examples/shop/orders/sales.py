"""What other services may ask about orders. No routes: only calls between services reach these."""

from __future__ import annotations

from datetime import date

import msgspec
import sqlalchemy as sa

from shop.orders.declared import DaySold, Line, OrderDay, ReceiptOf, db, lines_of_order, order_table, orders

_among = sa.select(order_table.c.id).where(order_table.c.id.in_(sa.bindparam("ids", expanding=True)))
_day = (
    sa.select(
        order_table.c.country,
        sa.func.count().label("orders"),
        sa.func.sum(order_table.c.line_count).label("lines"),
        sa.func.sum(order_table.c.total).label("revenue"),
    )
    .where(order_table.c.day == sa.bindparam("day"), order_table.c.status != "cancelled")
    .group_by(order_table.c.country)
    .order_by(order_table.c.country)
)
_between = (
    sa.select(
        order_table.c.day,
        order_table.c.country,
        sa.func.count().label("orders"),
        sa.func.sum(order_table.c.line_count).label("lines"),
        sa.func.sum(order_table.c.total).label("revenue"),
    )
    .where(
        order_table.c.day.between(sa.bindparam("since"), sa.bindparam("until")),
        order_table.c.status != "cancelled",
    )
    .group_by(order_table.c.day, order_table.c.country)
    .order_by(order_table.c.day, order_table.c.country)
)
_first = sa.select(sa.func.min(order_table.c.day))
_order = sa.select(order_table).where(order_table.c.id == sa.bindparam("id"))
_lines = lines_of_order()


@orders.internal
async def exist(order_ids: list[str]) -> list[str]:
    """Those of ``order_ids`` that were placed, cancelled or not."""
    return await db.read().all(_among, str, ids=order_ids)


@orders.internal
async def sold_on(day: date) -> list[OrderDay]:
    """What was sold on ``day`` (UTC), per country."""
    return await db.read().all(_day, OrderDay, day=day)


@orders.internal
async def sold_between(since: date, until: date) -> list[DaySold]:
    """What was sold on the days from ``since`` to ``until`` (UTC), per day and country."""
    return await db.read().all(_between, DaySold, since=since, until=until)


@orders.internal
async def first_day() -> date | None:
    """The day of the first order; None when there is none."""
    found: date | None = await db.read().scalar(_first)
    return found


@orders.internal
async def receipt_of(order_id: str) -> ReceiptOf:
    """Everything that the receipt of an order says."""
    async with db.read() as reader:
        order = await reader.one(_order, dict, id=order_id)
        lines = await reader.all(_lines, Line, id=order_id)
    return msgspec.convert({**order, "order_id": order_id, "lines": lines}, ReceiptOf)
