"""The database suite on every backend."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from support.servers import free_port
from tenfold.conformance._database_case import WrongUrl
from tenfold.conformance.convicting import ConvictingDatabase
from tenfold.conformance.database import DatabaseConformance


class TestSqlite(DatabaseConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "sqlite:///app.db"

    @classmethod
    def wrong_urls(cls, url: str) -> list[WrongUrl]:
        return [
            WrongUrl("a folder that cannot be", "sqlite:////dev/null/app.db", "folder of the database file"),
            WrongUrl("a query", "sqlite:///app.db?mode=ro", r"database\.url: .* without a query"),
        ]


def wrong_server_urls(url: str) -> list[WrongUrl]:
    """What can be wrong about the URL of a server."""
    parts = urlsplit(url)
    address = f"127.0.0.1:{parts.port}"
    credentials = f"{parts.username}:{parts.password}"
    return [
        WrongUrl(
            "a port where nobody listens", url.replace(f":{parts.port}", f":{free_port()}"), "127.0.0.1"
        ),
        WrongUrl("a host without an address", url.replace(address, "nowhere.invalid"), "nowhere.invalid"),
        WrongUrl(
            "a password",
            url.replace(credentials, f"{parts.username}:wrong-password"),
            r"database\.url: .*password",
        ),
        WrongUrl(
            "a database", url.replace(parts.path, "/no_such_database"), r"database\.url: .*no_such_database"
        ),
        WrongUrl("a port that is none", url.replace(f":{parts.port}", ":port"), r"database\.url"),
    ]


class TestPostgresql(DatabaseConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, postgres_database: str) -> str:
        return postgres_database

    @classmethod
    def wrong_urls(cls, url: str) -> list[WrongUrl]:
        return [
            *wrong_server_urls(url),
            WrongUrl("no database named", url.rpartition("/")[0], r"database\.url: .* names no database"),
            WrongUrl("an unknown option", f"{url}?sslmod=require", "unknown option 'sslmod'.*sslmode"),
        ]


class TestPgbouncer(DatabaseConformance):
    """Through pgbouncer in transaction mode, on the driver that keeps no state in a session."""

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, pgbouncer_database: str) -> str:
        return pgbouncer_database.replace("postgresql://", "postgresql+psycopg://")


class TestMariaDB(DatabaseConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, mariadb_database: str) -> str:
        return mariadb_database

    @classmethod
    def wrong_urls(cls, url: str) -> list[WrongUrl]:
        return wrong_server_urls(url)


class TestBrokenPostgresql(ConvictingDatabase, TestPostgresql): ...


@pytest.mark.soak
class TestBrokenMariaDB(ConvictingDatabase, TestMariaDB): ...
