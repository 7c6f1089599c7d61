"""The shop's generated clients, used against a running fleet as a partner would."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from shop.app import app
from shop.demo import ADMIN, ADMIN_PASSWORD, CUSTOMER, CUSTOMER_PASSWORD
from support.clients import Dropping, needs_typescript, python_client, run_script, typescript_client
from support.shop_server import Shop

LAYOUTS = ("split",)
"""A fleet: five processes behind a balancer, which is what a partner meets."""

SCRIPT = r"""
import { Client, ConnectionFailed, InvalidInput, NotFound, OutOfStock, Unauthorized } from "./shop-client.js";
import type { Order } from "./shop-client.js";

declare const process: { argv: string[] };
const [, , url = "", proxied = "", other = "", email = "", password = "", sku = ""] = process.argv;
const { access_token } = await new Client({ baseUrl: url }).accounts.login({ email, password });
const token = () => Promise.resolve(access_token);
const near = new Client({ baseUrl: url, token });
const far = new Client({ baseUrl: proxied, token });
const farther = new Client({ baseUrl: other, token });

const failure = (call: Promise<unknown>) => call.then(() => null, (error: unknown) => error);
const lines = [{ sku, quantity: 3 }];
const order: Order = await far.orders.placeOrder({ lines, country: "France" });
const short = await failure(near.orders.placeOrder({ lines: [{ sku, quantity: 9 }] }));
const wrong = await failure(near.orders.placeOrder({ lines: [{ sku: "NONE", quantity: 1 }] }));
const left = (await near.inventory.getStock(sku)).available;
// Not repeated: nobody knows whether the first attempt did it.
const cancelling = await failure(farther.orders.cancelOrder(order.id));
const seen: string[] = [];
for await (const each of near.orders.iterOrders({ perPage: 1 })) seen.push(each.id);
console.log(JSON.stringify({
  total: order.total,
  placedOnce: seen.filter((id) => id === order.id).length,
  left,
  cancelling: cancelling instanceof ConnectionFailed,
  short: short instanceof OutOfStock && short.extra["lines"],
  wrong: wrong instanceof InvalidInput && wrong.errors.map((field) => field.path),
  absent: (await failure(near.orders.getOrder("none"))) instanceof NotFound,
  stranger: (await failure(new Client({ baseUrl: url }).orders.listOrders())) instanceof Unauthorized,
}));
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return python_client(app, tmp_path_factory.mktemp("client"))


@pytest.fixture
def sku(api: Any, shop: Shop, admin: httpx2.Client) -> str:
    """A product of which there are ten."""
    sku = f"C-{uuid.uuid4().hex[:20]}"
    with api.Client(shop.url, token=admin.headers["authorization"].split()[1]) as client:
        client.catalog.add_product(api.Product(sku=sku, name="Mug", category="Tests", price=1250))
        client.inventory.receive(
            api.InventoryDelivery(note=f"note-{sku}", items=[api.Item(sku=sku, quantity=10)])
        )
    return sku


@pytest.fixture
def client(api: Any, shop: Shop) -> Iterator[Any]:
    with api.Client(shop.url) as anybody:
        pair = anybody.accounts.login(api.Login(email=CUSTOMER, password=CUSTOMER_PASSWORD))
    with api.Client(shop.url, token=lambda: pair.access_token) as client:
        yield client


def order_of(api: Any, sku: str, quantity: int) -> Any:
    return api.NewOrder(lines=[api.NewLine(sku=sku, quantity=quantity)])


def test_an_order_whose_reply_is_lost_is_placed_once(api: Any, shop: Shop, client: Any, sku: str) -> None:
    pair = api.Client(shop.url).accounts.login(api.Login(email=CUSTOMER, password=CUSTOMER_PASSWORD))
    with Dropping(shop.url, 1) as proxy, api.Client(proxy.through(shop.url), token=pair.access_token) as far:
        order = far.orders.place_order(order_of(api, sku, 3))
        assert proxy.accepted == 2
    assert (order.total, order.status, order.lines[0].sku) == (3750, "placed", sku)
    assert [each.id for each in client.orders.iter_orders(per_page=5)].count(order.id) == 1
    assert client.inventory.get_stock(sku).available == 7


def test_what_the_shop_refuses_is_told_by_type(api: Any, shop: Shop, client: Any, sku: str) -> None:
    with pytest.raises(api.OutOfStock) as short:
        client.orders.place_order(order_of(api, sku, 11))
    assert short.value.extra["lines"] == [{"path": "lines[0]", "sku": sku, "quantity": 11, "available": 10}]
    with pytest.raises(api.InvalidInput) as wrong:
        client.orders.place_order(order_of(api, "NONE", 1))
    assert [(field.in_, field.path) for field in wrong.value.errors] == [("body", "lines[0].sku")]
    key = uuid.uuid4().hex
    client.orders.place_order(order_of(api, sku, 1), idempotency_key=key)
    with pytest.raises(api.IdempotencyMismatch):
        client.orders.place_order(order_of(api, sku, 2), idempotency_key=key)
    with pytest.raises(api.NotFound):
        client.orders.get_order("none")
    with pytest.raises(api.Forbidden):
        client.catalog.load_products([])
    with api.Client(shop.url, token="forged") as stranger, pytest.raises(api.Unauthorized):
        stranger.orders.list_orders()


def test_a_key_of_an_import_and_the_client_for_asyncio(api: Any, shop: Shop, sku: str) -> None:
    async def use() -> None:
        async with api.AsyncClient(shop.url) as anybody:
            pair = await anybody.accounts.login(api.Login(email=ADMIN, password=ADMIN_PASSWORD))

        async def token() -> str:
            return str(pair.access_token)

        async with api.AsyncClient(shop.url, token=token) as admin:
            new = api.NewKey(name=f"import {sku}", scopes=["orders:import"])
            key = (await admin.accounts.create_key(new)).key
            orders = [admin.catalog.get_product(sku) for _ in range(5)]
            assert {product.price for product in await asyncio.gather(*orders)} == {1250}
        async with api.AsyncClient(shop.url, api_key=key) as importing:
            line = api.NewLine(sku=sku, quantity=1, unit_price=990)
            order = api.NewOrder(lines=[line], reference=f"old-{sku}", email="old@shop.example")
            assert (await importing.orders.place_order(order)).total == 990
            with pytest.raises(api.AlreadyPlaced):
                await importing.orders.place_order(order)

    asyncio.run(use())


def test_a_picture_is_sent_from_a_path_and_an_import_is_watched(
    api: Any, shop: Shop, sku: str, tmp_path: Path
) -> None:
    from PIL import Image

    path = tmp_path / "mug.png"
    Image.new("RGB", (32, 32), "blue").save(path)
    with api.Client(shop.url) as anybody:
        pair = anybody.accounts.login(api.Login(email=ADMIN, password=ADMIN_PASSWORD))
    with api.Client(shop.url, token=pair.access_token) as admin:
        assert admin.uploads.put_picture(sku, picture=path).state == "processing"
        with pytest.raises(api.UnsupportedMedia):
            admin.uploads.put_picture(sku, picture=b"no picture")
        started = admin.catalog.start_import(products=b"sku,name,category,price\nIMP-1,Cup,Tests,100\n")
        states = [event.data.state for event in admin.catalog.watch_import(started.id)]
        assert states[-1] == "done"


@needs_typescript
def test_the_client_in_typescript_does_the_same(shop: Shop, sku: str, tmp_path: Path) -> None:
    script = typescript_client(app, SCRIPT, tmp_path)
    with Dropping(shop.url, 1) as first, Dropping(shop.url, 1) as second:
        proxied = [first.through(shop.url), second.through(shop.url)]
        seen = run_script(script, shop.url, *proxied, CUSTOMER, CUSTOMER_PASSWORD, sku)
    assert seen == {
        "total": 3750,
        "placedOnce": 1,
        "left": 7,
        "cancelling": True,
        "short": [{"path": "lines[0]", "sku": sku, "quantity": 9, "available": 7}],
        "wrong": ["lines[0].sku"],
        "absent": True,
        "stranger": True,
    }
