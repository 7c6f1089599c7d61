"""One running shop for the tests of this folder, and clients of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import httpx2
import pytest

from support.shop_server import Shop
from support.split_shop import SplitShop

Layout = Literal["whole", "split"]


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for s in sockets:
        s.close()
    return ports


@pytest.fixture(scope="session")
def new_shop() -> Iterator[Callable[..., Shop]]:
    """Makes shops, ``new_shop(data, database="", events="", **settings)``, that are stopped at the end, whatever
    happens."""
    made: list[Shop] = []

    def make(data: Path, *, kind: type[Shop] = Shop, **settings: str) -> Shop:
        shop = kind(data, *free_ports(2), **settings)
        made.append(shop)
        return shop

    yield make
    for shop in made:
        shop.kill()


@pytest.fixture(scope="session")
def shops(
    new_shop: Callable[..., Shop], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Layout], Shop]:
    """The shop that all tests share, by layout, started when it is first asked for: each test works with products of its
    own."""
    running: dict[Layout, Shop] = {}

    def ask(layout: Layout) -> Shop:
        if layout not in running:
            kind = SplitShop if layout == "split" else Shop
            running[layout] = new_shop(tmp_path_factory.mktemp(layout), kind=kind)
            running[layout].pictures = 1
            running[layout].start()
        return running[layout]

    return ask


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module that says ``LAYOUTS`` has its tests run by each of them."""
    layouts = getattr(metafunc.module, "LAYOUTS", ())
    if layouts and "shop" in metafunc.fixturenames:
        metafunc.parametrize("shop", layouts, indirect=True, scope="session")


@pytest.fixture(scope="session")
def shop(request: pytest.FixtureRequest, shops: Callable[[Layout], Shop]) -> Shop:
    """In one process, unless the module says something else."""
    return shops(getattr(request, "param", "whole"))


@pytest.fixture(scope="session")
def anyone(shop: Shop) -> Iterator[httpx2.Client]:
    with shop.client() as client:
        yield client


@pytest.fixture(scope="session")
def admin(shop: Shop) -> Iterator[httpx2.Client]:
    with shop.admin() as client:
        yield client


@pytest.fixture(scope="session")
def customer(shop: Shop) -> Iterator[httpx2.Client]:
    with shop.customer() as client:
        yield client


@pytest.fixture(scope="session")
def other(shop: Shop, anyone: httpx2.Client) -> Iterator[httpx2.Client]:
    """Another customer."""
    form = {"email": "grace@shop.example", "password": "correct-horse-battery", "name": "Grace"}
    assert anyone.post("/accounts/register", json=form).status_code in (201, 409)  # once for each shop
    with shop.client(form["email"], form["password"]) as client:
        yield client
