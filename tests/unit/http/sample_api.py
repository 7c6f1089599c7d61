"""A small API that uses what the OpenAPI document can describe; tests fuzz it and look at its document."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pydantic
from msgspec import Meta

from tenfold.errors import Conflict, NotFound
from tenfold.http.asgi import HttpApp
from tenfold.http.docs import Docs
from tenfold.http.forms import Upload
from tenfold.http.operation import Operation, Policies
from tenfold.http.params import Cookie, Form, Header, Query
from tenfold.http.reply import Redirect, Reply, Response
from tenfold.http.stream import Event, EventStream
from tenfold.security.authenticator import Authenticator
from tenfold.security.policy import public
from tenfold.security.principal import Principal

Price = Annotated[Decimal, Meta(description="In pounds.")]
Quantity = Annotated[int, Meta(ge=1, le=99, description="How many.", examples=[2])]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Line(msgspec.Struct):
    """One product of an order."""

    product_id: UUID
    quantity: Quantity
    note: Annotated[str, Meta(max_length=80)] | None = None


class NewOrder(msgspec.Struct):
    """What a customer wants to buy."""

    lines: Annotated[list[Line], Meta(min_length=1, max_length=10)]
    deliver_on: date | None = None
    colours: list[Colour] = []
    gift: bool = False
    labels: dict[str, int] = {}


class Order(msgspec.Struct):
    """An order as it was placed."""

    id: int
    placed_at: datetime
    total: Decimal
    state: Literal["placed", "sent"]
    lines: list[Line]
    took: timedelta = timedelta(seconds=1.5)


class Page(msgspec.Struct):
    items: list[Order]
    next: str | None = None


@dataclass
class Filter:
    """What to look for."""

    text: str = ""
    max_price: Annotated[float, Meta(ge=0)] | None = None


class Card(msgspec.Struct, tag="card"):
    number: Annotated[str, Meta(pattern="^[0-9]{16}$")]


class Voucher(msgspec.Struct, tag="voucher"):
    code: str
    worth: Decimal | None = None


class Tree(msgspec.Struct):
    name: str
    children: list[Tree] = []


class Address(pydantic.BaseModel):
    """Where to send it."""

    street: str = pydantic.Field(min_length=1, max_length=50)
    zip: str | None = None


class AddressBook(pydantic.BaseModel):
    home: Address
    others: list[Address] = []


class Customer(Principal): ...


class TokenAuth(Authenticator):
    async def authenticate(self, headers: Any, cookies: Any, /) -> Principal | None:
        return Customer(id="ada") if headers.get("authorization") == "Bearer let-me-in" else None


def _order(order_id: int = 1) -> Order:
    return Order(order_id, datetime(2026, 1, 31, 12, tzinfo=UTC), Decimal("9.99"), "placed", [])


async def list_orders(
    page: Annotated[int, Meta(ge=1, description="From 1.")] = 1,
    state: Literal["placed", "sent"] | None = None,
    tag: Annotated[list[str], Query()] = [],  # noqa: B006 - the framework copies it
    since: date | None = None,
    detailed: bool = False,
) -> Page:
    """List orders.

    Newest first, fifty on a page.
    """
    return Page([_order()])


async def place_order(order: NewOrder, customer: Customer) -> Reply[Order]:
    """Place an order.

    The same Idempotency-Key places it once.
    """
    return Reply(_order(), 201)


async def get_order(order_id: Annotated[int, Meta(ge=1)]) -> Order:
    """Get one order."""
    if order_id > 100:
        raise NotFound(f"There is no order {order_id}.")
    return _order(order_id)


async def cancel_order(order_id: int) -> None:
    if order_id < 1:
        raise Conflict("It was sent already.")


async def search(
    wanted: Annotated[Filter, Query()], accept_language: Annotated[str, Header()] = "en"
) -> list[Order]:
    """Search for orders by their text, by what they cost, and in a language, with a first line that is too long."""
    return []


async def pay(payment: Card | Voucher, theme: Annotated[str | None, Cookie()] = None) -> dict[str, str]:
    return {"state": "paid"}


async def save_tree(tree: Tree, shout: bool = False) -> Tree:
    return tree


async def save_addresses(book: AddressBook) -> AddressBook:
    return book


async def upload(picture: Upload, title: Annotated[str, Form(), Meta(min_length=1)]) -> dict[str, int]:
    """Upload a picture."""
    return {"size": picture.size}


async def sign_in(name: Annotated[str, Form()], remember: Annotated[bool, Form()] = False) -> dict[str, str]:
    return {"name": name}


async def old_place() -> Redirect:
    return Redirect("/orders")


async def watch() -> EventStream[Event]:
    """Watch the orders as they come in."""

    async def events() -> Any:
        for number in range(3):
            yield Event(_order(number), id=str(number))

    return EventStream(events())


async def raw(size: Annotated[int, Query(), Meta(ge=0, le=1_000)]) -> Response:
    return Response(b"x" * size)


async def secret() -> None: ...


def _operation(fn: Any, route: str, **policies: Any) -> Operation[..., Any]:
    method, path = route.split()
    service = policies.pop("service", "orders")
    return Operation(
        fn, service=service, method=method, path=path, policies=Policies(**{"auth": public, **policies})
    )


OPERATIONS = [
    _operation(list_orders, "GET /orders"),
    _operation(place_order, "POST /orders", auth=Customer, errors=(Conflict,), status=201),
    _operation(get_order, "GET /orders/{order_id}", etag=True),
    _operation(cancel_order, "DELETE /orders/{order_id}", errors=(Conflict,), deprecated=True),
    _operation(search, "GET /search", summary="Search"),
    _operation(watch, "GET /orders/events"),
    _operation(pay, "POST /payments", service="payments"),
    _operation(save_tree, "PUT /trees", service="things", unknown_fields="ignore"),
    _operation(save_addresses, "PUT /addresses", service="things"),
    _operation(upload, "POST /pictures", service="things", status=201),
    _operation(sign_in, "POST /sign-in", service="accounts"),
    _operation(old_place, "GET /old", service="things"),
    _operation(raw, "GET /raw", service="things"),
    _operation(secret, "GET /secret", hidden=True),
]


def make_app() -> tuple[HttpApp, Docs]:
    authenticator = TokenAuth()
    app = HttpApp(OPERATIONS, authenticator=authenticator)
    docs = Docs(app.endpoints, title="Sample shop", version="1.2.0", authenticator=authenticator)
    for operation in docs.operations():
        app.add(operation)
    return app, docs
