"""The queue suite on every database that has a queue."""

from __future__ import annotations

import pytest

from tenfold.conformance.convicting import ConvictingQueue
from tenfold.conformance.queue import QueueConformance


class TestSqlite(QueueConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls) -> str:
        return "sqlite:///app.db"


class TestPostgresql(QueueConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, postgres_database: str) -> str:
        return postgres_database


class TestMariaDB(QueueConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, mariadb_database: str) -> str:
        return mariadb_database


class TestBrokenPostgresql(ConvictingQueue, TestPostgresql): ...


@pytest.mark.soak
class TestBrokenMariaDB(ConvictingQueue, TestMariaDB): ...
