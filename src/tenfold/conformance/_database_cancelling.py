"""What is cancelled: it stops, and gives back what it held. Afterwards everything works again."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest
import sqlalchemy as sa

from tenfold import errors
from tenfold.conformance._database_case import (
    DatabaseCase,
    Order,
    account,
    add_order,
    balance_of,
    count_orders,
    endless,
    endless_write,
    kind,
    number,
    open_accounts,
    order,
    set_balance,
)
from tenfold.conformance._database_failures import attempt, works
from tenfold.conformance.kit import PATIENCE_S, outcomes_of, together
from tenfold.db.database import Database


class CancelClaims(DatabaseCase):
    async def test_a_cancelled_read_stops_and_gives_its_connection_back(self, db: Database) -> None:
        """A read that is cancelled ends soon, any number of times."""
        began = db.backend.clock.monotonic()
        for _ in range(12):  # more often than the pool has connections
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.03):
                    await db.read().scalar(endless)
        assert db.backend.clock.monotonic() - began < 3 * PATIENCE_S
        await works(db)

    async def test_a_cancelled_write_stops_and_undoes_its_transaction(
        self, db: Database, other: Database
    ) -> None:
        """A transaction that is cancelled in a statement leaves nothing: no rows, no locks."""
        await open_accounts(db, a=0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), db.tx() as tx:
                await tx.execute(set_balance, who="a", to=1)
                await tx.execute(endless_write)
        async with asyncio.timeout(5):
            await attempt(other, set_balance, who="a", to=2)
        assert await db.read().scalar(count_orders) == 0
        await works(db)

    async def test_a_transaction_cannot_go_on_after_its_statement_was_cancelled(self, db: Database) -> None:
        """A cancelled statement failed: the transaction is unusable, also for who swallows the cancellation."""
        with pytest.raises(errors.TransactionMisuse, match="failed before"):
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="c")
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await tx.execute(endless_write)
                await tx.scalar(count_orders)
        assert await db.read().scalar(count_orders) == 0

    async def test_cancelled_at_commit_the_outcome_is_awaited(self, db: Database) -> None:
        """A cancellation during COMMIT waits for its outcome: hooks ran if and only if the rows are there."""
        for turns in range(12):
            woken: list[int] = []
            entered = asyncio.Event()

            async def one(entered: asyncio.Event = entered, woken: list[int] = woken) -> None:
                async with db.tx() as tx:
                    await tx.one(add_order, Order, customer="c")
                    tx.on_commit(lambda: woken.append(1))
                    entered.set()

            before = await db.read().scalar(count_orders)
            task = asyncio.create_task(one())
            await entered.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert await db.read().scalar(count_orders) - before == len(woken)
        await works(db)

    async def test_one_who_is_cancelled_while_waiting_holds_up_nobody(
        self, db: Database, other: Database
    ) -> None:
        """Whoever waits for a row and is cancelled leaves the line."""
        await open_accounts(db, a=0)
        release, held = asyncio.Event(), asyncio.Event()
        add = sa.update(account).where(account.c.name == "a").values(balance=account.c.balance + 1)

        async def hold() -> None:
            async with db.tx() as tx:
                await tx.execute(add)
                held.set()
                await release.wait()

        holder = asyncio.create_task(hold())
        await held.wait()
        waiting = [asyncio.create_task(attempt(d, add)) for d in (db, other, db, other)]
        await asyncio.sleep(0.05)
        for task in waiting[:2]:
            task.cancel()
        release.set()
        outcomes = await outcomes_of([holder, *waiting])
        assert [isinstance(o, asyncio.CancelledError) for o in outcomes] == [False, True, True, False, False]
        assert await db.read().scalar(balance_of, who="a") == 3
        await works(db)
        await works(other)

    @pytest.mark.parametrize("seed", [1, 2])
    async def test_a_storm_of_cancellations_leaves_no_half_and_no_wrong_answer(
        self, db: Database, seed: int
    ) -> None:
        """Cancelled anywhere, a transaction is whole or not there, and no reply reaches another caller."""
        rng, acknowledged = random.Random(seed), set[str]()
        echo = sa.select(number.c.n).where(number.c.n == sa.bindparam("n"))

        async def pair(name: str) -> None:
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer=name, total=1)
                await tx.one(add_order, Order, customer=name, total=2)
            acknowledged.add(name)

        async def checked(n: int) -> None:
            assert await db.read().scalar(echo, n=n) == n

        async def one(n: int) -> BaseException | None:
            task = asyncio.create_task(pair(f"p{n}") if n % 3 else checked(n + 1))
            for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 13, 21])):
                await asyncio.sleep(0)
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() * 0.01)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return None
            except BaseException as error:
                return error
            return None

        wrong: list[BaseException] = []
        for start in range(0, 200, 20):
            answers = await together(one(n) for n in range(start, start + 20))
            wrong += [error for error in answers if error is not None]
        assert wrong == []
        totals = sa.select(order.c.customer, sa.func.sum(order.c.total)).group_by(order.c.customer)
        found = {name: int(total) for name, total in await db.read().all(totals, tuple)}
        assert set(found.values()) <= {3}
        assert acknowledged <= found.keys()
        await works(db)

    async def test_a_stream_that_is_cancelled_gives_its_connection_back(self, db: Database) -> None:
        """A consumer that is cancelled between two rows leaves nothing open."""
        async with db.tx() as tx:
            await tx.execute(sa.insert(kind), [{"big": n} for n in range(1_200)])

        async def consume(started: asyncio.Event) -> None:
            async for _ in db.read().stream(sa.select(kind.c.big), int):
                started.set()
                await asyncio.sleep(0)

        for _ in range(12):
            started = asyncio.Event()
            task = asyncio.create_task(consume(started))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await works(db)
