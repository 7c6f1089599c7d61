"""Deadlines of requests: the operation's, the caller's, and that nothing begins after them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from http_calls import Answer, Client, acall, app_of, call, operation, run, scope_of

from tenfold._core.clock import ManualClock
from tenfold._core.context import current
from tenfold._core.deadlines import HEADER, deadline
from tenfold._core.sections import HttpSettings
from tenfold._core.tasks import AGAIN_S
from tenfold.http.asgi import HttpApp
from tenfold.http.deadline import TICK_S, Sweeper
from tenfold.http.stream import Stream


def asking(*values: str) -> list[tuple[bytes, bytes]]:
    return [(HEADER.lower().encode(), value.encode("latin-1")) for value in values]


async def left() -> float:
    """Milliseconds until the deadline, on a clock that stands at 0."""
    return round((current().deadline or 0.0) * 1000, 3)


@pytest.mark.parametrize(
    ("values", "left_ms"),
    [((), 2000), (("250",), 250), (("5000",), 2000), (("400", "300"), 300), (("20",), 20)],
)
def test_the_nearest_of_the_ends_holds(values: tuple[str, ...], left_ms: float) -> None:
    answer = call(
        app_of(operation(left, timeout_s=2.0), clock=ManualClock()), "GET", "/", None, asking(*values)
    )
    assert answer.json == left_ms


@pytest.mark.parametrize("value", ["", "-1", "1.5", "soon", "86400001", "9" * 400, "\xb2", "1, 2"])
def test_a_time_that_is_none_is_told_as_a_sentence(value: str) -> None:
    answer = call(app_of(operation(left)), "GET", "/", None, asking("100", value))
    assert answer.status == 400
    assert answer.json["detail"].startswith(
        "The header Tenfold-Timeout-Ms cannot be used: it must be a whole number"
    )


def test_a_caller_without_time_left_is_told_at_once_and_nothing_begins() -> None:
    begun: list[str] = []

    async def work() -> None:
        begun.append("handler")

    answer = call(app_of(operation(work, "POST")), "POST", "/", None, asking("0"))
    assert (answer.status, begun) == (504, [])
    assert "Tenfold-Timeout-Ms: 0" in answer.json["detail"]
    assert answer.headers["retry-after"] == "1"


class Stage:
    """An app on a clock that stands still, with a request whose handler waits for ever."""

    def __init__(self, **policies: Any) -> None:
        self.clock = ManualClock()
        self.ended_at: float | None = None
        self.begun = asyncio.Event()
        self.app = app_of(operation(self.slow, **policies), clock=self.clock)

    async def slow(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended_at = self.clock.monotonic()

    async def answer(self, *headers: str, by: float) -> Answer:
        """The answer to a request that is made now, once the clock has been moved to ``by``."""
        work = asyncio.create_task(acall(self.app, "GET", "/", None, asking(*headers)))
        await self.begun.wait()
        await self.clock.advance(by - self.clock.monotonic())
        answer = await work
        await self.app.stop()
        return answer


@pytest.mark.parametrize("seconds", [0.003, 0.02, TICK_S, 0.051, 0.12, 1.234])
@pytest.mark.parametrize("whose", ["operation", "caller"])
def test_a_request_is_cancelled_at_its_deadline_and_not_at_the_next_look(seconds: float, whose: str) -> None:
    async def main() -> tuple[float | None, Answer]:
        stage = Stage(timeout_s=seconds) if whose == "operation" else Stage()
        await stage.app.start()
        await stage.clock.advance(0.0101)  # not in step with the looks
        headers = [] if whose == "operation" else [str(round(seconds * 1000))]
        answer = await stage.answer(*headers, by=0.0101 + seconds + 0.001)
        return stage.ended_at, answer

    ended_at, answer = run(main())
    assert answer.status == 504
    assert ended_at == pytest.approx(0.0101 + seconds, abs=0.0006)
    limit = (
        f"its {seconds:g} seconds"
        if whose == "operation"
        else f"the {round(seconds * 1000)} ms that the caller"
    )
    assert limit in answer.json["detail"]


def test_a_cancellation_that_is_lost_is_given_again() -> None:
    """As ``asyncio.wait_for`` of Python 3.11 does when its result comes in the same moment."""
    lost: list[float] = []

    async def main() -> Answer:
        clock = ManualClock()
        begun = asyncio.Event()

        async def deaf() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.append(clock.monotonic())
            await asyncio.Event().wait()

        app = app_of(operation(deaf, timeout_s=1.0), clock=clock)
        work = asyncio.create_task(acall(app, "GET", "/"))
        await begun.wait()
        await clock.advance(1.0 + AGAIN_S + 2 * TICK_S)
        answer = await work
        assert not app.sweeper.inflight
        await app.stop()
        return answer

    assert run(main()).status == 504
    assert lost == [pytest.approx(1.0)]


def test_a_block_goes_by_the_clock_of_its_app() -> None:
    """Or in a test whose clock is ahead of the machine's, no block would have any time left."""

    async def work() -> float:
        async with deadline(0.5) as context:
            return context.deadline or 0.0

    async def main() -> Answer:
        clock = ManualClock()
        await clock.advance(1e9)
        app = app_of(operation(work), clock=clock)
        answer = await acall(app, "GET", "/")
        await app.stop()
        return answer

    assert run(main()).json == 1e9 + 0.5


# ── nothing begins after its deadline ──


def test_a_handler_does_not_begin_when_its_body_took_the_time() -> None:
    begun: list[str] = []

    async def place(order: dict[str, int]) -> None:
        begun.append("handler")

    async def main() -> Answer:
        clock = ManualClock()
        app = app_of(operation(place, "POST", timeout_s=1.0), clock=clock)
        app.sweeper.sweep = lambda now, elapsed_s: TICK_S  # type: ignore[method-assign] # it is late
        client = Client([b"{}"])

        async def receive() -> dict[str, Any]:
            await clock.advance(1.0)
            return await client.receive()

        headers = [(b"content-type", b"application/json")]
        await app(scope_of("POST", "/", headers), receive, client.send)
        await app.stop()
        return Answer(client.sent)

    answer = run(main())
    assert (answer.status, begun) == (504, [])
    assert "before the operation could begin; nothing was done" in answer.json["detail"]


def test_who_stands_in_line_at_its_deadline_is_told_then_and_never_begun() -> None:
    begun: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)
        await release.wait()

    release = asyncio.Event()

    async def main() -> tuple[Answer, Answer]:
        settings = HttpSettings(concurrency_max=1, waiting_max=5)
        app = app_of(operation(work, path="/{name}"), settings=settings)
        first = asyncio.create_task(acall(app, "GET", "/first"))
        while not begun:  # noqa: ASYNC110 - what it waits for is a plain list
            await asyncio.sleep(0)
        second = await acall(app, "GET", "/second", None, asking("30"))
        release.set()
        answers = await first, second
        assert app.wiring.admission is not None
        assert app.wiring.admission.in_flight == 0
        await app.stop()
        return answers

    first, second = run(main())
    assert (first.status, second.status, begun) == (204, 504, ["first"])
    assert "the 30 ms that the caller allowed" in second.json["detail"]


def test_a_function_that_no_thread_came_free_for_in_time_is_not_run() -> None:
    runs: list[str] = []
    release, entered = threading.Event(), threading.Event()

    def work(name: str) -> None:
        runs.append(name)
        entered.set()
        release.wait(10)

    async def main() -> list[int]:
        clock = ManualClock()
        app = app_of(
            operation(work, path="/{name}", timeout_s=1.0), clock=clock, settings=HttpSettings(threads=1)
        )
        await app.start()
        first = asyncio.create_task(acall(app, "GET", "/first"))
        await asyncio.to_thread(entered.wait, 10)
        app.sweeper.sweep = lambda now, elapsed_s: TICK_S  # type: ignore[method-assign] # it is late
        second = asyncio.create_task(acall(app, "GET", "/second"))
        while len(app.sweeper.inflight) < 2:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        await clock.advance(1.0)
        release.set()
        statuses = [(await task).status for task in (first, second)]
        await app.stop()
        return statuses

    assert run(main()) == [204, 504]
    assert runs == ["first"]


def test_a_stream_has_a_deadline_for_its_head_only() -> None:
    """It may last for as long as somebody listens, and goes on asking the database."""
    heads: list[float | None] = []

    async def pieces() -> AsyncIterator[str]:
        yield f"{current().deadline}"

    async def follow() -> Stream:
        heads.append(current().deadline)
        return Stream(pieces(), "text/plain")

    answer = call(app_of(operation(follow, timeout_s=2.0), clock=ManualClock()), "GET", "/")
    assert (heads, answer.body) == ([2.0], b"None")


def test_a_server_that_answers_where_it_should_wait_does_not_hold_the_loop() -> None:
    """Watching for the client to go away, a slow request had asked such a one for ever: nothing else ran, until its time
    was over."""
    asked = 0

    async def slow() -> str:
        await asyncio.sleep(4 * TICK_S)
        return "done"

    async def receive() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        if asked > 1000:
            raise RuntimeError("asked for ever")
        return {"type": "http.request", "body": b"", "more_body": False}

    async def main() -> list[Any]:
        app, sent = app_of(operation(slow)), list[Any]()

        async def send(message: Any) -> None:
            sent.append(message)

        try:
            await app(scope_of("GET", "/"), receive, send)
        finally:
            await app.stop()
        return sent

    assert run(main())[0]["status"] == 200
    assert 0 < asked < 5


def test_without_the_sweeper_a_short_deadline_asks_for_nothing() -> None:
    Sweeper(ManualClock(), body_timeout_s=1.0).look_at(5.0)


def test_an_operation_pays_for_the_header_with_one_look_at_the_dict() -> None:
    (endpoint,) = app_of(operation(left)).endpoints
    assert "if b'tenfold-timeout-ms' in headers: narrow(request, started)" in endpoint.source
    assert "look_at" not in endpoint.source
    assert isinstance(app_of(operation(left)), HttpApp)
