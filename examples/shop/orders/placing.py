"""Place, look at and cancel orders.

How stock never goes below zero although inventory is a service of its own, perhaps one day in another database:

1. `place_order` first asks inventory to **hold** the goods. That is a transaction of inventory's own; it succeeds
   whole or refuses with what is left, so a customer learns at once that something is sold out.
2. It then writes the order and publishes `order-placed`, in one transaction. Inventory **confirms** the hold when
   the event arrives: the event exists if and only if the order does.
3. A process that dies between 1 and 2 leaves a hold without an order. The client repeats the request with its
   Idempotency-Key; the order's id is derived from that key, so the second attempt finds the same hold. If nobody
   comes back, inventory's schedule asks which orders exist and **releases** the rest.

The alternative, placing at once and cancelling when inventory finds nothing left, needs no hold but tells
customers "yes" and then "no". One transaction over both services' tables would be simplest of all, until the
day on which inventory moves to a database of its own.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
import sqlalchemy as sa
from msgspec import Meta, Struct

from shop import catalog, inventory
from shop.catalog import Sku
from shop.money import Pence
from shop.orders.declared import (
    Item,
    Line,
    OrderCancelled,
    OrderPlaced,
    Quantity,
    cancelled,
    db,
    line_table,
    lines_of_order,
    order_table,
    orders,
    placed,
)
from shop.pages import Page, PageNumber, PerPage, offset, paged
from tenfold import Clock, Header, Principal, Reader, Tx, authenticated, scopes
from tenfold.errors import Conflict, FieldError, Forbidden, InvalidInput, NotFound, UniqueViolation

__all__ = ["orders"]  # the service, complete once this module is imported: what the app needs

Country = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^\S.*$")]
OrderId = Annotated[str, Meta(min_length=1, max_length=36)]
IMPORT = "orders:import"


class AlreadyPlaced(Conflict):
    """The order exists: an import ran twice, or an Idempotency-Key came again after it was forgotten."""

    kind = "already-placed"


class NewLine(Struct):
    """``unit_price`` is the catalogue's, unless history is imported."""

    sku: Sku
    quantity: Quantity
    unit_price: Pence | None = None


class NewOrder(Struct):
    """``ordered_at``, ``reference``, ``email`` and ``unit_price`` are for importing orders of another system;
    only admins and API keys with the scope ``orders:import`` may set them."""

    lines: Annotated[list[NewLine], Meta(min_length=1, max_length=2000)]
    country: Country = "United Kingdom"
    ordered_at: Annotated[datetime, Meta(tz=True)] | None = None
    reference: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    email: Annotated[str, Meta(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")] | None = None


class Summary(Struct):
    """An order as a list shows it. ``total`` is in pence."""

    id: str
    reference: str | None
    country: str
    status: Literal["placed", "cancelled"]
    ordered_at: datetime
    line_count: int
    total: int
    paid_at: datetime | None = None


class Order(Summary, kw_only=True):
    lines: list[Line]


_by_id = sa.select(order_table).where(order_table.c.id == sa.bindparam("id"))
_lines_of = lines_of_order()
_same = (
    sa.select(order_table.c.id)
    .where(
        sa.or_(order_table.c.id == sa.bindparam("id"), order_table.c.reference == sa.bindparam("reference"))
    )
    .limit(1)
)
_count = sa.select(sa.func.count()).where(order_table.c.customer_id == sa.bindparam("customer"))
_history = (
    sa.select(*(order_table.c[name] for name in Summary.__struct_fields__))
    .where(order_table.c.customer_id == sa.bindparam("customer"))
    .order_by(order_table.c.ordered_at.desc(), order_table.c.id)
    .limit(sa.bindparam("limit"))
    .offset(sa.bindparam("offset"))
)
_insert_order = sa.insert(order_table)
_insert_lines = sa.insert(line_table)
_cancel = sa.update(order_table).where(order_table.c.id == sa.bindparam("id_")).values(status="cancelled")


@orders.post(
    "/orders",
    auth=authenticated | scopes(IMPORT),
    status=201,
    priority="critical",  # what the shop lives on is refused last
    idempotent="required",
    timeout_s=10.0,  # after a crash, the key is free for the client's next attempt this much later
    errors=(Forbidden, AlreadyPlaced, inventory.OutOfStock, InvalidInput),
)
async def place_order(
    order: NewOrder,
    customer: Principal,
    idempotency_key: Annotated[str, Header()],
    clock: Clock,
) -> Order:
    """Place an order. 409 when something is sold out, with every line that is short and what is left of it."""
    _check_import(order, customer)
    products = await catalog.find_products([line.sku for line in order.lines])
    _check_products(order, products)
    email = _receipt_address(order, customer)
    new = _priced(_order_id(customer, idempotency_key), order, products, clock)
    await _refuse_second(new)
    await inventory.hold(new.id, [Item(line.sku, line.quantity) for line in new.lines])
    async with db.tx() as tx:
        await _write(tx, new, customer, email)
        await placed.publish(tx, OrderPlaced(new.id, new.ordered_at), key=new.id)
    return new


@orders.get("/orders", auth=authenticated, errors=(NotFound,))
async def list_orders(customer: Principal, page: PageNumber = 1, per_page: PerPage = 24) -> Page[Summary]:
    """The caller's orders, newest first."""
    async with db.read() as reader:
        total = await reader.scalar(_count, customer=customer.id)
        items = await reader.all(
            _history, Summary, customer=customer.id, limit=per_page, offset=offset(page, per_page)
        )
    return paged(items, total=total, page=page, per_page=per_page, path="/orders")


@orders.get("/orders/{order_id}", auth=authenticated, errors=(NotFound,))
async def get_order(order_id: OrderId, customer: Principal) -> Order:
    """One of the caller's orders; admins see everybody's."""
    async with db.read() as reader:
        return await _load(reader, order_id, customer)


@orders.post("/orders/{order_id}/cancel", auth=authenticated, errors=(NotFound,))
async def cancel_order(order_id: OrderId, customer: Principal, tx: Tx) -> Order:
    """Cancel an order; its goods are for sale again. Cancelling twice changes nothing."""
    order = await _load(tx, order_id, customer)
    if order.status == "placed":
        await tx.execute(_cancel, id_=order_id)
        await cancelled.publish(tx, OrderCancelled(order_id), key=order_id)
        order.status = "cancelled"
    return order


def _check_import(order: NewOrder, customer: Principal) -> None:
    """Refuse, by name, what only an import may set."""
    if IMPORT in customer.scopes or "admin" in customer.roles:
        return
    given = [name for name in ("ordered_at", "reference", "email") if getattr(order, name) is not None]
    given += [f"lines[{n}].unit_price" for n, line in enumerate(order.lines) if line.unit_price is not None]
    if given:
        raise Forbidden(
            f"Only an import (an admin, or a key with the scope {IMPORT}) may set {', '.join(given)}.",
            fields=given,
        )


def _check_products(order: NewOrder, products: dict[str, catalog.Product]) -> None:
    missing = [
        FieldError(in_="body", path=f"lines[{n}].sku", message=f"There is no product {line.sku!r}.")
        for n, line in enumerate(order.lines)
        if line.sku not in products
    ]
    if missing:
        raise InvalidInput(errors=missing)


def _receipt_address(order: NewOrder, customer: Principal) -> str:
    address = order.email or customer.email
    if not address:
        message = "Your account has no e-mail address to send the receipt to."
        raise InvalidInput(errors=[FieldError(in_="body", path="email", message=message)])
    return address


def _order_id(customer: Principal, idempotency_key: str) -> str:
    """The same for every attempt at the same order, so that a second attempt finds what the first one held."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{customer.id}/{idempotency_key}"))


def _priced(order_id: str, order: NewOrder, products: dict[str, catalog.Product], clock: Clock) -> Order:
    """The order as it will stand: names and prices are those of this moment, whatever the catalogue does later."""
    lines = [_line(line, products[line.sku]) for line in order.lines]
    return Order(
        id=order_id,
        reference=order.reference,
        country=order.country,
        status="placed",
        ordered_at=order.ordered_at or datetime.fromtimestamp(clock.now(), UTC),
        line_count=len(lines),
        total=sum(line.quantity * line.unit_price for line in lines),
        lines=lines,
    )


def _line(line: NewLine, product: catalog.Product) -> Line:
    price = product.price if line.unit_price is None else line.unit_price
    return Line(line.sku, product.name, line.quantity, price)


async def _refuse_second(order: Order) -> None:
    """Before anything is held: an order that exists keeps the hold it has."""
    if await db.read().maybe(_same, str, id=order.id, reference=order.reference) is not None:
        raise _already_placed(order)


def _already_placed(order: Order) -> AlreadyPlaced:
    return AlreadyPlaced(f"The order {order.reference or order.id} was placed already.")


async def _write(tx: Tx, order: Order, customer: Principal, email: str) -> None:
    row = msgspec.structs.asdict(order)
    lines = row.pop("lines")
    row |= {"customer_id": customer.id, "email": email, "day": order.ordered_at.astimezone(UTC).date()}
    try:
        await tx.execute(_insert_order, row)
    except UniqueViolation:
        raise _already_placed(order) from None
    await tx.execute(
        _insert_lines,
        [
            {"order_id": order.id, "position": n, **msgspec.structs.asdict(line)}
            for n, line in enumerate(lines)
        ],
    )


async def _load(reader: Reader, order_id: str, customer: Principal) -> Order:
    """The order, if it is the caller's to see. Somebody else's does not exist as far as the caller can tell."""
    row = await reader.maybe(_by_id, dict, id=order_id)
    if row is None or (row["customer_id"] != customer.id and "admin" not in customer.roles):
        raise NotFound(f"There is no order {order_id!r}.")
    lines = await reader.all(_lines_of, Line, id=order_id)
    return msgspec.convert({**row, "lines": lines}, Order)
