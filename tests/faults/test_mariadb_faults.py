"""MariaDB under fire: cancellations at random moments, and the server killed in mid-transaction.

Each check also judges a build that is broken on purpose, and has to find it guilty.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.orders_db import opened
from support.servers import MariaDB, running
from support.trials import Trials, soak
from tenfold.db import Database
from tenfold.db.backends._mysql_link import Link
from tenfold.errors import DatabaseError, DatabaseUnavailable, OutcomeUnknown

pytestmark = pytest.mark.anyio

CANCELLATIONS = 1_000
KILLS = 3

metadata = sa.MetaData()
entry = sa.Table(
    "entry",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("pair", sa.Integer, nullable=False, index=True),
    sa.Column("half", sa.Integer, nullable=False),
)
add_half = sa.insert(entry)
pairs = sa.select(entry.c.pair, sa.func.count()).group_by(entry.c.pair)
answer = sa.text("SELECT :n, :checksum, sleep(:s)")


class Audit:
    """What was acknowledged, and what was wrong."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.wrong: list[str] = []
        self.cancelled = 0

    async def echo(self, db: Database, n: int) -> None:
        """An answer that belongs to another caller does not fit its checksum."""
        checksum = zlib.crc32(str(n).encode())
        found = await db.read().one(answer, tuple, n=n, checksum=checksum, s=0.001 if n % 5 == 0 else 0)
        if found[:2] != (n, checksum):
            self.wrong.append(f"{n} got the answer of {found[0]}")

    async def pair(self, db: Database, n: int) -> None:
        """Half of it would show."""
        async with db.tx() as tx:
            await tx.execute(add_half, pair=n, half=1)
            await tx.execute(add_half, pair=n, half=2)
        self.acknowledged.add(n)

    async def judge(self, db: Database) -> list[str]:
        found = dict(await db.read().all(pairs, tuple))
        halves = [f"half of pair {n}" for n, count in found.items() if count != 2]
        lost = [f"pair {n} was acknowledged and is lost" for n in self.acknowledged - found.keys()]
        return self.wrong + halves + lost


async def storm(folder: Path, url: str, cancellations: int = CANCELLATIONS) -> tuple[Audit, list[str], Any]:
    rng, audit = random.Random(7), Audit()
    async with opened(folder, url=url, metadata=metadata, pool_max=8) as db:

        async def one(n: int) -> None:
            task = asyncio.create_task(audit.pair(db, n) if n % 3 == 0 else audit.echo(db, n))
            await asyncio.sleep(rng.random() ** 2 * 0.15)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                audit.cancelled += 1
            except Exception as error:
                audit.wrong.append(repr(error))

        for start in range(0, cancellations, 20):
            await asyncio.gather(*(one(n) for n in range(start, start + 20)))
        try:
            said = await audit.judge(db)
        except Exception as error:
            said = [f"the judge got {error!r}"]
        stats = dict(db.stats())
        assert db.backend.open_by_task == {}
        return audit, said, stats


async def test_a_storm_of_cancellations_leaves_no_half_and_no_wrong_answer(
    tmp_path: Path, mariadb_url: str, trials: Trials
) -> None:
    trials("G24", await survived(tmp_path, mariadb_url, CANCELLATIONS), mariadb_url)


@pytest.mark.soak
async def test_a_hundred_thousand_cancellations(tmp_path: Path, mariadb_url: str, trials: Trials) -> None:
    trials("G24", await survived(tmp_path, mariadb_url, soak(100_000)), mariadb_url)


async def survived(folder: Path, url: str, cancellations: int) -> int:
    """How many of so many cancellations hit something."""
    audit, said, stats = await storm(folder, url, cancellations)
    assert said == []
    assert audit.cancelled > cancellations / 10  # it hit some and missed some
    assert audit.acknowledged
    assert stats["connections"] <= 8
    assert stats["connections_dropped_total"] > 0
    return audit.cancelled


async def test_a_build_that_uses_connections_again_after_a_cancellation_is_found_out(
    tmp_path: Path, mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def careless(self: Link, work: Any, _budget_s: float, _plan: Any) -> Any:
        # as if the driver did not close what was cancelled, and nobody doubted it
        conn = self.conn
        monkeypatch.setattr(conn, "_close_on_cancel", lambda: None)
        return await work

    monkeypatch.setattr(Link, "guarded", careless)
    _, said, _ = await storm(tmp_path, mariadb_url, 200)
    assert said != []


@pytest.fixture
def server() -> Iterator[MariaDB]:
    """One that may be killed, and syncs its log at every commit."""
    with running(MariaDB(durable=True)) as made:
        yield made


async def write_until_killed(audit: Audit, db: Database, first: int, *, trust: bool) -> None:
    """Pair after pair; an error ends it. ``trust`` takes an unknown outcome for a commit, as a broken build would."""
    n = first
    while True:
        try:
            await audit.pair(db, n)
        except OutcomeUnknown:
            if trust:
                audit.acknowledged.add(n)
            return
        except DatabaseError:
            if trust:
                audit.acknowledged.add(n)
            return
        n += 1


async def under_kills(server: MariaDB, folder: Path, *, trust: bool) -> tuple[Audit, list[str]]:
    audit = Audit()
    async with opened(folder, url=server.url(), metadata=metadata, connect_timeout_s=2.0) as db:
        for round_ in range(KILLS):
            writers = [
                asyncio.create_task(
                    write_until_killed(audit, db, 1_000_000 * round_ + 10_000 * w, trust=trust)
                )
                for w in range(6)
            ]
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.kill)
            async with asyncio.timeout(10):
                await asyncio.gather(*writers)
            with pytest.raises(DatabaseUnavailable):
                await db.health()
            await asyncio.to_thread(server.start)
            await db.health()  # by itself: nobody restarts the process
        return audit, await audit.judge(db)


async def test_a_server_killed_in_mid_transaction_loses_nothing_acknowledged_and_is_found_again(
    server: MariaDB, tmp_path: Path, trials: Trials
) -> None:
    audit, said = await under_kills(server, tmp_path, trust=False)
    assert said == []
    assert len(audit.acknowledged) > 20
    trials("G1", len(audit.acknowledged), "mysql")


async def test_a_build_that_acknowledges_what_it_does_not_know_is_found_out(
    server: MariaDB, tmp_path: Path
) -> None:
    _, said = await under_kills(server, tmp_path, trust=True)
    assert any("lost" in one for one in said)
