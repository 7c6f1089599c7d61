"""Rebuilding: beside what serves, resumed where it was killed, swapped at once."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from support.ledger import Ledger
from tenfold import Tx
from tenfold.assembly.eventstores import store_of
from tenfold.errors import CheckViolation, ConfigError, LeaseTaken, StatementError
from tenfold.eventstore import Recorded, progress
from tenfold.eventstore.backends.sqlite import FOLLOW_ALL, FOLLOW_SOME
from tenfold.eventstore.rebuild import Rebuild
from tenfold.eventstore.shadow import Shadows
from tenfold.testing import TestApp

pytestmark = pytest.mark.anyio


def rebuild_of(ledger: Ledger, t: TestApp) -> Rebuild:
    [projection] = t.app.assembly.eventstores.projections
    return Rebuild(projection, ledger.db, store_of(ledger.db), t.clock)


async def one_batch(rebuild: Rebuild, position: int, horizon: int) -> int:
    """What a rebuild has done when it is killed after a batch: the position that it reached."""
    rows, end = await rebuild._read(position, horizon)
    await rebuild._take(position, rows, end)
    return end


async def spoil(ledger: Ledger) -> None:
    async with ledger.db.tx() as tx:
        await tx.execute(sa.update(ledger.table).values(amount=-1))


async def tables(ledger: Ledger) -> set[str]:
    found = await ledger.db.read().all(sa.text("SELECT name FROM sqlite_master WHERE type = 'table'"), str)
    return {name for name in found if "shadow" in name}


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_rebuild_makes_of_the_events_what_the_projection_would(mode: Any) -> None:
    ledger = Ledger()
    ledger.service.projection(ledger.account, mode=mode, tables=[ledger.table])(ledger.keep)
    async with TestApp(ledger.app()) as t:
        await ledger.pay("a", 1, 2)
        await ledger.pay("b", 3)
        await t.run_jobs()
        await spoil(ledger)
        assert await rebuild_of(ledger, t).run() == 3
        assert await ledger.rows() == {"a": (3, 2), "b": (3, 1)}
        assert await tables(ledger) == set()
        await ledger.pay("a", 4)
        await t.run_jobs()
        assert await ledger.rows() == {"a": (7, 3), "b": (3, 1)}


async def test_the_old_tables_serve_until_the_new_ones_are_complete() -> None:
    ledger = Ledger()
    ledger.service.projection(ledger.account, mode="sync", tables=[ledger.table])(ledger.keep)
    async with TestApp(ledger.app()) as t:
        await ledger.pay("a", *[1] * 10)
        await spoil(ledger)
        rebuild = rebuild_of(ledger, t)
        rebuild._batch = 4
        position = await rebuild._begin(anew=False)
        position = await one_batch(rebuild, position, 10)
        assert await ledger.rows() == {"a": (-1, 10)}
        await ledger.pay("a", 5)  # meanwhile, in the old table as in the events
        assert await rebuild._swap(position) == 7
        assert await ledger.rows() == {"a": (15, 11)}


async def test_a_rebuild_goes_on_where_it_was_killed() -> None:
    ledger = Ledger()
    handled: list[int] = []

    async def keep(event: Recorded[Any], tx: Tx) -> None:
        handled.append(event.version)
        await ledger.keep(event, tx)

    ledger.service.projection(ledger.account, mode="sync", tables=[ledger.table])(keep)
    async with TestApp(ledger.app()) as t:
        await ledger.pay("a", *[1] * 10)
        await spoil(ledger)
        killed = rebuild_of(ledger, t)
        killed._batch = 4
        await one_batch(killed, await killed._begin(anew=False), 10)
        handled.clear()
        told: list[tuple[int, int]] = []
        assert await rebuild_of(ledger, t).run(lambda done, of: told.append((done, of))) == 6
        assert handled == [5, 6, 7, 8, 9, 10]
        assert told == [(10, 10)]
        assert await ledger.rows() == {"a": (10, 10)}


async def test_of_two_rebuilds_one_goes_on() -> None:
    ledger = Ledger()
    ledger.service.projection(ledger.account, mode="sync", tables=[ledger.table])(ledger.keep)
    async with TestApp(ledger.app()) as t:
        await ledger.pay("a", 1, 2)
        one, two = rebuild_of(ledger, t), rebuild_of(ledger, t)
        one._batch = two._batch = 1
        await one._begin(anew=False)
        await two._begin(anew=False)
        await one_batch(one, 0, 2)
        with pytest.raises(LeaseTaken, match="is being rebuilt by another process"):
            await one_batch(two, 0, 2)


async def test_a_rebuild_that_fails_leaves_the_old_tables() -> None:
    ledger = Ledger()
    fails = False

    async def keep(event: Recorded[Any], tx: Tx) -> None:
        if fails:
            raise ValueError("not yet")
        await ledger.keep(event, tx)

    ledger.service.projection(ledger.account, mode="sync", tables=[ledger.table])(keep)
    async with TestApp(ledger.app()) as t:
        await ledger.pay("a", 1)
        fails = True
        with pytest.raises(ValueError, match="not yet"):
            await rebuild_of(ledger, t).run()
        assert await ledger.rows() == {"a": (1, 1)}
        row = await progress.read(ledger.db.read(), "bank.keep")
        assert row is not None
        assert (row.rebuild_position, row.state) == (0, "running")


async def test_statements_in_text_about_the_tables_are_refused_with_a_sentence() -> None:
    ledger = Ledger()

    async def keep(event: Recorded[Any], tx: Tx) -> None:
        await tx.execute(sa.text("DELETE FROM Balances"))

    ledger.service.projection(ledger.account, mode="sync", tables=[ledger.table])(keep)
    async with TestApp(ledger.app()) as t:
        await ledger.pay("a", 1)
        with pytest.raises(StatementError, match=r"names 'Balances'\. Write it with SQLAlchemy Core"):
            await rebuild_of(ledger, t).run()


async def test_every_kind_of_statement_goes_to_the_shadows() -> None:
    ledger = Ledger()
    t_ = ledger.table
    add = sa.insert(t_)
    read: list[Any] = []

    async def keep(events: list[Recorded[Any]], tx: Tx) -> None:
        await tx.execute(sa.delete(t_))
        await tx.execute(add, [{"account": f"a{n}", "amount": n, "events": 0} for n in range(3)])
        await tx.load(t_, [{"account": "loaded", "amount": 7, "events": 0}])
        await tx.execute(sa.update(t_).where(t_.c.account == "a1").values(amount=t_.c.amount + 10))
        many = sa.update(t_).where(t_.c.account == sa.bindparam("who")).values(events=sa.bindparam("to"))
        await tx.execute(many, [{"who": "a0", "to": 1}, {"who": "a2", "to": 2}])
        read.append(await tx.scalar(sa.select(sa.func.count()).select_from(t_)))
        read.append(
            await tx.one(sa.insert(t_).values(account="r", amount=1, events=1).returning(t_.c.account), str)
        )
        inner = sa.select(t_.c.account).where(t_.c.amount == 7).scalar_subquery()
        read.append(await tx.all(sa.select(t_.c.amount).where(t_.c.account == inner), int))

    ledger.service.projection(ledger.account, mode="sync", tables=[t_])(keep)
    async with TestApp(ledger.app()) as t:
        await ledger.pay("x", 1)
        expected, first = await ledger.rows(), list(read)
        await spoil(ledger)
        read.clear()
        await rebuild_of(ledger, t).run()
        assert await ledger.rows() == expected
        assert read == first == [4, "r", [7]]


async def test_shadows_keep_checks_uniqueness_and_order() -> None:
    metadata = sa.MetaData()
    parent = sa.Table("parent", metadata, sa.Column("id", sa.Integer, primary_key=True))
    child = sa.Table(
        "child", metadata, sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("parent", sa.ForeignKey("parent.id")), sa.Column("code", sa.String(5), unique=True),
        sa.CheckConstraint("id > 0", name="positive"), sa.Index("ix_child", "parent"),
    )  # fmt: skip
    shadows = Shadows("x.y", [child, parent])
    assert [table.name for table in shadows.ordered()] == ["parent", "child"]
    ledger = Ledger()
    async with TestApp(ledger.app()):
        await shadows.make(ledger.db)
        shadow = shadows.of[child]
        with pytest.raises(CheckViolation):
            async with ledger.db.tx() as tx:
                await tx.execute(sa.insert(shadow).values(id=-1, code="a"))
        await shadows.drop(ledger.db)


async def test_what_has_no_tables_cannot_be_rebuilt() -> None:
    ledger = Ledger()

    async def follow(event: Recorded[Any]) -> None: ...

    ledger.service.subscribe_all()(follow)
    async with TestApp(ledger.app()) as t:
        with pytest.raises(ConfigError, match=r"bank.follow: it has no tables"):
            await rebuild_of(ledger, t).run()


@pytest.mark.parametrize("of", [FOLLOW_ALL, FOLLOW_SOME])
async def test_a_batch_is_read_by_position_however_much_else_there_is(of: sa.TextClause) -> None:
    """Who follows some categories reads no index by category, which would be sorted as a whole for every batch."""
    ledger = Ledger()
    async with TestApp(ledger.app()):
        explain = sa.text(f"EXPLAIN QUERY PLAN {of.text}")
        given = {"categories": '["bank.account"]'} if of is FOLLOW_SOME else {}
        plan = await ledger.db.read().all(explain, tuple, after=1, until=9, limit=5, **given)
        steps = [str(step[-1]) for step in plan]
        assert steps[0] == "SEARCH tenfold_event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
        assert not any("ORDER BY" in step for step in steps)
