"""One running shop for the tests of this folder, and clients of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from support.shop_server import Shop


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

    def make(data: Path, database: str = "", events: str = "", **settings: str) -> Shop:
        shop = Shop(data, *free_ports(2), database=database, events=events, **settings)
        made.append(shop)
        return shop

    yield make
    for shop in made:
        shop.kill()


@pytest.fixture(scope="session")
def shop(new_shop: Callable[[Path], Shop], tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop that all tests share: each works with products of its own."""
    shop = new_shop(tmp_path_factory.mktemp("shop"))
    shop.start()
    return shop


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
    assert anyone.post("/accounts/register", json=form).status_code == 201
    with shop.client(form["email"], form["password"]) as client:
        yield client
