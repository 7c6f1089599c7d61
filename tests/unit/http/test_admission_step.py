"""A process takes on so many requests; beyond that, it says so at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from http_calls import Answer, acall, app_of, operation, run

from tenfold._core.context import Priority
from tenfold._core.sections import HttpSettings
from tenfold.http.asgi import HttpApp


class Gate:
    """An app whose ``/slow`` stands still until it is opened."""

    def __init__(self, **settings: int) -> None:
        self.opened = asyncio.Event()

        async def slow() -> str:
            await self.opened.wait()
            return "done"

        async def fail() -> str:
            raise RuntimeError

        async def alive() -> str:
            return "yes"

        self.app: HttpApp = app_of(
            operation(slow, path="/slow"),
            operation(fail, path="/fail"),
            operation(alive, path="/alive", priority=Priority.CRITICAL),
            settings=HttpSettings(**settings),
        )

    def ask(self, path: str = "/slow") -> asyncio.Task[Answer]:
        return asyncio.create_task(acall(self.app, "GET", path))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0)


def test_beyond_the_bound_a_few_wait_and_the_rest_get_503_with_retry_after() -> None:
    async def main() -> None:
        gate = Gate(concurrency_max=1, waiting_max=1)
        admission = gate.app.wiring.admission
        assert admission is not None
        first, second = gate.ask(), gate.ask()
        await until(lambda: admission.waiting == 1)
        refused = await gate.ask()
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert refused.headers["content-type"] == "application/problem+json"
        gate.opened.set()
        assert [(await one).status for one in (first, second)] == [200, 200]
        assert (admission.in_flight, admission.admitted, sum(admission.refused)) == (0, 2, 1)
        await gate.app.stop()

    run(main())


def test_critical_operations_enter_a_full_process() -> None:
    async def main() -> None:
        gate = Gate(concurrency_max=1, waiting_max=0)
        admission = gate.app.wiring.admission
        assert admission is not None
        slow = gate.ask()
        await until(lambda: admission.in_flight == 1)
        assert (await gate.ask("/alive")).status == 200
        gate.opened.set()
        await slow
        await gate.app.stop()

    run(main())


def test_a_request_that_fails_gives_its_place_back() -> None:
    async def main() -> None:
        gate = Gate(concurrency_max=1, waiting_max=0)
        assert [(await gate.ask("/fail")).status for _ in range(3)] == [500, 500, 500]
        await gate.app.stop()

    run(main())


def test_without_a_bound_nothing_is_written_into_the_endpoint() -> None:
    async def main() -> None:
        gate = Gate(concurrency_max=0)
        assert gate.app.wiring.admission is None
        assert "try_enter" not in gate.app.endpoints[0].source

    run(main())
