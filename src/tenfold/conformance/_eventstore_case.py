"""The fixtures of the event store's suite, and its verbs: what one process does in a transaction of its own."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar, NamedTuple

import pytest
import sqlalchemy as sa

from tenfold._core.resolve import backend_class
from tenfold.conformance._database_case import DatabaseCase, Instances
from tenfold.db.database import Database, Tx
from tenfold.db.schema import framework
from tenfold.eventstore.contract import (
    ANY_VERSION,
    END,
    Bounds,
    EventRow,
    EventStoreBackend,
    NewEvent,
    SnapshotRow,
    Stamp,
    Want,
    Write,
)
from tenfold.eventstore.tables import STREAM_MAX_CHARS as STREAM_MAX_CHARS

NOW = 1_700_000_000.0
STAMP = Stamp(NOW, '{"who":"me"}')
CART = "shop.cart"


def write(stream: str, *data: str, expected: int = ANY_VERSION) -> Write:
    """Events of the type ``added``, one per string."""
    return Write(stream, expected, [NewEvent("added", text) for text in data])


class Process(NamedTuple):
    """One process: its database and its event store."""

    db: Database
    store: EventStoreBackend

    async def append(
        self, *writes: Write, category: str = CART, stamp: Stamp = STAMP, gated: bool = False
    ) -> dict[str, int]:
        async with self.db.tx() as tx:
            return await self.store.append(tx, category, writes, stamp, gated=gated)

    async def append_in(self, tx: Tx, *writes: Write, category: str = CART) -> dict[str, int]:
        return await self.store.append(tx, category, writes, STAMP, gated=False)

    async def read(
        self,
        *streams: str,
        after: int = 0,
        bounds: Bounds = Bounds(),  # noqa: B008 - a tuple
        limit: int = 1_000,
        category: str = CART,
    ) -> list[EventRow]:
        wants = [Want(stream, after) for stream in streams]
        return await self.store.read(self.db.read(), category, wants, bounds, limit)

    async def data(self, stream: str) -> list[str]:
        """The data of a stream, in the order of the versions, which are 1, 2, 3 …"""
        rows = await self.read(stream)
        assert [row.version for row in rows] == list(range(1, len(rows) + 1))
        return [row.data for row in rows]

    async def save(self, *snapshots: SnapshotRow, fingerprint: str = "f") -> None:
        async with self.db.tx() as tx:
            await self.store.save(tx, CART, fingerprint, snapshots)

    async def horizon(self) -> int:
        async with self.db.tx() as tx:
            return await self.store.horizon(tx)

    async def follow(
        self, after: int = 0, *, categories: Collection[str] = (), until: int = END, limit: int = 1_000
    ) -> list[EventRow]:
        return await self.store.follow(self.db.read(), categories, after, until, limit)


class Reading:
    """A follower: reads up to the horizon, goes on from there, and keeps what it got."""

    def __init__(self, process: Process, *, limit: int = 3) -> None:
        self.process = process
        self.limit = limit
        self.position = 0
        self.rows: list[EventRow] = []

    async def go_on(self) -> None:
        """Read what may be read."""
        horizon = await self.process.horizon()
        while self.position < horizon:
            rows = await self.process.follow(self.position, until=horizon, limit=self.limit)
            self.rows += rows
            self.position = rows[-1].id if len(rows) == self.limit else horizon

    @property
    def data(self) -> list[str]:
        return [row.data for row in self.rows]

    def check(self) -> None:
        """Positions rise, and every stream comes in the order of its versions, without gaps."""
        positions = [row.id for row in self.rows]
        assert positions == sorted(set(positions)), "positions do not rise"
        seen: dict[tuple[str, str], int] = {}
        for row in self.rows:
            key = (row.category, row.stream)
            assert row.version == seen.get(key, 0) + 1, f"{key} goes from {seen.get(key, 0)} to {row.version}"
            seen[key] = row.version


class EventStoreCase(DatabaseCase):
    """Fixtures: ``one`` and ``two`` are two processes. A third party overrides ``url``, and ``store_type`` unless its
    scheme is registered."""

    store_type: ClassVar[type[EventStoreBackend] | None] = None
    """The class of the event store's backend; None: the one that is registered for the URL's scheme."""
    tables: ClassVar[sa.MetaData] = framework

    @pytest.fixture(scope="class")
    @classmethod
    def store(cls, url: str) -> EventStoreBackend:
        """The backend under test."""
        made: EventStoreBackend = (cls.store_type or backend_class("eventstore", url, where="url"))()
        return made

    @pytest.fixture
    def one(self, db: Database, store: EventStoreBackend) -> Process:
        """A process on an empty store."""
        return Process(db, store)

    @pytest.fixture
    def two(self, one: Process, instances: Instances, store: EventStoreBackend) -> Process:
        """Another process on the same store."""
        return Process(instances.second, store)


def numbered(prefix: str, count: int) -> Sequence[str]:
    return [f"{prefix}{n}" for n in range(count)]
