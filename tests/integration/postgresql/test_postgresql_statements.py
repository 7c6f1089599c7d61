"""What PostgreSQL does in its own way, made to mean what it means everywhere."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from support.orders_db import Order, add_order, count_orders, opened, order_by_id, orders
from tenfold import errors
from tenfold._core.context import Context, use
from tenfold.assembly.switch import warm
from tenfold.db import Database, Reader
from tenfold.db.ambient import Ambient

pytestmark = pytest.mark.anyio


async def test_sums_and_averages_are_of_the_declared_type(db: Database) -> None:
    """The server gives a Decimal for the sum of big integers."""
    wide = sa.select(sa.func.sum(sa.cast(orders.c.total, sa.BigInteger)).label("total"))
    async with db.tx() as tx:
        await tx.execute(sa.insert(orders), [{"customer": "a", "total": 1}, {"customer": "b", "total": 2}])
        assert type(await tx.scalar(wide)) is int
        assert await tx.one(wide, dict) == {"total": 3}
        mean = sa.select(sa.func.avg(orders.c.total).label("mean"))
        assert await tx.one(mean, float) == 1.5


async def test_a_textual_write_by_a_reader_is_refused(db: Database) -> None:
    write = sa.text("INSERT INTO orders (customer, total) VALUES ('sly', 0)")
    with pytest.raises(errors.TransactionMisuse, match=r"Use db\.tx\(\)"):
        await db.read().all(write)
    with pytest.raises(errors.TransactionMisuse):
        async with db.read() as reader:
            await reader.all(write)
    assert await db.read().scalar(count_orders) == 0


async def test_textual_rows_have_what_the_driver_gives(db: Database) -> None:
    class Found(msgspec.Struct):
        id: uuid.UUID
        at: dt.datetime
        price: Decimal
        names: list[str]

    found = await db.read().one(
        sa.text(
            "SELECT CAST(:id AS uuid) AS id, CAST(:at AS timestamptz) AS at, 1.50 AS price, ARRAY['a', 'b'] AS names"
        ),
        Found,
        id=uuid.UUID(int=7),
        at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    assert found == Found(
        uuid.UUID(int=7), dt.datetime(2026, 1, 1, tzinfo=dt.UTC), Decimal("1.50"), ["a", "b"]
    )
    assert msgspec.json.decode(msgspec.json.encode(found), type=Found) == found


async def test_arrays_and_documents_go_in_and_come_out(db: Database) -> None:
    table = sa.Table(
        "kinds", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("tags", pg.ARRAY(sa.Text)),
        sa.Column("doc", pg.JSONB), sa.Column("at", sa.DateTime(timezone=True)),
    )  # fmt: skip
    row: dict[str, Any] = {"id": 1, "tags": ["x", "y"], "doc": {"a": [1, None]}, "at": None}
    async with db.tx() as tx:
        await tx.execute(
            sa.text("CREATE TABLE kinds (id int PRIMARY KEY, tags text[], doc jsonb, at timestamptz)")
        )
        await tx.execute(sa.insert(table), row)
        await tx.load(table, [{**row, "id": 2}])
        assert await tx.all(sa.select(table).order_by(table.c.id), dict) == [row, {**row, "id": 2}]
        asked = sa.select(table.c.id).where(table.c.id.in_(sa.bindparam("ids", expanding=True)))
        assert await tx.all(asked, int, ids=[2, 3]) == [2]


async def test_a_statement_goes_on_working_after_its_table_was_changed(db: Database) -> None:
    async with db.tx() as tx:
        placed = await tx.one(add_order, Order, customer="a")
    star = sa.text("SELECT * FROM orders")
    assert len(await db.read().one(star)) == 3
    async with db.tx() as tx:
        await tx.execute(sa.text("ALTER TABLE orders ADD COLUMN note TEXT"))
    assert len(await db.read().one(star, tuple)) == 4
    assert await db.read().one(order_by_id, Order, id=placed.id) == placed


async def test_a_value_that_cannot_be_sent_costs_neither_the_savepoint_nor_the_connection(
    db: Database,
) -> None:
    connected = db.stats()["connections_opened_total"]
    for _ in range(20):
        async with db.tx() as tx:
            with pytest.raises(errors.StatementError):
                async with tx.savepoint():
                    await tx.one(order_by_id, Order, id=2**40)
            await tx.one(add_order, Order, customer="kept")
    assert await db.read().scalar(count_orders) == 20
    assert db.stats()["connections_opened_total"] == connected


async def test_a_value_among_many_that_cannot_be_sent_or_computed_costs_neither(db: Database) -> None:
    shares = sa.select((sa.literal(10) // sa.bindparam("by", type_=sa.Integer)).label("share"))
    connected = db.stats()["connections_opened_total"]
    async with db.tx() as tx:
        placed = await tx.one(add_order, Order, customer="a")
    for _ in range(20):
        async with db.tx() as tx:
            for wrong in (
                lambda part: part.one_each(order_by_id, Order, id=[placed.id, 2**40, placed.id]),
                lambda part: part.one_each(shares, int, by=[1, 0, 2]),
            ):
                with pytest.raises(errors.StatementError):
                    async with tx.savepoint() as part:
                        await wrong(part)
            assert await tx.one_each(order_by_id, Order, id=[placed.id] * 2) == [placed] * 2
        with pytest.raises(errors.StatementError):
            await db.read().one_each(order_by_id, Order, id=[placed.id, 2**40])
        with pytest.raises(errors.StatementError):
            await db.read().one_each(shares, int, by=[1, 0, 2])
        assert await db.read().one_each(shares, int, by=[2, 3]) == [5, 3]
    assert db.stats()["connections_opened_total"] == connected


async def test_each_read_is_timed_once_whichever_way_it_goes(db: Database) -> None:
    db.backend.plans.timer = db.backend.clock.monotonic
    plan, _ = db.backend.plans.bind(order_by_id, {"id": 1})

    async def read(reader: Reader) -> None:
        before, seconds = plan.count, plan.total_s
        await reader.maybe(order_by_id, Order, id=1)
        assert plan.count - before == 1
        assert 0 < plan.total_s - seconds < 5

    await read(db.read())
    async with db.read() as reader:
        await read(reader)
    async with db.tx() as tx:
        await read(tx)
    async with db.backend.sandbox():
        await read(db.read())
        async with db.tx() as tx:
            await read(tx)
    with use(Context()) as context:
        ambient = Ambient(db)
        ambient.install(context)
        async with db.tx() as tx:
            await read(tx)
        await read(db.read())
        await ambient.finish(commit=False)


async def test_two_writers_of_one_row_wait_for_each_other_and_serializable_ones_collide(db: Database) -> None:
    async with db.tx() as tx:
        placed = await tx.one(add_order, Order, customer="a", total=0)

    async def add(isolation: Any) -> None:
        async with db.tx(isolation=isolation) as tx:
            order = await tx.one(
                order_by_id.with_for_update() if isolation == "default" else order_by_id, Order, id=placed.id
            )
            await asyncio.sleep(0.01)
            await tx.execute(sa.update(orders).values(total=order.total + 1).where(orders.c.id == placed.id))

    await asyncio.gather(add("default"), add("default"))
    assert (await db.read().one(order_by_id, Order, id=placed.id)).total == 2
    outcomes = await asyncio.gather(add("serializable"), add("serializable"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [errors.SerializationFailure]


async def test_transact_gets_through_collisions(db: Database) -> None:
    async with db.tx() as tx:
        placed = await tx.one(add_order, Order, customer="a", total=0)

    async def add(tx: Any) -> None:
        order = await tx.one(order_by_id, Order, id=placed.id)
        await tx.execute(sa.update(orders).values(total=order.total + 1).where(orders.c.id == placed.id))

    await asyncio.gather(*(db.transact(add, attempts=50) for _ in range(10)))
    assert (await db.read().one(order_by_id, Order, id=placed.id)).total == 10


async def test_a_load_is_a_copy_and_quick(db: Database) -> None:
    async with db.tx() as tx:
        assert await tx.load(orders, ({"customer": f"c{n}", "total": n} for n in range(20_000))) == 20_000
    assert await db.read().scalar(count_orders) == 20_000


@pytest.mark.parametrize("value", [2**40, "text"])
async def test_a_value_that_cannot_be_sent_by_a_reader_does_not_fail_the_next_transaction(
    single: Database, value: Any
) -> None:
    """On the only connection there is, with a statement that it has not prepared yet."""
    with pytest.raises(errors.StatementError, match="do not fit"):
        await single.read().all(order_by_id, id=value)
    async with single.tx() as tx:
        await tx.one(add_order, customer="next", total=1)
    assert await single.read().scalar(count_orders) == 1


async def test_statements_that_somebody_discarded_are_prepared_again_on_another_connection(
    single: Database,
) -> None:
    await single.read().scalar(count_orders)
    with pytest.raises(errors.StatementError):
        async with single.tx() as tx:
            await tx.channel.raw(lambda connection: connection.execute("DEALLOCATE ALL"))
            await tx.scalar(count_orders)
    assert await single.read().scalar(count_orders) == 0


@pytest.mark.parametrize(
    "sql", ["COMMIT", "/* so */ end", "-- x\n rollback and chain", "BEGIN", "discard all"]
)
async def test_a_textual_end_of_the_transaction_is_refused_and_nothing_is_written(
    db: Database, sql: str
) -> None:
    with pytest.raises(errors.TransactionMisuse, match=r"db\.tx\(\)"):
        async with db.tx() as tx:
            await tx.one(add_order, customer="kept?", total=1)
            await tx.execute(sa.text(sql))
    assert await db.read().scalar(count_orders) == 0


@pytest.fixture
async def single(tmp_path: Path, postgres_url: str) -> AsyncIterator[Database]:
    async with opened(tmp_path, url=postgres_url, pool_max=1) as db:
        yield db


@pytest.mark.parametrize(
    "sql",
    [
        "SET search_path = pg_catalog",
        "-- a comment first\nset time zone 'Asia/Tokyo'",
        "SELECT set_config('search_path', 'pg_catalog', false)",
        "SELECT pg_advisory_lock(4711)",
        "CREATE TEMP TABLE orders (id int)",
        "SELECT 1 AS id INTO TEMPORARY orders",
    ],
)
async def test_what_one_user_sets_in_a_session_no_other_finds(db: Database, sql: str) -> None:
    state = sa.text(
        "SELECT current_setting('search_path') || current_setting('TimeZone') || (SELECT count(*) FROM pg_locks "
        "WHERE locktype = 'advisory') || 'orders'::regclass::oid"
    )
    before = await db.read().scalar(state)
    for _ in range(2):
        async with db.tx() as tx:
            await tx.execute(sa.text(sql))
    assert {await db.read().scalar(state) for _ in range(4)} == {before}


async def test_what_ends_with_the_transaction_costs_no_connection(db: Database) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.text("SET LOCAL search_path = pg_catalog"))
        await tx.execute(sa.text("SELECT pg_advisory_xact_lock(4711)"))
        await tx.execute(sa.text("SELECT set_config('synchronous_commit', 'off', true)"))
    assert db.stats()["connections_dropped_total"] == 0


async def test_a_database_that_an_app_moves_to_has_all_its_connections_open_before(db: Database) -> None:
    assert db.stats()["connections_opened_total"] == 1
    await warm([db], 2)
    assert db.stats()["connections_opened_total"] == 2
