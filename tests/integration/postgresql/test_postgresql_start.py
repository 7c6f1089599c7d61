"""What a start finds wrong with the server, or with what its user may do there, is a sentence with the remedy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from support.orders_db import opened, orders
from support.servers import Postgres, running
from tenfold import errors
from tenfold._core.clock import SystemClock
from tenfold._core.sections import DatabaseSettings
from tenfold.db import Database, migrations
from tenfold.db.backends.postgresql import Backend
from tenfold.queue.tables import message

pytestmark = pytest.mark.anyio

metadata = sa.MetaData()
things = sa.Table(
    "thing", metadata, sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("name", sa.String(80))
)


@pytest.fixture(scope="module")
def small() -> Iterator[Postgres]:
    """A server with few connections, and with a role that owns nothing."""
    with running(Postgres("max_connections=6", "superuser_reserved_connections=0")) as server:
        server.sql(
            "CREATE ROLE guest LOGIN PASSWORD 'guest'", "CREATE ROLE \"Odd one\" LOGIN PASSWORD 'guest'"
        )
        yield server


@pytest.fixture
def url(small: Postgres) -> Iterator[str]:
    """A fresh database, of whose tables nobody else may do anything."""
    with small.database() as url:
        yield url


def as_guest(url: str) -> str:
    return url.replace("tenfold:tenfold@", "guest:guest@")


def sql(url: str, *statements: str) -> None:
    """As the owner of the database."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def start(url: str) -> None:
    """As an app does it in development."""
    backend = Backend.from_url(url, settings=DatabaseSettings(), data_dir=Path(), clock=SystemClock())
    await backend.start()
    try:
        database = Database("things", metadata)
        database.bind(backend)
        await migrations.prepare([database], "auto")
    finally:
        await backend.stop()


async def refusal(url: str) -> str:
    with pytest.raises(errors.ConfigError) as caught:
        await start(url)
    return str(caught.value)


async def away(url: str) -> str:
    with pytest.raises(errors.DatabaseUnavailable) as caught:
        await start(url)
    return str(caught.value)


async def test_missing_rights_are_named_with_the_grants_that_mend_them(url: str) -> None:
    """Each remedy is run, and leads to the next thing that is missing, until the app starts."""
    await start(url)
    said = await refusal(as_guest(url))
    assert "user 'guest' may not use the tables" in said
    for statement in said.partition("run: ")[2].split("; "):
        sql(url, statement)
    await start(as_guest(url))
    sql(
        url,
        "REVOKE INSERT ON tenfold_message FROM guest",
        "REVOKE ALL ON tenfold_message_id_seq FROM guest",
    )
    said = await refusal(as_guest(url))
    assert said.endswith(
        f"the table {message.name} of the app. Let their owner run: GRANT INSERT ON {message.name} TO guest; "
        f"GRANT USAGE, SELECT ON SEQUENCE {message.name}_id_seq TO guest"
    )


async def test_a_role_that_may_not_make_tables_is_told_what_to_be_granted(url: str) -> None:
    sql(url, "REVOKE CREATE ON SCHEMA public FROM public")
    said = await refusal(as_guest(url))
    assert "GRANT USAGE, CREATE ON SCHEMA public TO guest" in said
    sql(url, said.partition("run: ")[2])
    await start(as_guest(url))


async def test_a_role_that_owns_the_app_starts_whatever_its_name_needs(url: str) -> None:
    sql(url, "REVOKE CREATE ON SCHEMA public FROM public")
    said = await refusal(url.replace("tenfold:tenfold@", "Odd%20one:guest@"))
    assert 'TO "Odd one"' in said
    sql(url, said.partition("run: ")[2])
    await start(url.replace("tenfold:tenfold@", "Odd%20one:guest@"))


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
async def test_a_search_path_that_leads_nowhere_is_named(url: str, driver: str) -> None:
    name = url.rpartition("/")[2]
    sql(url, f"ALTER ROLE guest IN DATABASE {name} SET search_path = nowhere")
    said = await refusal(as_guest(url).replace("postgresql", driver, 1))
    assert said.startswith("database.url: its user 'guest' has no schema to work in")
    assert "(nowhere)" in said
    assert "ALTER ROLE guest SET search_path = public" in said


@pytest.mark.parametrize("option", ["sslrootcert", "sslcert", "sslkey"])
async def test_a_file_that_is_not_there_is_named(url: str, option: str, tmp_path: Path) -> None:
    said = await refusal(f"{url}?{option}={tmp_path / 'nothing.pem'}")
    assert said.startswith(
        f"database.url: the file of its {option} ({tmp_path / 'nothing.pem'}) cannot be used: No such"
    )


async def test_a_file_without_a_certificate_is_named(url: str, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    assert "the file of its sslrootcert" in await refusal(f"{url}?sslrootcert={tmp_path / 'empty.pem'}")


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
async def test_a_name_without_an_address_is_named(driver: str) -> None:
    said = await away(f"{driver}://a:b@db.invalid:5432/x")
    assert said.startswith("no address is known for the database server db.invalid:5432")
    assert "Correct the host in database.url" in said


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
async def test_a_full_server_is_said_to_be_full(url: str, driver: str) -> None:
    with ExitStack() as stack:
        fill(stack, url)
        said = await away(url.replace("postgresql", driver, 1))
    assert said.startswith(
        "the server of database.url has no connection left for us (sorry, too many clients"
    )
    assert "lower database.pool_max" in said


async def test_a_server_that_is_full_while_we_migrate_is_said_to_be_full(url: str) -> None:
    backend = Backend.from_url(url, settings=DatabaseSettings(), data_dir=Path(), clock=SystemClock())
    await backend.start()
    database = Database("things", metadata)
    database.bind(backend)
    with ExitStack() as stack:
        fill(stack, url)
        with pytest.raises(
            errors.DatabaseUnavailable, match=r"the server of database\.url has no connection"
        ):
            await migrations.prepare([database], "auto")
    await backend.stop()


async def test_in_operation_a_full_server_is_503_and_what_goes_on_is_not_lost(
    url: str, tmp_path: Path
) -> None:
    async with opened(tmp_path, url=url) as db:
        async with db.tx() as tx:
            await tx.execute(sa.insert(orders), customer="going on")
            with ExitStack() as stack:
                fill(stack, url)
                with pytest.raises(errors.DatabaseUnavailable, match="has no connection left") as caught:
                    await asyncio.create_task(add(db, "refused"))
                assert caught.value.status == 503
        await add(db, "after")
        customers = sa.select(orders.c.customer).order_by(orders.c.id)
        assert await db.read().all(customers, str) == ["going on", "after"]


async def add(db: Database, customer: str) -> None:
    async with db.tx() as tx:
        await tx.execute(sa.insert(orders), customer=customer)


def fill(stack: ExitStack, url: str) -> None:
    """Take every connection that the server has left."""
    while True:
        try:
            stack.enter_context(psycopg.connect(url))
        except psycopg.OperationalError:
            return
