"""Which route a request takes."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from tenfold._core.sections import GatewayRoute
from tenfold.errors import BadRequest, ConfigError, NotFound
from tenfold.gateway.routes import Routes


def routes(**given: Any) -> Routes:
    return Routes({name: GatewayRoute(service=name, **options) for name, options in given.items()})


SHOP = routes(
    web={},
    orders={"path": "/orders"},
    refunds={"path": "/orders/refunds/", "strip": True},
    admin={"host": "admin.shop.example"},
    tenants={"host": "*.shop.example", "path": "/t"},
)


@pytest.mark.parametrize(
    ("host", "path", "name"),
    [
        ("shop.example", "/", "web"),
        ("shop.example", "/orders", "orders"),
        ("shop.example", "/orders/", "orders"),
        ("shop.example", "/orders/7", "orders"),
        ("shop.example", "/orders-old", "web"),
        ("shop.example", "/orders/refunds/7", "refunds"),
        ("ADMIN.shop.example:8080", "/orders", "admin"),
        ("a.b.shop.example", "/t/x", "tenants"),
        ("a.shop.example", "/orders", "orders"),
        ("[::1]:80", "/", "web"),
        ("x", "//orders//refunds", "refunds"),
        ("x", "/_tenfolded", "web"),
    ],
)
def test_the_most_specific_host_and_then_the_longest_path_decide(host: str, path: str, name: str) -> None:
    assert SHOP.find(host, path).name == name


@pytest.mark.parametrize("path", ["/orders/../admin", "/./orders", "/orders/..", "/a\\b"])
def test_a_path_that_a_service_might_read_as_another_is_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        SHOP.find("x", path)


@pytest.mark.parametrize("path", ["/_tenfold/call/x", "/_tenfold", "//_tenfold/call/x"])
def test_what_services_answer_each_other_is_not_public(path: str) -> None:
    with pytest.raises(NotFound):
        SHOP.find("x", path)


def test_without_a_route_nothing_is_served() -> None:
    with pytest.raises(NotFound):
        routes(orders={"path": "/orders"}).find("x", "/carts")


def test_a_service_sees_its_own_paths_and_the_document_the_public_ones() -> None:
    orders, refunds = SHOP.find("x", "/orders"), SHOP.find("x", "/orders/refunds")
    assert orders.inner("/orders/a%2Fb", "/orders/a/b") == "/orders/a%2Fb"
    assert refunds.inner("/orders/refunds/a%2Fb", "/orders/refunds/a/b") == "/a%2Fb"
    assert refunds.inner("/orders/refunds", "/orders/refunds") == "/"
    assert (orders.outer("/orders/{id}"), orders.outer("/carts"), refunds.outer("/{id}")) == (
        "/orders/{id}",
        "",
        "/orders/refunds/{id}",
    )


@pytest.mark.parametrize("raw", ["/%6Frders/refunds/7", "//orders/refunds/7", "/orders//refunds/7", ""])
def test_what_is_stripped_may_be_written_oddly(raw: str) -> None:
    path = unquote(raw) or "/orders/refunds/7"
    assert SHOP.find("x", path).inner(raw, path) == "/7"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "orders"}, "gateway.routes.orders.path: 'orders' is not a path"),
        ({"path": "/orders/{id}"}, "is not a path"),
        ({"host": "http://x"}, "gateway.routes.orders.host: 'http://x' is not a host"),
        ({"canary": {"next": 60.0, "beta": 50.0}}, "the weights are 110 % together"),
        ({"canary": {"orders": 5.0}}, "is the route's own service"),
    ],
)
def test_what_cannot_work_is_said_at_start(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        routes(orders=options)


def test_two_routes_for_the_same_are_named() -> None:
    with pytest.raises(ConfigError, match=r"gateway\.routes\.b: /x is the route 'a', too"):
        routes(a={"path": "/x"}, b={"path": "/x/"})
