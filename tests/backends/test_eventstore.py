"""The event store's suite on every database that has one."""

from __future__ import annotations

import pytest

from tenfold.conformance.convicting import ConvictingEventStore
from tenfold.conformance.eventstore import EventStoreConformance


class TestSqlite(EventStoreConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "sqlite:///app.db"


class TestPostgresql(EventStoreConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, postgres_database: str) -> str:
        return postgres_database


class TestMariaDB(EventStoreConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, mariadb_database: str) -> str:
        return mariadb_database


class TestBrokenSqlite(ConvictingEventStore, TestSqlite): ...


@pytest.mark.soak
class TestBrokenPostgresql(ConvictingEventStore, TestPostgresql): ...


@pytest.mark.soak
class TestBrokenMariaDB(ConvictingEventStore, TestMariaDB): ...
