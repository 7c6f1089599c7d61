"""Migrations where changes of tables cannot be undone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.orders_db import opened
from tenfold.db import Database, migrations
from tenfold.errors import DatabaseUnavailable

pytestmark = pytest.mark.anyio

SCRIPT = '''"""{message}"""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {down!r}


def upgrade() -> None:
{steps}


def downgrade() -> None:
    pass
'''


def script(folder: Path, revision: str, down: str | None, message: str, *steps: str) -> None:
    versions = folder / "versions"
    versions.mkdir(exist_ok=True)
    lines = "\n".join(f"    {step}" for step in steps)
    text = SCRIPT.format(revision=revision, down=down, message=message, steps=lines)
    (versions / f"{revision}.py").write_text(text)


def every_type() -> sa.MetaData:
    metadata = sa.MetaData()
    sa.Table(
        "kept",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("big", sa.BigInteger, nullable=False, server_default="7"),
        sa.Column("text", sa.Text),
        sa.Column("short", sa.String(40), nullable=False, unique=True),
        sa.Column("at", sa.DateTime(timezone=True), index=True),
        sa.Column("day", sa.Date),
        sa.Column("clock", sa.Time),
        sa.Column("flag", sa.Boolean, nullable=False),
        sa.Column("price", sa.Numeric(12, 2)),
        sa.Column("real", sa.Double),
        sa.Column("data", sa.LargeBinary),
        sa.Column("ident", sa.Uuid),
        sa.Column("doc", sa.JSON),
        sa.CheckConstraint("big >= 0", name="big_not_negative"),
    )
    return metadata


async def test_a_failed_migration_says_what_it_left_and_goes_on_where_it_stopped(
    tmp_path: Path, mariadb_url: str
) -> None:
    script(
        tmp_path, "one", None, "first", "op.create_table('a', sa.Column('id', sa.Integer, primary_key=True))"
    )
    script(
        tmp_path, "two", "one", "second",
        "op.create_table('b', sa.Column('id', sa.Integer, primary_key=True))", "op.execute('SELECT nothing')",
    )  # fmt: skip
    async with opened(tmp_path, url=mariadb_url, metadata=sa.MetaData()) as opened_db:
        db = Database("shop", sa.MetaData(), migrations=tmp_path)
        db.bind(opened_db.backend)
        with pytest.raises(DatabaseUnavailable) as caught:
            await migrations.upgrade([db])
        said = str(caught.value)
        assert "failed in shop two (second)" in said
        assert "cannot undo" in said
        assert "Applied: shop one (first)." in said
        (status,) = [s for s in await migrations.status([db]) if s.service == "shop"]
        assert (status.current, status.pending) == ("one", ("two: second",))
        with db.backend.sync_engine().begin() as connection:
            connection.exec_driver_sql("DROP TABLE b")  # by hand, as the message asks
        script(
            tmp_path,
            "two",
            "one",
            "second",
            "op.create_table('b', sa.Column('id', sa.Integer, primary_key=True))",
        )
        assert await migrations.upgrade([db]) == ["shop: applied two (second)."]


async def test_of_two_that_migrate_one_does_and_the_other_finds_it_done(
    tmp_path: Path, mariadb_url: str
) -> None:
    async with opened(tmp_path, url=mariadb_url, metadata=sa.MetaData()) as opened_db:
        db = Database("shop", every_type())
        db.bind(opened_db.backend)
        done = await asyncio.gather(
            *(migrations.upgrade([db], create_without_scripts=True) for _ in range(3))
        )
        assert len([lines for lines in done if any("created kept" in line for line in lines)]) == 1


async def test_after_a_migration_nothing_differs_from_what_is_declared(
    tmp_path: Path, mariadb_url: str
) -> None:
    async with opened(tmp_path, url=mariadb_url, metadata=sa.MetaData()) as opened_db:
        db = Database("shop", every_type(), migrations=tmp_path)
        db.bind(opened_db.backend)
        assert await migrations.new(db, "first tables") is not None
        await migrations.upgrade([db])
        assert await migrations.new(db, "again") is None
