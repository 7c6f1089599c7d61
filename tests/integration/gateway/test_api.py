"""The API document of a gateway, and what is said at the start."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from integration.gateway.conftest import Fronts, listening
from tenfold import App, Service, public
from tenfold.errors import ConfigError
from tenfold.gateway.role import stand_in_front

pytestmark = pytest.mark.anyio


def shop(name: str, path: str, folder: Path) -> App:
    service = Service(name, auth=public)

    async def one(number: int) -> dict[str, int]:
        return {"number": number}

    service.get(path + "/{number}")(one)
    app = App(name, [service])
    app.configure(None, environ={}, app__data_dir=str(folder / name), log__access=False)
    return app


async def test_the_document_has_the_paths_that_the_routes_lead_to(fronts: Fronts, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        orders = await stack.enter_async_context(listening(shop("orders", "/orders", tmp_path)))
        catalog = await stack.enter_async_context(listening(shop("catalog", "/products", tmp_path)))
        routes = {"orders": {"path": "/orders"}, "catalog": {"path": "/catalog", "strip": True}}
        front = await stack.enter_async_context(
            fronts({"orders": orders, "catalog": catalog}, routes, docs=True)
        )
        document = (await front.client.get("/openapi.json")).json()
        assert list(document["paths"]) == ["/catalog/products/{number}", "/orders/{number}"]
        assert (await front.client.get("/catalog/products/7")).json() == {"number": 7}
        assert (await front.client.get("/docs")).headers["content-type"].startswith("text/html")


async def test_services_that_conflict_are_named(fronts: Fronts, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(listening(shop("orders", "/orders", tmp_path)))
        routes = {"orders": {"path": "/orders"}, "other": {"path": "/o", "strip": True}}
        front = await stack.enter_async_context(fronts({"orders": url, "other": url}, routes, docs=True))
        answer = await front.client.get("/openapi.json")
        assert answer.status_code == 502
        assert "both have an operation with the id 'orders.one'" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ({}, "a gateway without routes serves nothing"),
        ({"orders": {}}, r"gateway\.routes\.orders: nothing says where the service 'orders' is"),
        ({"orders": {"auth": "required"}}, "the app recognises nobody"),
        ({"orders": {"limit": "often"}}, r"gateway\.routes\.orders\.limit"),
    ],
)
def test_what_cannot_work_is_said_before_it_starts(routes: dict[str, Any], said: str, tmp_path: Path) -> None:
    app = App("front", [])
    routes = {name: {"service": name, **options} for name, options in routes.items()}
    known = {"orders": {"url": "http://127.0.0.1:9"}} if "limit" in str(routes) else {}
    app.configure(
        None,
        environ={},
        app__data_dir=str(tmp_path),
        http__docs=False,
        gateway__routes=routes,
        gateway__services=known,
    )
    with pytest.raises(ConfigError, match=said):
        stand_in_front(app)
