"""The suite of sessions on every store."""

from __future__ import annotations

import pytest

from tenfold.conformance.convicting import ConvictingSessions
from tenfold.conformance.sessions import SessionsConformance


class TestMemory(SessionsConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "memory:"


class TestSqlite(SessionsConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "sqlite:///app.db"


class TestPostgresql(SessionsConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, postgres_database: str) -> str:
        return postgres_database


class TestMariaDB(SessionsConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, mariadb_database: str) -> str:
        return mariadb_database


class TestRedis(SessionsConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, redis_database: str) -> str:
        return redis_database


class TestBrokenSqlite(ConvictingSessions, TestSqlite): ...


@pytest.mark.soak
class TestBrokenPostgresql(ConvictingSessions, TestPostgresql): ...


@pytest.mark.soak
class TestBrokenRedis(ConvictingSessions, TestRedis): ...
