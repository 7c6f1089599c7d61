"""What ``new`` writes, ``upgrade`` makes, and then ``new`` finds nothing more to write."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.orders_db import opened
from tenfold import errors
from tenfold.db import Database, migrations
from tenfold.db.revisions import scripts_of

pytestmark = pytest.mark.anyio


class Money(sa.TypeDecorator[int]):
    """A type of the user's own, in a module that a script does not import."""

    impl = sa.BigInteger
    cache_ok = True


class Code(sa.TypeDecorator[str]):
    impl = sa.String
    cache_ok = True


class Point(sa.types.UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "POINT"

    def __repr__(self) -> str:
        return "Point()"


class State(enum.Enum):
    PLACED = "placed"
    SENT = "sent"


def rich() -> sa.MetaData:
    """A bit of everything that a table can have."""
    metadata = sa.MetaData()
    sa.Table(
        "customer",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("email", sa.String(200), unique=True, nullable=False),
        sa.Column("active", sa.Boolean, server_default=sa.true(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.func.now()),
    )
    sa.Table(
        "sale",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column(
            "customer_id", sa.ForeignKey("customer.id", ondelete="CASCADE"), nullable=False, index=True
        ),
        sa.Column("state", sa.Enum(State, native_enum=False, length=20), nullable=False),
        sa.Column("paid", sa.Boolean(create_constraint=True, name="paid_is_bool"), nullable=False),
        sa.Column("total", Money, sa.CheckConstraint("total >= 0", name="total_positive"), nullable=False),
        sa.Column("quantity", sa.Integer, sa.CheckConstraint("quantity > 0"), server_default="1"),
        sa.Column("code", Code(12)),
        sa.Column("rate", sa.Numeric(10, 4)),
        sa.Column("data", sa.JSON, server_default="{}"),
        sa.Column("day", sa.Date),
        sa.Column("blob", sa.LargeBinary),
        sa.Column("weight", sa.Float),
        sa.Column("note", sa.Text, server_default="it's"),
        sa.CheckConstraint("total < 1000000"),
        sa.CheckConstraint("rate < 9"),
        sa.UniqueConstraint("customer_id", "code", name="one_code"),
        sa.UniqueConstraint("day", "code"),
        sa.Index("sale_by_day", "day", "state", unique=True),
        sa.Index("sale_paid", "day", sqlite_where=sa.text("paid")),
    )
    sa.Table(
        "line",
        metadata,
        sa.Column("sale_id", sa.ForeignKey("sale.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
    )
    return metadata


Make = Callable[[sa.MetaData], Database]


@pytest.fixture
async def make(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Make]:
    async with opened(tmp_path, metadata=sa.MetaData()) as first:

        def made(metadata: sa.MetaData) -> Database:
            db = Database("shop", metadata, migrations=tmp_path / "migrations" / "shop")
            db.bind(first.backend)
            return db

        yield made


async def migrated(db: Database, message: str) -> str:
    """The new script, applied; after it nothing is left to write."""
    path = await migrations.new(db, message)
    assert path is not None
    await migrations.upgrade([db])
    again = await migrations.new(db, "again")
    assert again is None, again.read_text()
    return path.read_text()


async def test_a_rich_schema_comes_out_as_it_was_declared(make: Make) -> None:
    db = make(rich())
    text = await migrated(db, "first")
    assert "Money" not in text
    assert (text.count("name='ck_sale'"), text.count("name='ck_sale_2'")) == (1, 1)
    assert "sa.BigInteger()" in text
    assert "sa.String(length=12)" in text
    insert = sa.insert(db.metadata.tables["sale"])
    good = {
        "id": 1,
        "customer_id": 1,
        "state": State.SENT,
        "paid": True,
        "total": 5,
        "day": dt.date(2026, 1, 2),
    }
    async with db.tx() as tx:
        await tx.execute(sa.insert(db.metadata.tables["customer"]), {"id": 1, "email": "a@example.org"})
        await tx.execute(insert, good)
    for wrong in ({"total": -1}, {"quantity": 0}, {"total": 1_000_000}):
        with pytest.raises(errors.CheckViolation):
            async with db.tx() as tx:
                await tx.execute(insert, {**good, "id": 2, "day": None, **wrong})
    assert await db.read().scalar(sa.text("SELECT note || quantity || data FROM sale")) == "it's1{}"


async def test_a_type_that_stands_on_no_other_is_imported(make: Make) -> None:
    metadata = sa.MetaData()
    sa.Table("place", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("at", Point()))
    path = await migrations.new(make(metadata), "first")
    assert path is not None
    text = path.read_text()
    assert f"\nimport {__name__}\n" in text
    assert f"{__name__}.Point()" in text
    compile(text, str(path), "exec")


async def test_alterations_come_out_as_declared_and_keep_the_rows(make: Make) -> None:
    first = make(rich())
    await migrated(first, "first")
    async with first.tx() as tx:
        await tx.execute(sa.insert(first.metadata.tables["customer"]), {"id": 1, "email": "a@example.org"})
        await tx.execute(
            sa.insert(first.metadata.tables["sale"]),
            {"id": 1, "customer_id": 1, "state": State.SENT, "paid": True, "total": 5},
        )
    changed = rich()
    sale = changed.tables["sale"]
    sale.append_column(sa.Column("stars", sa.Integer, sa.CheckConstraint("stars < 6"), server_default="5"))
    sale.append_column(sa.Column("friend_id", sa.ForeignKey("customer.id")))
    sale.append_constraint(sa.UniqueConstraint("rate", "day"))
    sa.Index("sale_by_code", sale.c.code)
    sale.c.weight.type = sa.Text()
    sale.c.code.nullable = False
    sale.c.code.server_default = sa.DefaultClause("none")
    sale.indexes.discard(next(index for index in sale.indexes if index.name == "sale_by_day"))
    second = make(changed)
    async with second.tx() as tx:
        await tx.execute(sa.text("UPDATE sale SET code = 'x'"))
    await migrated(second, "second")
    assert await second.read().scalar(sa.text("SELECT code || stars || total FROM sale")) == "x55"
    with pytest.raises(errors.CheckViolation):
        async with second.tx() as tx:
            await tx.execute(sa.text("UPDATE sale SET stars = 6"))
    for kept in ("quantity = 0", "total = -1", "total = 1000000", "rate = 9"):
        with pytest.raises(errors.CheckViolation):
            async with second.tx() as tx:
                await tx.execute(sa.text(f"UPDATE sale SET {kept}"))
    await migrated(make(rich()), "and back")
    bare = rich()
    bare.tables["sale"].constraints -= {
        each for each in bare.tables["sale"].constraints if isinstance(each, sa.UniqueConstraint)
    }
    assert "drop_constraint" in await migrated(make(bare), "no uniques")


async def test_where_nothing_changed_a_script_is_written_only_when_asked_for(
    make: Make, tmp_path: Path
) -> None:
    db = make(rich())
    await migrated(db, "first")
    assert len(scripts_of(db)) == 1
    path = await migrations.new(db, "by hand", empty=True)
    assert path is not None
    assert "def upgrade() -> None:\n    pass\n" in path.read_text()
