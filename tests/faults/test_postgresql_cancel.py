"""G24: whatever is cancelled, no connection leaks, and no reply goes to the wrong caller.

Every read asks for a number of its own and for its checksum. Quick setting: 1,000 cancellations; soak: 100,000.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.orders_db import add_order, opened, orders
from support.trials import Trials, soak
from tenfold import errors
from tenfold.conformance.kit import until
from tenfold.db import Database
from tenfold.db.backends import _pool
from tenfold.db.backends._pool import Pool
from tenfold.db.backends._postgresql_link import AsyncpgLink

pytestmark = pytest.mark.anyio

POOL = 4
ask = sa.text("SELECT CAST(:n AS bigint) AS n, md5(CAST(:n AS text)) AS sum, pg_sleep(CAST(:s AS float8))")
sessions = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
)
in_transaction = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND state LIKE 'idle in transaction%'"
)


class WrongReply(Exception):
    """A reply that belongs to somebody else."""


def check(n: int, row: Any) -> None:
    if row.n != n or row.sum != hashlib.md5(str(n).encode(), usedforsecurity=False).hexdigest():
        raise WrongReply(f"asked for {n}, got {row}")


async def one_work(db: Database, rng: random.Random, n: int) -> None:
    nap_s = rng.choice((0, 0, 0.0005, 0.002))
    if n % 3:
        check(n, await db.read().one(ask, n=n, s=nap_s))
        return
    async with db.tx() as tx:
        check(n, await tx.one(ask, n=n, s=0.0))
        await tx.one(add_order, customer=str(n))
        check(n + 1, await tx.one(ask, n=n + 1, s=nap_s))


async def storm(db: Database, cancellations: int, seed: int) -> list[BaseException]:
    """Many works, each cancelled at a random moment; what went wrong besides."""
    rng, wrong, cancelled, n = random.Random(seed), list[BaseException](), 0, 0
    while cancelled < cancellations:
        tasks = [asyncio.create_task(one_work(db, rng, n + i)) for i in range(20)]
        n += 20
        for _ in tasks:
            await asyncio.sleep(rng.choice((0, 0, 0.0002, 0.001)))
            if rng.random() < 0.8:
                rng.choice(tasks).cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, asyncio.CancelledError):
                cancelled += 1
            elif outcome is not None and not isinstance(outcome, errors.DatabaseUnavailable):
                wrong.append(outcome)
    return wrong


async def judge(db: Database, seconds: float = 10.0) -> None:
    """Every place of the pool can be taken again, and nothing was left open in the server."""

    def all_idle() -> bool:
        return db.stats()["connections_idle"] == db.stats()["connections"]

    async def as_many_as_allowed() -> bool:
        return int(await db.read().scalar(sessions)) <= POOL

    async with asyncio.timeout(seconds):
        await until(all_idle, "every connection comes back", timeout_s=2 * seconds)
        await asyncio.gather(*(db.read().one(ask, n=n, s=0.01) for n in range(POOL)))
        assert await db.read().scalar(in_transaction) == 0
        await until(as_many_as_allowed, "the server has our connections only", timeout_s=2 * seconds)


async def weather(folder: Path, url: str, cancellations: int) -> None:
    async with opened(folder, url=url, pool_max=POOL, pool_wait_s=2.0) as db:
        assert await storm(db, cancellations, seed=cancellations) == []
        await judge(db)
        rows = await db.read().all(sa.select(orders.c.customer), str)
        assert len(rows) == len(set(rows))


@pytest.mark.timeout(110)
async def test_a_thousand_cancellations(tmp_path: Path, postgres_url: str, trials: Trials) -> None:
    await weather(tmp_path, postgres_url, 1_000)
    trials("G24", 1_000, postgres_url)


@pytest.mark.soak
async def test_a_hundred_thousand_cancellations(tmp_path: Path, postgres_url: str, trials: Trials) -> None:
    n = soak(100_000)
    await weather(tmp_path, postgres_url, n)
    trials("G24", n, postgres_url)


async def read_what_is_in_the_socket(self: Any, *asked: Any, **more: Any) -> Any:
    """A driver that leaves the reply to who was cancelled, and takes it for the reply to the next."""
    left: list[asyncio.Future[Any]] = self.__dict__.setdefault("left", [])
    if not left:
        left.append(asyncio.ensure_future(original_fetch(self, *asked, **more)))
    rows = await asyncio.shield(left[0])
    left.clear()
    return rows


original_fetch = AsyncpgLink.fetch


@pytest.mark.timeout(110)
@pytest.mark.parametrize("broken", ["a reply is left behind", "a place leaks"])
async def test_a_broken_pool_is_convicted(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    if broken == "a place leaks":
        monkeypatch.setattr(Pool, "drop", lambda *_: None)
        monkeypatch.setattr(_pool, "_DRAIN_S", 0.1)
    else:
        monkeypatch.setattr(
            AsyncpgLink, "doubtful", property(lambda _: False, lambda *_: None), raising=False
        )
        monkeypatch.setattr(AsyncpgLink, "fetch", read_what_is_in_the_socket)
    async with opened(tmp_path, url=postgres_url, pool_max=POOL, pool_wait_s=0.2) as db:
        with pytest.raises((WrongReply, errors.PoolExhausted, TimeoutError)):
            for wrong in await storm(db, 50, seed=1):
                raise wrong
            await judge(db, seconds=1)
