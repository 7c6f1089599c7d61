"""A real server at five times its capacity: the important is served, the least important is refused first (G14)."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.process import Process
from support.trials import Trials, soak

pytestmark = pytest.mark.anyio

TESTS = Path(__file__).parent.parent
RATE = 500.0
"""Five times the capacity: a request holds the loop for 10 ms."""
MIX = {
    "critical": (0.05, b"GET /critical HTTP/1.1\r\nHost: x\r\n\r\n"),
    "default": (0.65, b"GET /default HTTP/1.1\r\nHost: x\r\n\r\n"),
    "sheddable": (0.3, b"GET /default HTTP/1.1\r\nHost: x\r\nTenfold-Priority: sheddable\r\n\r\n"),
}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    yield from served(tmp_path_factory.mktemp("data"))


@pytest.fixture
def fresh_port(tmp_path: Path) -> Iterator[int]:
    """Of a server that has never met an overload."""
    yield from served(tmp_path)


def served(data: Path) -> Iterator[int]:
    command = [
        Path(sys.executable).parent / "tenfold",
        "run",
        "support.overload_app:app",
        "--port",
        "0",
        "--ops-port",
        "0",
    ]
    env = {"PYTHONPATH": str(TESTS), "TENFOLD_APP_DATA_DIR": str(data)}
    with Process(command, ready=r"\bhttp://127\.0\.0\.1:\d+", env=env) as server:
        found = server.wait_for(r"http://127\.0\.0\.1:(\d+)")
        yield int(found[1])


class Clients:
    """As many connections as are needed, each kept alive (``anew``: used once); a request never waits for another's
    answer."""

    def __init__(self, port: int, *, anew: bool = False) -> None:
        self.port, self.anew = port, anew
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.answers: Counter[tuple[str, int]] = Counter()
        self.refusals: list[tuple[dict[str, str], dict[str, object]]] = []
        self.took_s: list[float] = []
        """Each answer, in the order of asking."""

    async def ask(self, name: str, request: bytes) -> None:
        began, at = time.monotonic(), len(self.took_s)
        self.took_s.append(0.0)
        reader, writer = (
            self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
        )
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        status = int(head.split(" ", 2)[1])
        self.answers[name, status] += 1
        if status == 503:
            self.refusals.append((headers, json.loads(body)))
        self.took_s[at] = time.monotonic() - began
        if self.anew:
            writer.close()
        else:
            self.idle.append((reader, writer))

    async def flood(self, seconds: float, seed: int = 1) -> None:
        """A Poisson process of all priorities."""
        rng, tasks, due = random.Random(seed), [], time.monotonic()
        end = due + seconds
        while (due := due + rng.expovariate(RATE)) < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            (name,) = rng.choices(list(MIX), [share for share, _ in MIX.values()])
            tasks.append(asyncio.create_task(self.ask(name, MIX[name][1])))
        await asyncio.gather(*tasks)

    def served(self, name: str) -> float:
        """As a share of what was asked."""
        return self.answers[name, 200] / sum(n for (who, _), n in self.answers.items() if who == name)

    def close(self) -> None:
        for _, writer in self.idle:
            writer.close()


async def judged(port: int, seconds: float) -> Clients:
    """What a server does that has met the overload a second ago."""
    await Clients(port).flood(1.0)
    clients = Clients(port)
    await clients.flood(seconds)
    assert {status for _, status in clients.answers} == {200, 503}
    assert clients.served("critical") >= 0.99
    assert clients.served("sheddable") <= 0.5 * clients.served("default")
    clients.close()
    return clients


async def test_many_that_only_wait_are_all_served(port: int) -> None:
    clients = Clients(port)
    request = b"GET /poll?seconds=1.5 HTTP/1.1\r\nHost: x\r\n\r\n"
    asking = []
    for _ in range(80):
        asking.append(asyncio.create_task(clients.ask("poll", request)))
        await asyncio.sleep(0.015)
    await asyncio.gather(*asking)
    assert clients.answers == {("poll", 200): 80}
    clients.close()


async def test_a_burst_that_only_waits_is_served_whole(port: int) -> None:
    """More at one moment than ever run before the instance has learned that they wait for something outside."""
    clients = Clients(port)
    request = b"GET /poll?seconds=1.5 HTTP/1.1\r\nHost: x\r\n\r\n"
    await asyncio.gather(*(clients.ask("poll", request) for _ in range(90)))
    assert clients.answers == {("poll", 200): 90}
    clients.close()


async def test_the_important_is_served_and_the_least_important_refused_first(
    port: int, trials: Trials
) -> None:
    clients = await judged(port, 2.5)
    trials("G14", clients.answers.total(), "a server on sockets")
    headers, document = clients.refusals[-1]
    assert headers["content-type"] == "application/problem+json"
    assert headers["retry-after"] == "1"
    assert document["limit"] == "http.concurrency"
    assert isinstance(document["value"], int)
    assert document["priority"] in ("default", "sheddable")


@pytest.mark.parametrize("anew", [True, False])
async def test_a_sudden_overload_makes_clients_late_for_two_seconds_at_most(
    fresh_port: int, anew: bool
) -> None:
    """The limit is learned by then, and all the others hear at once that the instance is full: also who connects anew,
    although a turn of the loop, in which libuv accepts one connection, takes as long as a request or many."""
    clients = Clients(fresh_port, anew=anew)
    await clients.flood(3.0)
    assert {status for _, status in clients.answers} == {200, 503}
    then = clients.took_s[-int(RATE) :]
    late = [took_s for took_s in then if took_s > 0.5]
    assert len(late) <= 0.02 * len(then)
    clients.close()


@pytest.mark.soak
async def test_the_important_is_served_for_long(port: int, trials: Trials) -> None:
    clients = await judged(port, soak(120))
    trials("G14", clients.answers.total(), "a server on sockets")
