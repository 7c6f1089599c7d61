"""What goes wrong: constraints, bad statements, time-outs. Afterwards everything works again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from tenfold import errors
from tenfold._core.context import Context, owned, use
from tenfold.conformance._database_case import (
    DatabaseCase,
    OpenDatabase,
    account,
    balance_of,
    count_orders,
    endless,
    endless_write,
    line,
    open_accounts,
    order,
    place,
    set_balance,
)
from tenfold.conformance.kit import together
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
