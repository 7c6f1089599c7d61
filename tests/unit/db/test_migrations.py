"""Migrations per service: made, applied once, refused when behind, rolled back whole when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.orders_db import opened
from tenfold import errors
from tenfold.db import Database, migrations
from tenfold.db.schema import Part

pytestmark = pytest.mark.anyio


def shop(*extra: sa.Column[object], without: bool = False) -> sa.MetaData:
    metadata = sa.MetaData()
    sa.Table(
        "product",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        *extra,
    )
    sa.Table(
        "review",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("product_id", sa.ForeignKey("product.id", ondelete="CASCADE"), nullable=False),
    )
    return metadata


Make = Callable[[sa.MetaData], Database]


async def written(db: Database, message: str, *, empty: bool = False) -> Path:
    path = await migrations.new(db, message, empty=empty)
    assert path is not None
    return path


@pytest.fixture
async def make(tmp_path: Path, anyio_backend: str) -> AsyncGenerator[Make]:
    """Databases of one service on one empty file, as its code changes."""
    async with opened(tmp_path, metadata=sa.MetaData()) as first:

        def made(metadata: sa.MetaData) -> Database:
            db = Database("shop", metadata, migrations=tmp_path / "migrations" / "shop")
            db.bind(first.backend)
            return db

        yield made


async def test_without_scripts_development_creates_the_declared_tables_with_advice(make: Make) -> None:
    db = make(shop())
    done = await migrations.prepare([db], "auto")
    assert "shop: created product, review as declared, without a migration." in done[-1]
    assert 'tenfold migrate --new "first tables"' in done[-1]
    assert await migrations.prepare([db], "auto") == []
    async with db.tx() as tx:
        assert await tx.execute(sa.insert(db.metadata.tables["product"]), {"name": "lamp"}) == 1


async def test_production_refuses_to_start_behind(make: Make) -> None:
    db = make(shop())
    with pytest.raises(errors.SchemaBehind, match=r"shop: no table product, review\). Run: tenfold migrate"):
        await migrations.prepare([db], "check")
    await migrations.new(db, "first")
    with pytest.raises(errors.SchemaBehind, match="shop: 1 step"):
        await migrations.prepare([db], "check")
    await migrations.upgrade([db])
    assert await migrations.prepare([db], "check") == []


async def test_a_new_script_holds_the_difference_and_rebuilding_a_table_keeps_what_refers_to_it(
    make: Make,
) -> None:
    first = make(shop())
    path = await written(first, "First tables!")
    assert path.name == "0001_first_tables.py"
    await migrations.upgrade([first])
    async with first.tx() as tx:
        await tx.execute(sa.insert(first.metadata.tables["product"]), {"id": 1, "name": "lamp"})
        await tx.execute(sa.insert(first.metadata.tables["review"]), {"id": 1, "product_id": 1})

    second = make(shop(sa.Column("price", sa.Integer, nullable=False, server_default="5")))
    path = await written(second, "prices")
    assert "add_column(sa.Column('price'" in path.read_text()
    before = (await migrations.status([second]))[-1]
    assert before.behind
    assert before.pending[0].endswith(": prices")
    assert [line.startswith("shop: applied") for line in await migrations.upgrade([second])] == [True]
    after = (await migrations.status([second]))[-1]
    assert (after.behind, after.current) == (False, after.head)

    third = make(shop())
    await migrations.new(third, "no prices")
    await migrations.upgrade([third])
    assert await third.read().all(sa.select(third.metadata.tables["product"]), tuple) == [(1, "lamp")]
    assert await third.read().scalar(sa.text("SELECT count(*) FROM review")) == 1


async def test_the_first_script_makes_every_table_also_where_development_made_them(make: Make) -> None:
    db = make(shop())
    await migrations.prepare([db], "auto")
    script = (await written(db, "first tables")).read_text()
    assert script.count("op.create_table(") == 2
    (noted,) = await migrations.upgrade([db], create_without_scripts=True)
    assert noted.startswith("shop: the tables are there, as declared; noted as migrated by ")
    assert not any(status.behind for status in await migrations.status([db]))


async def test_production_never_takes_tables_of_unknown_origin_for_migrated(make: Make) -> None:
    db = make(shop())
    await migrations.prepare([db], "auto")
    await migrations.new(db, "first tables")
    with pytest.raises(errors.DatabaseUnavailable, match="already exists"):
        await migrations.upgrade([db])


async def test_tables_that_differ_from_the_declared_ones_are_not_noted_as_migrated(make: Make) -> None:
    await migrations.prepare([make(shop())], "auto")
    changed = make(shop(sa.Column("price", sa.Integer)))
    await migrations.new(changed, "first tables")
    with pytest.raises(errors.DatabaseUnavailable, match="already exists"):
        await migrations.upgrade([changed], create_without_scripts=True)


async def test_a_new_script_needs_the_earlier_ones_applied(make: Make) -> None:
    db = make(shop())
    await migrations.new(db, "first")
    with pytest.raises(errors.SchemaBehind, match="1 script of shop must be applied"):
        await migrations.new(db, "second")


async def test_other_services_tables_are_left_alone(make: Make) -> None:
    db = make(shop())
    async with db.tx() as tx:
        await tx.execute(sa.text("CREATE TABLE somebody_elses (id INTEGER)"))
    path = await written(db, "first")
    assert "somebody_elses" not in path.read_text()


async def test_a_migration_that_fails_changes_nothing(make: Make) -> None:
    db = make(shop())
    path = await written(db, "first")
    path.write_text(
        path.read_text().replace(
            "def downgrade", "    op.execute('INSERT INTO nowhere VALUES (1)')\n\n\ndef downgrade"
        )
    )
    with pytest.raises(errors.DatabaseUnavailable, match=r"no such table: nowhere\. It was rolled back"):
        await migrations.upgrade([db])
    assert (await migrations.status([db]))[-1].current == ""
    assert await db.read().scalar(sa.text("SELECT count(*) FROM sqlite_master WHERE name = 'product'")) == 0


async def test_a_migration_that_orphans_rows_is_rolled_back(make: Make) -> None:
    db = make(shop())
    path = await written(db, "first")
    await migrations.upgrade([db])
    async with db.tx() as tx:
        await tx.execute(sa.text("INSERT INTO product (id, name) VALUES (1, 'lamp')"))
        await tx.execute(sa.text("INSERT INTO review (id, product_id) VALUES (1, 1)"))
    bad = await written(db, "clean", empty=True)
    bad.write_text(bad.read_text().replace("    pass", "    op.execute('DELETE FROM product')", 1))
    assert path != bad
    with pytest.raises(errors.ConfigError, match=r"refer to missing ones: review \(row 1\) → product"):
        await migrations.upgrade([db])
    assert await db.read().scalar(sa.text("SELECT count(*) FROM product")) == 1


async def test_scripts_that_the_database_does_not_know_are_a_sentence(make: Make) -> None:
    db = make(shop())
    path = await written(db, "first")
    await migrations.upgrade([db])
    await migrations.new(db, "second", empty=True)
    path.unlink()
    with pytest.raises(errors.ConfigError, match="migrations of shop: its scripts do not fit"):
        await migrations.status([db])


async def test_of_two_at_once_one_migrates(make: Make) -> None:
    db = make(shop())
    await migrations.new(db, "first")
    done = await asyncio.gather(migrations.upgrade([db]), migrations.upgrade([db]), return_exceptions=True)
    applied = [line for lines in done if isinstance(lines, list) for line in lines if "applied" in line]
    assert len(applied) == 1
    assert not any(isinstance(lines, BaseException) for lines in done)


def test_framework_steps_lead_from_version_to_version() -> None:
    part = Part("queue", 3, {2: ["two"], 3: ["three a", "three b"]})
    assert part.pending(1) == ["two", "three a", "three b"]
    assert part.pending(2) == ["three a", "three b"]
    assert part.pending(3) == []
