"""Chains of services between processes: ``tenfold run`` as often as asked for, and a dependency that stops for a while.

The dependency is naive on purpose, as :mod:`support.chain` has it: it works on requests in the order in which they came,
also on those whose caller has long gone, and takes a little more than it is offered. Whoever asks it too often keeps it
from ever catching up. While it is off it takes every request and answers none, like a network that swallows packets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import time
import urllib.request
from collections import deque
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

from support.openloop import Ended, Load
from support.process import Process
from support.servers import free_port

TESTS = Path(__file__).parents[1]
PATH = f"{TESTS.parent / 'src'}:{TESTS}"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CATCH_UP_S = 0.1
"""A dependency that the machine held up makes good for so much of it."""


class Dependency:
    """Does ``per_s`` requests a second, one after another, unless it is off."""

    def __init__(self, per_s: float) -> None:
        self.off = False
        self.arrived: list[float] = []
        """When each request came, monotonic."""
        self.open_now = self.open_most = 0
        """Connections that callers hold."""
        self.port = 0
        self._work_s = 1 / per_s
        self._line: deque[asyncio.Transport] = deque()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Dependency]:
        server = await asyncio.get_running_loop().create_server(lambda: _Caller(self), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        working = asyncio.create_task(self._work())
        try:
            yield self
        finally:
            working.cancel()
            server.close()

    def asked(self, caller: asyncio.Transport) -> None:
        self.arrived.append(time.monotonic())
        self._line.append(caller)

    async def _work(self) -> None:
        due = time.monotonic()
        while True:
            due = max(due, time.monotonic() - CATCH_UP_S) + self._work_s
            await asyncio.sleep(due - time.monotonic())
            if self._line and not self.off:
                self._line.popleft().write(ANSWER)


class _Caller(asyncio.Protocol):
    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, dependency = transport, self._dependency
        dependency.open_now += 1
        dependency.open_most = max(dependency.open_most, dependency.open_now)

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\r\n\r\n")):
            self._dependency.asked(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._dependency.open_now -= 1


class Link:
    """One process to be. ``following`` is the port that it asks, ``client`` settings of the client that does."""

    def __init__(
        self, following: int, client: Mapping[str, object], *, broken: str = "", places: int = 0
    ) -> None:
        self.port, self._ops_port = free_port(), free_port()
        self.pid = 0
        said = {"url": f"http://127.0.0.1:{following}", "allow": ["127.0.0.1"], **client}
        self.env = {
            "TENFOLD_CLIENTS": json.dumps({"next": said}), "TENFOLD_LOG_ACCESS": "false",
            "TENFOLD_WORKER_ENABLED": "false", "LINK_BROKEN": broken,
        }  # fmt: skip
        if places:
            self.env["TENFOLD_HTTP_CONCURRENCY_MAX"] = str(places)

    def order(self, folder: Path) -> dict[str, object]:
        """What the zygote is told."""
        ports = ["--port", str(self.port), "--ops-port", str(self._ops_port)]
        argv = ["run", "support.link_app:app", *ports, "--data", str(folder / str(self.port)), "--no-reload"]
        return {"argv": argv, "env": self.env}

    def metric(self, name: str) -> float:
        """The sum of its samples, at the operations listener."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ops_port}/metrics", timeout=10) as answer:
            lines: str = answer.read().decode()
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", lines, re.MULTILINE))

    def wait_ready(self, until: float) -> None:
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self._ops_port}/health/ready", timeout=2).close()
                return
            assert time.monotonic() < until, f"the link at {self.port} did not get ready"
            time.sleep(0.02)


@dataclass
class Course:
    """Requests to one operation of one link, or of several, and when the dependency was off."""

    ended: list[Ended] = field(default_factory=list)
    begun: float = 0.0

    def between(self, begin_s: float, end_s: float) -> list[Ended]:
        """What was meant to start in that time."""
        return [each for each in self.ended if begin_s <= each.due - self.begun < end_s]

    def good(self, begin_s: float, end_s: float) -> float:
        """The share of what was asked for that was answered well."""
        asked = self.between(begin_s, end_s)
        return sum(each.status == 200 for each in asked) / len(asked)


async def offered(link: Link, path: str, *, per_s: float, seconds: float, patience_s: float) -> Course:
    """Open loop: who comes does not wait for who came before."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    load, course = Load(link.port, patience_s=patience_s), Course(begun=time.monotonic())
    try:
        course.ended = await load.open(repeat((path, request)), rate=per_s, seconds=seconds)
    finally:
        load.stop()
    return course


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    threads: int
    files: int
    """Open ones, with sockets."""
    memory_kb: int


def held(pid: int) -> Held:
    status = Path(f"/proc/{pid}/status").read_text()
    threads, memory_kb = (
        int(re.findall(rf"^{name}:\s+(\d+)", status, re.M)[0]) for name in ("Threads", "VmRSS")
    )
    return Held(threads, len(list(Path(f"/proc/{pid}/fd").iterdir())), memory_kb)


@contextlib.contextmanager
def started(links: Sequence[Link], folder: Path) -> Generator[None]:
    """All of them, forked off one process."""
    folder.mkdir(parents=True, exist_ok=True)
    orders = json.dumps([link.order(folder) for link in links])
    argv = [sys.executable, "-m", "support.zygote", "tenfold.http.edge", orders]
    with Process(argv, cwd=folder, env={"PYTHONPATH": PATH}, timeout_s=60.0) as process:
        try:
            for link in links:
                link.wait_ready(time.monotonic() + 60)
        except AssertionError as error:
            raise AssertionError(f"{error}. Output:\n{process.output}") from None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for link, pid in zip(links, children, strict=True):
            link.pid = int(pid)
        yield
