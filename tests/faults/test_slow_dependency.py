"""G17: a dependency that swallows packets is contained. One app, two operations: one calls it, the other does not."""

from __future__ import annotations

import asyncio
import contextvars
import tempfile
from dataclasses import dataclass, field
from typing import Any

import pytest

from support.chain import Link, ask
from support.simulation.loop import SimulatedLoop
from support.simulation.node import NodeClock
from support.trials import Trials, soak
from tenfold import App, Service, public

PLACES = 150
"""Requests in progress at a time in the app."""
CALLING_PER_S, OTHERS_PER_S = 50, 25


@dataclass
class Others:
    """What became of the requests that have nothing to do with the dependency."""

    took_s: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def p99_s(self) -> float:
        return sorted(self.took_s)[int(0.99 * len(self.took_s))]


class Far:
    """The dependency; ``gone`` means that it takes requests and never answers."""

    def __init__(self) -> None:
        self.gone = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3600 if self.gone else 0.02)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


async def _run(
    others: Others, seconds: int, *, gone: bool, operation_s: float, options: dict[str, Any]
) -> None:
    loop = asyncio.get_running_loop()
    far, service = Far(), Service("shop", auth=public)
    client = service.http("far", "https://far.example", **options)

    @service.get("/calls", timeout_s=operation_s)
    async def calls() -> dict[str, Any]:
        found: dict[str, Any] = await client.get("/", type=dict)
        return found

    @service.get("/other")
    async def other() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {}

    async def one(path: str, counts: bool) -> None:
        begun = loop.time()
        status, _, _ = await ask(app, "GET", path, {})
        if counts:
            others.failed += status != 200
            others.took_s.append(loop.time() - begun)

    app = App("shop", [service], clock=NodeClock(loop, "shop"))
    with tempfile.TemporaryDirectory() as folder:
        app.configure(
            None, environ={}, app__data_dir=folder, worker__enabled=False, http__concurrency=PLACES,
            http__blocked_loop_warn_s=1e6, log__access=False,
        )  # fmt: skip
        async with app.lifespan():
            with client.through(Link(far)):
                client._bound.sleep = asyncio.sleep
                far.gone = gone
                tasks = []
                for number in range(seconds * (CALLING_PER_S + OTHERS_PER_S)):
                    await asyncio.sleep(1 / (CALLING_PER_S + OTHERS_PER_S))
                    work = one("/other", True) if number % 3 == 0 else one("/calls", False)
                    tasks.append(loop.create_task(work, context=contextvars.Context()))
                await asyncio.wait([task for number, task in enumerate(tasks) if number % 3 == 0])
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def run(*, gone: bool, seconds: int, seed: int = 1, operation_s: float = 30.0, **options: Any) -> Others:
    others = Others()
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(seed)) as runner:
        runner.run(_run(others, seconds, gone=gone, operation_s=operation_s, options=options))
    return others


def judge(before: Others, during: Others) -> list[str]:
    wrong = [f"{during.failed} others failed"] if during.failed else []
    if during.p99_s > 1.1 * before.p99_s:
        wrong.append(f"p99 of others went from {before.p99_s:.4f} s to {during.p99_s:.4f} s")
    return wrong


def test_others_do_not_feel_a_dependency_that_never_answers(trials: Trials) -> None:
    before, during = run(gone=False, seconds=2), run(gone=True, seconds=6)
    assert judge(before, during) == []
    trials("G17", len(during.took_s), "virtual time")


def test_without_time_outs_and_a_bulkhead_they_do() -> None:
    """The broken variant: calls may take for ever, and there may be as many as there are requests."""
    before = run(gone=False, seconds=1)
    during = run(
        gone=True, seconds=4, operation_s=3000.0, timeout_s=3000.0, breaker=False, concurrency=100_000
    )
    assert "others failed" in judge(before, during)[0]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_others_do_not_feel_it_for_minutes(trials: Trials) -> None:
    for seed in range(soak(10)):
        before, during = run(gone=False, seconds=10, seed=seed), run(gone=True, seconds=60, seed=seed)
        assert judge(before, during) == [], seed
        trials("G17", len(during.took_s), "virtual time")
