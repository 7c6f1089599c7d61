"""What goes wrong: constraints, bad statements, time-outs, cancellation. Afterwards everything works again."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa

from tenfold import errors
from tenfold._core.context import Context, owned, use
from tenfold.conformance._database_case import (
    DatabaseCase,
    OpenDatabase,
    Order,
    account,
    add_order,
    balance_of,
    count_orders,
    endless,
    endless_write,
    kind,
    line,
    number,
    open_accounts,
    order,
    place,
    set_balance,
)
from tenfold.conformance.kit import PATIENCE_S, outcomes_of, together
from tenfold.db.contract import Capabilities
from tenfold.db.database import Database


async def attempt(db: Database, statement: Any, **values: Any) -> None:
    async with db.tx() as tx:
        await tx.execute(statement, values)


async def works(db: Database) -> None:
    """Reads, writes and health checks are answered, and no transaction is left open."""
    async with asyncio.timeout(5):
        await db.health()
        placed = await place(db, "after")
        async with db.tx() as tx:
            await tx.execute(sa.delete(order).where(order.c.id == placed.id))
    assert db.backend.open_by_task == {}


class ErrorClaims(DatabaseCase):
    @pytest.mark.parametrize(
        ("statement", "values", "kind_", "columns"),
        [
            (sa.insert(account), {"name": "a"}, errors.UniqueViolation, ("name",)),
            (sa.insert(line), {"order_id": 1, "product": "p"}, errors.UniqueViolation, ("order_id", "product")),
            (sa.insert(order), {"customer": None}, errors.NotNullViolation, ("customer",)),
            (sa.insert(line), {"order_id": 404, "product": "p"}, errors.ForeignKeyViolation, ("order_id",)),
        ],
        ids=["primary key", "unique", "not null", "foreign key"],
    )  # fmt: skip
    async def test_a_constraint_is_named_with_its_columns(
        self, db: Database, statement: Any, values: dict[str, Any], kind_: Any, columns: tuple[str, ...]
    ) -> None:
        """What violates a constraint raises the error of that kind, which names the table and the columns."""
        await open_accounts(db, a=0)
        await attempt(db, sa.insert(order), id=1, customer="a")
        await attempt(db, sa.insert(line), order_id=1, product="p")
        with pytest.raises(kind_) as caught:
            await attempt(db, statement, **values)
        assert isinstance(caught.value, errors.IntegrityError)
        assert caught.value.table == statement.table.name
        assert caught.value.columns == columns

    async def test_a_check_is_named(self, db: Database) -> None:
        """A CHECK constraint raises CheckViolation with its name."""
        with pytest.raises(errors.CheckViolation) as caught:
            await place(db, "c", -1)
        assert caught.value.constraint == "conf_total_not_negative"
        assert caught.value.table == "conf_order"

    async def test_a_row_that_is_referred_to_stays(self, db: Database) -> None:
        """Deleting a row that others refer to raises ForeignKeyViolation."""
        placed = await place(db, "c")
        await attempt(db, sa.insert(line), order_id=placed.id, product="p")
        with pytest.raises(errors.ForeignKeyViolation):
            await attempt(db, sa.delete(order))
        assert await db.read().scalar(count_orders) == 1

    async def test_constraints_are_told_in_textual_sql_too(self, db: Database) -> None:
        """The class of the error does not depend on how the statement was written."""
        await open_accounts(db, a=0)
        with pytest.raises(errors.UniqueViolation):
            await attempt(db, sa.text("INSERT INTO conf_account (name, balance) VALUES ('a', 1)"))
        with pytest.raises(errors.NotNullViolation):
            await attempt(db, sa.text("INSERT INTO conf_account (name, balance) VALUES ('b', NULL)"))

    @pytest.mark.parametrize(
        "sql", ["SELECT * FROM nowhere", "SELECT nothing FROM conf_order", "SELEKT 1", "SELECT f00(1)"]
    )
    async def test_bad_sql_is_named_with_the_statement(self, db: Database, sql: str) -> None:
        """SQL that the engine refuses raises StatementError, which shows it."""
        with pytest.raises(errors.StatementError, match=r"The statement: SELE") as caught:
            await db.read().all(sa.text(sql))
        assert type(caught.value) is errors.StatementError
        with pytest.raises(errors.StatementError):
            await attempt(db, sa.text(sql))
        await works(db)

    async def test_parameters_that_do_not_fit_are_named(self, db: Database) -> None:
        """A missing or unknown parameter raises StatementError with its name, before anything is sent."""
        with pytest.raises(errors.StatementError, match="'who'"):
            await db.read().scalar(balance_of)
        with pytest.raises(errors.StatementError, match="'whom'"):
            await db.read().scalar(balance_of, who="a", whom="b")

    async def test_a_division_by_zero_is_an_error_or_nothing(self, db: Database) -> None:
        """Engines differ: it raises StatementError or answers NULL, and never anything else."""
        statement = sa.text("SELECT 1 / (n - 1) FROM conf_number WHERE n = 1")
        try:
            assert await db.read().scalar(statement) is None
        except errors.DatabaseError as error:
            assert type(error) is errors.StatementError  # noqa: PT017
        await works(db)

    async def test_errors_do_not_tell_the_values(self, db: Database) -> None:
        """No value of a row is in the sentence of an error, since errors reach logs and clients."""
        private = "private-value"
        await open_accounts(db, **{private: 0})
        for values in ({"name": private}, {"name": private, "balance": None}):
            with pytest.raises(errors.IntegrityError) as caught:
                await attempt(db, sa.insert(account), **values)
            assert private not in str(caught.value)


class TimeoutClaims(DatabaseCase):
    async def test_a_statement_stops_at_the_deadline(self, db: Database) -> None:
        """A statement that outlives the deadline of its context is interrupted and raises StatementTimeout."""
        with use(Context(deadline=db.backend.clock.monotonic() + 0.1)):
            with pytest.raises(errors.StatementTimeout, match="deadline"):
                await db.read().scalar(endless)
            with pytest.raises(errors.StatementTimeout):
                async with db.tx() as tx:
                    await tx.scalar(endless)
        soon = Context(deadline=db.backend.clock.monotonic() + 0.1)
        with use(soon), pytest.raises(errors.StatementTimeout):
            await attempt(db, endless_write)
        await works(db)

    async def test_no_statement_starts_after_the_deadline(self, db: Database) -> None:
        """What comes too late is not begun, however quick it would be: StatementTimeout, and nothing is written."""
        await open_accounts(db, a=1)
        await works(db)  # what is quick is known to be
        with use(Context(deadline=db.backend.clock.monotonic())):
            with pytest.raises(errors.StatementTimeout):
                await db.read().scalar(balance_of, who="a")
            with pytest.raises(errors.StatementTimeout):
                await attempt(db, set_balance, who="a", to=2)
        moving = Context()
        with use(moving), pytest.raises(errors.StatementTimeout):
            async with db.tx() as tx:
                await tx.execute(set_balance, who="a", to=3)
                moving.deadline = db.backend.clock.monotonic()
                await tx.execute(set_balance, who="a", to=4)
        assert await db.read().scalar(balance_of, who="a") == 1

    async def test_waiting_takes_from_the_time_of_the_statement(self, db: Database, other: Database) -> None:
        """A statement that had to wait for its turn still ends at the deadline, and not its whole time later."""
        clock, loop = other.backend.clock, asyncio.get_running_loop()
        await open_accounts(db, a=0)
        async with db.tx() as holder:
            await holder.execute(set_balance, who="a", to=1)
            soon = Context(deadline=clock.monotonic() + 0.6)
            with use(soon):
                waiting = asyncio.create_task(attempt(other, endless_write))
            await asyncio.sleep(0.3)
        began = loop.time()
        with pytest.raises((errors.StatementTimeout, errors.DatabaseUnavailable)):
            await waiting
        assert loop.time() - began < 0.6, "it was given its whole time again"

    async def test_without_a_deadline_the_configured_time_holds(
        self, db: Database, open_db: OpenDatabase
    ) -> None:
        """Without a deadline a statement may take `statement_timeout_s`."""
        async with open_db(statement_timeout_s=0.1) as hasty:
            with pytest.raises(errors.StatementTimeout):
                await hasty.read().scalar(endless)
            with pytest.raises(errors.StatementTimeout):
                await attempt(hasty, endless_write)
            await works(hasty)

    async def test_waiting_for_another_transaction_ends_with_a_sentence(
        self, db: Database, open_db: OpenDatabase
    ) -> None:
        """Who waits for what another transaction holds gets DatabaseUnavailable after `lock_timeout_s`."""
        await open_accounts(db, a=0)
        async with open_db(lock_timeout_s=0.1) as hasty:
            async with db.tx() as holder:
                await holder.execute(set_balance, who="a", to=1)
                with pytest.raises(errors.DatabaseUnavailable):
                    await attempt(hasty, set_balance, who="a", to=2)
            await works(hasty)
        assert await db.read().scalar(balance_of, who="a") == 1

    async def test_a_deadline_ends_waiting_too(self, db: Database, other: Database) -> None:
        """Who waits for what another transaction holds waits until the deadline at most."""
        await open_accounts(db, a=0)
        async with db.tx() as holder:
            await holder.execute(set_balance, who="a", to=1)
            soon = Context(deadline=other.backend.clock.monotonic() + 0.1)
            with use(soon), pytest.raises((errors.StatementTimeout, errors.DatabaseUnavailable)):
                async with asyncio.timeout(5):
                    await asyncio.create_task(attempt(other, set_balance, who="a", to=2))
        await works(other)

    async def test_a_full_pool_refuses_in_time_and_recovers(
        self, db: Database, open_db: OpenDatabase, declared: Capabilities
    ) -> None:
        """When all connections are taken, work waits `pool_wait_s` and then gets DatabaseUnavailable; the framework's
        own (health, heartbeats) still gets through."""
        if not declared.parallel_writers:
            return  # one writer: it is waited for, which is a claim of its own
        await open_accounts(db, a=0, b=0)
        async with open_db(pool_max=2, pool_wait_s=0.1) as narrow:
            release = asyncio.Event()
            held = asyncio.Barrier(3)

            async def hold(who: str) -> None:
                async with narrow.tx() as tx:
                    await tx.execute(set_balance, who=who, to=1)
                    await held.wait()
                    await release.wait()

            holders = [asyncio.create_task(hold(who)) for who in "ab"]
            async with asyncio.timeout(5):
                await held.wait()
            for work in (narrow.read().scalar(count_orders), place(narrow, "no room")):
                with pytest.raises(errors.DatabaseUnavailable, match="pool_max"):
                    async with asyncio.timeout(5):
                        await work
            await narrow.health()
            with owned():
                await place(narrow, "own")
            release.set()
            await together(holders)
            await works(narrow)

    async def test_more_callers_than_connections_all_get_their_turn(self, open_db: OpenDatabase) -> None:
        """Work beyond the size of the pool waits, in turn, and is done."""
        async with open_db(pool_max=2) as narrow:
            await together(place(narrow, f"c{n}", n) for n in range(30))
            assert await narrow.read().scalar(count_orders) == 30


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
