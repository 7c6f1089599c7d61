"""What a statement means on MariaDB is what it means elsewhere."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from integration.mariadb.conftest import things
from tenfold.db import Database
from tenfold.errors import StatementError, TransactionMisuse

pytestmark = pytest.mark.anyio

HOSTILE = [
    "' OR 1=1 -- ",
    "\\' OR 1=1 -- ",
    '"; DROP TABLE thing; -- ',
    "\\",
    "%s ? :x",
    "\u00bf' OR 1",
    "a'b\\'c",
]

add = sa.insert(things).returning(things.c.id)
by_name = sa.select(things.c.name).where(things.c.name == sa.bindparam("n"))


class Thing(msgspec.Struct):
    id: int
    name: str
    amount: int


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_value_is_never_part_of_the_sql(db: Database, text: str) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.insert(things), name=text, data=text.encode())
        await tx.execute(
            sa.insert(things), [{"name": text + str(n), "data": text.encode()} for n in range(3)]
        )
        await tx.load(
            things, [{"name": text + "load", "data": text.encode()}, {"name": text + "x", "data": None}]
        )
        tx.session.add_all([])
        found = (await tx.session.execute(by_name, {"n": text})).scalar_one()
    assert found == text
    assert await db.read().all(by_name, str, n=text) == [text]
    assert await db.read().scalar(sa.select(sa.func.count()).select_from(things)) == 6


async def test_two_statements_in_one_string_are_refused(db: Database) -> None:
    with pytest.raises(StatementError):
        await db.read().all(sa.text("SELECT 1; SELECT 2"))


async def test_text_is_compared_by_code_points_with_its_trailing_blanks(db: Database) -> None:
    names = ["a", "A", "a ", "á", "ß", "ss"]
    async with db.tx() as tx:
        for name in names:
            await tx.execute(sa.insert(things), name=name)  # unique, each of them
    for name in names:
        assert await db.read().all(by_name, str, n=name) == [name]
    ordered = await db.read().all(sa.select(things.c.name).order_by(things.c.name), str)
    assert ordered == sorted(names)
    assert await db.read().scalar(sa.text("SELECT 'a' = 'A'")) == 0


async def test_rows_that_an_update_finds_count_also_when_it_changes_nothing(db: Database) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.insert(things), [{"name": f"n{n}", "amount": 1} for n in range(3)])
        assert await tx.execute(sa.update(things).values(amount=1)) == 3
        assert (
            await tx.execute(sa.update(things).values(amount=sa.bindparam("to")), [{"to": 1}, {"to": 1}]) == 6
        )


async def test_the_sum_of_integers_is_an_integer(db: Database) -> None:
    total = sa.select(sa.func.coalesce(sa.func.sum(things.c.amount), 0))
    assert type(await db.read().scalar(total)) is int
    async with db.tx() as tx:
        await tx.execute(sa.insert(things), name="a", amount=7)
    assert await db.read().scalar(total) == 7
    assert type(await db.read().scalar(total)) is int


async def test_update_returning_gives_the_changed_rows(db: Database) -> None:
    raised = (
        sa.update(things)
        .where(things.c.amount >= sa.bindparam("least"), things.c.name != "no")
        .values(amount=things.c.amount + sa.bindparam("by"))
        .returning(things.c.id, things.c.name, things.c.amount)
    )
    async with db.tx() as tx:
        for name, amount in (("a", 1), ("b", 5), ("c", 9), ("no", 9)):
            await tx.execute(sa.insert(things), name=name, amount=amount)
        rows = await tx.all(raised, Thing, least=5, by=10)
        assert sorted((row.name, row.amount) for row in rows) == [("b", 15), ("c", 19)]
        assert await tx.all(raised, Thing, least=100, by=1) == []
        assert await tx.execute(raised, least=15, by=1) == 2
    everything = await db.read().all(sa.select(things.c.name, things.c.amount).order_by(things.c.name), tuple)
    assert everything == [("a", 1), ("b", 16), ("c", 20), ("no", 9)]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (sa.update(things).values(id=7).returning(things.c.id), "changes the primary key"),
        (
            sa.update(things)
            .where(things.c.id.in_(sa.select(sa.table("other", sa.column("id")).c.id)))
            .values(amount=1)
            .returning(sa.select(sa.Table("o", sa.MetaData(), sa.Column("x", sa.Integer))).scalar_subquery()),
            "other tables",
        ),
        (
            sa.update(sa.Table("k", sa.MetaData(), sa.Column("x", sa.Integer)))
            .values(x=1)
            .returning(sa.column("x")),
            "no primary key",
        ),
    ],
    ids=["key", "tables", "no key"],
)
async def test_update_returning_that_cannot_be_exact_is_refused(
    db: Database, statement: Any, why: str
) -> None:
    async with db.tx() as tx:
        with pytest.raises(StatementError, match=why):
            await tx.all(statement, tuple)


async def test_without_any_returning_inserts_and_deletes_are_done_in_steps(db: Database) -> None:
    """What MySQL, which has none, does."""
    dialect: Any = db.backend.dialect
    dialect.insert_returning = dialect.delete_returning = False
    async with db.tx() as tx:
        first = await tx.one(
            sa.insert(things).returning(things.c.id, things.c.amount), tuple, name="a", amount=3
        )
        assert first == (1, 3)
        gone = (
            sa.delete(things).where(things.c.name == sa.bindparam("n")).returning(things.c.id, things.c.name)
        )
        assert await tx.all(gone, tuple, n="a") == [(1, "a")]
        assert await tx.all(gone, tuple, n="a") == []
        many = sa.insert(things).values([{"name": "x"}, {"name": "y"}]).returning(things.c.id)
        with pytest.raises(StatementError, match="any number of rows"):
            await tx.all(many, tuple)


async def test_a_limit_inside_in_is_possible(db: Database) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.insert(things), [{"name": f"n{n}", "amount": n} for n in range(9)])
        few = sa.select(things.c.id).order_by(things.c.amount).limit(sa.bindparam("most"))
        assert await tx.execute(sa.delete(things).where(things.c.id.in_(few)), most=4) == 4


async def test_a_stream_leaves_the_transaction_free_for_other_statements(db: Database) -> None:
    async with db.tx() as tx:
        await tx.load(things, ({"name": f"n{n}", "amount": n} for n in range(1200)))
        everything = sa.select(things.c.id, things.c.name, things.c.amount).order_by(things.c.id)
        seen = 0
        async for row in tx.stream(everything, Thing):
            if seen % 400 == 0:
                await tx.execute(sa.update(things).where(things.c.id == row.id).values(amount=-1))
            seen += 1
        assert seen == 1200
        assert await tx.scalar(sa.select(sa.func.count()).where(things.c.amount == -1)) == 3


async def test_rows_load_whatever_the_mixture_of_their_values(db: Database) -> None:
    rows = [{"name": f"n{n}", "data": None if n % 3 else b"x" * n, "amount": n} for n in range(2500)]
    async with db.tx() as tx:
        assert await tx.load(things, rows) == 2500
        assert await tx.load(things, [{"name": f"m{n}", "data": None} for n in range(50)]) == 50
    last = sa.select(things.c.data, things.c.amount).where(things.c.name == "n2499")
    assert await db.read().one(last, tuple) == (b"x" * 2499, 2499)


async def test_a_change_of_tables_cannot_end_a_transaction_by_stealth(db: Database) -> None:
    with pytest.raises(TransactionMisuse, match="migration"):
        async with db.tx() as tx:
            await tx.execute(sa.insert(things), name="a")
            await tx.execute(sa.text("CREATE TABLE other (id INT)"))
    assert await db.read().all(sa.select(things.c.name), str) == []


async def test_more_statements_than_a_connection_keeps_prepared(db: Database) -> None:
    async with db.tx() as tx:
        for round_ in range(2):
            for n in range(150):
                assert await tx.scalar(sa.text(f"SELECT :x + {n}"), x=round_) == n + round_


async def test_a_table_that_changes_under_a_prepared_statement(db: Database) -> None:
    everything = sa.text("SELECT * FROM thing WHERE name <> :n")
    async with db.tx() as tx:
        await tx.execute(sa.insert(things), name="a")
        assert len((await tx.all(everything, tuple, n=""))[0]) == 4
    with db.backend.sync_engine().begin() as connection:
        connection.exec_driver_sql("ALTER TABLE thing ADD COLUMN more INT NOT NULL DEFAULT 7")
    async with db.tx() as tx:
        (row,) = await tx.all(everything, tuple, n="")
        assert row[-1] == 7
