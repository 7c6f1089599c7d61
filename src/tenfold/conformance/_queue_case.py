"""The fixtures of the queue suite, and its verbs: what one worker or caller does in a transaction of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import pytest
import sqlalchemy as sa

from tenfold._core.resolve import backend_class
from tenfold.conformance._database_case import DatabaseCase, Instances
from tenfold.db.database import Database, Tx
from tenfold.db.schema import framework
from tenfold.queue.contract import Inbox, Keep, QueueBackend, Stored
from tenfold.queue.message import Claim, Message, NewMessage, Settlement
from tenfold.queue.tables import archive, message

NOW = 1_700_000_000.0
LEASE_S = 15.0
KEEP = Keep(done_s=100.0, dead_s=1_000.0)

states_of_hot = sa.select(message.c.id, message.c.state)
states_of_archived = sa.select(archive.c.id, archive.c.state)


class QueueOf(QueueBackend, Inbox):
    """For annotations: a backend's class is a queue and an inbox."""


def new(handler: str = "s.job", **changes: Any) -> NewMessage:
    """A message that is ready at once."""
    fields: dict[str, Any] = {
        "kind": "job", "handler": handler, "payload": "{}", "context": None, "queue": "default", "lane": "",
        "priority": 0, "run_at": NOW, "created_at": NOW, **changes,
    }  # fmt: skip
    return NewMessage(**fields)


class Worker(NamedTuple):
    """One process: its database, its queue, and its name."""

    db: Database
    queue: QueueOf
    name: str = "w1"

    async def put(self, *rows: NewMessage) -> list[Stored]:
        async with self.db.tx() as tx:
            return await self.queue.insert(tx, rows)

    async def put_ids(self, *rows: NewMessage) -> list[int]:
        return [stored.id for stored in await self.put(*rows)]

    async def claim(
        self, limit: int = 100, *, queue: str = "default", lane: str = "", now: float = NOW
    ) -> list[Message]:
        async with self.db.tx() as tx:
            return await self.claim_in(tx, limit, queue=queue, lane=lane, now=now)

    async def claim_in(
        self, tx: Tx, limit: int = 100, *, queue: str = "default", lane: str = "", now: float = NOW
    ) -> list[Message]:
        return await self.queue.claim(tx, Claim(queue, lane, limit), self.name, now, now + LEASE_S)

    async def settle(self, *settlements: Settlement, now: float = NOW, keep: Keep = KEEP) -> set[int]:
        async with self.db.tx() as tx:
            return await self.queue.settle(tx, settlements, now, keep)

    async def done(self, *messages: Message, **fields: Any) -> set[int]:
        """Settle claimed messages as done."""
        return await self.settle(*(Settlement(m.id, m.fence, "done", **fields) for m in messages))

    async def wake(self, now: float = NOW, limit: int = 1_000) -> int:
        async with self.db.tx() as tx:
            return await self.queue.wake_due(tx, now, limit)

    async def states(self) -> dict[int, str]:
        """Every message's state by id, the archived ones included."""
        hot: Sequence[tuple[int, str]] = await self.db.read().all(states_of_hot, tuple)
        cold: Sequence[tuple[int, str]] = await self.db.read().all(states_of_archived, tuple)
        assert not dict(hot).keys() & dict(cold).keys(), "a message is in two places"
        return {**dict(hot), **dict(cold)}

    async def row(self, id_: int) -> dict[str, Any]:
        """The row of a hot message."""
        return await self.db.read().one(sa.select(message).where(message.c.id == id_), dict)

    async def archived(self, id_: int) -> dict[str, Any]:
        """The row of a finished message."""
        return await self.db.read().one(sa.select(archive).where(archive.c.id == id_), dict)


class QueueCase(DatabaseCase):
    """Fixtures: ``one`` and ``two`` are workers in two processes. A third party overrides ``url``, and
    ``queue_type`` unless its scheme is registered."""

    queue_type: ClassVar[type[QueueOf] | None] = None
    """The class of the queue's backend; None: the one that is registered for the URL's scheme."""
    tables: ClassVar[sa.MetaData] = framework

    @pytest.fixture(scope="class")
    @classmethod
    def queue(cls, url: str) -> QueueOf:
        """The backend under test."""
        made: QueueOf = (cls.queue_type or backend_class("queue", url, where="url"))()
        return made

    @pytest.fixture
    def one(self, db: Database, queue: QueueOf) -> Worker:
        """A worker on an empty queue."""
        return Worker(db, queue, "w1")

    @pytest.fixture
    def two(self, one: Worker, instances: Instances, queue: QueueOf) -> Worker:
        """Another process on the same queue."""
        return Worker(instances.second, queue, "w2")
