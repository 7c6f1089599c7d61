"""Starting on servers that are wrong, several, or changed under way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from integration.mariadb.conftest import metadata, things
from support.orders_db import opened
from support.servers import MariaDB, free_port, running
from tenfold._core.clock import SystemClock
from tenfold._core.sections import DatabaseSettings
from tenfold.db import Database, migrations
from tenfold.db.backends import _mysql_links
from tenfold.db.backends.mysql import Backend
from tenfold.errors import ConfigError, DatabaseUnavailable

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def standby() -> Iterator[MariaDB]:
    """A second server that takes no writes."""
    with running(MariaDB()) as server:
        server.sql("SET GLOBAL read_only = 1")
        server.sql("CREATE USER ordinary@'127.0.0.1' IDENTIFIED BY 'tenfold'")
        server.sql("GRANT ALL ON tenfold.* TO ordinary@'127.0.0.1'")
        yield server


async def test_a_server_that_is_too_old_is_refused(
    tmp_path: Path, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_mysql_links, "MARIADB_MIN", (99, 1))
    with pytest.raises(ConfigError, match=r"database\.url: .*MariaDB 10\..*too old.*99\.1"):
        async with opened(tmp_path, url=mariadb_url):
            pass


async def test_a_server_that_may_lose_commits_is_declared_so(
    tmp_path: Path, mariadb_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "tenfold.db"):
        async with opened(tmp_path, url=mariadb_url, metadata=metadata) as db:
            assert not db.backend.capabilities.durable
    assert "innodb_flush_log_at_trx_commit" in caplog.text


async def test_the_first_host_that_takes_writes_is_used(
    tmp_path: Path, mariadb_url: str, standby: MariaDB
) -> None:
    address = mariadb_url.partition("@")[2].partition("/")[0]
    nobody = f"127.0.0.1:{free_port()}"
    url = mariadb_url.replace(address, f"{nobody},{standby.address},{address}")
    standby.sql(f"CREATE DATABASE IF NOT EXISTS {url.rpartition('/')[2]}")
    async with opened(tmp_path, url=url, metadata=sa.MetaData()) as db:
        with db.backend.sync_engine().begin() as connection:
            connection.exec_driver_sql("CREATE TABLE here (id INT)")
        async with db.tx() as tx:
            await tx.execute(sa.text("INSERT INTO here VALUES (1)"))
        assert db.stats()["failovers"] == 1


async def test_a_server_that_stops_taking_writes_is_left(tmp_path: Path, standby: MariaDB) -> None:
    """As after a fail-over: the connections that stand are to the wrong server."""
    url = standby.url().replace("tenfold:tenfold@", "ordinary:tenfold@")
    standby.sql("SET GLOBAL read_only = 0")
    async with opened(tmp_path, url=url, metadata=metadata) as db:
        before = db.stats()["connections_opened_total"]
        standby.sql("SET GLOBAL read_only = 1")
        with pytest.raises(DatabaseUnavailable, match="does not take writes"):
            async with db.tx() as tx:
                await tx.execute(sa.insert(things), name="a")
        assert await db.read().scalar(sa.select(sa.func.count()).select_from(things)) == 0
        assert db.stats()["connections_opened_total"] > before
        standby.sql("SET GLOBAL read_only = 0")
        async with db.tx() as tx:
            await tx.execute(sa.insert(things), name="a")
    standby.sql("SET GLOBAL read_only = 1")


async def test_a_missing_right_is_named(tmp_path: Path, standby: MariaDB) -> None:
    url = standby.url("mysql").replace("tenfold:tenfold@", "ordinary:tenfold@")
    with pytest.raises(ConfigError, match=r"database\.url.*mysql"):
        async with opened(tmp_path, url=url):
            pass


@pytest.fixture
def writable(standby: MariaDB) -> Iterator[MariaDB]:
    """The same server while it takes writes."""
    standby.sql("SET GLOBAL read_only = 0")
    yield standby
    standby.sql("SET GLOBAL read_only = 1")


async def prepared(url: str) -> None:
    """As an app starts in development."""
    backend = Backend.from_url(url, settings=DatabaseSettings(), data_dir=Path(), clock=SystemClock())
    await backend.start()
    try:
        database = Database("things", metadata)
        database.bind(backend)
        await migrations.prepare([database], "auto")
    finally:
        await backend.stop()


async def test_missing_rights_are_named_with_the_grants_that_mend_them(writable: MariaDB) -> None:
    """Each remedy is run, and leads to the next thing that is missing, until the app starts."""
    writable.sql(
        "CREATE OR REPLACE DATABASE rights; CREATE OR REPLACE USER guest@'127.0.0.1' IDENTIFIED BY 'guest'"
    )
    url = writable.url("rights").replace("tenfold:tenfold@", "guest:guest@")
    with pytest.raises(ConfigError, match=r"database\.url: .*GRANT ALL ON"):
        await prepared(url)
    writable.sql("GRANT SELECT ON rights.* TO guest@'127.0.0.1'")
    with pytest.raises(
        ConfigError, match=r"may not do what the migration has to: CREATE command denied .*GRANT .*CREATE"
    ):
        await prepared(url)
    await prepared(writable.url("rights"))
    with pytest.raises(
        ConfigError, match=r"user 'guest' may not use the tables? tenfold_.* run: GRANT"
    ) as caught:
        await prepared(url)
    for statement in str(caught.value).partition("run: ")[2].split("; "):
        writable.sql(statement)
    await prepared(url)


async def test_a_name_without_an_address_is_named() -> None:
    with pytest.raises(
        DatabaseUnavailable, match=r"db\.invalid:3306: no address is known .*host in database\.url"
    ):
        await prepared("mysql://a:b@db.invalid:3306/x")


async def test_a_full_server_is_said_to_be_full(writable: MariaDB) -> None:
    writable.sql("CREATE OR REPLACE USER one@'127.0.0.1' IDENTIFIED BY 'one' WITH MAX_USER_CONNECTIONS 1")
    writable.sql("GRANT ALL ON tenfold.* TO one@'127.0.0.1'")
    url = writable.url().replace("tenfold:tenfold@", "one:one@")
    backend = Backend.from_url(url, settings=DatabaseSettings(), data_dir=Path(), clock=SystemClock())
    await backend.start()  # holds the only connection
    with pytest.raises(DatabaseUnavailable, match=r"used up a limit of the server .*server of database\.url"):
        await prepared(url)
    await backend.stop()
