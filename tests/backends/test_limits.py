"""The suite of limits on every store."""

from __future__ import annotations

import pytest

from tenfold.conformance.convicting import ConvictingLimits
from tenfold.conformance.limits import LimitsConformance


class TestMemory(LimitsConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "memory:"


class TestSqlite(LimitsConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "sqlite:///app.db"


class TestPostgresql(LimitsConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, postgres_database: str) -> str:
        return postgres_database


class TestMariaDB(LimitsConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, mariadb_database: str) -> str:
        return mariadb_database


class TestRedis(LimitsConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, redis_database: str) -> str:
        return redis_database


class TestBrokenSqlite(ConvictingLimits, TestSqlite): ...


@pytest.mark.soak
class TestBrokenPostgresql(ConvictingLimits, TestPostgresql): ...


@pytest.mark.soak
class TestBrokenRedis(ConvictingLimits, TestRedis): ...
