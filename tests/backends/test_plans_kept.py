"""PostgreSQL plans the statements of an event's way once, however many rows each of them is about."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from support.queues import rig
from tenfold.db import Tx
from tenfold.events.outbox import Outbox
from tenfold.queue import outcome
from tenfold.queue.contract import USUAL_KEEP
from tenfold.queue.message import Claim, Message

pytestmark = pytest.mark.anyio

TRIED = 6
"""The server plans a statement five times for its parameters before it compares; what it planned before the first statistics
of a table were there, it plans once more."""
ROUNDS = 30
plans = sa.text("SELECT statement, custom_plans, generic_plans FROM pg_prepared_statements")


async def test_statements_about_short_lists_are_not_planned_anew(postgres_url: str, tmp_path: Path) -> None:
    async with rig(tmp_path, database=postgres_url, connections=1) as r:
        backend, events = r.queue.backend, Outbox(r.queue)

        async def publish(n: int) -> None:
            async with r.db.tx() as tx:
                events.put(tx, "s.made", f"key {n}", '{"version":1,"data":1}')
            await events.record([row.id for row in await events.unsent(100)], {}, r.queue.now())

        async def take_in(n: int) -> list[Message]:
            rows = [r.queue.message("event", "s.on", "{}", order_key=f"{n} {m}") for m in range(n % 3 + 1)]
            async with r.db.tx() as tx:
                r.queue.put_all(tx, rows)
            async with r.db.tx() as tx:
                return await backend.claim(
                    tx, Claim("default", "", 9), "w", r.queue.now(), r.queue.now() + 60
                )

        async def end(*messages: Message) -> None:
            async def settle(tx: Tx) -> None:
                await backend.settle(tx, [outcome.done(m) for m in messages], r.queue.now(), USUAL_KEEP)

            async with r.db.tx() as tx:
                await tx.execute(sa.text("UPDATE effect SET what = what WHERE id = 0"))
                tx.before_commit(settle, may_be_last=True)

        for n in range(ROUNDS):
            await publish(n)
            first, *others = await take_in(n)
            await end(first)
            if others:
                await end(*others)
        found = await r.db.read().all(plans, tuple)
        often = {sql: custom for sql, custom, kept in found if custom + kept > 2 * TRIED}
        assert len(often) >= 8
        assert {sql: custom for sql, custom in often.items() if custom > TRIED} == {}
