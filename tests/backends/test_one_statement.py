"""The last statement of a transaction takes its commit along on PostgreSQL: a round trip less, and the same outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.queues import effects, rig
from tenfold.db import Tx
from tenfold.errors import NoRow, OutcomeUnknown, StatementError, TransactionMisuse, UniqueViolation
from tenfold.events.outbox import Outbox
from tenfold.jobs import Job

pytestmark = pytest.mark.anyio

add = sa.insert(effects).returning(effects.c.id)
slowly = sa.text("INSERT INTO effect (what) SELECT 'slow' FROM pg_sleep(:seconds) RETURNING id")
everything = sa.select(effects.c.what)


async def noop() -> None: ...


@asynccontextmanager
async def writing(url: str, folder: Path) -> AsyncGenerator[tuple[Any, Any]]:
    """A database, and ``write(statement, …)``, which makes a transaction of one statement at its commit."""
    async with rig(folder, database=url) as r:

        async def write(*statements: Any, **params: Any) -> None:
            async def flush(tx: Tx) -> None:
                assert tx.final
                tx.channel.commit_with_next()
                for statement in statements:
                    await tx.all(statement, **params)

            async with r.db.tx() as tx:
                tx.before_commit(flush, may_be_last=True)

        yield r, write


async def test_it_is_committed(postgres_url: str, tmp_path: Path) -> None:
    async with writing(postgres_url, tmp_path) as (r, write):
        await write(add, what="one")
        assert await r.did() == ["one"]


async def test_what_a_hook_enqueues_and_publishes_commits_whole(postgres_url: str, tmp_path: Path) -> None:
    """The hook may be the only one, and leave more than one thing to do."""
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job, database=postgres_url) as r:
        events = Outbox(r.queue)

        async def later(tx: Tx) -> None:
            await tx.all(add, what="later")

        async def both(tx: Tx) -> None:
            await job.enqueue(tx)
            events.put(tx, "s.made", None, '{"version":1,"data":1}')
            tx.before_commit(later)

        async with r.db.tx() as tx:
            tx.before_commit(both)
        assert await r.did() == ["later"]
        assert len(await r.states()) == len(await events.unsent(10)) == 1


async def test_an_enqueue_by_itself_is_one(postgres_url: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Nothing follows the INSERT: neither a COMMIT nor anything else."""
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job, database=postgres_url) as r:
        await job.enqueue(r.db)
        sent: list[str] = []
        link_type = type(r.db.backend._pool._idle[0])
        real = link_type.command

        async def command(self: Any, sql: str, timeout_s: float) -> Any:
            sent.append(sql)
            return await real(self, sql, timeout_s)

        monkeypatch.setattr(link_type, "command", command)
        handle = await job.enqueue(r.db)
        assert sent == []
        assert (await handle.status()).state == "ready"


async def test_what_fails_is_undone_and_the_connection_serves_on(postgres_url: str, tmp_path: Path) -> None:
    async with writing(postgres_url, tmp_path) as (r, write):
        for _ in range(12):  # more often than there are connections
            with pytest.raises(StatementError):
                await write(sa.text("INSERT INTO effect (what) VALUES (1/0) RETURNING id"))
        await write(add, what="after")
        assert await r.did() == ["after"]


async def test_a_cancellation_waits_for_the_outcome(postgres_url: str, tmp_path: Path) -> None:
    async with writing(postgres_url, tmp_path) as (r, write):
        task = asyncio.create_task(write(slowly, seconds=0.3))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await r.did() == ["slow"]


async def test_a_connection_that_breaks_leaves_the_outcome_unknown(postgres_url: str, tmp_path: Path) -> None:
    async with writing(postgres_url, tmp_path) as (r, write):
        task = asyncio.create_task(write(slowly, seconds=20))
        end = sa.text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE '%pg_sleep($1)%' AND pid <> pg_backend_pid()"
        )
        async with asyncio.timeout(10):
            while not await r.db.read().all(end, bool):  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.02)
        with pytest.raises(OutcomeUnknown):
            await task


async def test_a_second_statement_is_refused(postgres_url: str, tmp_path: Path) -> None:
    async with writing(postgres_url, tmp_path) as (_, write):
        with pytest.raises(TransactionMisuse, match="announced as the last"):
            await write(add, add, what="twice")


async def test_a_second_statement_for_its_effect_is_refused_too(postgres_url: str, tmp_path: Path) -> None:
    """Outside of the transaction, which has ended, it would be by itself."""

    async def flush(tx: Tx) -> None:
        tx.channel.commit_with_next()
        await tx.all(add, what="one")
        await tx.execute(sa.insert(effects), what="two")

    async with rig(tmp_path, database=postgres_url) as r:
        with pytest.raises(TransactionMisuse, match="announced as the last"):
            async with r.db.tx() as tx:
                tx.before_commit(flush, may_be_last=True)
        assert await r.did() == ["one"]


async def test_a_transaction_with_more_than_an_enqueue_is_not_one(postgres_url: str, tmp_path: Path) -> None:
    """What was done before it is undone with it."""
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job, database=postgres_url) as r:
        with pytest.raises(NoRow):
            async with r.db.tx() as tx:
                await job.enqueue(tx)
                await tx.one(sa.text("SELECT 1 WHERE false"))
        assert await r.states() == {}


async def test_what_came_before_a_last_statement_is_committed_with_it(
    postgres_url: str, tmp_path: Path
) -> None:
    job = Job[Any, None]("s", noop)
    async with rig(tmp_path, job, database=postgres_url) as r:
        async with r.db.tx() as tx:
            await tx.execute(sa.insert(effects), what="order")
            handle = await job.enqueue(tx)
        assert await r.did() == ["order"]
        assert (await handle.status()).state == "ready"


async def test_what_came_before_a_last_statement_that_fails_is_undone(
    postgres_url: str, tmp_path: Path
) -> None:
    """The server skips the COMMIT behind it, and the connection serves on."""

    async def fail(tx: Tx) -> None:
        tx.channel.commit_with_next()
        await tx.all(sa.text("INSERT INTO effect (what) VALUES (1/0) RETURNING id"))

    async with rig(tmp_path, database=postgres_url) as r:
        for _ in range(12):  # more often than there are connections
            with pytest.raises(StatementError):
                async with r.db.tx() as tx:
                    await tx.execute(sa.insert(effects), what="order")
                    tx.before_commit(fail)
        async with r.db.tx() as tx:
            await tx.execute(sa.insert(effects), what="after")
        assert await r.did() == ["after"]


async def test_what_a_commit_refuses_is_undone_though_its_statement_went_well(
    postgres_url: str, tmp_path: Path
) -> None:
    async def twice(tx: Tx) -> None:
        tx.channel.commit_with_next()
        await tx.all(sa.text("INSERT INTO once (id) VALUES (1) RETURNING id"))

    async with rig(tmp_path, database=postgres_url) as r:
        async with r.db.tx() as tx:
            await tx.execute(sa.text("CREATE TABLE once (id int, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED)"))
            await tx.execute(sa.text("INSERT INTO once (id) VALUES (1)"))
        with pytest.raises(UniqueViolation):
            async with r.db.tx() as tx:
                await tx.execute(sa.insert(effects), what="order")
                tx.before_commit(twice)
        assert await r.did() == []
