"""What only a store in the database can promise: the effect and the reply are one transaction."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from tenfold._core.clock import ManualClock
from tenfold._core.context import Context, use
from tenfold.db.database import Database
from tenfold.errors import RequestInProgress
from tenfold.guard.backends._sql_idempotency import SqlIdempotencyStore
from tenfold.guard.idempotency import Claim, IdempotencyGuard
from tenfold.guard.keys import Replay, StoredReply

pytestmark = pytest.mark.anyio

OK = StoredReply(201, (), b"made")


@pytest.fixture
def guard(db: Database, clock: ManualClock) -> IdempotencyGuard:
    return IdempotencyGuard(SqlIdempotencyStore(db), clock)


async def claimed(guard: IdempotencyGuard) -> Claim:
    outcome = await guard.begin("k", "orders.place", "f")
    assert isinstance(outcome, Claim)
    return outcome


async def write(db: Database, note: str) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.insert(db.metadata.tables["effect"]).values(note=note))


async def notes(db: Database) -> list[str]:
    return [row[0] for row in await db.read().all(sa.text("SELECT note FROM effect ORDER BY id"), tuple)]


async def test_what_the_handler_writes_is_committed_with_the_reply_and_not_before(
    db: Database, guard: IdempotencyGuard
) -> None:
    with use(Context()):
        claim = await claimed(guard)
        await write(db, "one")
        await write(db, "two")
        with use(Context()):
            assert await notes(db) == []
        await claim.finish(OK)
        assert await notes(db) == ["one", "two"]
        await write(db, "an ordinary transaction again")
    assert len(await notes(db)) == 3


async def test_abandoning_undoes_the_effect(db: Database, guard: IdempotencyGuard) -> None:
    with use(Context()):
        claim = await claimed(guard)
        await write(db, "one")
        await claim.abandon()
    assert await notes(db) == []
    with use(Context()):
        await (await claimed(guard)).finish(OK)


async def test_the_reply_of_an_error_is_kept_without_the_effect(
    db: Database, guard: IdempotencyGuard
) -> None:
    with use(Context()):
        claim = await claimed(guard)
        await write(db, "one")
        await claim.finish(StoredReply(422, (), b"no"), effect=False)
    assert await notes(db) == []
    outcome = await guard.begin("k", "orders.place", "f")
    assert isinstance(outcome, Replay)
    assert outcome.reply.body == b"no"


async def test_a_run_whose_lease_ended_and_whose_key_was_taken_keeps_nothing(
    db: Database, guard: IdempotencyGuard, clock: ManualClock
) -> None:
    with use(Context()):
        slow = await claimed(guard)
        await clock.advance(31)
    with use(Context()):
        fast = await claimed(guard)
        await write(db, "fast")
        await fast.finish(OK)
    with use(slow._attempt._operation._context):
        await write(db, "slow")
        with pytest.raises(RequestInProgress):
            await slow.finish(StoredReply(200, (), b"slow"))
    assert await notes(db) == ["fast"]
    outcome = await guard.begin("k", "orders.place", "f")
    assert isinstance(outcome, Replay)
    assert outcome.reply.body == b"made"


async def test_a_request_cancelled_while_it_runs_leaves_a_free_key_and_no_effect(
    db: Database, guard: IdempotencyGuard
) -> None:
    wrote = asyncio.Event()

    async def request() -> None:
        with use(Context()):
            claim = await claimed(guard)
            try:
                await write(db, "one")
                wrote.set()
                await asyncio.sleep(60)
            except BaseException:
                await claim.abandon()
                raise

    running = asyncio.create_task(request())
    await wrote.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await notes(db) == []
    with use(Context()):
        await (await claimed(guard)).abandon()


async def test_a_request_cancelled_while_it_claims_its_key_leaves_it_free(
    db: Database, guard: IdempotencyGuard
) -> None:
    async def begin(key: str) -> None:
        with use(Context()):
            await guard.begin(key, "orders.place", "f")

    for steps in range(12):
        task = asyncio.create_task(begin(f"k{steps}"))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            with use(Context()):
                again = await guard.begin(f"k{steps}", "orders.place", "f")
            assert isinstance(again, Claim)
            await again.abandon()


async def test_200_concurrent_duplicates_have_one_effect(db: Database, guard: IdempotencyGuard) -> None:
    async def request() -> bytes | None:
        with use(Context()):
            try:
                outcome = await guard.begin("k", "orders.place", "f")
            except RequestInProgress:
                return None
            if isinstance(outcome, Replay):
                return outcome.reply.body
            await write(db, "one")
            await outcome.finish(OK)
            return OK.body

    replies = await asyncio.gather(*(request() for _ in range(200)))
    assert set(replies) <= {None, b"made"}
    assert b"made" in replies
    assert await notes(db) == ["one"]
