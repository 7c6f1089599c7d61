"""What SQLite refuses arrives as Tenfold's errors, with the constraint and the columns named."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.orders_db import (
    Order,
    add_order,
    endless,
    endless_write,
    lines,
    opened,
    orders,
    orders_in,
    payments,
)
from tenfold import errors
from tenfold._core.clock import SystemClock
from tenfold._core.context import Context, use
from tenfold._core.sections import DatabaseSettings
from tenfold.db import Database
from tenfold.db.backends.sqlite import Backend

pytestmark = pytest.mark.anyio


async def attempt(db: Database, statement: Any, **values: Any) -> None:
    async with db.tx() as tx:
        await tx.execute(statement, values)


@pytest.mark.parametrize(
    ("statement", "values", "kind", "constraint", "columns"),
    [
        (sa.insert(orders), {"id": 1, "customer": "b"}, errors.UniqueViolation, "orders.id", ("id",)),
        (
            sa.insert(lines),
            {"order_id": 1, "product": "p"},
            errors.UniqueViolation,
            "lines.order_id, lines.product",
            ("order_id", "product"),
        ),
        (sa.insert(orders), {"customer": None}, errors.NotNullViolation, "orders.customer", ("customer",)),
        (sa.insert(orders), {"customer": "c", "total": -1}, errors.CheckViolation, "total_not_negative", ()),
        (sa.insert(payments), {"order_id": 404}, errors.ForeignKeyViolation, "", ("order_id",)),
        (sa.delete(orders), {}, errors.ForeignKeyViolation, "", ()),
    ],
)
async def test_constraints_are_named(
    db: Database, statement: Any, values: dict[str, Any], kind: Any, constraint: str, columns: tuple[str, ...]
) -> None:
    await attempt(db, sa.insert(orders), id=1, customer="a")
    await attempt(db, sa.insert(lines), order_id=1, product="p")
    await attempt(db, sa.insert(payments), order_id=1)
    with pytest.raises(kind) as caught:
        await attempt(db, statement, **values)
    assert isinstance(caught.value, errors.IntegrityError)
    assert caught.value.columns == columns
    assert caught.value.constraint == constraint
    assert caught.value.table in ("orders", "lines", "payments")


async def test_bad_sql_is_named_with_the_statement(db: Database) -> None:
    with pytest.raises(errors.StatementError, match=r"no such table: nowhere.* The statement: SELECT"):
        await db.read().all(sa.text("SELECT * FROM nowhere"))


async def test_a_statement_stops_at_the_deadline(db: Database) -> None:
    with use(Context(deadline=SystemClock().monotonic() + 0.05)):
        with pytest.raises(errors.StatementTimeout, match="ran past its deadline"):
            await db.read().scalar(endless)
        with pytest.raises(errors.StatementTimeout):
            async with db.tx() as tx:
                await tx.scalar(endless)
    assert await orders_in(db) == 0


async def test_without_a_deadline_the_configured_time_holds(tmp_path: Path) -> None:
    async with opened(tmp_path, statement_timeout_s=0.05) as db:
        with pytest.raises(errors.StatementTimeout):
            await db.read().scalar(endless)
        with pytest.raises(errors.StatementTimeout):
            await attempt(db, endless_write)
        await attempt(db, sa.insert(orders), customer="after")
        assert await orders_in(db) == 1


async def test_all_readers_taken_fails_with_a_sentence(tmp_path: Path) -> None:
    async with opened(tmp_path, readers=1, lock_timeout_s=0.05) as db, db.read():
        with pytest.raises(
            errors.DatabaseUnavailable, match=r"all 1 reading connections are taken\. Raise database"
        ):
            await db.read().scalar(endless)


async def test_neighbours_of_a_transaction_that_sqlite_undoes_whole_are_told(tmp_path: Path) -> None:
    """An interrupted write makes SQLite roll back the group; who waited for its COMMIT may try again."""
    async with opened(tmp_path, statement_timeout_s=0.2) as db:
        for _ in range(5):
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="warm")
        waiting = asyncio.Event()

        async def neighbour() -> None:
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="neighbour")
                waiting.set()

        async def culprit() -> None:
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="culprit")
                await tx.execute(endless_write)

        outcomes = await asyncio.gather(neighbour(), culprit(), return_exceptions=True)
        assert waiting.is_set()
        assert isinstance(outcomes[0], errors.SerializationFailure)
        assert isinstance(outcomes[1], errors.StatementTimeout)
        assert await orders_in(db) == 5
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="after")
        assert await orders_in(db) == 6


@pytest.mark.parametrize("url", ["sqlite:///app.db?mode=ro", "sqlite:app.db", "sqlite://host/app.db"])
def test_a_wrong_url_is_found_before_anything_is_opened(url: str) -> None:
    with pytest.raises(errors.ConfigError, match=r"database\.url: .* is not the URL of an SQLite file"):
        Backend.from_url(url, settings=DatabaseSettings(), data_dir=Path(), clock=SystemClock())


async def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.DatabaseUnavailable, match="the folder of the database file cannot be used"):
        async with opened(tmp_path / "file"):
            pass


async def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "test.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(errors.DatabaseUnavailable, match="is damaged"):
        async with opened(tmp_path):
            pass


async def test_health_is_quiet_when_well_and_loud_when_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as db:
        await db.health()
        backend = db.backend
    with pytest.raises(errors.DatabaseUnavailable):
        await backend.health()
