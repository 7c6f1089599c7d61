"""One fresh database per class, on one server per test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.servers import MariaDB, Pgbouncer, Postgres, Redis


@pytest.fixture(scope="class")
def postgres_database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty PostgreSQL database for the tests of a class."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="class")
def pgbouncer_database(postgres_database: str, pgbouncer: Pgbouncer) -> str:
    """The same, through pgbouncer in transaction mode."""
    return pgbouncer.url(postgres_database.rpartition("/")[2])


@pytest.fixture(scope="class")
def mariadb_database(mariadb: MariaDB) -> Iterator[str]:
    """The URL of an empty MariaDB database for the tests of a class."""
    with mariadb.database() as url:
        yield url


@pytest.fixture(scope="class")
def redis_database(redis_server: Redis) -> str:
    """The URL of an empty Redis for the tests of a class."""
    redis_server.flush()
    return redis_server.url()
