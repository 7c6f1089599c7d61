"""Webhooks: partners are told of orders, and the payment provider tells that one was paid."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import sqlalchemy as sa
from msgspec import Meta, Struct

from shop.demo import PAYMENT_SECRET
from shop.orders.declared import OrderPaid, OrderSettings, cancelled, order_table, paid, placed
from shop.orders.placing import orders
from tenfold import Clock, Settings, Tx, injected, roles
from tenfold.errors import ConfigError, RetryLater
from tenfold.webhooks import Received

__all__ = ["orders"]  # the service, complete once this module is imported: what the app needs

hooks = orders.webhooks(placed, paid, cancelled, path="/webhooks", auth=roles("admin"))

SUCCEEDED = "payment.succeeded"
UNKNOWN_S = 60.0
"""How long to wait for an order that is not there: the provider may be faster than the customer's own request."""


class Payment(Struct):
    """``amount`` is in pence."""

    order_id: Annotated[str, Meta(min_length=1, max_length=36)]
    amount: int
    currency: str = "GBP"


class PaymentEvent(Struct):
    """What the provider sends; other types than ``payment.succeeded`` are taken in and left alone."""

    type: str
    data: Payment


class _Owed(Struct):
    total: int
    status: str
    paid_at: datetime | None


_owed = sa.select(order_table.c.total, order_table.c.status, order_table.c.paid_at).where(
    order_table.c.id == sa.bindparam("id")
)
_pay = (
    sa.update(order_table)
    .where(order_table.c.id == sa.bindparam("id_"), order_table.c.paid_at.is_(None))
    .values(paid_at=sa.bindparam("at"))
)


class WrongPayment(Exception):
    """A payment that does not fit its order: somebody has to look at it, so it is kept as a dead message."""


def payment_secret(own: OrderSettings, settings: Settings) -> str:
    if settings.app.env == "production" and own.payment_secret == PAYMENT_SECRET:
        raise ConfigError("it is the one that everybody knows.", where="services.orders.payment_secret")
    return own.payment_secret


@orders.webhook("/hooks/payments", secret=payment_secret)
async def payment_confirmed(hook: Received[PaymentEvent], tx: Tx, clock: Clock = injected()) -> None:
    """Note that an order was paid. Once: the note, the event and the inbox row commit together."""
    payment = hook.data.data
    if hook.data.type != SUCCEEDED:
        return
    order = await tx.maybe(_owed, _Owed, id=payment.order_id)
    if order is None:
        if clock.now() - hook.at < UNKNOWN_S:
            raise RetryLater(5, "the order is not there yet")
        raise WrongPayment(f"payment {hook.id}: there is no order {payment.order_id!r}")
    if (payment.amount, payment.currency) != (order.total, "GBP"):
        raise WrongPayment(
            f"payment {hook.id}: {payment.amount} {payment.currency} were paid for order {payment.order_id}, "
            f"which costs {order.total} GBP"
        )
    now = datetime.fromtimestamp(clock.now(), UTC)
    if await tx.execute(_pay, id_=payment.order_id, at=now):
        await paid.publish(tx, OrderPaid(payment.order_id, hook.id), key=payment.order_id)
