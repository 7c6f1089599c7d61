"""The suite of leases on every store."""

from __future__ import annotations

import pytest

from tenfold.conformance.convicting import ConvictingLeases
from tenfold.conformance.leases import LeasesConformance


class TestMemory(LeasesConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "memory:"


class TestSqlite(LeasesConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "sqlite:///app.db"


class TestPostgresql(LeasesConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, postgres_database: str) -> str:
        return postgres_database


class TestMariaDB(LeasesConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, mariadb_database: str) -> str:
        return mariadb_database


class TestRedis(LeasesConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, redis_database: str) -> str:
        return redis_database


class TestBrokenSqlite(ConvictingLeases, TestSqlite): ...


@pytest.mark.soak
class TestBrokenPostgresql(ConvictingLeases, TestPostgresql): ...


@pytest.mark.soak
class TestBrokenRedis(ConvictingLeases, TestRedis): ...
