"""The store of rate limits is killed in mid-traffic, and comes back: what was declared for that holds, and what was
taken ahead before is not used, nor given back, afterwards."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import get_args

import pytest

from support.envelopes import over
from support.guards import make_tables, opened
from support.servers import Postgres, Redis, running
from tenfold._core.clock import SystemClock
from tenfold.conformance.kit import until
from tenfold.errors import Unavailable
from tenfold.guard.contract import GuardStores
from tenfold.guard.gcra import Cell
from tenfold.guard.limiter import RateLimiter
from tenfold.guard.rates import Away

pytestmark = pytest.mark.anyio

ROOM = 1_000_000
COST = ROOM // 200  # 200 a second, as many at once


class Client:
    """Checks one limit, and notes when it was admitted."""

    def __init__(self, stores: GuardStores, away: Away) -> None:
        self.limiter = RateLimiter(stores.limits(), SystemClock(), away=away)
        self.cell: Cell = (away, COST, ROOM)
        self.admitted: list[tuple[int, int]] = []
        self.waited_us = 0
        """The longest that a check took: so much its time of admission may be wrong."""
        self.answers: Counter[str] = Counter()

    async def check(self, times: int, gap_s: float = 0.0) -> None:
        for _ in range(times):
            at_us = time.monotonic_ns() // 1_000
            try:
                taken = self.limiter.take_now([self.cell]) or await self.limiter.decide([self.cell])
            except Unavailable:
                self.answers["closed"] += 1
            else:
                self.answers["admitted" if taken.admitted else "refused"] += 1
                if taken.admitted:
                    known_us = time.monotonic_ns() // 1_000
                    self.waited_us = max(self.waited_us, known_us - at_us)
                    self.admitted.append((known_us, COST))
            await asyncio.sleep(gap_s)

    def begin(self) -> None:
        self.admitted.clear()
        self.answers.clear()
        self.waited_us = 0


@asynccontextmanager
async def clients(url: str) -> AsyncGenerator[dict[str, Client]]:
    async with opened(url) as (stores, _):
        made = {away: Client(stores, away) for away in get_args(Away)}
        for client in made.values():
            await client.limiter.start()
        yield made
        for client in made.values():
            await client.limiter.stop()


async def survive(server: Redis | Postgres, url: str) -> None:
    async with clients(url) as fleet:
        everyone = list(fleet.values())

        async def check(times: int, gap_s: float = 0.0) -> None:
            for client in everyone:
                client.begin()
            await asyncio.gather(*(client.check(times, gap_s) for client in everyone))

        await check(60, 0.006)
        for client in everyone:
            assert client.answers == {"admitted": 60}
            assert client.limiter.numbers()["local_total"] > 10
        server.kill()
        await check(400)  # some by what was taken ahead, until the loss is noticed
        assert fleet["open"].answers == {"admitted": 400}
        assert fleet["closed"].answers["closed"] > 300
        local = fleet["local"].answers
        assert 200 <= local["admitted"] < 300
        assert local["closed"] == 0
        settled = [client.limiter.numbers()["given_back_total"] for client in everyone]

        await asyncio.to_thread(server.start)
        await until(lambda: not any(client.limiter.away for client in everyone), "coming back")
        await check(400)
        for client in everyone:
            assert client.answers["closed"] == 0
            assert client.answers["admitted"] >= 190
            assert over(client.admitted, ROOM) <= client.waited_us
        assert [client.limiter.numbers()["given_back_total"] for client in everyone] == settled


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    with running(Redis()) as server:
        yield server


async def test_redis_killed_in_mid_traffic(own_redis: Redis) -> None:
    await survive(own_redis, own_redis.url())


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    with running(Postgres()) as server:
        yield server


@pytest.mark.soak
async def test_postgresql_killed_in_mid_traffic(own_postgres: Postgres) -> None:
    await make_tables(own_postgres.url())
    await survive(own_postgres, own_postgres.url())
