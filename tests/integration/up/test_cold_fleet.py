"""Eight instances of the shop are restarted at once with empty caches, and everybody asks for everything (G37)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2
import psycopg
import pytest

from faults.test_cold_start import Watch
from shop.demo import ADMIN, ADMIN_PASSWORD
from support.balanced import Client
from support.servers import Redis
from support.trials import Trials
from support.upshop import UpShop
from tenfold.runtime.up.control import Request, ask

pytestmark = [pytest.mark.anyio, pytest.mark.soak, pytest.mark.timeout(900)]

INSTANCES, POOL = 8, 4
OTHERS = 2
"""Connections beside the pool that `database.pool_max` allows: heartbeats, settling, health."""
PAGES = 60
SCANS = (
    "SELECT coalesce(sum(seq_scan + idx_scan), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'products'"
)


def fill(port: int) -> None:
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        form = {"email": ADMIN, "password": ADMIN_PASSWORD}
        token = client.post("/accounts/login", json=form).json()["access_token"]
        products = [{"sku": f"C-{n}", "name": "cold", "category": "Cold", "price": 1} for n in range(500)]
        headers = {"authorization": f"Bearer {token}"}
        assert client.put("/products", json=products, headers=headers).status_code == 200


async def asked(port: int, clients: int) -> list[int]:
    """Each of so many clients asks for each page; the statuses."""

    async def one(first: int) -> list[int]:
        client = Client(port)
        paths = [f"/products?per_page=5&page={1 + (first + n) % PAGES}" for n in range(PAGES)]
        found = [(await client.ask("GET", path))[0] for path in paths]
        client.close()
        return found

    return [status for found in await asyncio.gather(*map(one, range(clients))) for status in found]


def settled_scans(database: str) -> int:
    """How often the table was looked into. A connection tells what it did when it was idle for ten seconds at the latest."""
    with psycopg.connect(database, autocommit=True) as connection:
        before, same = -1, 0
        while same < 23:
            connection.execute("SELECT pg_stat_clear_snapshot()")
            (now,) = connection.execute(SCANS).fetchone() or (0,)
            before, same = now, same + 1 if now == before else 0
            time.sleep(0.5)
    return before


async def cold(shop: UpShop, database: str, redis: Redis, clients: int) -> tuple[Sequence[int], int]:
    """Everything is restarted at once and the shared cache is emptied; the answers, and how often the table was read."""
    *_, said = await asyncio.to_thread(
        lambda: list(ask(shop.state.socket, Request("restart", rolling=False)))
    )
    assert not said.failed, said.sentence
    redis.flush()
    before = await asyncio.to_thread(settled_scans, database)
    statuses = await asked(shop.port, clients)
    return statuses, await asyncio.to_thread(settled_scans, database) - before


async def test_a_cold_fleet_loads_little_more_than_one_cold_instance(
    tmp_path: Path, postgres_url: str, redis_server: Redis, redis_url: str, trials: Trials
) -> None:
    cache = f'[cache]\nurl = "{redis_url}"\n'
    with UpShop(tmp_path, "haproxy", web=1, database=postgres_url, pool_max=POOL, more=cache) as shop:
        await asyncio.to_thread(fill, shop.port)
        statuses, alone = await cold(shop, postgres_url, redis_server, 8)
        assert set(statuses) == {200}
        assert alone >= 2 * PAGES  # each is its rows, and their count
        await asyncio.to_thread(shop.tell, "scale", f"web={INSTANCES}")
        watch = Watch(postgres_url)
        watch.start()
        statuses, together = await cold(shop, postgres_url, redis_server, 8 * INSTANCES)
        most = watch.end()
    assert set(statuses) == {200}
    assert 2 * PAGES <= together <= 2 * alone, (alone, together)
    assert (
        most <= INSTANCES * (POOL + OTHERS) + 2
    )  # and who counts the table's readings, and the watch itself
    trials("G37", INSTANCES * PAGES, "the shop under tenfold up")
