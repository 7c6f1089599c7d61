"""Reads beside a primary: where they go, what happens when a copy fails under them, what it costs without copies."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import sqlalchemy as sa

from tenfold._core.causal import BEYOND, NEWEST, Position, position_of
from tenfold._core.clock import SystemClock
from tenfold._core.context import Context, use
from tenfold._core.sections import DatabaseSettings
from tenfold.db import _replica_node
from tenfold.db.contract import Channel
from tenfold.db.database import Database
from tenfold.db.plan import Plan, PlanCache
from tenfold.db.replicas import Replicas
from tenfold.db.watch import Look, Watch
from tenfold.errors import (
    ConfigError,
    DatabaseUnavailable,
    PoolExhausted,
    SerializationFailure,
    StatementError,
    StatementTimeout,
)

pytestmark = pytest.mark.anyio

PLAN = Plan("SELECT 1", (), None)
Answer = Callable[[], Any]


class FakeNode(Channel):
    """A node that answers reads with its own name, unless ``fault`` says otherwise."""

    def __init__(self, name: str, offset: int = 100, *, copy: bool = True, cluster: str = "c1") -> None:
        self.name = self.address = name
        self.url = f"fake://{name}"
        self.look = Look(cluster, copy, Position(1, offset))
        self.copy = False
        self.track_positions = False
        self.capabilities: Any = SimpleNamespace(replicas=True)
        self.fault: Exception | None = None
        self.silent = asyncio.Event()
        self.silent.set()
        self.looks_fail: Exception | None = None
        self.reads = self.looks = self.snapshots = 0
        self.running = False
        self.lost: Callable[[], None] = lambda: None

    async def start(self) -> None:
        if self.looks_fail is not None:
            raise self.looks_fail
        self.running = True

    async def stop(self) -> None:
        self.running = False

    def reader(self) -> Channel:
        return self

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[Channel]:
        self.snapshots += 1
        yield self

    async def fetch(self, plan: Plan, args: Any, limit: int) -> Any:
        self.reads += 1
        await self.silent.wait()
        if self.fault is not None:
            raise self.fault
        return [(self.name,)]

    async def stream(self, plan: Plan, args: Any, chunk: int) -> AsyncIterator[Any]:
        yield await self.fetch(plan, args, 0)
        yield await self.fetch(plan, args, 0)

    async def watch(self, lost: Callable[[], None]) -> Watch:
        self.lost = lost
        return FakeWatch(self)

    def at(self, offset: int) -> None:
        self.look = self.look._replace(position=Position(1, offset))


class FakeWatch(Watch):
    def __init__(self, node: FakeNode) -> None:
        self.node = node

    async def look(self) -> Look:
        self.node.looks += 1
        await self.node.silent.wait()
        if self.node.looks_fail is not None:
            raise self.node.looks_fail
        return self.node.look

    def close(self) -> None:
        pass


class World:
    """A primary with copies, started."""

    def __init__(self, *copies: FakeNode, **settings: Any) -> None:
        self.primary = FakeNode("primary", copy=False)
        self.copies = {copy.url: copy for copy in copies}
        made = DatabaseSettings(url=self.primary.url, replicas=list(self.copies), **settings)
        self.replicas = Replicas(
            cast("Any", self.primary), made, SystemClock(), lambda url: cast("Any", self.copies[url])
        )

    async def __aenter__(self) -> World:
        await self.replicas.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.replicas.stop()

    async def read(self, age_s: float | None = None) -> str:
        channel = self.replicas.own if age_s is None else self.replicas.aged(age_s)
        rows = await channel.fetch(PLAN, (), 0)
        return str(rows[0][0])

    async def news(self, *nodes: FakeNode) -> None:
        """Every node was looked at once more."""
        for node in nodes or (self.primary, *self.copies.values()):
            until = node.looks + 2
            while node.looks < until:
                for known in (self.replicas._watched, *self.replicas.nodes):
                    known.want_news()
                await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_replica_node, "LOOK_SOON_S", 0.001)
    monkeypatch.setattr(_replica_node, "LOOK_TIMEOUT_S", 0.1)


def work() -> Context:
    return Context(operation="shop.test")


# ── where reads go ────────────────────────────────────────────────────────────────────────────────


async def test_a_read_goes_to_a_copy() -> None:
    async with World(FakeNode("a")) as world:
        assert await world.read() == "a"


async def test_after_a_write_reads_go_to_the_primary_until_a_copy_has_it() -> None:
    async with World(copy := FakeNode("a")) as world:
        with use(work()):
            world.replicas.committed(Position(1, 150))
            assert await world.read() == "primary"
            copy.at(150)
            await world.news()
            assert await world.read() == "a"


async def test_others_do_not_wait_for_what_somebody_wrote() -> None:
    async with World(FakeNode("a")) as world:
        with use(work()):
            world.replicas.committed(Position(1, 150))
        with use(work()):
            assert await world.read() == "a"


async def test_what_is_written_outside_of_any_work_is_seen_by_the_whole_process() -> None:
    async with World(FakeNode("a")) as world:
        world.replicas.committed(Position(1, 150))
        with use(work()):
            assert await world.read() == "primary"


async def test_a_transaction_that_changed_nothing_binds_nobody() -> None:
    async with World(FakeNode("a")) as world:
        with use(work()) as context:
            world.replicas.committed(None)
            assert context.causal == ""
            assert await world.read() == "a"


async def test_with_an_unknown_outcome_only_the_primary_knows() -> None:
    async with World(copy := FakeNode("a")) as world:
        with use(work()) as context:
            world.replicas.committed(BEYOND)
            copy.at(10**12)
            await world.news()
            assert await world.read() == "primary"
            world.replicas.committed(Position(1, 200))
            assert position_of(context.causal, "c1") == Position(1, 200)
            assert await world.read() == "a"


async def test_an_unknown_outcome_outside_of_any_work_ends_with_the_next_look_at_the_primary() -> None:
    async with World(FakeNode("a", 100)) as world:
        world.replicas.committed(BEYOND)
        assert await world.read() == "primary"
        await world.news()
        assert await world.read() == "a"


async def test_work_that_needs_the_newest_state_asks_the_primary() -> None:
    """That of a load into a cache."""
    async with World(FakeNode("a")) as world:
        with use(Context(operation="load", causal=NEWEST)):
            assert await world.read() == "primary"


async def test_a_copy_that_lacks_what_was_there_at_the_start_gets_no_reads() -> None:
    """The migrations of this very start, for one; not even from readers that are content with old data."""
    async with World(FakeNode("a", 99)) as world:
        assert await world.read() == "primary"
        assert await world.read(age_s=60) == "primary"


async def test_bounded_reads_take_a_copy_that_is_young_enough_whoever_wrote() -> None:
    async with World(FakeNode("a")) as world:
        with use(work()):
            world.replicas.committed(Position(1, 150))
            assert await world.read(age_s=30) == "a"
            assert await world.read(age_s=0) == "primary"


async def test_a_copy_that_lags_is_left_out_and_taken_back() -> None:
    async with World(copy := FakeNode("a"), lag_max_s=0.05) as world:
        world.primary.at(200)
        await asyncio.sleep(0.1)
        await world.news()
        assert await world.read() == "primary"
        copy.at(200)
        await world.news()
        assert await world.read() == "a"


async def test_a_read_waits_for_a_copy_where_that_is_configured() -> None:
    async with World(copy := FakeNode("a"), replica_wait_s=5.0) as world:
        with use(work()):
            world.replicas.committed(Position(1, 150))
            reading = asyncio.create_task(world.read())
            await world.news()
            assert not reading.done()
            copy.at(150)
            assert await reading == "a"


async def test_a_read_does_not_wait_longer_than_configured() -> None:
    async with World(FakeNode("a"), replica_wait_s=0.01) as world:
        with use(work()):
            world.replicas.committed(Position(1, 150))
            assert await world.read() == "primary"


async def test_a_sandbox_reads_from_the_primary() -> None:
    async with World(FakeNode("a")) as world:
        go_on = world.replicas.pause()
        assert await world.read() == "primary"
        go_on()
        assert await world.read() == "a"


# ── when a copy fails ─────────────────────────────────────────────────────────────────────────────


async def test_a_read_that_fails_on_a_copy_is_answered_by_another_node() -> None:
    async with World(one := FakeNode("a"), other := FakeNode("b")) as world:
        one.fault = DatabaseUnavailable("gone")
        assert {await world.read() for _ in range(20)} == {"b"}
        assert one.reads <= 1, "it was asked again although it had failed"
        other.fault = DatabaseUnavailable("gone")
        assert await world.read() == "primary"


async def test_executions_that_go_together_go_to_one_node_and_to_another_as_a_whole() -> None:
    async with World(one := FakeNode("a"), other := FakeNode("b")) as world:
        for channel in (world.replicas.own, world.replicas.aged(5)):
            found = await channel.fetch_each(PLAN, [(), (), ()], 0)
            assert len({rows[0][0] for rows in found}) == 1
        async with world.replicas.own.snapshot() as snapshot:
            found = await snapshot.fetch_each(PLAN, [(), (), ()], 0)
            assert len({rows[0][0] for rows in found}) == 1
        one.fault = other.fault = DatabaseUnavailable("gone")
        assert await world.replicas.own.fetch_each(PLAN, [(), ()], 0) == [[("primary",)]] * 2


async def test_a_copy_that_failed_is_taken_back_after_a_while() -> None:
    async with World(copy := FakeNode("a")) as world:
        copy.fault = DatabaseUnavailable("gone")
        assert await world.read() == "primary"
        copy.fault = None
        async with asyncio.timeout(5):
            while await world.read() != "a":  # noqa: ASYNC110 - nobody tells when it is
                await asyncio.sleep(0.01)


async def test_reads_on_a_copy_that_falls_silent_are_answered_elsewhere() -> None:
    async with World(copy := FakeNode("a")) as world:
        copy.silent.clear()
        async with asyncio.timeout(5):
            assert await asyncio.gather(*(world.read() for _ in range(3))) == ["primary"] * 3
        assert copy.reads == 3
        assert await world.read() == "primary"
        copy.silent.set()
        await world.news(copy)
        assert await world.read() == "a"


async def test_a_broken_watch_takes_the_copy_out_at_once() -> None:
    """A copy that is restarted begins before the place where it was."""
    async with World(copy := FakeNode("a")) as world:
        copy.lost()
        assert await world.read() == "primary"
        await world.news()
        assert await world.read() == "a"


async def test_a_full_pool_is_no_reason_to_burden_the_primary() -> None:
    async with World(copy := FakeNode("a")) as world:
        copy.fault = PoolExhausted("full")
        with pytest.raises(PoolExhausted):
            await world.read()
        assert world.primary.reads == 0


async def test_a_statement_that_ran_out_of_time_is_not_repeated() -> None:
    async with World(copy := FakeNode("a")) as world:
        copy.fault = StatementTimeout("late")
        with pytest.raises(StatementTimeout):
            await world.read()
        assert world.primary.reads == 0


@pytest.mark.parametrize(
    "error", [SerializationFailure("conflict with recovery"), StatementError("no such table")]
)
async def test_what_only_a_copy_cannot_do_is_done_by_the_primary(error: Exception) -> None:
    async with World(copy := FakeNode("a")) as world:
        copy.fault = error
        assert await world.read() == "primary"
        copy.fault = None
        assert await world.read() == "a", "it was shunned for a statement's fault"


async def test_a_stream_that_fails_before_its_first_piece_begins_on_another_node() -> None:
    async with World(copy := FakeNode("a")) as world:
        copy.fault = DatabaseUnavailable("gone")
        pieces = [rows[0][0] async for rows in world.replicas.own.stream(PLAN, (), 1)]
        assert pieces == ["primary", "primary"]


async def test_a_stream_that_fails_later_fails() -> None:
    async with World(copy := FakeNode("a")) as world:
        with pytest.raises(DatabaseUnavailable):
            async for rows in world.replicas.own.stream(PLAN, (), 1):
                assert rows == [("a",)]
                copy.fault = DatabaseUnavailable("gone")


# ── snapshots ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_snapshot_keeps_to_one_node() -> None:
    async with World(FakeNode("a"), FakeNode("b")) as world, world.replicas.own.snapshot() as channel:
        assert len({(await channel.fetch(PLAN, (), 0))[0][0] for _ in range(20)}) == 1


async def test_two_tasks_of_one_snapshot_see_the_same_node() -> None:
    async with (
        World(one := FakeNode("a"), other := FakeNode("b")) as world,
        world.replicas.own.snapshot() as channel,
    ):
        rows = await asyncio.gather(*(channel.fetch(PLAN, (), 0) for _ in range(10)))
        assert len({row[0][0] for row in rows}) == 1
        assert one.snapshots + other.snapshots == 1


async def test_a_snapshot_whose_first_statement_fails_moves_to_another_node() -> None:
    async with World(copy := FakeNode("a")) as world:
        copy.fault = DatabaseUnavailable("gone")
        async with world.replicas.own.snapshot() as channel:
            assert await channel.fetch(PLAN, (), 0) == [("primary",)]
            copy.fault = None
            assert await channel.fetch(PLAN, (), 0) == [("primary",)]


async def test_a_snapshot_that_has_answered_does_not_move() -> None:
    async with World(copy := FakeNode("a")) as world, world.replicas.own.snapshot() as channel:
        await channel.fetch(PLAN, (), 0)
        copy.fault = DatabaseUnavailable("gone")
        with pytest.raises(DatabaseUnavailable):
            await channel.fetch(PLAN, (), 0)


# ── at the start ──────────────────────────────────────────────────────────────────────────────────


async def test_a_primary_is_refused_as_a_replica() -> None:
    world = World(FakeNode("b:5432/x"), FakeNode("c:5432/x", copy=False))
    with pytest.raises(ConfigError, match=r"^database\.replicas\[1\]: c:5432/x is a primary"):
        await world.replicas.start()
    assert not any(copy.running for copy in world.copies.values())


async def test_a_primary_that_the_url_names_too_waits_until_it_is_a_standby() -> None:
    other = FakeNode("b:5432/x", copy=False)
    world = World(other)
    world.primary.address = "a:5432,b:5432/x"
    async with world:
        assert await world.read() == "primary"
        other.look = other.look._replace(copy=True)
        await world.news()
        assert await world.read() == "b:5432/x"


async def test_another_kind_of_database_is_refused_as_a_replica() -> None:
    class OtherNode(FakeNode):
        pass

    with pytest.raises(ConfigError, match=r"^database\.replicas\[0\]: a database at fake: is no replica"):
        await World(OtherNode("a")).replicas.start()


async def test_a_copy_of_another_database_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^database\.replicas\[0\]: a is a copy of another database"):
        await World(FakeNode("a", cluster="c2")).replicas.start()


async def test_a_copy_that_is_promoted_gets_no_more_reads() -> None:
    async with World(copy := FakeNode("a")) as world:
        copy.look = copy.look._replace(copy=False)
        await world.news()
        assert await world.read() == "primary"


async def test_a_dead_copy_only_warns_and_is_taken_when_it_lives(caplog: pytest.LogCaptureFixture) -> None:
    copy = FakeNode("a")
    copy.looks_fail = DatabaseUnavailable("nobody listens")
    async with World(copy) as world:
        assert "replica 0 (a) is away: nobody listens" in caplog.text
        assert await world.read() == "primary"
        copy.looks_fail = None
        await world.news()
        assert await world.read() == "a"
    assert not copy.running


async def test_a_database_without_replicas_refuses_the_setting() -> None:
    primary = FakeNode("p")
    primary.url, primary.capabilities = "sqlite:///app.db", SimpleNamespace(replicas=False)
    settings = msgspec.structs.replace(DatabaseSettings(), replicas=["sqlite:///copy.db"])
    with pytest.raises(ConfigError, match=r"^database\.replicas: .*sqlite.* has no replicas"):
        Replicas(cast("Any", primary), settings, SystemClock(), lambda _: cast("Any", primary))


# ── what it costs ─────────────────────────────────────────────────────────────────────────────────


def test_without_replicas_a_read_goes_straight_to_the_backend() -> None:
    database, backend = Database("shop", sa.MetaData()), cast("Any", FakeNode("p"))
    backend.plans = PlanCache(sa.create_mock_engine("sqlite://", print).dialect)
    database.bind(backend)
    for consistency in ("own", "strong", 2.0):
        assert database.read(consistency=cast("Any", consistency))._channel is backend.reader()
    assert calls(database.read) == 2, "read, ReadBlock, and nothing else"


def calls(fn: Callable[[], object]) -> int:
    """Python calls of ``fn``, itself included."""
    count = 0

    def profile(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        fn()
    finally:
        sys.setprofile(None)
    return count
