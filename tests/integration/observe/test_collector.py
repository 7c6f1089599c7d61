"""OpenTelemetry's own Collector takes what we send: traces, metrics and logs, from an app that runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.collector import Collector
from tenfold import App, Service, public
from tenfold.telemetry import log as log_module
from tenfold.telemetry.log import get_logger

pytestmark = pytest.mark.collector


@pytest.fixture
def collector() -> Iterator[Collector]:
    running = Collector()
    running.start()
    yield running
    running.stop()


def test_a_real_collector_takes_traces_metrics_and_logs(collector: Collector, tmp_path: Path) -> None:
    orders = Service("orders", auth=public)

    @orders.get("/orders/{order_id}")
    async def show(order_id: int) -> int:
        get_logger("shop.orders").warning("order was looked at", order_id=order_id)
        return order_id

    app = App("shop", [orders])
    url = f"http://{collector.address}"
    app.configure(otlp__url=url, trace__ratio=1.0, log__format="json", app__data_dir=str(tmp_path))

    async def main() -> None:
        import httpx2

        async with (
            app.lifespan(),
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as http,
        ):
            assert (await http.get("/orders/7")).json() == 7

    app.logging = log_module.configure(app.settings.log, app.clock, stream=(tmp_path / "log").open("w"))
    try:
        asyncio.run(main())
    finally:
        app.logging.close()
    said = await_text(
        collector, "order was looked at", "http.server.request.duration", "GET /orders/{order_id}"
    )
    for expected in (
        "-> service.name: Str(shop)",
        "-> http.request.method: Str(GET)",
        "-> http.route: Str(/orders/{order_id})",
        "-> tenfold.operation: Str(orders.show)",
        "Name: tenfold.http_requests",
        "AggregationTemporality: Cumulative",
        "SeverityText: WARNING",
        "-> tenfold.order_id: Int(7)",
    ):
        assert expected in said
    # The line and the span are of one trace.
    ids = {
        row.split(":")[1].strip() for row in said.splitlines() if row.lstrip().lower().startswith("trace id")
    }
    assert len(ids - {""}) == 1
    assert "error" not in {row.partition("\t")[2].partition("\t")[0] for row in said.splitlines()}


def await_text(collector: Collector, *texts: str) -> str:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        said = collector.said()
        if all(text in said for text in texts):
            return said
        time.sleep(0.05)
    raise AssertionError(f"the collector has not taken {texts}:\n{collector.said()[-3000:]}")
