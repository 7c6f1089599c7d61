"""Notifications: every order gets exactly one receipt by e-mail."""

from __future__ import annotations

from datetime import UTC, date, datetime

import sqlalchemy as sa
from msgspec import Struct

from shop.columns import NAMING, Utc
from shop.money import pounds
from shop.orders import sales
from shop.orders.declared import OrderPlaced, ReceiptOf, placed
from tenfold import Clock, Mailer, Retry, Service, Tx, injected, roles

notifications = Service("notifications", tags=["notifications"], calls=["orders.receipt_of"])

metadata = sa.MetaData(naming_convention=NAMING)
receipt_table = sa.Table(
    "receipts",
    metadata,
    sa.Column("order_id", sa.String(36), primary_key=True),
    sa.Column("day", sa.Date, nullable=False, index=True),
    sa.Column("sent_at", Utc),
)
db = notifications.database(metadata)


class Receipts(Struct):
    """How far the receipts of some days' orders are."""

    due: int
    sent: int


_add = sa.insert(receipt_table)
_sent = (
    sa.update(receipt_table)
    .where(receipt_table.c.order_id == sa.bindparam("order_id_"))
    .values(sent_at=sa.bindparam("at"))
)
_progress = sa.select(
    sa.func.count().label("due"), sa.func.count(receipt_table.c.sent_at).label("sent")
).where(receipt_table.c.day.between(sa.bindparam("since"), sa.bindparam("until")))


@notifications.on(placed)
async def receipt_due(event: OrderPlaced, tx: Tx) -> None:
    """Note that a receipt is due and have it sent; both happen with the event, or neither."""
    await tx.execute(_add, order_id=event.order_id, day=event.ordered_at.astimezone(UTC).date())
    await send_receipt.enqueue(tx, order_id=event.order_id)


@notifications.job(retry=Retry(attempts=10, max_s=600), timeout=30)
async def send_receipt(order_id: str, mailer: Mailer = injected(), clock: Clock = injected()) -> None:
    """Send the receipt, then write down that it was sent.

    Between the two the process may die, and the job runs again. The Message-ID is the same each time, so that
    the mailbox keeps one copy: a mail server cannot take part in our transaction, but it can recognise a mail.
    """
    receipt = await sales.receipt_of(order_id)
    await mailer.send(
        receipt.email,
        f"Your order {order_id}",
        receipt_text(receipt),
        key=f"receipt-{order_id}",
    )
    async with db.tx() as tx:
        await tx.execute(_sent, order_id_=order_id, at=datetime.fromtimestamp(clock.now(), UTC))


@notifications.get("/receipts", auth=roles("admin"))
async def receipts(since: date, until: date) -> Receipts:
    """How many receipts are due and sent for the orders of these days, both included (UTC)."""
    return await db.read().one(_progress, Receipts, since=since, until=until)


def receipt_text(receipt: ReceiptOf) -> str:
    """The mail's text: one line per line, amounts aligned."""
    lines = [
        f"{line.quantity:>6} × {line.name:<40.40} {pounds(line.unit_price):>10} {pounds(line.quantity * line.unit_price):>12}"
        for line in receipt.lines
    ]
    return "\n".join(
        [
            "Thank you for your order.",
            "",
            f"Order   {receipt.order_id}",
            f"Date    {receipt.ordered_at:%d %B %Y, %H:%M} UTC",
            f"To      {receipt.country}",
            "",
            *lines,
            "",
            f"{'Total £':>60} {pounds(receipt.total):>12}",
            "",
        ]
    )
