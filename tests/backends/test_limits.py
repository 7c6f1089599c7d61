"""The suite of limits on every store."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from tenfold.conformance.convicting import ConvictingLimits
from tenfold.conformance.limits import SECOND, LimitsConformance
from tenfold.guard.backends._sql_dialect import dialect_of
from tenfold.guard.backends._sql_limits import SqlLimits, table


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


class LocksRows(LimitsConformance):
    """What holds where a check may have to wait for a row."""

    async def test_who_waited_for_its_turn_is_judged_by_the_time_it_had_it(
        self, store: SqlLimits, other: SqlLimits, name: str
    ) -> None:
        """Not by the time it asked, when more was ahead."""
        cell = (name, SECOND // 20, SECOND)
        await store.take([cell])
        async with store._db.tx() as tx:
            await tx.execute(sa.update(table).values(at_us=table.c.at_us))
            waiting = asyncio.create_task(other.take([cell]))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            before_us = await tx.scalar(sa.select(dialect_of(store._db).now_us))
        assert (await waiting).at_us >= before_us


class TestPostgresql(LocksRows):
    on_database = True

    @pytest.fixture(scope="class")
    @classmethod
    def url(cls, postgres_database: str) -> str:
        return postgres_database


class TestMariaDB(LocksRows):
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
