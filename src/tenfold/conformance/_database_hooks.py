"""What other layers hang on to a transaction, and the ORM session on it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import selectinload

from tenfold import errors
from tenfold.conformance._database_case import (
    Author,
    Book,
    DatabaseCase,
    Order,
    add_order,
    count_orders,
    customers,
    order,
)
from tenfold.db.database import Database, Tx

author_names = sa.select(Author.name).order_by(Author.id)


async def flush(tx: Tx) -> None:
    """Write what was buffered in the transaction's state."""
    await tx.execute(sa.insert(order), [{"customer": c} for c in tx.state.pop("buffer")])


def buffer(tx: Tx, name: str) -> None:
    """Have a row written before the transaction, or its part, ends."""
    if "buffer" not in tx.state:
        tx.before_commit(flush)
    tx.state.setdefault("buffer", []).append(name)


class HookClaims(DatabaseCase):
    async def test_hooks_run_before_the_commit_and_inside_it(self, db: Database) -> None:
        """What `before_commit` writes commits with the transaction; what it raises rolls back."""
        async with db.tx() as tx:
            buffer(tx, "a")
            buffer(tx, "b")
        assert await db.read().scalar(count_orders) == 2

        async def fail(tx: Tx) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="c")
                tx.before_commit(fail)
        assert await db.read().scalar(count_orders) == 2

    async def test_a_hook_may_use_the_session(self, db: Database) -> None:
        """What it adds is written, though the session was flushed, or not there, before."""

        async def add(tx: Tx) -> None:
            tx.session.add(Author(name="of a hook"))

        async with db.tx() as tx:
            tx.before_commit(add)
        async with db.tx() as tx:
            tx.session.add(Author(name="before it"))
            tx.before_commit(add)
        assert sorted(await db.read().all(author_names, str)) == ["before it", "of a hook", "of a hook"]

    async def test_what_was_buffered_in_an_undone_savepoint_is_gone(self, db: Database) -> None:
        """Hooks, state and invalidations of a savepoint that raised are forgotten with it."""
        committed: list[str] = []
        async with db.tx() as tx:
            buffer(tx, "outer")
            with suppress(ZeroDivisionError):
                async with tx.savepoint():
                    buffer(tx, "undone")
                    tx.on_commit(lambda: committed.append("undone"))
                    tx.invalidate("undone")
                    raise ZeroDivisionError
            async with tx.savepoint():
                buffer(tx, "kept")
                tx.on_commit(lambda: committed.append("kept"))
            buffer(tx, "last")
        assert await db.read().all(customers, str) == ["outer", "kept", "last"]
        assert committed == ["kept"]

    async def test_listeners_hear_of_invalidations_around_the_commit(self, db: Database) -> None:
        """Listeners are told before the commit can be seen, and again before it is acknowledged."""
        fresh = Database("listening", db.metadata)
        fresh.bind(db.backend)
        heard: list[Any] = []

        async def announced(tags: frozenset[str]) -> None:
            heard.append(("announced", sorted(tags), await _count_beside(db)))

        fresh.on_announce(announced)
        fresh.on_invalidate(lambda tags: heard.append(("invalidated", sorted(tags))))
        async with fresh.tx() as tx:
            await tx.one(add_order, Order, customer="c")
            tx.invalidate("orders", "order:1")
            tx.on_commit(lambda: heard.append("woken"))
        heard.append("acknowledged")
        tags = ["order:1", "orders"]
        assert heard == [("announced", tags, 0), ("invalidated", tags), "woken", "acknowledged"]
        heard.clear()
        with suppress(ZeroDivisionError):
            async with fresh.tx() as tx:
                await tx.one(add_order, Order, customer="c")
                tx.invalidate("orders")
                tx.on_commit(lambda: heard.append("woken"))
                raise ZeroDivisionError
        assert heard == []

    async def test_a_listener_that_refuses_an_announcement_rolls_back(self, db: Database) -> None:
        """When a listener of announcements raises, the transaction fails with that and leaves nothing."""
        fresh = Database("listening", db.metadata)
        fresh.bind(db.backend)

        async def refuse(tags: frozenset[str]) -> None:
            raise errors.Unavailable("the cache is away")

        fresh.on_announce(refuse)
        with pytest.raises(errors.Unavailable):
            async with fresh.tx() as tx:
                await tx.one(add_order, Order, customer="c")
                tx.invalidate("orders")
        assert await db.read().scalar(count_orders) == 0


async def _count_beside(db: Database) -> int:
    return int(await db.read().scalar(count_orders))


class OrmClaims(DatabaseCase):
    async def test_objects_are_written_before_the_commit_without_being_asked(self, db: Database) -> None:
        """The ORM session of a transaction is flushed before its commit, and reads what is committed."""
        async with db.tx() as tx:
            tx.session.add(Author(name="Austen", books=[Book(), Book()]))
        async with db.tx() as tx:
            query = sa.select(Author).options(selectinload(Author.books))
            found = (await tx.session.scalars(query)).one()
            assert (found.name, len(found.books)) == ("Austen", 2)
            found.name = "Jane Austen"
        assert await db.read().all(author_names, str) == ["Jane Austen"]

    async def test_core_and_orm_see_each_other(self, db: Database) -> None:
        """The session is on the transaction's own connection: each sees what the other wrote."""
        async with db.tx() as tx:
            await tx.execute(sa.insert(Author), {"name": "Core"})
            assert (await tx.session.scalars(sa.select(Author.name))).all() == ["Core"]
            tx.session.add(Author(name="Orm"))
            await tx.session.flush()
            assert await tx.scalar(sa.select(sa.func.count()).select_from(Author)) == 2
        assert await db.read().all(author_names, str) == ["Core", "Orm"]

    async def test_an_error_undoes_what_the_session_wrote(self, db: Database) -> None:
        """`session.commit()` flushes only: the transaction decides, and undoes it when its block raises."""
        with suppress(ZeroDivisionError):
            async with db.tx() as tx:
                tx.session.add(Author(name="Lost"))
                await tx.session.commit()
                raise ZeroDivisionError
        assert await db.read().all(author_names, str) == []

    async def test_constraints_raise_tenfolds_errors_from_the_session(self, db: Database) -> None:
        """What the engine refuses reaches the caller of the session as Tenfold's error, not as a vendor's."""
        with pytest.raises(errors.ForeignKeyViolation):
            async with db.tx() as tx:
                tx.session.add(Book(author_id=404))
        async with db.tx() as tx:
            kept = Author(name="Kept")
            tx.session.add(kept)
            await tx.session.flush()
            key = kept.id
        with pytest.raises(errors.UniqueViolation):
            async with db.tx() as tx:
                tx.session.add(Author(id=key, name="Again"))
                await tx.session.flush()

    async def test_savepoints_of_both_kinds_undo_their_part(self, db: Database) -> None:
        """`tx.savepoint()` and `session.begin_nested()` each undo what the session did inside."""
        async with db.tx() as tx:
            tx.session.add(Author(name="Outer"))
            with suppress(errors.ForeignKeyViolation):
                async with tx.savepoint():
                    tx.session.add(Author(name="Undone"))
                    tx.session.add(Book(author_id=404))
            with suppress(ZeroDivisionError):
                async with tx.session.begin_nested():
                    tx.session.add(Author(name="Undone too"))
                    raise ZeroDivisionError
            async with tx.session.begin_nested():
                tx.session.add(Author(name="Nested"))
        assert await db.read().all(author_names, str) == ["Outer", "Nested"]

    async def test_a_session_that_begins_inside_a_savepoint_ends_with_it(self, db: Database) -> None:
        """A session that was opened in an undone savepoint knows nothing of it afterwards."""
        async with db.tx() as tx:
            with suppress(ZeroDivisionError):
                async with tx.savepoint():
                    tx.session.add(Author(name="Undone"))
                    await tx.session.flush()
                    raise ZeroDivisionError
            tx.session.add(Author(name="Kept"))
        assert await db.read().all(author_names, str) == ["Kept"]

    async def test_rolling_back_the_session_is_refused_with_the_way_out(self, db: Database) -> None:
        """The session cannot end the transaction."""
        with pytest.raises(errors.TransactionMisuse, match="Leave the `async with"):
            async with db.tx() as tx:
                tx.session.add(Author(name="x"))
                await tx.session.rollback()
        assert await db.read().all(author_names, str) == []

    async def test_a_reader_has_a_session_that_reads_as_it_does(self, db: Database) -> None:
        """Objects and their relations, also where there are none; each statement sees what was committed before it."""
        query = sa.select(Author).options(selectinload(Author.books))
        session = db.read().session
        assert (await session.scalars(query)).all() == []
        async with db.tx() as tx:
            tx.session.add(Author(name="Austen", books=[Book(), Book()]))
        (found,) = (await session.scalars(query)).all()
        assert (found.name, len(found.books)) == ("Austen", 2)
        assert await db.read().session.get(Author, found.id) is not found
        assert await session.get(Author, found.id) is found

    async def test_a_session_of_a_reader_writes_nothing(self, db: Database) -> None:
        """What is new or different is refused at the next flush, what writes by itself at the database."""
        async with db.tx() as tx:
            tx.session.add(Author(name="Austen"))
        session = db.read().session
        found = (await session.scalars(sa.select(Author))).one()
        found.name = "Somebody else"
        with pytest.raises(errors.TransactionMisuse, match="reads only"):
            await session.flush()
        fresh = db.read().session
        fresh.add(Author(name="New"))
        with pytest.raises(errors.TransactionMisuse, match="reads only"):
            await fresh.commit()
        with pytest.raises(errors.TenfoldError):
            await db.read().session.execute(sa.update(Author).values(name="Nobody"))
        assert await db.read().all(author_names, str) == ["Austen"]

    async def test_a_session_of_a_snapshot_sees_one_state(self, db: Database) -> None:
        """Inside of `async with db.read()`, its statements see what the reader's see."""
        count = sa.select(sa.func.count()).select_from(Author)
        async with db.read() as reader:
            assert await reader.scalar(count) == 0
            async with db.tx() as tx:
                tx.session.add(Author(name="Austen"))
            assert await reader.session.scalar(count) == 0
        assert await db.read().session.scalar(count) == 1
