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
from tenfold.db.backends import _mysql_links
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
