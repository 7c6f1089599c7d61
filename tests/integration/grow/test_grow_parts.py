"""What asks in the SQL of its database asks the one that is bound when it gets its turn: queue, outbox, event store."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sqlalchemy as sa

from support.ledger import Ledger
from support.moving import Move
from support.orders_db import opened
from tenfold._core.clock import SystemClock
from tenfold._core.container import Container
from tenfold._core.resolve import backend_class
from tenfold._core.sections import WorkerSettings
from tenfold.assembly.eventstores import store_of
from tenfold.db.contract import DatabaseBackend
from tenfold.db.schema import framework
from tenfold.events.admin import EventsAdmin
from tenfold.events.outbox import Outbox
from tenfold.eventstore import Recorded
from tenfold.eventstore.follower import Follower
from tenfold.queue.message import Claim
from tenfold.queue.queue import SKEW_MIN_S, Queue
from tenfold.queue.runner import Run
from tenfold.queue.tables import message
from tenfold.queue.worker import Worker

pytestmark = pytest.mark.anyio

LEASE_S = WorkerSettings().lease_s


@dataclass
class Parts:
    """What one app has of a database that moves."""

    move: Move
    queue: Queue
    ledger: Ledger

    @property
    def outbox(self) -> Outbox:
        return Outbox(self.queue)


def queue_backend(backend: DatabaseBackend) -> Any:
    return backend_class("queue", backend.url, where="database.url")()


@pytest.fixture(params=["to a server", "back"])
async def parts(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str, anyio_backend: str
) -> AsyncGenerator[Parts]:
    ledger, clock = Ledger(), SystemClock()
    async with AsyncExitStack() as stack:
        small = await stack.enter_async_context(opened(tmp_path, metadata=framework))
        large = await stack.enter_async_context(opened(tmp_path, url=postgres_url, metadata=framework))
        for database in (small, large):
            engine = database.backend.sync_engine()
            ledger.metadata.create_all(engine)
            engine.dispose()
        here, there = (small, large) if request.param == "to a server" else (large, small)
        move = Move(here, there, db=ledger.db)
        queue = Queue(queue_backend(here.backend), move.db, clock)
        move.rebind = lambda backend: queue.rebind(queue_backend(backend), backend)
        ledger.account.bind(clock, [], None)
        yield Parts(move, queue, ledger)


async def never() -> int:
    raise AssertionError


async def test_who_is_to_stop_is_asked_of_the_database_that_is_bound_then(parts: Parts) -> None:
    run = SimpleNamespace(message=SimpleNamespace(id=1, fence=1), stop="", begun_at=None)
    worker = Worker(parts.queue, {}, WorkerSettings(), parts.queue.clock)
    worker.runs.held[1] = cast("Run", run)
    await parts.move.during(worker.keeper.hear())


class Wrong(SystemClock):
    """A machine whose clock is five minutes ahead of the server's."""

    def __init__(self) -> None:
        super().__init__()
        self.now = lambda: time.time() + 300.0


@dataclass
class Claiming:
    """A worker on such a machine, that has claimed a message already; there is one to claim where its database moves to."""

    worker: Worker
    parts: Parts

    async def leases(self) -> list[float]:
        """How long those are that are held where the database is now, by that database's time."""
        database = self.parts.move.db
        own_time = database.backend.capabilities.parallel_writers
        now = time.time() if own_time else self.parts.queue.clock.now()
        held = sa.select(message.c.lease_until).where(message.c.lease_until.is_not(None))
        return [until - now for until in await database.read().all(held, float)]


@pytest.fixture
async def claiming(parts: Parts) -> Claiming:
    parts.queue.clock = Wrong()
    worker = Worker(parts.queue, {}, WorkerSettings(), parts.queue.clock)
    for queue in (
        parts.queue,
        Queue(queue_backend(parts.move.there.backend), parts.move.there, SystemClock()),
    ):
        async with queue.database.tx() as tx:
            queue.put(tx, queue.message("job", "s.unknown", "{}"))
    assert await worker.turn() == 1
    worker.runs.outbox.clear()
    worker._hungry = True
    return Claiming(worker, parts)


async def test_a_claim_that_waits_for_a_move_counts_by_the_time_of_the_new_database(
    claiming: Claiming,
) -> None:
    assert await claiming.parts.move.during(claiming.worker.turn()) == 1
    (lease_s,) = await claiming.leases()
    assert 0.0 < lease_s <= LEASE_S + SKEW_MIN_S


async def test_a_claim_after_a_move_counts_by_the_time_of_the_new_database(claiming: Claiming) -> None:
    """Also when a commit has told the worker that there is something, and it claims that without a look."""
    await claiming.parts.move.during(claiming.parts.queue.database.passage())
    claiming.worker._wake()
    assert await claiming.worker.turn() == 1
    (lease_s,) = await claiming.leases()
    assert 0.0 < lease_s <= LEASE_S + SKEW_MIN_S


async def test_a_heartbeat_after_a_move_counts_by_the_time_of_the_new_database(claiming: Claiming) -> None:
    worker, there = claiming.worker, claiming.parts.move.there
    other = Queue(queue_backend(there.backend), there, SystemClock())
    async with there.tx() as tx:
        (held,) = await other.backend.claim(tx, Claim("default", "", 1), worker.name, 0.0, 1.0)
    worker.runs.held[held.id] = cast("Run", SimpleNamespace(message=held, stop="", begun_at=0.0, task=None))
    await claiming.parts.move.during(worker.keeper.beat())
    (lease_s,) = await claiming.leases()
    assert 0.0 < lease_s <= LEASE_S + SKEW_MIN_S


async def replayed(parts: Parts) -> list[int]:
    return [done async for done in EventsAdmin(parts.queue).replay(0.0, 9e9)]


OUTBOX: dict[str, Callable[[Parts], Awaitable[object]]] = {
    "unsent": lambda parts: parts.outbox.unsent(10),
    "around": lambda parts: parts.outbox.unsent(10, ["topic"], ["line"]),
    "record": lambda parts: parts.outbox.record([1], {2: "no"}, 1.0),
    "prune": lambda parts: parts.outbox.prune(9e9, 10),
    "replay": replayed,
}


@pytest.mark.parametrize("name", OUTBOX)
async def test_the_outbox_is_in_the_database_that_is_bound_then(parts: Parts, name: str) -> None:
    await parts.move.during(OUTBOX[name](parts))


async def test_sent_rows_are_found_in_the_database_that_is_bound_then(parts: Parts) -> None:
    """Rows there are, so that what follows the first statement is asked in its SQL, too."""
    for database in (parts.move.db, parts.move.there):
        async with database.tx() as tx:
            await tx.execute(
                sa.text(
                    "INSERT INTO tenfold_outbox (topic, event_id, payload, created_at, sent_at) "
                    "VALUES ('t', 'e', '{}', 1, 1)"
                )
            )
    assert await parts.move.during(replayed(parts)) == [1]


async def folded(reader: AsyncIterator[Recorded[Any]]) -> int:
    return len([event async for event in reader])


LOADED: dict[str, Callable[[Ledger], Awaitable[object]]] = {
    "load": lambda ledger: ledger.account.load(ledger.db.read(), "a", version=0),
    "load the newest": lambda ledger: ledger.account.load(ledger.db.read(), "a"),
    "history": lambda ledger: folded(ledger.account.history(ledger.db.read(), "a")),
}


@pytest.mark.parametrize("name", LOADED)
async def test_streams_are_read_from_the_database_that_is_bound_then(parts: Parts, name: str) -> None:
    async def load() -> object:
        return await LOADED[name](parts.ledger)

    await parts.move.during(load())


async def test_a_follower_reads_the_database_that_is_bound_then(parts: Parts) -> None:
    ledger, clock = parts.ledger, SystemClock()

    ledger.service.projection(ledger.account, tables=[ledger.table], batch=1)(ledger.keep)
    bound = ledger.service.projections[0].bind(Container(), [ledger.account])
    leases: Any = None
    follower = Follower(bound, ledger.db, lambda: store_of(ledger.db), leases, clock, poll_s=1.0)
    await ledger.pay("a", 1, 2, 3)
    assert await follower.turn()
    assert await parts.move.during(follower.turn())
