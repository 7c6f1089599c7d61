"""A gateway on one host and two services on others, and links between them that are cut: who cannot be reached is told in
time, is left alone, comes back when the link does, and nothing is written twice."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from support.hosts import Host, Hosts, hosts
from tenfold import App, Service, Tx, injected, public
from tenfold.gateway.role import stand_in_front
from tenfold.runtime import listeners
from tenfold.runtime.listeners import UvicornListener
from tenfold.security.identity import certificates, issuing
from tenfold.security.identity.names import service_name

pytestmark = pytest.mark.networks

TIMEOUT_S = 0.8
"""Of a request at the gateway."""
LATE_S = 5.0
"""Far more than those, and far less than a system takes to notice that nobody is there any more: a quarter of an hour."""
KEY = {"idempotency-key": "k1"}
PING = "/orders/ping"
CALL_TIMEOUT_S = 0.4
"""Of the call from one service to the other."""


def written(service: str) -> sa.Table:
    """Not unique: what is done twice is there twice."""
    return sa.Table(f"{service}_written", sa.MetaData(), sa.Column("id", sa.String(40)))


class Shop:
    """The code, of which each host has a copy: ``orders.place`` calls ``stock.take``, and both write."""

    def __init__(self) -> None:
        orders = Service("orders", auth=public, calls=["stock.take"])
        stock = Service("stock", auth=public, calls=[], timeout_s=CALL_TIMEOUT_S)
        self.placed, self.taken = written("orders"), written("stock")
        orders.database(self.placed.metadata)
        stock.database(self.taken.metadata)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        """Of an order that waits: it is there, and it may be answered."""

        @stock.internal
        async def take(order: str, tx: Tx = injected()) -> None:
            await tx.execute(sa.insert(self.taken).values(id=order))

        @orders.internal
        async def note(order: str, tx: Tx = injected()) -> None:
            await tx.execute(sa.insert(self.placed).values(id=order))

        @orders.post("/orders/{order}", idempotent=True)
        async def place(order: str) -> str:
            if order == "waits":
                self.begun.set()
                await self.go_on.wait()
            await take(order)
            await note(order)
            return order

        @orders.get("/orders/ping")
        async def ping() -> str:
            return "pong"

        self.app = App("shop", [orders, stock])


@asynccontextmanager
async def serving(app: App, port: int) -> AsyncGenerator[None]:
    sock = listeners.bind("0.0.0.0", port, where="http.port")
    listener = UvicornListener(app, sock, drain_s=1)
    async with app.lifespan():
        await listener.start()
        try:
            yield
        finally:
            await listener.stop()


class Running:
    """One host's process, as far as it is one here."""

    def __init__(self, host: Host, folder: Path, **settings: Any) -> None:
        self.host, self.shop, self.folder = host, Shop(), folder / host.name
        self._stack = AsyncExitStack()
        self.shop.app.configure(
            environ={}, app__env="production", app__secret_key="x" * 40, log__access=False, worker__enabled=False, database__migrate="auto",
            app__data_dir=str(self.folder), identity__folder=str(folder / "identity"), identity__tls=True,
            **settings,
        )  # fmt: skip

    def start(self, port: int) -> None:
        self.host.run(self._stack.enter_async_context(serving(self.shop.app, port)))

    def stop(self) -> Future[None]:
        return self.host.begin(self._stack.aclose())

    def rows(self, table: sa.Table) -> list[str]:
        (file,) = self.folder.glob("*.db")
        with closing(sqlite3.connect(file)) as database:
            return [name for (name,) in database.execute(f"SELECT id FROM {table.name} ORDER BY id")]


Told = tuple[int, str, float]
"""Status, body, and the seconds that it took."""


class Net:
    """All three, and a client beside the gateway."""

    def __init__(self, made: Hosts, folder: Path) -> None:
        self.hosts = made
        for name in ("orders", "stock", "gateway"):
            issuing.issue(folder / "identity", name, time.time())
            certificates.issue(folder / "identity", service_name("shop", name), time.time())
        at = {
            name: {peer: f"https://{ip}:8000" for peer, ip in made[name].addresses.items()}
            for name in made.all
        }
        self.orders = Running(made["orders"], folder, services__stock__url=at["orders"]["stock"])
        self.stock = Running(made["stock"], folder, services__orders__url=at["stock"]["orders"])
        self.gateway = Running(
            made["gateway"], folder, services__orders__url=at["gateway"]["orders"],
            gateway__routes={"orders": {"path": "/orders", "service": "orders", "timeout_s": TIMEOUT_S}},
        )  # fmt: skip
        self.orders.shop.app.serve_only("orders")
        self.stock.shop.app.serve_only("stock")
        stand_in_front(self.gateway.shop.app, docs=False)

    async def _ask(self, method: str, paths: Sequence[str], headers: dict[str, str]) -> list[Told]:
        async def one(client: httpx2.AsyncClient, path: str) -> Told:
            begun = time.monotonic()
            answer = await client.request(method, path, headers=headers)
            return answer.status_code, answer.text, time.monotonic() - begun

        async with httpx2.AsyncClient(base_url="http://127.0.0.1:8000", timeout=10.0) as client:
            return await asyncio.gather(*[one(client, path) for path in paths])

    def begin(self, method: str, *paths: str, **headers: str) -> Future[list[Told]]:
        """All at once."""
        return self.hosts["gateway"].begin(self._ask(method, paths, headers))

    def ask(self, method: str, *paths: str, **headers: str) -> list[Told]:
        return self.begin(method, *paths, **headers).result(30)

    def place(self, order: str, **headers: str) -> Told:
        (told,) = self.ask("POST", f"/orders/{order}", **headers)
        return told

    def refused(self, order: str, sentence: str) -> str:
        """Place orders, one after the other, until one is refused without being sent anywhere; its name. Now and then one is
        let through, to see whether somebody is there."""
        said = ""
        for number in range(20):
            status, said, _ = self.place(f"{order}-{number}")
            assert status in (503, 504), said
            if sentence in said:
                return f"{order}-{number}"
        raise AssertionError(said)

    def until_well(self, order: str) -> str:
        """Place orders, all different, until several at once are taken; the name of one."""
        placed: list[Told] = []
        for number in range(100):
            placed = self.ask("POST", *[f"/orders/{order}-{number}-{each}" for each in range(4)])
            if all(status == 200 for status, _, _ in placed):
                return f"{order}-{number}-0"
            assert {status for status, _, _ in placed} <= {200, 502, 503, 504}, placed
            time.sleep(0.05)
        raise AssertionError(placed)


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Net]:
    with hosts("gateway", "orders", "stock") as made:
        found = Net(made, tmp_path)
        running = (found.stock, found.orders, found.gateway)
        for each in running:
            each.start(8000)
        try:
            yield found
        finally:
            for stopped in [each.stop() for each in running]:
                stopped.result(10)


def unheard(net: Net) -> None:
    """Cut the gateway off from orders while an order is on its way: it is done, and nobody hears of it."""
    waits = net.begin("POST", "/orders/waits", **KEY)
    net.orders.host.run(net.orders.shop.begun.wait())
    net.hosts.cut("orders", "gateway")
    net.orders.host.call(net.orders.shop.go_on.set)
    ((status, said, took_s),) = waits.result(10)
    assert (status, "The service orders did not answer in time." in said) == (504, True)
    assert took_s < LATE_S


def each_once(net: Net) -> tuple[list[str], list[str]]:
    """What orders and stock have written, none of it twice."""
    placed, taken = net.orders.rows(net.orders.shop.placed), net.stock.rows(net.stock.shop.taken)
    assert (placed, taken) == (sorted(set(placed)), sorted(set(taken))), "written twice"
    return placed, taken


def test_an_order_that_is_sent_again_without_its_key_is_found_to_be_written_twice(net: Net) -> None:
    """The broken variant: a client that heard nothing asks as if for the first time."""
    net.until_well("well")
    unheard(net)
    net.hosts.heal("orders", "gateway")
    net.until_well("healed")
    assert net.place("waits")[:2] == (200, '"waits"')
    with pytest.raises(AssertionError, match="written twice"):
        each_once(net)


def test_hosts_that_are_cut_off_are_told_of_in_time_and_come_back_with_nothing_written_twice(
    net: Net,
) -> None:
    well = net.until_well("well")

    unheard(net)
    for status, said, took_s in net.ask("GET", *[PING] * 12):
        assert status in (503, 504), said
        assert took_s < LATE_S
    first = net.refused("first", "is left alone for a while")
    net.hosts.heal("orders", "gateway")
    healed = net.until_well("healed")
    assert net.place("waits", **KEY)[:2] == (200, '"waits"')

    # Between the two services: what needs both fails in time, what does not goes on.
    net.hosts.cut("stock", "orders")
    failed = net.ask("POST", *[f"/orders/cut-{number}" for number in range(12)])
    assert {status for status, _, _ in failed} <= {503, 504}, failed
    assert max(took_s for _, _, took_s in failed) < LATE_S
    second = net.refused("second", "circuit breaker")
    assert net.ask("GET", PING)[0][:2] == (200, '"pong"')
    net.hosts.heal("stock", "orders")
    together = net.until_well("together")

    placed, taken = each_once(net)
    assert {well, "waits", healed, together} <= set(placed) <= set(taken)
    assert not {first, second} & set(taken)
