"""Who comes to a full instance is dealt with at the headers, so that what comes at once is not let by at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.cluster import eventually
from support.connector import Connector, Wire
from tenfold import App, Service, public
from tenfold.guard.admission import Admission
from tenfold.http import admission

pytestmark = pytest.mark.anyio

GET = b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n"


class Instance(Connector):
    """An app that runs one request at a time, and one waits."""

    def __init__(self, app: App, release: asyncio.Event) -> None:
        super().__init__(app)
        self.release = release

    @property
    def gate(self) -> Admission:
        admission = self.app.assembly.http.wiring.admission
        assert admission is not None
        return admission


@asynccontextmanager
async def instance(folder: Path) -> AsyncGenerator[Instance]:
    service, release = Service("slow", auth=public), asyncio.Event()

    @service.get("/wait")
    async def wait() -> str:
        await release.wait()
        return "done"

    app = App("slow", [service])
    app.configure(environ={}, app__data_dir=str(folder), http__concurrency=1, http__waiting_max=1)
    async with app.lifespan():
        yield Instance(app, release)


async def until_all_answered(wires: list[Wire]) -> None:
    await eventually(lambda: all(wire.status for wire in wires))


async def test_of_many_that_come_at_once_one_runs_one_waits_and_the_rest_are_refused_at_once(
    tmp_path: Path,
) -> None:
    async with instance(tmp_path) as it:
        first = it.send(GET)
        await asyncio.sleep(0)
        others = it.send(*[GET] * 9)
        assert [wire.status for wire in others] == [0, *[503] * 8], "before the loop has turned"
        assert it.gate.waiting == 1
        it.release.set()
        await until_all_answered([*first, *others])
        assert [wire.status for wire in (*first, *others)] == [200, 200, *[503] * 8]
        assert (it.gate.in_flight, it.gate.waiting) == (0, 0)


@pytest.mark.parametrize("broken", [b"Tenfold-Timeout-Ms: soon\r\n", b"Content-Length: 9\r\n"])
async def test_who_fails_while_it_waits_gives_up_its_place(tmp_path: Path, broken: bytes) -> None:
    """A header that its endpoint refuses before it looks for its turn; a client that goes away."""
    async with instance(tmp_path) as it:
        first = it.send(GET)
        await asyncio.sleep(0)
        protocol, wire = it.connect()
        protocol.data_received(GET.replace(b"\r\n\r\n", b"\r\n" + broken + b"\r\n"))
        assert it.gate.waiting == 1
        if broken.startswith(b"Content"):
            await asyncio.sleep(0)
            protocol.connection_lost(None)
        else:
            await until_all_answered([wire])
            assert (wire.status, it.gate.waiting) == (400, 0)
        it.release.set()
        await until_all_answered(first)
        await eventually(lambda: not it.gate.in_flight and not it.gate.waiting)
        (again,) = it.send(GET)
        await until_all_answered([again])
        assert again.status == 200


@pytest.mark.parametrize(("header", "timers"), [(b"", 0), (b"Tenfold-Timeout-Ms: 600\r\n", 1)])
async def test_only_a_deadline_that_may_end_in_the_line_has_a_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, header: bytes, timers: int
) -> None:
    made: list[float | None] = []

    def timeout(delay_s: float | None) -> asyncio.Timeout:
        made.append(delay_s)
        return asyncio.timeout(delay_s)

    monkeypatch.setattr(admission, "asyncio", SimpleNamespace(timeout=timeout))
    async with instance(tmp_path) as it:
        first = it.send(GET)
        await asyncio.sleep(0)
        waits = it.send(GET.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n"))
        await asyncio.sleep(0)
        assert (it.gate.waiting, len(made)) == (1, timers)
        it.release.set()
        await until_all_answered([*first, *waits])
        assert [wire.status for wire in (*first, *waits)] == [200, 200]
