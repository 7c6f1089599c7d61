"""A telemetry store whose writer's turns a test takes itself, on a clock that it moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from tenfold._core.clock import ManualClock
from tenfold._core.sections.store import TelemetrySettings
from tenfold.telemetry.contract import Span
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.operations import OperationTable
from tenfold.telemetry.recording import Recording
from tenfold.telemetry.render import Line
from tenfold.telemetry.store.reader import Records
from tenfold.telemetry.store.records import JobSummary, RequestSummary
from tenfold.telemetry.store.store import Store

NOW = 1_700_000_000.0
T = TypeVar("T")


class Kept:
    """``put`` and ``turn`` write; ``ask`` reads."""

    def __init__(
        self, folder: Path, clock: ManualClock | None = None, instance: str = "one", **settings: Any
    ) -> None:
        self.clock = clock or ManualClock(NOW)
        self.registry = Registry()
        self.slow: dict[str, float] = {}
        given = TelemetrySettings(**{"requests_per_s": 10_000, "logs_per_s": 10_000, **settings})
        self.store = Store(
            folder, given, self.clock, self.registry, instance=instance, slow=self.slow.__setitem__
        )
        self.feed, self.writer = self.store.feed, self.store.writer

    def pass_s(self, seconds: float) -> None:
        """Time goes by; nothing is written."""
        asyncio.run(self.clock.advance(seconds))
        self.feed.tick(seconds)

    def turn(self) -> None:
        """The writer takes what waits."""
        self.writer.turn()

    def read(self) -> None:
        """The metrics are read, and written."""
        self.feed.snapshot(self.clock.now(), list(self.registry.collect()))
        self.turn()

    def ask(self, question: Callable[[Records], Awaitable[T]]) -> T:
        async def asked() -> T:
            try:
                return await question(self.store.records)
            finally:
                self.store.records.stop()

        return asyncio.run(asked())

    def close(self) -> None:
        self.writer.stop()
        self.store.records.stop()


def request(at: float = NOW, **changes: Any) -> RequestSummary:
    """One that went well."""
    given: dict[str, Any] = {
        "operation": "shop.get_item",
        "method": "GET",
        "route": "/items/{id}",
        "path": "/items/7",
        "status": 200,
        "seconds": 0.002,
        "trace_id": f"{int(at * 1e6) & (1 << 128) - 1:032x}",
        "request_id": f"r-{int(at * 1e6):x}",
        **changes,
    }
    return RequestSummary(at, **given)


def job(at: float = NOW, **changes: Any) -> JobSummary:
    given: dict[str, Any] = {
        "queue": "default",
        "handler": "shop.send_receipt",
        "outcome": "done",
        "seconds": 0.05,
        "wait_s": 0.01,
        "trace_id": f"{int(at * 1e6):032x}",
        "job_id": str(int(at * 1e3)),
        **changes,
    }
    return JobSummary(at, **given)


def recording(at: float = NOW, seconds: float = 0.01, *, number: int = 1, **changes: Any) -> Recording:
    """A request with one statement in it."""
    trace_id = f"{number:032x}"
    root = Span(name="shop.get_item", trace_id=trace_id, span_id="a" * 16, kind="server", started=at)
    below = Span(name="db.statement", trace_id=trace_id, span_id="b" * 16, parent_id="a" * 16, started=at)
    below.ended, root.ended = at + seconds / 2, at + seconds
    given: dict[str, Any] = {"operation": "shop.get_item", "kind": "request", **changes}
    return Recording(trace_id, given.pop("operation"), given.pop("kind"), [below, root], **given)


def filled(kept: Kept, *, requests: int, jobs: int, apart_s: float = 0.001) -> None:
    """As much as an app of fifty operations leaves behind: so many requests so far apart, one in fifty failed, a tenth as
    many log lines, a thousandth as many traces, and the metrics of that time."""
    table = OperationTable(kept.registry)
    stats = [table.stats(f"shop.op{one}", "GET", f"/op{one}/{{id}}") for one in range(50)]
    for number in range(requests):
        at = NOW + number * apart_s
        failed = number % 50 == 0
        kept.feed.request(
            request(
                at,
                operation=f"shop.op{number % 50}",
                route=f"/op{number % 50}/{{id}}",
                path=f"/op{number % 50}/{number}",
                status=500 if failed else 200,
                error=f"KeyError: {number % 7}" if failed else "",
                seconds=0.001 + number % 97 / 1000,
                trace_id=f"{number:032x}",
                request_id=f"r-{number}",
                tenant=f"t{number % 300}",
            ),
            fair=True,
        )
        stats[number % 50].record(500 if failed else 200, 0.001 + number % 97 / 1000)
        if number % 10 == 0:
            kept.feed.line(
                Line(
                    at,
                    ("info", "warning", "error")[number // 10 % 3],
                    "order placed",
                    "shop",
                    {"order_id": number},
                )
            )
        if number % 1000 == 0:
            kept.feed.recording(
                recording(at, number=number + 1, operation=f"shop.op{number % 50}", failed=number % 2000 == 0)
            )
        if number * jobs // requests != (number + 1) * jobs // requests:
            one = number * jobs // requests
            kept.feed.job(
                job(
                    at,
                    handler=f"shop.job{one % 20}",
                    outcome="dead" if one % 40 == 3 else "done",
                    job_id=str(one),
                )
            )
        if number % 5000 == 4999:
            kept.read()
            kept.pass_s(5000 * apart_s)
    kept.turn()
