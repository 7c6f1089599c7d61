"""What the finder says of an app's statements, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from msgspec import Struct

from tenfold import App, Reader, Service, Tx, public
from tenfold.db.finder.findings import Finding, Report
from tenfold.db.finder.statements import REPEATS
from tenfold.db.plan import Plan
from tenfold.eventstore.backends import _postgresql_sql as eventstore_sql
from tenfold.queue.backends import _postgresql_sql as queue_sql
from tenfold.telemetry.trace import span
from tenfold.testing.client import Client

pytestmark = pytest.mark.anyio

metadata = sa.MetaData()
customer = sa.Table(
    "finder_customer",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(50)),
)
order = sa.Table(
    "finder_order",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("customer_id", sa.Integer, nullable=False),
    sa.Column("placed", sa.Integer, nullable=False),
    sa.Column("note", sa.String(200)),
    sa.Index("finder_order_placed", "placed"),
)
customer_by_id = sa.select(customer).where(customer.c.id == sa.bindparam("id"))
orders_of = sa.select(order).where(order.c.customer_id == sa.bindparam("customer")).order_by(order.c.placed)
placed_since = sa.select(sa.func.count()).select_from(order).where(order.c.placed > sa.bindparam("since"))


class Customer(Struct):
    id: int
    name: str


service = Service("finder", auth=public)
db = service.database(metadata)


@service.post("/fill", status=204)
async def fill(tx: Tx) -> None:
    await tx.execute(sa.insert(customer), [{"id": n, "name": f"c{n}"} for n in range(50)])
    rows = [{"customer_id": n % 50, "placed": n, "note": "x" * 50} for n in range(5000)]
    await tx.execute(sa.insert(order), rows)


@service.get("/each")
async def each(reader: Reader, n: int = 20) -> list[Customer]:
    return [await reader.one(customer_by_id, Customer, id=i) for i in range(n)]


@service.get("/each-in-a-span")
async def each_in_a_span(reader: Reader, n: int = 20) -> None:
    for i in range(n):
        with span("one"):
            await reader.one(customer_by_id, Customer, id=i)


@service.get("/orders")
async def orders(reader: Reader, customer: int) -> int:
    return len(await reader.all(orders_of, tuple, customer=customer))


@service.get("/recent")
async def recent(reader: Reader) -> int:
    found: int = await reader.scalar(placed_since, since=4990)
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return "sqlite:///app.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


class Running:
    """The app with the finder on, and what it reports."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.client, self.ops = Client(app), Client(app.ops)

    async def of_kind(self, kind: str) -> list[Finding]:
        answer = (await self.ops.get("/database", headers={"host": "127.0.0.1"})).expect(200)
        report = msgspec.json.decode(answer.content, type=Report)
        return [finding for finding in report.findings if finding.kind == kind]


@asynccontextmanager
async def running(url: str, tmp_path: Path, **settings: Any) -> AsyncIterator[Running]:
    app = App("finder", [service])
    app.configure(environ={}, app__data_dir=str(tmp_path), database__url=url, **settings)
    await app.start(worker=False)
    try:
        yield Running(app)
    finally:
        await app.stop()


async def test_a_statement_that_runs_for_every_row_is_named_with_its_line(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(url, tmp_path) as t:
        (await t.client.post("/fill")).expect(204)
        (await t.client.get("/each", query={"n": REPEATS - 1})).expect(200)
        assert await t.of_kind("repeated") == []
        for _ in range(2):
            (await t.client.get("/each")).expect(200)
        (found,) = await t.of_kind("repeated")
        assert found.operation == "finder.each"
        line = inspect.getsourcelines(each.fn)[1] + 2
        assert found.where.endswith(f"test_finder.py:{line}")
        assert "ran 20 times" in found.sentence
        assert "finder_customer" in found.subject
    warned = [record.getMessage() for record in caplog.records if "again and again" in record.getMessage()]
    assert len(warned) == 1
    assert f"test_finder.py:{line}" in warned[0]


async def test_a_scan_is_named_with_the_index_that_the_planner_would_use(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path) as t:
        (await t.client.post("/fill")).expect(204)
        for n in range(3):
            (await t.client.get("/orders", query={"customer": n})).expect(200)
        (await t.client.get("/recent")).expect(200)
        (found,) = await t.of_kind("scan")
        index = "CREATE INDEX ix_finder_order_customer_id_placed ON finder_order (customer_id, placed)"
        assert found.remedy.startswith(index)
        assert found.verified is True
        assert "would use it" in found.remedy
        assert found.operation == "finder.orders"


async def test_a_statement_is_planned_with_its_own_values_and_not_run(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path) as t:
        (await t.client.post("/fill")).expect(204)
        (await t.client.get("/orders", query={"customer": 4711})).expect(200)
        finder = t.app.assembly.databases.finder
        assert finder is not None
        found = {each.sql: each for each in finder._watcher.seen}
        (read,) = (sql for sql in found if "finder_order" in sql and sql.startswith("SELECT"))
        (write,) = (sql for sql in found if sql.startswith("INSERT INTO finder_order"))
        planned = await finder.steps(read, str)
        assert [step.scans for step in planned if step.scans] == ["finder_order"]
        assert "4711" not in str(planned)
        await finder.steps(write, str)
        assert await db.read().scalar(sa.select(sa.func.count()).select_from(order)) == 5000


async def test_the_trial_of_an_index_leaves_nothing_behind(postgres_url: str, tmp_path: Path) -> None:
    async with running(postgres_url, tmp_path) as t:
        (await t.client.post("/fill")).expect(204)
        (await t.client.get("/orders", query={"customer": 1})).expect(200)
        assert await t.of_kind("scan")
        left = sa.text("SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'ix_finder_order%'")
        assert await db.read().scalar(left) == 0


async def test_production_gets_the_advice_without_the_trial(postgres_url: str, tmp_path: Path) -> None:
    secret = {"app__env": "production", "app__secret_key": "x" * 48, "database__migrate": "auto"}
    async with running(postgres_url, tmp_path) as t:
        (await t.client.post("/fill")).expect(204)
    async with running(postgres_url, tmp_path, **secret) as t:
        (await t.client.get("/orders", query={"customer": 1})).expect(200)
        (found,) = await t.of_kind("scan")
        assert found.verified is None


async def test_a_small_table_is_read_whole_in_peace(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path) as t:
        (await t.client.get("/orders", query={"customer": 1})).expect(200)
        assert await t.of_kind("scan") == []


async def test_a_slow_statement_is_told_once_in_the_log_and_kept_in_the_report(
    postgres_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(postgres_url, tmp_path, database__slow_s=0.05) as t:
        slow = sa.text("SELECT 1 FROM pg_sleep(:seconds)")
        for seconds in (0.0, 0.1, 0.1):
            await db.read().all(slow, tuple, seconds=seconds)
        (found,) = await t.of_kind("slow")
        assert "over 3 runs" in found.sentence
        assert "pg_sleep" in found.subject
        assert found.seconds >= 0.2
    assert len([r for r in caplog.records if "a statement took" in r.getMessage()]) == 1


async def test_values_are_never_shown(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running(url, tmp_path, database__slow_s=0.000001) as t:
        (await t.client.post("/fill")).expect(204)
        (await t.client.get("/orders", query={"customer": 31415})).expect(200)
        told = str(await t.of_kind("slow")) + str(await t.of_kind("scan"))
        assert "finder_order" in told
        assert "31415" not in told + caplog.text


async def test_repeats_are_counted_across_the_spans_of_a_trace(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path) as t:
        (await t.client.post("/fill")).expect(204)
        traced = {"traceparent": f"00-{1:032x}-{1:016x}-01"}
        (await t.client.get("/each-in-a-span", headers=traced)).expect(204)
        (found,) = await t.of_kind("repeated")
        assert "ran 20 times" in found.sentence


async def test_an_index_that_nothing_uses_is_named_with_its_cost(postgres_url: str, tmp_path: Path) -> None:
    async with running(postgres_url, tmp_path) as t:
        (await t.client.post("/fill")).expect(204)
        async with db.tx() as tx:
            await tx.execute(sa.text("CREATE INDEX useless ON finder_order (note, id)"))
            more = [{"customer_id": 1, "placed": n, "note": f"{n:0150}"} for n in range(10_000)]
            await tx.load(order, more)
        found = await t.of_kind("unused-index")
        assert "finder_order.useless" in [finding.subject for finding in found]


async def test_the_finder_can_be_turned_off(url: str, tmp_path: Path) -> None:
    async with running(url, tmp_path, database__watch=False) as t:
        (await t.client.get("/each", query={"n": 0})).expect(200)
        assert (await t.ops.get("/database", headers={"host": "127.0.0.1"})).status == 404


@pytest.mark.parametrize(
    "statement",
    [queue_sql.HOLD, queue_sql.HOLD_AHEAD, eventstore_sql.HOLD],
    ids=("queue", "ahead", "streams"),
)
async def test_locks_that_we_take_are_not_told_to_users(statement: Any) -> None:
    """They read no table of ours, and run again and again: nobody could ask for them less often."""
    assert Plan(statement.text, (), statement).framework
