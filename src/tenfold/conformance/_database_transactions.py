"""Transactions: whole or not at all, isolated, hard to misuse."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa

from tenfold import errors
from tenfold.conformance._database_case import (
    DatabaseCase,
    OpenDatabase,
    Order,
    account,
    add_order,
    add_to,
    balance_of,
    count_orders,
    line,
    open_accounts,
    order,
    order_by_id,
    place,
    set_balance,
)
from tenfold.conformance.kit import outcomes_of, together
from tenfold.db.contract import Capabilities
from tenfold.db.database import Database, Tx


class AtomicityClaims(DatabaseCase):
    async def test_a_block_that_ends_commits_and_one_that_raises_leaves_nothing(self, db: Database) -> None:
        """A transaction happens whole or not at all."""
        async with db.tx() as tx:
            placed = await tx.one(add_order, Order, customer="kept")
        with suppress(ZeroDivisionError):
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="lost")
                raise ZeroDivisionError
        assert await db.read().all(sa.select(order), Order) == [placed]

    async def test_an_acknowledged_commit_is_there_for_everybody(self, db: Database, other: Database) -> None:
        """A read that starts after a commit was acknowledged sees it, in every process."""
        for n in range(20):
            placed = await place(db if n % 2 else other, "c", n)
            reader = (other if n % 2 else db).read()
            assert await reader.one(order_by_id, Order, id=placed.id) == placed

    async def test_an_acknowledged_commit_is_there_after_a_reopening(
        self, db: Database, open_db: OpenDatabase
    ) -> None:
        """What was acknowledged is still there when everything was closed and opened again."""
        async with open_db() as third:
            placed = await place(third, "kept")
            with suppress(ZeroDivisionError):
                async with third.tx() as tx:
                    await tx.one(add_order, Order, customer="lost")
                    raise ZeroDivisionError
        async with open_db() as fourth:
            assert await fourth.read().all(sa.select(order), Order) == [placed]

    async def test_statements_run_in_the_order_in_which_they_were_awaited(self, db: Database) -> None:
        """Within a transaction each statement sees the effects of those before it."""
        await open_accounts(db, a=0)
        async with db.tx() as tx:
            for n in range(10):
                assert await tx.scalar(balance_of, who="a") == n
                await tx.execute(set_balance, who="a", to=n + 1)
        assert await db.read().scalar(balance_of, who="a") == 10

    async def test_siblings_of_one_transaction_take_turns(self, db: Database) -> None:
        """Statements that several tasks run on one transaction at the same time all happen, one by one."""
        async with db.tx() as tx:
            await together(tx.one(add_order, Order, customer=f"c{n}") for n in range(10))
        assert await db.read().scalar(count_orders) == 10

    async def test_a_failed_statement_makes_the_transaction_unusable(self, db: Database) -> None:
        """After a statement that failed a transaction can do nothing more, and says why."""
        with pytest.raises(errors.TransactionMisuse, match=r"failed before: a row of .* exists"):
            async with db.tx() as tx:
                placed = await tx.one(add_order, Order, customer="a")
                with suppress(errors.UniqueViolation):
                    await tx.execute(sa.insert(order), {"id": placed.id, "customer": "b"})
                await tx.execute(sa.insert(order), {"customer": "c"})
        assert await db.read().scalar(count_orders) == 0

    async def test_a_swallowed_failure_does_not_commit(self, db: Database) -> None:
        """A transaction with a failed statement does not commit, also when the error was swallowed."""
        with pytest.raises(errors.TransactionMisuse, match="failed before"):
            async with db.tx() as tx:
                placed = await tx.one(add_order, Order, customer="a")
                with suppress(errors.UniqueViolation):
                    await tx.execute(sa.insert(order), {"id": placed.id, "customer": "b"})
        assert await db.read().scalar(count_orders) == 0

    async def test_a_transaction_inside_a_transaction_is_refused(self, db: Database) -> None:
        """A task has one transaction at a time on a database, whichever of its names it uses."""
        twin = Database("twin", db.metadata)
        twin.bind(db.backend)
        for inner in (db, twin):
            with pytest.raises(errors.TransactionMisuse, match=r"use tx\.savepoint"):
                async with db.tx(), inner.tx():
                    pass
        await place(db, "the refusal left nothing behind")
        assert await twin.read().scalar(count_orders) == 1

    async def test_a_transaction_is_dead_after_its_block(self, db: Database) -> None:
        """A transaction that has ended refuses every statement."""
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="c")
        for use in (tx.scalar(count_orders), tx.execute(sa.delete(order)), tx.one(order_by_id, Order, id=1)):
            with pytest.raises(errors.TransactionMisuse, match="has ended"):
                await use

    async def test_an_unused_transaction_holds_nothing(self, db: Database, other: Database) -> None:
        """A transaction begins with its first statement."""
        async with db.tx():
            async with asyncio.timeout(5):
                await place(other, "c")
            await asyncio.create_task(_placed(db))
        assert await db.read().scalar(count_orders) == 2


async def _placed(db: Database) -> None:
    await place(db, "c")


class IsolationClaims(DatabaseCase):
    async def test_nobody_sees_what_is_not_committed(self, db: Database, other: Database) -> None:
        """A transaction sees its own changes, and nobody else does before its commit."""
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="c")
            assert await tx.scalar(count_orders) == 1
            assert await db.read().scalar(count_orders) == 0
            assert await other.read().scalar(count_orders) == 0
        assert await other.read().scalar(count_orders) == 1

    async def test_a_change_that_names_no_value_read_before_is_never_lost(
        self, db: Database, other: Database
    ) -> None:
        """`UPDATE … SET x = x + 1` waits for the row: concurrent ones all count, without a retry."""
        await open_accounts(db, a=0)
        bump = sa.update(account).where(account.c.name == "a").values(balance=account.c.balance + 1)

        async def one(n: int) -> None:
            async with (db if n % 2 else other).tx() as tx:
                assert await tx.execute(bump) == 1

        await together(one(n) for n in range(12))
        assert await db.read().scalar(balance_of, who="a") == 12

    async def test_a_row_that_was_selected_for_update_is_the_transactions_own(
        self, db: Database, other: Database
    ) -> None:
        """`SELECT … FOR UPDATE` (where the database has one writer: nothing) keeps others from the row."""
        await open_accounts(db, a=0)

        async def one(n: int) -> None:
            async with (db if n % 2 else other).tx() as tx:
                balance = await tx.scalar(balance_of.with_for_update(), who="a")
                await asyncio.sleep(0)
                await tx.execute(set_balance, who="a", to=balance + 1)

        await together(one(n) for n in range(12))
        assert await db.read().scalar(balance_of, who="a") == 12

    async def test_transact_loses_no_update(self, db: Database, other: Database) -> None:
        """Concurrent read-then-write through `transact` gives the result of some order, one after another."""
        await open_accounts(db, a=0)

        async def one(n: int) -> None:
            await (db if n % 2 else other).transact(lambda tx: add_to(tx, "a", 1), attempts=100)

        await together(one(n) for n in range(12))
        assert await db.read().scalar(balance_of, who="a") == 12

    async def test_serializable_transactions_prevent_write_skew(
        self, db: Database, other: Database, declared: Capabilities
    ) -> None:
        """Of two serializable transactions that each read what the other writes, one does not commit so."""
        await open_accounts(db, a=60, b=60)
        both_have_read = asyncio.Barrier(2)

        async def withdraw(from_: Database, who: str) -> None:
            async with from_.tx(isolation="serializable") as tx:
                total = sum(await tx.all(sa.select(account.c.balance), int))
                if declared.parallel_writers:  # with one writer the second has to wait for the first
                    await both_have_read.wait()
                if total >= 100:
                    await tx.execute(set_balance, who=who, to=60 - 100)

        outcomes = await outcomes_of([withdraw(db, "a"), withdraw(other, "b")])
        assert sum(await db.read().all(sa.select(account.c.balance), int)) == 20
        failed = [o for o in outcomes if o is not None]
        assert len(failed) == (1 if declared.parallel_writers else 0)
        assert all(isinstance(o, errors.SerializationFailure) for o in failed)

    async def test_transact_prevents_write_skew_by_trying_again(self, db: Database, other: Database) -> None:
        """A function that `transact` runs again decides on what is true then."""
        await open_accounts(db, a=60, b=60)

        async def withdraw(tx: Tx, who: str) -> bool:
            total = sum(await tx.all(sa.select(account.c.balance), int))
            await asyncio.sleep(0)
            if total >= 100:
                await tx.execute(set_balance, who=who, to=60 - 100)
            return total >= 100

        done = await together(
            d.transact(lambda tx, w=who: withdraw(tx, w), attempts=100)  # type: ignore[misc]
            for d, who in ((db, "a"), (other, "b"))
        )
        assert sorted(done) == [False, True]
        assert sum(await db.read().all(sa.select(account.c.balance), int)) == 20

    async def test_a_deadlock_ends_with_one_transaction_to_be_tried_again(
        self, db: Database, other: Database, declared: Capabilities
    ) -> None:
        """Of transactions that wait for each other one gets SerializationFailure, and `transact` mends it."""
        await open_accounts(db, a=0, b=0)
        met = asyncio.Barrier(2)
        runs: dict[str, int] = {}

        async def cross(tx: Tx, first: str, second: str) -> None:
            runs[first] = runs.get(first, 0) + 1
            await tx.execute(set_balance, who=first, to=1)
            if declared.parallel_writers and runs[first] == 1:
                await met.wait()
            await tx.execute(set_balance, who=second, to=2)

        await together([
            db.transact(lambda tx: cross(tx, "a", "b"), attempts=20),
            other.transact(lambda tx: cross(tx, "b", "a"), attempts=20),
        ])  # fmt: skip
        assert sum(await db.read().all(sa.select(account.c.balance), int)) == 3
        assert (sum(runs.values()) > 2) == declared.parallel_writers

    async def test_transact_gives_up_after_its_attempts(self, db: Database) -> None:
        """`transact` runs the function as often as it may, undoes each failed try, and raises the last error."""
        tries: list[int] = []

        async def work(tx: Tx) -> str:
            await tx.one(add_order, Order, customer="c")
            tries.append(1)
            if len(tries) < 3:
                raise errors.SerializationFailure("collided")
            return "done"

        assert await db.transact(work) == "done"
        assert await db.read().scalar(count_orders) == 1
        tries.clear()
        with pytest.raises(errors.SerializationFailure):
            await db.transact(work, attempts=2)
        assert await db.read().scalar(count_orders) == 1


class WriteClaims(DatabaseCase):
    async def test_execute_counts_the_rows_that_matched(self, db: Database) -> None:
        """`execute` returns the rows that the statement found, also when their values stay what they were."""
        async with db.tx() as tx:
            assert await tx.execute(sa.insert(order), {"customer": "a"}) == 1
            many = [{"customer": "b", "total": 1}, {"customer": "c", "total": 2}]
            assert await tx.execute(sa.insert(order), many) == 2
            assert await tx.execute(sa.insert(order), []) == 0
            assert await tx.execute(sa.update(order).values(total=7).where(order.c.total > 0)) == 2
            assert await tx.execute(sa.update(order).values(total=7).where(order.c.total > 0)) == 2
            assert await tx.execute(sa.update(order).values(total=7).where(order.c.total > 99)) == 0
            assert await tx.execute(sa.delete(order)) == 3

    async def test_a_list_of_parameters_runs_the_statement_for_each(self, db: Database) -> None:
        """`execute` with a list adds up the rows that each element matched."""
        await open_accounts(db, a=0, b=0)
        async with db.tx() as tx:
            many: list[dict[str, Any]] = [{"who": w, "to": n} for n, w in enumerate("abx")]
            assert await tx.execute(set_balance, many) == 2
        assert await db.read().all(sa.select(account.c.balance).order_by(account.c.name), int) == [0, 1]

    async def test_one_failing_element_of_a_list_undoes_them_all(self, db: Database) -> None:
        """A list of parameters is one statement: when an element fails, nothing of it stays."""
        await open_accounts(db, a=0)
        async with db.tx() as tx:
            with suppress(errors.UniqueViolation):
                async with tx.savepoint():
                    await tx.execute(sa.insert(account), [{"name": n} for n in "bca"])
        assert await db.read().all(sa.select(account.c.name), str) == ["a"]

    async def test_a_great_many_rows_go_in_with_load(self, db: Database) -> None:
        """`load` inserts any number of rows, in the transaction, and returns how many."""
        rows = [{"name": f"n{n}", "balance": n} for n in range(3_000)]
        with suppress(ZeroDivisionError):
            async with db.tx() as tx:
                assert await tx.load(account, rows) == 3_000
                raise ZeroDivisionError
        async with db.tx() as tx:
            assert await tx.load(account, rows) == 3_000
            assert await tx.load(account, []) == 0
            assert await tx.scalar(sa.select(sa.func.sum(account.c.balance))) == 3_000 * 2_999 // 2
        with pytest.raises(errors.UniqueViolation):
            async with db.tx() as tx:
                await tx.load(account, [{"name": "new", "balance": 1}, {"name": "n7", "balance": 1}])
        assert await db.read().scalar(sa.select(sa.func.count()).select_from(account)) == 3_000

    async def test_returning_gives_the_rows_that_were_changed(self, db: Database) -> None:
        """`RETURNING` works with INSERT, and with UPDATE and DELETE where the database has it."""
        async with db.tx() as tx:
            placed = await tx.one(add_order, Order, customer="c", total=5)
            dialect = db.backend.dialect
            if dialect.update_returning:
                raised = sa.update(order).values(total=order.c.total + 1).returning(order)
                assert (await tx.one(raised, Order)).total == 6
            if dialect.delete_returning:
                assert await tx.all(sa.delete(order).returning(order.c.id), int) == [placed.id]

    async def test_an_insert_of_several_rows_returns_each(self, db: Database) -> None:
        """A multi-row INSERT with RETURNING gives one row for each, in the order of the values."""
        rows = [{"customer": f"c{n}", "total": n} for n in range(10)]
        async with db.tx() as tx:
            found = await tx.all(sa.insert(order).values(rows).returning(order), Order)
        assert [o.total for o in sorted(found, key=lambda o: o.id)] == list(range(10))

    async def test_an_insert_from_a_select_counts_its_rows(self, db: Database) -> None:
        """`INSERT … SELECT` returns how many rows it added."""
        await open_accounts(db, a=1, b=2, c=3)
        source = sa.select(account.c.name, account.c.balance).where(account.c.balance > 1)
        async with db.tx() as tx:
            assert await tx.execute(sa.insert(order).from_select(["customer", "total"], source)) == 2

    async def test_rows_of_other_tables_can_be_named_in_a_change(self, db: Database) -> None:
        """UPDATE and DELETE may choose their rows by a subquery."""
        placed = await place(db, "c")
        async with db.tx() as tx:
            await tx.execute(sa.insert(line), {"order_id": placed.id, "product": "p"})
            named = sa.select(line.c.order_id).where(line.c.product == "p")
            assert await tx.execute(sa.update(order).values(total=3).where(order.c.id.in_(named))) == 1
            assert await tx.execute(sa.delete(line).where(line.c.order_id.in_(sa.select(order.c.id)))) == 1
