"""A whole app feeds its store: requests, what they failed of, jobs, log lines and the spans of recorded traces."""

from __future__ import annotations

import asyncio
import io
import logging
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.asgi import serving
from tenfold import App, Service, Tx, public
from tenfold._core.sections import LogSettings
from tenfold.telemetry.log import configure
from tenfold.telemetry.store.records import JobFilter, LogFilter, RequestFilter, TraceFilter
from tenfold.testing import Client

pytestmark = pytest.mark.anyio


def shop_of() -> Service:
    shop = Service("shop", auth=public)
    shop.database(sa.MetaData())

    @shop.job()
    async def send_receipt(order_id: int) -> None:
        logging.getLogger("shop.mail").info("receipt sent", extra={"fields": {"order_id": order_id}})

    @shop.get("/items/{item_id}")
    async def get_item(item_id: int) -> dict[str, int]:
        if item_id == 13:
            raise ValueError("no such luck")
        return {"id": item_id}

    @shop.post("/orders/{order_id}")
    async def place(order_id: int, tx: Tx) -> None:
        await send_receipt.enqueue(tx, order_id=order_id)

    return shop


def app_of(folder: Path, **settings: object) -> App:
    app = App("test", [shop_of()])
    given = {"telemetry__store": True, "database__url": "sqlite:///app.db", **settings}
    app.configure(environ={}, app__data_dir=str(folder), **given)
    return app


async def written(app: App) -> None:
    store = app.assembly.telemetry.store
    assert store is not None
    await asyncio.to_thread(store.writer.turn)


async def get(client: Client, path: str) -> int:
    return (await client.get(path)).status


async def test_the_first_request_is_kept_and_so_is_its_trace(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    async with serving(app) as client:
        assert await get(client, "/items/7") == 200
        await written(app)
        records = app.assembly.telemetry.records
        (one,) = (await records.requests()).items
        assert (one.operation, one.route, one.path, one.status) == (
            "shop.get_item",
            "/items/{item_id}",
            "/items/7",
            200,
        )
        trace = await records.trace(one.trace_id)
        assert trace is not None
        assert [kept.span.name for kept in trace.spans] == ["shop.get_item"]
        assert trace.spans[0].span.attributes["http.response.status_code"] == 200
        assert trace.requests == [one]


async def test_a_recorded_request_may_have_dependencies_of_its_own(tmp_path: Path) -> None:
    """The endpoint's code has names of its own for what it makes, and for what it records."""
    desk = Service("desk", auth=public)
    desk.provide(Clerk, Clerk, scope="request")

    @desk.get("/clerk")
    async def clerk(clerk: Clerk) -> str:
        return clerk.name

    app = App("test", [desk])
    app.configure(environ={}, app__data_dir=str(tmp_path), trace__ratio=1.0, telemetry__store=True)
    async with serving(app) as client:
        assert (await client.get("/clerk")).expect(200).json() == "Ada"


class Clerk:
    name = "Ada"


async def test_a_failed_request_says_what_it_failed_of(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    async with serving(app) as client:
        for path in ("/items/7", "/items/13", "/items/x"):
            await get(client, path)
        await written(app)
        records = app.assembly.telemetry.records
        (one,) = (await records.requests(RequestFilter(status_min=500))).items
        assert one.error == "ValueError: no such luck"
        (trace,) = (await records.traces(TraceFilter(failed=True))).items
        assert (trace.trace_id, trace.error) == (one.trace_id, "ValueError: no such luck")
        (group,) = await records.errors(since=0)
        assert (group.where, group.error, group.count) == ("shop.get_item", "ValueError: no such luck", 1)
        assert len((await records.requests(RequestFilter(status_min=400, status_max=499))).items) == 1


async def test_a_job_is_kept_in_the_trace_of_the_request_that_enqueued_it(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    app.logging = configure(LogSettings(format="json"), app.clock, stream=io.StringIO())
    try:
        async with serving(app) as client:
            assert (await client.post("/orders/7")).status < 300
            records = app.assembly.telemetry.records
            for _ in range(500):
                await written(app)
                if found := (await records.jobs(JobFilter(handler="shop.send_receipt"))).items:
                    break
                await asyncio.sleep(0.02)
            (run,) = found
            trace = await records.trace(run.trace_id)
            assert trace is not None
            assert (run.outcome, run.attempt) == ("done", 1)
            assert trace.requests[0].operation == "shop.place"
            names = [kept.span.name for kept in trace.spans]
            assert {"shop.place", "shop.send_receipt"} <= set(names)
            (line,) = (await records.logs(LogFilter(text="receipt"))).items
            assert (line.trace_id, line.fields["order_id"]) == (run.trace_id, 7)
    finally:
        app.logging.close()


async def test_beyond_the_budget_a_request_is_neither_recorded_nor_kept_unless_it_fails(
    tmp_path: Path,
) -> None:
    app = app_of(tmp_path, telemetry__requests_per_s=5, telemetry__traces_per_s=1)
    async with serving(app) as client:
        for _ in range(30):
            await get(client, "/items/7")
        for _ in range(3):
            await get(client, "/items/13")
        await written(app)
        records = app.assembly.telemetry.records
        assert 5 <= len((await records.requests()).items) <= 8 + 10
        assert len((await records.requests(RequestFilter(status_min=500))).items) == 3
        assert len((await records.traces()).items) <= 3
        latency = app.assembly.telemetry.http.stats("shop.get_item", "GET", "/items/{item_id}")
        assert sum(latency.statuses) == 33


async def test_what_is_slow_is_learned_and_told_to_the_endpoint(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    async with serving(app) as client:
        for _ in range(150):
            await get(client, "/items/7")
        await written(app)
        stats = app.assembly.telemetry.http.stats("shop.get_item", "GET", "/items/{item_id}")
        assert 0 < stats.slow_s < 5


async def test_without_a_log_of_its_own_an_app_keeps_nothing(tmp_path: Path) -> None:
    app = app_of(tmp_path, telemetry__store=None)
    async with serving(app) as client:
        await get(client, "/items/7")
        assert app.assembly.telemetry.store is None
        assert (await app.assembly.telemetry.records.requests()).items == []
    assert not (tmp_path / "telemetry.sqlite").exists()
