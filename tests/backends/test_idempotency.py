"""The suite of idempotency keys on every store."""

from __future__ import annotations

import pytest

from tenfold.conformance.convicting import ConvictingIdempotency
from tenfold.conformance.idempotency import IdempotencyConformance


class TestMemory(IdempotencyConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "memory:"


class TestSqlite(IdempotencyConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "sqlite:///app.db"


class TestPostgresql(IdempotencyConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, postgres_database: str) -> str:
        return postgres_database


class TestMariaDB(IdempotencyConformance):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, mariadb_database: str) -> str:
        return mariadb_database


class TestRedis(IdempotencyConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, redis_database: str) -> str:
        return redis_database


class TestBrokenSqlite(ConvictingIdempotency, TestSqlite): ...


@pytest.mark.soak
class TestBrokenPostgresql(ConvictingIdempotency, TestPostgresql): ...


@pytest.mark.soak
class TestBrokenRedis(ConvictingIdempotency, TestRedis): ...
