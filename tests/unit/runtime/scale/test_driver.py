"""Who is asked, what becomes of who does not answer, and that nobody is held up."""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial

import pytest

from tenfold._core.clock import ManualClock
from tenfold.runtime.scale import driver
from tenfold.runtime.scale.driver import Numbers
from tenfold.telemetry import names
from tenfold.telemetry.exposition import Exposition
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.ops_client import Answer

pytestmark = pytest.mark.anyio


class Pages:
    """Instances by their port; each says how many requests it has in progress, or raises."""

    def __init__(self, **ports: float | Exception) -> None:
        self.ports = {int(port.removeprefix("p")): what for port, what in ports.items()}
        self.asked: list[str] = []
        self.go = threading.Event()
        self.go.set()

    def ask(self, url: str, token: str) -> Answer:
        self.asked.append(f"{url} {token}")
        what = self.ports[int(url.split(":")[2].split("/")[0])]
        if isinstance(what, Exception):
            raise what
        if what < 0:
            self.go.wait(20)
        if what == 401:
            return Answer(401, b"no")
        page = f"{names.ADMISSION}_limit 20\n{names.ADMISSION}_in_flight {what}\n{names.ADMISSION}_admitted_total 9\n"
        return Answer(200, page.encode())


async def looked(pages: Pages, *ports: int, times: int = 2) -> Numbers:
    clock = ManualClock()
    numbers = Numbers(clock, "secret", ask=pages.ask)
    for _ in range(times):
        await numbers.look("web", [(f"web.{port}", port) for port in ports])
        await clock.advance(2.0)
    numbers.close()
    return numbers


async def test_every_ready_instance_is_asked_with_the_token_and_the_second_page_gives_a_sample() -> None:
    pages = Pages(p1=4, p2=6)
    numbers = await looked(pages, 1, 2)
    assert sorted(set(pages.asked)) == [
        "http://127.0.0.1:1/metrics secret",
        "http://127.0.0.1:2/metrics secret",
    ]
    (sample,) = numbers.samples("web")
    assert (sample.instances, sample.in_flight, sample.limit) == (2, 10.0, 20.0)
    assert numbers.samples("worker") == ()


async def test_one_that_refuses_is_named_once_and_the_others_count(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    pages = Pages(p1=4, p2=6, p3=6)
    clock = ManualClock()
    numbers = Numbers(clock, ask=pages.ask)
    everybody = [("web.1", 1), ("web.2", 2), ("web.3", 3)]
    for number in range(5):
        pages.ports[3] = 6 if number < 2 else OSError("Connection refused")
        await numbers.look("web", everybody)
        await clock.advance(2.0)
    numbers.close()
    assert [sample.in_flight for sample in numbers.samples("web")] == [16.0] + [15.0] * 3
    assert [record.getMessage() for record in caplog.records] == ["no numbers of web.3: Connection refused"]


async def test_pages_come_over_http_as_the_operations_listener_serves_them() -> None:
    clock, registry = ManualClock(), Registry()
    in_flight = registry.gauge(f"{names.ADMISSION}_in_flight", "…").labels()
    in_flight.set(7)
    async with await asyncio.start_server(partial(_serve, registry), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        numbers = Numbers(clock)
        for _ in range(2):
            await numbers.look("web", [("web.1", port)])
            await clock.advance(2.0)
        numbers.close()
    assert [sample.in_flight for sample in numbers.samples("web")] == [7.0]


async def _serve(registry: Registry, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    asked = await reader.readuntil(b"\r\n\r\n")
    assert asked.startswith(b"GET /metrics ")
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + Exposition(registry).render()[0])
    await writer.drain()
    writer.close()


async def test_where_most_do_not_answer_there_is_no_sample() -> None:
    assert (await looked(Pages(p1=OSError("away"), p2=401.0), 1, 2)).samples("web") == ()


async def test_one_that_hangs_holds_up_nobody_and_is_not_asked_again_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(driver, "TIMEOUT_S", 0.05)
    pages = Pages(p1=4, p2=-1)
    pages.go.clear()
    try:
        await looked(pages, 1, 2, times=3)
        assert len([url for url in pages.asked if ":2/" in url]) == 1
        assert len([url for url in pages.asked if ":1/" in url]) == 3
    finally:
        pages.go.set()
    assert "no numbers of web.2: it did not answer in time" in caplog.text


async def test_a_name_that_comes_back_with_another_process_begins_anew() -> None:
    pages, clock = Pages(p1=4, p2=6), ManualClock()
    numbers = Numbers(clock, ask=pages.ask)
    for ready in ([("web.1", 1)], [], [("web.1", 2)]):
        await numbers.look("web", ready)
        await clock.advance(2.0)
    numbers.close()
    assert numbers.samples("web") == ()
