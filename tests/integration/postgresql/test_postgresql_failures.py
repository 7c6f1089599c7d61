"""What goes wrong on PostgreSQL is a sentence, and nothing is lost or left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
import sqlalchemy as sa

from support.orders_db import Order, add_order, count_orders, lines, opened, order_by_id, orders, orders_in
from support.proxy import Proxy
from support.servers import Postgres, running
from support.standby import Standby
from tenfold import errors
from tenfold._core.clock import SystemClock
from tenfold._core.context import Context, use
from tenfold._core.sections import DatabaseSettings
from tenfold.db import Database, migrations
from tenfold.db.backends import _postgresql_errors as pg_errors
from tenfold.db.backends._postgresql_errors import Report
from tenfold.db.backends.postgresql import Backend

pytestmark = pytest.mark.anyio

sleepers = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(77)%' AND state = 'active' AND pid <> pg_backend_pid()"
)
sleep = sa.text("SELECT pg_sleep(77)")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


async def refusal(url: str, **settings: Any) -> errors.TenfoldError:
    backend = Backend.from_url(
        url, settings=DatabaseSettings(**settings), data_dir=Path(), clock=SystemClock()
    )
    with pytest.raises(errors.TenfoldError) as caught:
        await backend.start()
    return caught.value


@pytest.mark.parametrize(
    "broken", [asyncpg.InternalClientError, asyncpg.InterfaceError, ConnectionResetError]
)
async def test_a_connection_that_ends_while_it_is_made_is_a_server_that_is_away(
    postgres_url: str, broken: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg has three kinds of errors for it; which one depends on how far it was."""

    async def ends(*_: object, **__: object) -> None:
        raise broken("cannot switch to state 15; another operation (2) is in progress")

    monkeypatch.setattr(asyncpg.Connection, "execute", ends)
    assert isinstance(await refusal(postgres_url), errors.DatabaseUnavailable)


async def test_constraints_name_their_table_and_columns(db: Database) -> None:
    async with db.tx() as tx:
        placed = await tx.one(add_order, Order, customer="a")
    line = {"order_id": placed.id, "product": "p"}
    with pytest.raises(errors.UniqueViolation) as unique:
        async with db.tx() as tx:
            await tx.execute(sa.insert(lines), [line, line])
    assert (unique.value.table, unique.value.columns) == ("lines", ("order_id", "product"))
    with pytest.raises(errors.NotNullViolation) as missing:
        async with db.tx() as tx:
            await tx.execute(sa.insert(orders), customer=None)
    assert (missing.value.table, missing.value.columns, missing.value.constraint) == (
        "orders", ("customer",), "orders.customer",
    )  # fmt: skip
    with pytest.raises(errors.CheckViolation) as check:
        async with db.tx() as tx:
            await tx.execute(sa.insert(orders), customer="a", total=-1)
    assert check.value.constraint == "total_not_negative"
    with pytest.raises(errors.ForeignKeyViolation) as key:  # deferred: found at COMMIT
        async with db.tx() as tx:
            await tx.execute(sa.insert(lines), order_id=-1, product="p")
    assert (key.value.table, key.value.columns) == ("lines", ("order_id",))


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
@pytest.mark.parametrize("value", ["'0044-03-15 BC'::date", "'20000-01-01'::timestamptz", "'24:00'::time"])
async def test_a_value_that_python_has_none_for_is_a_sentence(
    tmp_path: Path, postgres_url: str, driver: str, value: str
) -> None:
    """And the connection that it came over serves on."""
    url = postgres_url.replace("postgresql", driver, 1)
    async with opened(tmp_path, url=url, pool_max=1) as db:
        with pytest.raises(errors.ValueRefused, match="the answer has a value that Python has none for"):
            await db.read().scalar(sa.text(f"SELECT {value}"))
        with pytest.raises(errors.ValueRefused, match="Select it as text"):
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="undone")
                await tx.all(sa.text(f"SELECT 1, {value}"))
        assert await orders_in(db) == 0
        assert db.stats()["connections_opened_total"] == 1


async def test_a_statement_is_cancelled_in_the_server_soon_after_the_deadline(db: Database) -> None:
    clock = db.backend.clock
    with use(Context(deadline=clock.monotonic() + 0.2)), pytest.raises(errors.StatementTimeout):
        await db.read().one(sleep)
    ended = time.monotonic()
    while await db.read().scalar(sleepers):
        assert time.monotonic() - ended < 1.0
    assert time.monotonic() - ended < 0.1 + 0.4, "a tenth of a second, and what a busy machine adds"


async def test_nothing_starts_after_the_deadline(db: Database) -> None:
    with use(Context(deadline=db.backend.clock.monotonic() - 1)):
        with pytest.raises(errors.StatementTimeout, match="before the statement could start"):
            await db.read().scalar(count_orders)
        with pytest.raises(errors.StatementTimeout):
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="late")
    assert await orders_in(db) == 0


async def test_a_cancelled_task_leaves_no_statement_and_no_lock(db: Database) -> None:
    async with db.tx() as tx:
        placed = await tx.one(add_order, Order, customer="a")

    async def hold() -> None:
        async with db.tx() as tx:
            await tx.one(order_by_id.with_for_update(), Order, id=placed.id)
            await tx.one(sleep)

    task = asyncio.create_task(hold())
    while not await db.read().scalar(sleepers):
        pass
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    async with asyncio.timeout(2), db.tx() as tx:
        await tx.one(order_by_id.with_for_update(), Order, id=placed.id)
    while await db.read().scalar(sleepers):  # the lock goes first, then the server's idea of what it does
        pass


async def test_an_exhausted_pool_refuses_in_time(tmp_path: Path, postgres_url: str) -> None:
    async with opened(tmp_path, url=postgres_url, pool_max=1, pool_wait_s=0.05) as db, db.tx() as tx:
        await tx.one(add_order, Order, customer="a")
        with pytest.raises(errors.DatabaseUnavailable, match=r"raise database\.pool_max"):
            await db.read().scalar(count_orders)


async def test_a_row_that_stays_locked_is_given_up(tmp_path: Path, postgres_url: str) -> None:
    async with opened(tmp_path, url=postgres_url, lock_timeout_s=0.1) as db:
        async with db.tx() as tx:
            placed = await tx.one(add_order, Order, customer="a")
        async with db.tx() as tx:
            await tx.one(order_by_id.with_for_update(), Order, id=placed.id)

            async def other() -> None:
                async with db.tx() as second:
                    await second.one(order_by_id.with_for_update(), Order, id=placed.id)

            with pytest.raises(errors.DatabaseUnavailable, match="locked by another transaction"):
                await asyncio.create_task(other())


async def test_a_commit_whose_answer_is_lost_is_unknown_and_not_tried_again(
    tmp_path: Path, postgres_url: str
) -> None:
    runs = 0
    with Proxy(port_of(postgres_url)) as proxy:
        async with opened(tmp_path, url=proxy.through(postgres_url)) as db:

            async def place(tx: Any) -> None:
                nonlocal runs
                runs += 1
                await tx.one(add_order, Order, customer="perhaps")
                proxy.cut_after(1)

            with pytest.raises(errors.OutcomeUnknown, match="may or may not have happened"):
                await db.transact(place)
            assert runs == 1
            assert await orders_in(db) == 1, "the server had done it"


async def test_a_connection_that_breaks_in_the_middle_undoes_and_is_replaced(
    tmp_path: Path, postgres_url: str
) -> None:
    with Proxy(port_of(postgres_url)) as proxy:
        async with opened(tmp_path, url=proxy.through(postgres_url)) as db:
            with pytest.raises(errors.DatabaseUnavailable, match="broke"):
                async with db.tx() as tx:
                    await tx.one(add_order, Order, customer="lost")
                    await asyncio.to_thread(proxy.reset)
                    await tx.one(add_order, Order, customer="never")
            assert await orders_in(db) == 0
            await asyncio.to_thread(proxy.reset)
            assert await orders_in(db) == 0, "a read on a connection that died while idle is read again"


async def test_what_can_be_known_at_start_is_said_at_start(postgres: Postgres, postgres_url: str) -> None:
    place = postgres_url.rpartition("@")[2]
    wrong = await refusal(f"postgresql://tenfold:se%2Fcret@{place}")
    assert isinstance(wrong, errors.ConfigError)
    assert "the user 'tenfold' or its password" in str(wrong)
    assert "cret" not in str(wrong)
    gone = await refusal("postgresql://a:b@127.0.0.1:1/x", connect_timeout_s=1)
    assert isinstance(gone, errors.DatabaseUnavailable)
    assert "127.0.0.1:1 cannot be reached" in str(gone)
    with pytest.raises(errors.ConfigError, match=r"database\.url: .* its port is no number"):
        await refusal("postgresql://a:b@host:x1/db")


async def test_a_server_that_is_too_old_is_refused(
    monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    monkeypatch.setattr(pg_errors, "SERVER_MIN", 99)
    assert "too old. Use PostgreSQL 99 or newer" in str(await refusal(postgres_url))


async def test_a_missing_right_names_the_setting(db: Database, postgres_url: str) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.text("DROP ROLE IF EXISTS guest"))
        await tx.execute(sa.text("CREATE ROLE guest LOGIN PASSWORD 'guest'"))
        await tx.execute(sa.text("REVOKE CREATE ON SCHEMA public FROM public"))
    backend = Backend.from_url(
        postgres_url.replace("tenfold:tenfold", "guest:guest"),
        settings=DatabaseSettings(), data_dir=Path(), clock=SystemClock(),
    )  # fmt: skip
    await backend.start()
    guest = Database("guest", orders.metadata)
    guest.bind(backend)
    with pytest.raises(errors.DatabaseUnavailable, match=r"the user of database\.url may not do this"):
        await guest.read().scalar(count_orders)
    with pytest.raises(errors.ConfigError, match=r"database\.url: its user 'guest' .* run: GRANT SELECT"):
        await migrations.upgrade([guest])
    await backend.stop()


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("40001", errors.SerializationFailure, "collided"),
        ("40P01", errors.SerializationFailure, "collided"),
        ("53100", errors.DatabaseUnavailable, "disk of the database server is full"),
        ("53300", errors.DatabaseUnavailable, "max_connections"),
        ("57P01", errors.DatabaseUnavailable, "cannot serve now"),
        ("08006", errors.DatabaseUnavailable, "cannot serve now"),
        ("25006", errors.DatabaseUnavailable, "fail-over"),
        ("57014", errors.StatementTimeout, "deadline"),
        ("42P01", errors.StatementError, "refuses the statement"),
    ],
)
def test_every_state_has_its_class_and_sentence(
    state: str, kind: type[errors.DatabaseError], words: str
) -> None:
    error = pg_errors.translate(Report(state, "said"))
    assert type(error) is kind
    assert words in str(error)


@pytest.fixture
def pair() -> Iterator[tuple[Postgres, Standby]]:
    """A primary and its standby, for a test that ends one of them."""
    with running(Postgres()) as primary, running(Standby(primary)) as standby:
        yield primary, standby


async def write_again(db: Database) -> float:
    """Seconds until a write works."""
    began = time.monotonic()
    while True:
        try:
            async with db.tx() as tx:
                await tx.one(add_order, Order, customer="after")
        except errors.DatabaseUnavailable:
            await asyncio.sleep(0.05)
        else:
            return time.monotonic() - began


@pytest.mark.timeout(90)
async def test_after_a_fail_over_writes_go_on_at_the_promoted_server(
    pair: tuple[Postgres, Standby], tmp_path: Path
) -> None:
    """Also when the old primary is back, which answers SELECT 1, but is a standby: only a write tells."""
    primary, standby = pair
    assert "is a read-only standby" in str(await refusal(standby.url()))
    url = primary.url().replace(primary.address, f"{primary.address},{standby.address}")
    async with opened(tmp_path, url=url, pool_max=3) as db:
        async with db.tx() as tx:
            await tx.one(add_order, Order, customer="before")
        await asyncio.to_thread(standby.catch_up)
        await asyncio.to_thread(primary.kill)
        await asyncio.to_thread(standby.promote)
        assert await write_again(db) < 5
        assert await orders_in(db) == 2


@pytest.mark.timeout(90)
async def test_a_primary_that_comes_back_as_a_standby_is_left(
    pair: tuple[Postgres, Standby], tmp_path: Path
) -> None:
    primary, standby = pair
    with Proxy(primary.port) as front:  # an address that moves from the old primary to the new one
        async with opened(tmp_path, url=front.through(primary.url()), pool_max=1) as db:
            await asyncio.to_thread(standby.catch_up)
            front.target = standby.port
            await asyncio.to_thread(front.reset)
            assert await orders_in(db) == 0, "reading works on a standby"
            with pytest.raises(errors.DatabaseUnavailable, match="fail-over"):
                async with db.tx() as tx:
                    await tx.one(add_order, Order, customer="never")
            with pytest.raises(errors.DatabaseUnavailable, match="fail-over"):
                await db.health()
            await asyncio.to_thread(standby.promote)
            assert await write_again(db) < 5
