"""Replicas that die, fall silent, restart or are promoted: no read fails for it, and none goes back behind a write."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support import registers
from support.cluster import Cluster, client, eventually, serving
from support.proxy import Proxy
from support.registers import judge, pairs, stale
from support.servers import Postgres, running
from support.standby import Standby
from tenfold._core.context import Context, use
from tenfold.db.replicas import Replicas
from tenfold.errors import ConfigError, DatabaseError

pytestmark = pytest.mark.anyio

SLOW = sa.text("SELECT 7 FROM pg_sleep(0.3)")
HOLD_S = 3.0
"""What a read may take at most whose replica is silent: noticed within a second, on a busy machine a few."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """For tests that leave it as it was."""
    with _started() as made:
        yield made


@pytest.fixture
def doomed() -> Iterator[Cluster]:
    """Of the test's own."""
    with _started() as made:
        yield made


@contextmanager
def _started() -> Generator[Cluster]:
    with ExitStack() as stack:
        primary = stack.enter_context(running(Postgres()))
        standbys = [stack.enter_context(running(Standby(primary))) for _ in range(2)]
        primary.sql(*registers.SETUP)
        made = Cluster(primary, standbys)
        made.catch_up()
        yield made


@asynccontextmanager
async def app_on(url: str, *replicas: str, folder: Path) -> AsyncGenerator[tuple[Any, Replicas]]:
    app = registers.app(url, *replicas, data_dir=folder)
    async with serving(app):
        copies = registers.db.replicas
        assert copies is not None
        await eventually(lambda: all(node.position >= copies.floor for node in copies.nodes))
        yield app, copies


async def read_slowly() -> int:
    with use(Context(operation="test.read")):
        value: int = await registers.db.read().scalar(SLOW)
        return value


async def test_reads_in_flight_on_a_replica_that_is_killed_are_answered(
    cluster: Cluster, tmp_path: Path
) -> None:
    one, other = cluster.standbys
    async with app_on(cluster.primary.url(), one.url(), other.url(), folder=tmp_path) as (_, copies):
        reading = [asyncio.create_task(read_slowly()) for _ in range(8)]
        await eventually(lambda: copies.nodes[0].in_flight > 0)
        await asyncio.to_thread(one.kill)
        assert await asyncio.gather(*reading) == [7] * 8
        assert copies.repeated > 0
        before = copies.nodes[0].reads
        assert await asyncio.gather(*(read_slowly() for _ in range(8))) == [7] * 8
        assert copies.nodes[0].reads == before, "it was still asked"
        await cluster.start(one)
        await eventually(lambda: copies.nodes[0].up)


async def test_reads_on_a_replica_that_falls_silent_are_answered_elsewhere(
    cluster: Cluster, tmp_path: Path
) -> None:
    standby, loop = cluster.standbys[0], asyncio.get_running_loop()
    with Proxy(standby.port) as proxy:
        url = proxy.through(standby.url())
        async with app_on(cluster.primary.url(), url, folder=tmp_path) as (app, copies):
            own, node = client(app), copies.nodes[0]
            reading = [asyncio.create_task(read_slowly()) for _ in range(4)]
            await eventually(lambda: node.in_flight > 0)
            with proxy.blackhole():
                began = loop.time()
                assert await asyncio.gather(*reading) == [7] * 4
                assert loop.time() - began < HOLD_S
                assert copies.repeated > 0
                began = loop.time()
                for _ in range(10):
                    (await own.get("/registers/1")).expect(200)
                assert loop.time() - began < HOLD_S / 2, "each read waited for the silent replica again"
            await eventually(lambda: node.up)
            before = node.reads
            await eventually(lambda: node.shunned_until < loop.time())
            (await own.get("/registers/1")).expect(200)
            assert node.reads > before


async def test_connections_that_are_reset_or_cut_cost_no_read(cluster: Cluster, tmp_path: Path) -> None:
    standby = cluster.standbys[0]
    with Proxy(standby.port) as proxy:
        async with app_on(cluster.primary.url(), proxy.through(standby.url()), folder=tmp_path) as (app, _):
            own = client(app)
            for number in range(40):
                if number % 4 == 0:
                    await asyncio.to_thread(proxy.reset)
                if number % 4 == 2:
                    proxy.cut_after(number)
                (await own.get("/registers/1")).expect(200)


async def test_a_replica_that_restarts_behind_where_it_was_shows_nothing_old(
    cluster: Cluster, tmp_path: Path
) -> None:
    one, other = cluster.standbys
    async with app_on(cluster.primary.url(), one.url(), other.url(), folder=tmp_path) as (app, _):
        ending = False

        async def visit(key: int) -> None:
            own = client(app)
            while not ending:
                written = (await own.post(f"/registers/{key}")).expect(200).json()
                for _ in range(3):
                    judge("HTTP", written, (await own.get(f"/registers/{key}")).expect(200).json())
                    await asyncio.sleep(0.03)

        async with asyncio.TaskGroup() as group:
            for key in range(5):
                group.create_task(visit(key))
            for _ in range(2):
                await asyncio.to_thread(one.kill)
                await cluster.start(one)
                await asyncio.sleep(0.5)
            ending = True
    assert not +stale, f"of {dict(pairs)}"
    assert pairs["HTTP"] > 50


# ── promotion ─────────────────────────────────────────────────────────────────────────────────────


def url_of_all(cluster: Cluster) -> str:
    ports = [server.port for server in (cluster.primary, *cluster.standbys)]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://tenfold:tenfold@{hosts}/tenfold"


async def pair(own: Any, key: int) -> None:
    """Write and read. While there is no primary, writes fail, and so do reads of what no replica has yet: with 503,
    and never with something old."""
    answer = await own.post(f"/registers/{key}")
    if answer.status == 200:
        for _ in range(2):
            while (found := await own.get(f"/registers/{key}")).status == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            judge("HTTP", answer.json(), found.expect(200).json())
            await asyncio.sleep(0.02)
    else:
        assert answer.status in (500, 503), (
            answer
        )  # 500: the connection broke at COMMIT, the outcome is unknown
        await asyncio.sleep(0.05)


async def test_promotion_makes_no_read_stale_and_brings_the_replicas_back(
    doomed: Cluster, tmp_path: Path
) -> None:
    cluster, (one, other) = doomed, doomed.standbys
    async with app_on(url_of_all(cluster), one.url(), other.url(), folder=tmp_path) as (app, copies):
        ending = False

        async def visit(key: int) -> None:
            own = client(app)
            while not ending:
                await pair(own, key)

        async with asyncio.TaskGroup() as group:
            for key in range(10):
                group.create_task(visit(key))
            await asyncio.sleep(0.5)
            # A planned one: the primary hands over everything before it ends, so no acknowledged write is lost.
            await asyncio.to_thread(cluster.primary.end, signal.SIGINT)
            await asyncio.to_thread(one.promote)
            await asyncio.to_thread(other.follow, one)
            promoted = pairs["HTTP"]
            await eventually(lambda: pairs["HTTP"] > promoted + 50)
            await eventually(lambda: copies.nodes[1].position.timeline == 2)
            before = copies.nodes[1].reads
            await eventually(lambda: copies.nodes[1].reads > before + 5)
            ending = True
    assert not +stale, f"of {dict(pairs)}"
    assert not copies.nodes[0].up, "the promoted one is still read from as a replica"


async def test_a_standby_that_went_on_with_the_lost_primary_is_not_read_from(
    doomed: Cluster, tmp_path: Path
) -> None:
    """It is ahead of the promoted one by the log's count, with writes that nobody has any more, and without those
    that came after."""
    cluster, (one, other) = doomed, doomed.standbys
    async with app_on(url_of_all(cluster), one.url(), other.url(), folder=tmp_path) as (app, copies):
        await asyncio.to_thread(one.sql, "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        await asyncio.to_thread(one.eventually, "SELECT count(*) = 0 FROM pg_stat_wal_receiver")
        await asyncio.to_thread(
            cluster.primary.sql, "CREATE TABLE lost AS SELECT generate_series(1, 20000) AS n"
        )
        await asyncio.to_thread(other.catch_up)
        await asyncio.to_thread(cluster.primary.kill)
        await asyncio.to_thread(one.promote)
        own, ahead = client(app), copies.nodes[1]
        await eventually(lambda: ahead.up)
        for _ in range(200):
            await pair(own, 1)
            if pairs["HTTP"] > 40:
                break
        assert not +stale, f"of {dict(pairs)}"
        now = copies._history.last
        assert (ahead.position.timeline, now.timeline) == (1, 2)
        assert ahead.position.offset > now.offset, "the test is void: it is not ahead"


# ── at the start ──────────────────────────────────────────────────────────────────────────────────


async def test_at_the_start_wrong_replicas_are_refused_and_dead_ones_are_waited_for(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = cluster.standbys
    primary = cluster.primary
    for url, said in (
        (primary.url(), f"{primary.address} is a primary, not a replica"),
        (one.url().replace("tenfold:tenfold@", "tenfold:wrong@"), "password"),
        ("sqlite:///copy.db", "a database at sqlite: is no replica"),
    ):
        with pytest.raises(ConfigError, match=said) as refused:
            await registers.app(primary.url(), one.url(), url, data_dir=tmp_path).start()
        assert str(refused.value).startswith("database.replicas")
    await asyncio.to_thread(other.end)
    app = registers.app(primary.url(), one.url(), other.url(), data_dir=tmp_path)
    async with serving(app):
        assert f"replica 1 ({other.address}) is away" in caplog.text
        (await client(app).get("/registers/1")).expect(200)
    await cluster.start(other)


async def test_a_write_given_to_a_reader_is_refused_on_a_replica_as_on_the_primary(
    cluster: Cluster, tmp_path: Path
) -> None:
    messages: list[str] = []
    for replicas in ((), (cluster.standbys[0].url(),)):
        app = registers.app(cluster.primary.url(), *replicas, data_dir=tmp_path)
        async with serving(app):
            with pytest.raises(DatabaseError, match=r"it was given to a reader") as refused:
                await registers.db.read().all(sa.text("INSERT INTO register VALUES (5000, 0) RETURNING id"))
            messages.append(f"{type(refused.value)} {refused.value}")
    assert messages[0] == messages[1]
