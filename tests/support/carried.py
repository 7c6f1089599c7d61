"""An app whose events go through a broker, and what it did: for tests that kill relays and brokers under it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from tenfold import App, Database, Retry, Service, Topic, Tx
from tenfold._core.tasks import end_tasks
from tenfold.assembly.events import Events
from tenfold.events.admin import EventsAdmin
from tenfold.events.relay import Relay


class Placed(Struct):
    n: int
    key: str = ""


class Carried:
    """The shop of these tests: ``placed`` is published, ``took`` notes each event it handles."""

    def __init__(self, fails: int = 0) -> None:
        """Every ``fails``-th event fails in its first run."""
        metadata = sa.MetaData()
        self.orders = sa.Table(
            "carried_order", metadata, sa.Column("n", sa.Integer, primary_key=True, autoincrement=False)
        )
        self.effects = sa.Table(
            "carried_effect",
            metadata,
            sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
            sa.Column("n", sa.Integer, nullable=False),
            sa.Column("key", sa.String(40), nullable=False),
        )
        service = Service("orders")
        self.db: Database = service.database(metadata)
        self.placed: Topic[Placed] = service.topic("placed", Placed)
        self._seen: set[int] = set()

        @service.on(self.placed, name="took", retry=Retry(attempts=20, base_s=0.02, max_s=0.05))
        async def took(event: Placed, tx: Tx) -> None:
            await tx.execute(sa.insert(self.effects), n=event.n, key=event.key)
            if fails and event.n % fails == 0 and event.n not in self._seen:
                self._seen.add(event.n)
                raise ValueError("the first run fails")

        self.app = App("carried", [service])

    @asynccontextmanager
    async def running(
        self, folder: Path, database: str, broker: str, *, worker: bool = True, **settings: Any
    ) -> AsyncGenerator[Carried]:
        fast = {
            "events__lease_s": 0.5,
            "events__poll_s": 0.05,
            "events__retry_max_s": 0.5,
            "events__redeliver_s": 1.0,
            "worker__poll_s": 0.05,
        }
        self.app.configure(
            None, environ={}, app__data_dir=str(folder), app__env="test", database__url=database,
            database__migrate="auto", events__url=broker, events__timeout_s=5.0, **{**fast, **settings},
        )  # fmt: skip
        await self.app.start(worker=worker)
        try:
            yield self
        finally:
            await self.app.stop()

    @property
    def events(self) -> Events:
        return self.app.assembly.background.events

    @property
    def relay(self) -> Relay:
        return self.events._relays[0]

    @property
    def admin(self) -> EventsAdmin:
        return self.events.admin(self.app.assembly.background.queues.of(self.db))

    async def kill_relay(self) -> None:
        """At whatever it does, without a chance to clean up its marks; then another begins."""
        task, self.relay._task = self.relay._task, None
        assert task is not None
        await end_tasks(task)
        await self.relay.start()

    async def intakes(self, verb: str) -> None:
        """Stop or start taking in."""
        for intake in self.events._intakes:
            await getattr(intake, verb)()

    async def all_published(self) -> bool:
        """Whether nothing waits in the outbox."""
        return not await self.admin.lag()

    async def relayed(self, within_s: float) -> None:
        """Wait until nothing is left in the outbox; raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while not await self.all_published():  # noqa: ASYNC110 - the relay tells nobody
                await asyncio.sleep(0.05)

    async def publish(self, first: int, count: int, keys: int = 0) -> None:
        async with self.db.tx() as tx:
            for n in range(first, first + count):
                key = f"k{n % keys}" if keys else ""
                await self.placed.publish(tx, Placed(n, key), key=key or None)

    async def publish_or_not(self, n: int, dice: random.Random, latest_s: float) -> bool:
        """A transaction with an event that rolls back in three of ten cases, and commits late in others; whether it
        committed."""
        rolls_back, late_s = dice.random() < 0.3, dice.choice([0.0, 0.0, dice.uniform(0.0, latest_s)])
        try:
            async with self.db.tx() as tx:
                await tx.execute(sa.insert(self.orders), n=n)
                await self.placed.publish(tx, Placed(n))
                async with (
                    tx.savepoint()
                ):  # writes the row of the outbox, so that it has its id before the pause
                    pass
                await asyncio.sleep(late_s if self.db.backend.capabilities.parallel_writers else 0)
                if rolls_back:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            return False
        return True

    async def handled(self) -> list[tuple[int, str]]:
        """Numbers and keys, in the order of their effects."""
        found: list[tuple[int, str]] = await self.db.read().all(
            sa.select(self.effects.c.n, self.effects.c.key).order_by(self.effects.c.id), tuple
        )
        return found

    async def counts(self) -> Counter[int]:
        """How often each number had its effect."""
        return Counter(n for n, _ in await self.handled())

    async def quiet(self, wanted: int, within_s: float) -> Counter[int]:
        """The counts once ``wanted`` different numbers are there, or time is over."""
        until = asyncio.get_running_loop().time() + within_s
        counts = await self.counts()
        while len(counts) < wanted and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.05)
            counts = await self.counts()
        return counts


def inversions(handled: list[tuple[int, str]]) -> int:
    """How often an event had its effect after a later one of its key."""
    last: dict[str, int] = {}
    found = 0
    for n, key in handled:
        found += n < last.get(key, -1)
        last[key] = max(n, last.get(key, -1))
    return found
