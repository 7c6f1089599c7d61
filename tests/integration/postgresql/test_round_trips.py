"""What is sent to the server, counted on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.orders_db import Order, add_order, opened, order_by_id, orders
from support.queues import effects, rig
from tenfold.db import Database, Tx
from tenfold.db.reader import EACH_AT_ONCE
from tenfold.jobs import Job

pytestmark = pytest.mark.anyio


class Wire:
    """A proxy that counts how often the client speaks again after the server has."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.trips = 0
        self.sent = bytearray()
        self.port = 0

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        asked = [False]
        await asyncio.gather(
            self._pump(reader, far_writer, asked, client=True),
            self._pump(far_reader, writer, asked, client=False),
        )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: list[bool], *, client: bool
    ) -> None:
        while data := await reader.read(65_536):
            if client and not asked[0]:
                self.trips += 1
            asked[0] = client
            if client:
                self.sent += data
            writer.write(data)
        writer.close()

    @contextmanager
    def costs(self, trips: int) -> Iterator[None]:
        """The block makes exactly so many round trips."""
        before = self.trips
        yield
        assert self.trips - before == trips


@pytest.fixture
async def wired(
    tmp_path: Path, postgres_url: str, anyio_backend: str
) -> AsyncGenerator[tuple[Database, Wire]]:
    port = int(postgres_url.rpartition(":")[2].partition("/")[0])
    wire = Wire(port)
    server = await wire.start()
    url = postgres_url.replace(f":{port}/", f":{wire.port}/")
    async with opened(tmp_path, url=url, pool_max=1) as db:
        yield db, wire
    server.close()


async def warm_up(db: Database) -> Order:
    """Prepare the statements that are counted afterwards."""
    async with db.tx() as tx:
        placed = await tx.one(add_order, Order, customer="a")
        await tx.execute(sa.update(orders).values(total=1).where(orders.c.id == 0))
    await db.read().one(order_by_id, Order, id=placed.id)
    return placed


async def test_a_read_is_one_round_trip(wired: tuple[Database, Wire]) -> None:
    db, wire = wired
    placed = await warm_up(db)
    with wire.costs(1):
        assert await db.read().one(order_by_id, Order, id=placed.id) == placed


async def test_many_reads_are_one_round_trip(wired: tuple[Database, Wire]) -> None:
    db, wire = wired
    placed = await warm_up(db)
    await db.read().one_each(order_by_id, Order, id=[placed.id])
    with wire.costs(1):
        assert await db.read().one_each(order_by_id, Order, id=[placed.id] * EACH_AT_ONCE)
    with wire.costs(2):
        assert await db.read().one_each(order_by_id, Order, id=[placed.id] * (EACH_AT_ONCE + 1))
    with wire.costs(3):  # BEGIN by itself, for what goes together begins with the first of them; then COMMIT
        async with db.tx() as tx:
            await tx.one_each(order_by_id, Order, id=[placed.id] * 20)


async def test_a_transaction_costs_its_statements_and_the_commit(wired: tuple[Database, Wire]) -> None:
    db, wire = wired
    await warm_up(db)
    with wire.costs(2):
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="b")
    with wire.costs(3):
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="c")
            await tx.one(add_order, Order, customer="d")
    with wire.costs(2):
        async with db.tx(isolation="serializable") as tx:
            await tx.one(add_order, Order, customer="e")


async def test_a_transaction_without_a_statement_costs_nothing(wired: tuple[Database, Wire]) -> None:
    db, wire = wired
    await warm_up(db)
    with wire.costs(0):
        async with db.tx() as tx, tx.savepoint():
            pass


async def test_a_savepoint_that_succeeds_costs_nothing_of_its_own(wired: tuple[Database, Wire]) -> None:
    db, wire = wired
    await warm_up(db)
    with wire.costs(3):
        async with db.tx() as tx:
            async with tx.savepoint():
                await tx.one(add_order, Order, customer="in")
            await tx.one(add_order, Order, customer="out")


async def test_many_executions_are_one_round_trip_and_are_counted(wired: tuple[Database, Wire]) -> None:
    db, wire = wired
    placed = await warm_up(db)
    raised = sa.update(orders).where(orders.c.id == sa.bindparam("of")).values(total=sa.bindparam("to"))
    of = [{"of": placed.id, "to": 5}, {"of": -1, "to": 5}]
    async with db.tx() as tx:
        assert await tx.execute(raised, of) == 1
    with wire.costs(3):  # BEGIN is by itself here
        async with db.tx() as tx:
            assert await tx.execute(raised, of * 50) == 50


async def test_a_consistent_block_of_reads_costs_its_statements_and_the_end(
    wired: tuple[Database, Wire],
) -> None:
    db, wire = wired
    placed = await warm_up(db)
    with wire.costs(3):
        async with db.read() as reader:
            await reader.one(order_by_id, Order, id=placed.id)
            await reader.one(order_by_id, Order, id=placed.id)


async def test_a_last_statement_takes_the_commit_along(wired: tuple[Database, Wire]) -> None:
    """As the row of a job does, behind that of its order."""
    db, wire = wired
    await warm_up(db)

    async def last(tx: Tx) -> None:
        assert tx.final
        tx.channel.commit_with_next()
        await tx.one(add_order, Order, customer="its job")

    with wire.costs(2):
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="f")
            tx.before_commit(last, may_be_last=True)


@pytest.mark.parametrize("apart_s", [1.0, 0.0])
async def test_an_order_with_its_job_is_two_round_trips_and_one_call_for_workers(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, apart_s: float
) -> None:
    """The call goes in the packet of the commit, or, where they come close together, by itself for many transactions at
    once. Nobody waits for it."""
    job = Job[[int], None]("s", ship)
    port = int(postgres_url.rpartition(":")[2].partition("/")[0])
    wire = Wire(port)
    server = await wire.start()
    url = postgres_url.replace(f":{port}/", f":{wire.port}/")
    async with rig(tmp_path, database=postgres_url):
        pass  # its tables: they are made by a thread that waits, as the proxy could not
    async with rig(tmp_path, job, database=url, make=False) as r:
        told: list[str] = []
        monkeypatch.setattr(r.db.backend._wire, "give", told.append)
        for trips in (None, 2):
            before, called = wire.trips, wire.sent.count(b"NOTIFY tenfold, '")
            await r.clock.advance(apart_s)
            async with r.db.tx() as tx:
                id_ = await tx.scalar(sa.insert(effects).returning(effects.c.id), what="order")
                handle = await job.enqueue(tx, id_)
            assert trips is None or wire.trips - before == trips
            along = wire.sent.count(b"NOTIFY tenfold, '") - called
            assert (along, told) == ((1, []) if apart_s or trips is None else (0, ["queue"]))
            assert (await handle.status()).state == "ready"
    server.close()


async def ship(order_id: int) -> None: ...
