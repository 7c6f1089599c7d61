"""A chain of services in virtual time: two real apps that call one another, and a dependency that stops for a while.

The dependency is naive on purpose: it works on requests in the order in which they came, also on those whose caller
has long gone, and takes a little less than it could offer. Whoever asks it too often keeps it from ever catching up.
"""

from __future__ import annotations

import asyncio
import contextvars
import tempfile
from collections import Counter, deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.simulation.loop import SimulatedLoop
from support.simulation.node import NodeClock
from tenfold import App, Service, public
from tenfold.client import HttpClient
from tenfold.client.contract import Incoming, Outgoing, Transport

LINK_S = 0.005


class Reply(Incoming):
    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.headers, self._body = status, headers, body

    async def pieces(self) -> AsyncGenerator[bytes]:
        yield self._body

    async def close(self) -> None:
        return


class Link(Transport):
    """The network between two services. ``silent`` are headers that do not arrive."""

    def __init__(self, target: Any, silent: frozenset[str] = frozenset()) -> None:
        self._target, self._silent = target, silent

    async def send(self, request: Outgoing) -> Incoming:
        await asyncio.sleep(LINK_S)
        # The other side's work is in a context of its own, as in another process.
        task = asyncio.get_running_loop().create_task(
            _asked(self._target, request, self._silent), context=contextvars.Context()
        )
        try:
            return await task
        finally:
            task.cancel()


async def _asked(target: Any, request: Outgoing, silent: frozenset[str]) -> Reply:
    headers = {name.lower(): value for name, value in request.headers if name.lower() not in silent}
    status, answered, body = await ask(target, request.method, request.place.target, headers)
    return Reply(status, answered, body)


async def ask(
    target: Any, method: str, path: str, headers: Mapping[str, str]
) -> tuple[int, list[tuple[str, str]], bytes]:
    """One request to an ASGI application."""
    said: list[dict[str, Any]] = []
    gone = asyncio.get_running_loop().create_future()

    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        return body.pop() if body else await gone

    async def send(message: Any) -> None:
        said.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "scheme": "http", "http_version": "1.1", "client": ("192.0.2.1", 1), "server": ("x", 80),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    await target(scope, receive, send)
    answered = [(name.decode(), value.decode()) for name, value in said[0]["headers"]]
    return said[0]["status"], answered, b"".join(message.get("body", b"") for message in said)


class Dependency:
    """Does ``per_s`` requests a second, one after another, unless it is off."""

    def __init__(self, per_s: float) -> None:
        self.off = False
        self.arrived: Counter[int] = Counter()
        """By the second."""
        self._work_s = 1 / per_s
        self._line: deque[asyncio.Future[None]] = deque()
        self._came = asyncio.Event()

    async def work(self) -> None:
        while True:
            await asyncio.sleep(self._work_s)
            if self.off or not self._line:
                continue
            done = self._line.popleft()
            if not done.done():
                done.set_result(None)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        self.arrived[int(loop.time())] += 1
        mine: asyncio.Future[None] = loop.create_future()
        self._line.append(mine)
        await asyncio.shield(mine)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@dataclass
class Course:
    """What happened, by the second."""

    per_s: int
    off_from: int
    off_until: int
    offered: Counter[int] = field(default_factory=Counter)
    arrived: Counter[int] = field(default_factory=Counter)
    ok: Counter[int] = field(default_factory=Counter)

    def load(self, begin: int, end: int) -> float:
        """Requests at the dependency for each one that was asked for at the front."""
        return sum(self.arrived[s] for s in range(begin, end)) / sum(
            self.offered[s] for s in range(begin, end)
        )

    def good(self, begin: int, end: int) -> float:
        """The share of what was asked for that was answered well."""
        return sum(self.ok[s] for s in range(begin, end)) / sum(self.offered[s] for s in range(begin, end))


def service_before(name: str, timeout_s: float, **options: Any) -> tuple[App, HttpClient, NodeClock]:
    """An app that does nothing but ask the next one."""
    clock = NodeClock(asyncio.get_running_loop(), name)
    service = Service(name, auth=public)
    following: HttpClient = service.http("next", "https://next.example", timeout_s=timeout_s, **options)

    @service.get("/")
    async def front() -> dict[str, Any]:
        found: dict[str, Any] = await following.get("/", type=dict)
        return found

    return App(name, [service], clock=clock), following, clock


async def _course(course: Course, seconds: int, silent: frozenset[str], options: dict[str, Any]) -> None:
    dependency = Dependency(per_s=course.per_s * 1.3)
    working = asyncio.create_task(dependency.work())
    middle, to_dependency, _ = service_before("middle", 1.0, **options)
    front, to_middle, _ = service_before("front", 2.5, **options)
    with tempfile.TemporaryDirectory() as folder:
        for app in (middle, front):
            app.configure(
                None, environ={}, app__data_dir=str(Path(folder) / app.name), worker__enabled=False,
                http__concurrency_max=0, http__blocked_loop_warn_s=1e6, log__access=False,
            )  # fmt: skip
        async with middle.lifespan(), front.lifespan():
            with to_dependency.through(Link(dependency)), to_middle.through(Link(middle, silent)):
                for client in (to_dependency, to_middle):
                    client._bound.sleep = asyncio.sleep
                await _offer(course, seconds, front, dependency)
    course.arrived = dependency.arrived
    working.cancel()


async def _offer(course: Course, seconds: int, front: App, dependency: Dependency) -> None:
    """Open loop: who comes does not wait for who came before."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    dependency.arrived.clear()

    async def one(second: int) -> None:
        status, _, _ = await ask(front, "GET", "/", {})
        course.ok[second] += status == 200

    running: list[asyncio.Task[None]] = []
    for number in range(seconds * course.per_s):
        await asyncio.sleep(begun + number / course.per_s - loop.time())
        second = int(number / course.per_s)
        dependency.off = course.off_from <= second < course.off_until
        course.offered[second] += 1
        running.append(loop.create_task(one(second), context=contextvars.Context()))
    await asyncio.gather(*running)


def run_course(
    *,
    per_s: int,
    off_s: int,
    after_s: int,
    seed: int = 1,
    silent: frozenset[str] = frozenset(),
    **options: Any,
) -> Course:
    """Five good seconds, ``off_s`` without the dependency, ``after_s`` with it again."""
    course = Course(per_s, 5, 5 + off_s)
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(seed)) as runner:
        runner.run(_course(course, 5 + off_s + after_s, silent, options))
    return course
