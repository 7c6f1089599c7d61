"""An instance that starts cold: ``python -m support.cold_child DATABASE CACHE POOL KEYS ASKS``.

From the line that it reads on, it is asked ``ASKS`` times at once for values of ``KEYS`` keys, each loaded from the
database and kept in the cache. Prints what it loaded and how many callers got an error or a wrong value.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path

import sqlalchemy as sa

from support.caches import process
from support.orders_db import opened

LOAD = sa.text("SELECT CAST(:key AS bigint) FROM pg_sleep(0.005)")


async def main(database: str, cache: str, pool: int, keys: int, asks: int) -> None:
    loads = failed = 0
    async with (
        opened(Path.cwd(), url=database, metadata=sa.MetaData(), pool_max=pool, pool_wait_s=30.0) as db,
        process(cache, timeout_s=2.0) as mine,
    ):

        async def ask(key: int) -> None:
            nonlocal failed

            async def load() -> int:
                nonlocal loads
                loads += 1
                return int(await db.read().scalar(LOAD, key=key))

            try:
                failed += await mine.cache.get_or_load(f"k{key}", load, ttl_s=60) != key
            except Exception:
                failed += 1

        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        order = [n % keys for n in range(asks)]
        random.shuffle(order)
        await asyncio.gather(*map(ask, order))
        print(json.dumps({"loads": loads, "failed": failed}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])))
