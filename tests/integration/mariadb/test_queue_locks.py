"""On MariaDB, who puts in and settles side by side with others is not undone by the server for it."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.queues import rig
from tenfold._core.clock import SystemClock
from tenfold.db import Tx
from tenfold.jobs import Job
from tenfold.queue.backends.mysql import BUCKETS, Backend
from tenfold.queue.message import Claim, Message
from tenfold.queue.outcome import done
from tenfold.queue.tables import message

pytestmark = pytest.mark.anyio

_waiting = sa.text("SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")
LOOK_S = 0.15
"""The server looks anew only when nobody has asked for 0.1 s."""
_heads = sa.select(message.c.order_key).where(message.c.head_key.is_not(None)).order_by(message.c.order_key)


async def noop(n: int) -> None: ...


job = Job[Any, None]("s", noop)


class Slow:
    """A transaction that stays for a while where it has first asked for locks."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    async def all(self, *args: Any, **params: Any) -> Any:
        found = await self._tx.all(*args, **params)
        self.asked.set()
        await self.go_on.wait()
        return found


async def test_keys_are_held_in_one_order_also_when_they_are_new(mariadb_url: str, tmp_path: Path) -> None:
    """Were locks made when first asked for, the slow one would have the second key, and come for the first one when
    somebody has made and taken it who waits for the second."""
    first, second = sorted(["a", "b"], key=lambda key: zlib.crc32(key.encode()) % BUCKETS)
    async with rig(tmp_path, database=mariadb_url, clock=SystemClock()) as r:

        async def hold(*keys: str) -> None:
            async with r.db.tx() as tx:
                await r.queue.backend.hold_keys(tx, keys)

        async def settled(tasks: Sequence[asyncio.Task[None]]) -> None:
            async with asyncio.timeout(10):
                while await r.db.read().scalar(_waiting) < sum(not task.done() for task in tasks):  # noqa: ASYNC110 - the server does not tell
                    await asyncio.sleep(LOOK_S)

        await hold(second)
        async with r.db.tx() as tx:
            slow: Any = Slow(tx)
            holding = asyncio.create_task(r.queue.backend.hold_keys(slow, [first, second]))
            await slow.asked.wait()
            others = [asyncio.create_task(hold(first))]
            await settled(others)
            others.append(asyncio.create_task(hold(first, second)))
            await settled(others)
            slow.go_on.set()
            await holding
        await asyncio.gather(*others)


class Together(Backend):
    """Lines are moved on when all who settle have removed their heads."""

    def __init__(self, parties: int) -> None:
        self._removed = asyncio.Barrier(parties)

    async def _move_on(self, tx: Tx, keys: Sequence[str], now: float) -> None:
        await self._removed.wait()
        await super()._move_on(tx, keys, now)


async def test_lines_beside_each_other_are_moved_on_side_by_side(mariadb_url: str, tmp_path: Path) -> None:
    async with rig(tmp_path, job, database=mariadb_url, clock=SystemClock()) as r:
        keys = ["k1", "k2", "k3", "k4"]
        for n in range(2):
            for key in keys:
                await job.options(key=key).enqueue(r.db, n=n)
        async with r.db.tx() as tx:
            claim = Claim("default", "", 10)
            heads = await r.queue.backend.claim(tx, claim, "w", r.queue.now(), r.queue.now() + 60)
        assert len(heads) == len(keys)
        backend = Together(2)

        async def settle(some: Sequence[Message]) -> set[int]:
            async with r.db.tx() as tx:
                return await backend.settle(tx, [done(head) for head in some], r.queue.now(), r.queue.keep)

        lost = await asyncio.gather(settle(heads[::2]), settle(heads[1::2]))
        assert not any(lost)
        assert await r.db.read().all(_heads, str) == [f"s.noop:{key}" for key in keys]
