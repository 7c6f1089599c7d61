"""What a call between services costs: in calls and system calls, which no load of the machine changes, and beside others."""
# Without postponed annotations: operations are local to their making.

import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from msgspec import Struct

from support.split import configured, running, serving
from tenfold import App, Service, public
from tenfold._core import context as contexts
from tenfold._core.context import Context

pytestmark = pytest.mark.anyio

PYTHON_CALLS_INSIDE = 21
"""In one process, the operation itself among them. With a timer for each call they were 36."""
PYTHON_CALLS_BEYOND = 790
"""Both ends of a call over a socket, with the event loop's and what happens to tick meanwhile; about 1,530 with a general
HTTP client."""


class Line(Struct):
    sku: str
    quantity: int


class Order(Struct):
    id: str
    lines: list[Line]


ORDER = Order("o-1", [Line(f"sku-{n}", n) for n in range(10)])


def make() -> tuple[App, Any]:
    stock = Service("stock", auth=public, calls=[])
    orders = Service("orders", auth=public, calls=[stock])

    @stock.internal
    async def echo(order: Order) -> Order:
        return order

    return App("test", [orders, stock]), echo


async def counted(call: Callable[[], Awaitable[Any]]) -> Counter[str]:
    """Python's calls, and those of C by name; the fewest of several times."""
    found: list[Counter[str]] = []
    for _ in range(7):
        counts: Counter[str] = Counter()

        def note(_: Any, event: str, what: Any, counts: Counter[str] = counts) -> None:
            if event == "call":
                counts["python"] += 1
            elif event == "c_call":
                counts[getattr(what, "__qualname__", "")] += 1

        sys.setprofile(note)
        try:
            await call()
        finally:
            sys.setprofile(None)
        found.append(counts)
    return min(found, key=lambda counts: counts["python"])


async def test_a_call_within_a_process_takes_few_calls(tmp_path: Path) -> None:
    async with running(make, "together", tmp_path) as echo:
        with contexts.use(Context(service="orders", deadline=time.monotonic() + 60)):
            await echo(ORDER)
            counts = await counted(lambda: echo(ORDER))
    assert counts["python"] <= PYTHON_CALLS_INSIDE + 1  # and the lambda
    assert (counts["Encoder.encode"], counts["Decoder.decode"]) == (2, 2), "it is copied there and back, once"


async def test_a_call_over_a_socket_takes_one_write_at_each_end(tmp_path: Path) -> None:
    async with running(make, "apart", tmp_path) as echo:
        with contexts.use(Context(service="orders")):
            for _ in range(3):
                await echo(ORDER)
            counts = await counted(lambda: echo(ORDER))
    assert counts["socket.send"] == 2
    assert counts["socket.recv"] <= 2
    assert counts["socket.connect"] == 0, "connections are kept"
    assert counts["python"] <= PYTHON_CALLS_BEYOND


async def test_a_call_over_a_socket_costs_less_than_the_same_request_by_a_plain_client(
    tmp_path: Path,
) -> None:
    """Processor time of both ends, in turns; one round of a hundred as a rule settles it."""
    (there, _), (here, echo) = make(), make()
    there.serve_only("stock")
    here.serve_only("orders")
    content = msgspec.msgpack.encode({"order": ORDER})
    kind = {"content-type": "application/msgpack"}
    async with serving(configured(there, tmp_path)) as url, httpx2.AsyncClient() as client:
        configured(here, tmp_path, services__stock__url=url)

        async def plain() -> None:
            answer = await client.post(f"{url}/_tenfold/call/stock.echo", content=content, headers=kind)
            assert answer.status_code == 200

        async with here.lifespan():
            with contexts.use(Context(service="orders")):
                ratios: list[float] = []
                for _ in range(4):
                    ours, theirs = await cpu_s(lambda: echo(ORDER)), await cpu_s(plain)
                    ratios.append(ours / theirs)
    print(f"a remote call takes {min(ratios):.2f} times the processor time of the request by httpx2")
    assert min(ratios) < 0.8


def test_calls_go_over_the_event_loop_of_production_too(tmp_path: Path) -> None:
    """Its transports are of another class."""

    async def use() -> None:
        async with running(make, "apart", tmp_path) as echo:
            with contexts.use(Context(service="orders")):
                assert [await echo(ORDER) for _ in range(3)] == [ORDER] * 3

    pytest.importorskip("uvloop").run(use())


async def cpu_s(call: Callable[[], Awaitable[Any]]) -> float:
    """Processor time of some calls."""
    await call()
    begun = time.process_time()
    for _ in range(60):
        await call()
    return time.process_time() - begun
