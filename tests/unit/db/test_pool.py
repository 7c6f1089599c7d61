"""The pool of connections: capped, fair, quick to refuse, and no connection in doubt is used again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from tenfold._core.clock import ManualClock
from tenfold._core.context import Context, Priority, owned, use
from tenfold._core.fairness import WeightOf, Weights
from tenfold.db.backends._link import Link
from tenfold.db.backends._pool import AGE_S, IDLE_S, KEPT_S, RESERVE, TURN_S, Pool
from tenfold.db.backends._time import Time
from tenfold.errors import DatabaseUnavailable, PoolExhausted, StatementTimeout

pytestmark = pytest.mark.anyio


class FakeLink(Link):
    def __init__(self) -> None:
        self.ended = ""
        self.users = 0

    @property
    def closed(self) -> bool:
        return self.ended != ""

    async def discard(self) -> None:
        await asyncio.sleep(0)
        self.ended = "discarded"

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.ended = "closed"


class Server:
    """Counts what a pool opens; ``fail`` says whether the next connection is refused."""

    def __init__(self, size: int, wait_s: float = 5.0, weight_of: WeightOf | None = None) -> None:
        self.clock = ManualClock()
        self.links: list[FakeLink] = []
        self.reserve = 0
        self.fail: Callable[[], bool] = lambda: False
        self.pool: Pool[FakeLink] = Pool(
            self.connect, size=size, wait_s=wait_s, time=Time(self.clock, 30.0, 10.0), weight_of=weight_of
        )

    async def connect(self) -> FakeLink:
        await asyncio.sleep(0)
        if self.fail():
            raise DatabaseUnavailable("refused")
        self.links.append(FakeLink())
        assert len(self.alive) <= self.pool.size + self.reserve
        return self.links[-1]

    @property
    def alive(self) -> list[FakeLink]:
        return [link for link in self.links if not link.closed]


async def test_connections_are_opened_when_needed_and_the_last_used_is_used_next() -> None:
    server = Server(3)
    first, second = await server.pool.take(), await server.pool.take()
    assert len(server.links) == 2
    server.pool.give(second)
    server.pool.give(first)
    assert server.pool.take_now() is first


async def test_who_waits_is_served_in_the_order_of_arrival() -> None:
    server, served = Server(1), list[int]()

    async def work(n: int) -> None:
        async with server.pool.link():
            served.append(n)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(n) for n in range(20)))
    assert served == list(range(20))
    assert len(server.links) == 1


async def test_of_those_who_wait_the_critical_are_served_first_and_equals_in_the_order_of_arrival() -> None:
    server, served = Server(1), list[str]()
    held = await server.pool.take()

    async def work(name: str, priority: Priority) -> None:
        with use(Context(priority=priority)):
            async with server.pool.link():
                served.append(name)

    arrivals = [
        ("background", Priority.BACKGROUND), ("first", Priority.DEFAULT), ("second", Priority.DEFAULT),
        ("critical", Priority.CRITICAL), ("third", Priority.DEFAULT),
    ]  # fmt: skip
    tasks = list[asyncio.Task[None]]()
    for name, priority in arrivals:
        tasks.append(asyncio.create_task(work(name, priority)))
        await asyncio.sleep(0)
    server.pool.give(held)
    await asyncio.gather(*tasks)
    assert served == ["critical", "first", "second", "third", "background"]


async def test_of_one_priority_tenants_take_turns_and_a_flood_of_one_does_not_delay_another() -> None:
    server, served = Server(1), list[str]()
    held = await server.pool.take()

    async def work(tenant: str | None, priority: Priority = Priority.DEFAULT) -> None:
        with use(Context(tenant=tenant, priority=priority)):
            async with server.pool.link():
                served.append(tenant or "")

    arrivals = [*["loud"] * 50, "quiet", None, "quiet"]
    tasks = [asyncio.create_task(work(tenant)) for tenant in arrivals]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(work("urgent", Priority.CRITICAL)))
    await asyncio.sleep(0)
    server.pool.give(held)
    await asyncio.gather(*tasks)
    assert served[:6] == ["urgent", "loud", "quiet", "", "loud", "quiet"]
    assert served[6:] == ["loud"] * 48


async def test_a_tenant_of_weight_3_has_three_turns_for_one() -> None:
    server, served = Server(1, weight_of=Weights({"gold": 3}).of), list[str]()
    held = await server.pool.take()

    async def work(tenant: str) -> None:
        with use(Context(tenant=tenant)):
            async with server.pool.link():
                served.append(tenant)

    tasks = [asyncio.create_task(work(tenant)) for tenant in ["tin"] * 20 + ["gold"] * 60]
    await asyncio.sleep(0)
    server.pool.give(held)
    await asyncio.gather(*tasks)
    assert served[:40].count("gold") == 30


async def test_who_gives_up_in_line_has_had_no_turn() -> None:
    server, served = Server(1), list[str]()
    held = await server.pool.take()

    async def work(name: str) -> None:
        with use(Context(tenant=name[0])):
            async with server.pool.link():
                served.append(name)

    tasks = [asyncio.create_task(work(name)) for name in ("a1", "a2", "a3", "b1")]
    await asyncio.sleep(0)
    for given_up in tasks[:2]:
        given_up.cancel()
    await asyncio.sleep(0)
    server.pool.give(held)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert served == ["a3", "b1"]
    assert server.pool.stats()["waiting"] == 0


async def test_the_frameworks_own_work_does_not_queue_behind_anybody() -> None:
    server = Server(1, wait_s=0.01)
    server.reserve = RESERVE
    held = await server.pool.take()
    waiting = asyncio.create_task(server.pool.take())
    await asyncio.sleep(0)
    with owned():
        async with server.pool.link(), server.pool.link():
            assert len(server.alive) == 1 + RESERVE
            with pytest.raises(PoolExhausted):
                await server.pool.take()
        again = await server.pool.take()
        assert again is not held
        server.pool.give(again)
    assert len(server.alive) == 1 + RESERVE, "those in reserve are kept, and used again"
    with pytest.raises(PoolExhausted):
        await waiting  # the reserve is not for others
    server.pool.give(held)
    with owned():
        assert await server.pool.take() is held, "the reserve is used last"


async def test_without_room_for_the_reserve_the_frameworks_own_work_is_next_in_the_line() -> None:
    server = Server(1)
    held = await server.pool.take()
    server.fail = lambda: True
    others = [asyncio.create_task(server.pool.take()) for _ in range(3)]
    with owned():
        mine = asyncio.create_task(server.pool.take())
    await asyncio.sleep(0.01)
    assert server.pool.stats()["waiting"] == 4
    server.pool.give(held)
    assert await mine is held
    for other in others:
        other.cancel()


async def test_nobody_overtakes_who_waits() -> None:
    server = Server(1)
    held = await server.pool.take()
    waiting = asyncio.create_task(server.pool.take())
    await asyncio.sleep(0)
    server.pool.give(held)
    assert server.pool.take_now() is None
    assert await waiting is held


async def test_an_exhausted_pool_refuses_and_names_the_setting() -> None:
    server = Server(1, wait_s=0.01)
    await server.pool.take()
    with pytest.raises(DatabaseUnavailable, match=r"all 1 connections .* raise database\.pool_max"):
        await server.pool.take()
    assert server.pool.stats()["exhausted_total"] == 1
    assert server.pool.stats()["waiting"] == 0


async def test_it_refuses_before_the_deadline_of_who_waits() -> None:
    server = Server(1, wait_s=60.0)
    await server.pool.take()
    soon = Context(deadline=server.clock.monotonic() + 0.2)
    with use(soon), pytest.raises(DatabaseUnavailable, match=r"within 0\.18 s"):
        await server.pool.take()


async def test_one_in_doubt_is_destroyed_and_who_waits_opens_another() -> None:
    server = Server(1)
    held = await server.pool.take()
    waiting = asyncio.create_task(server.pool.take())
    await asyncio.sleep(0)
    held.doubtful = True
    server.pool.give(held)
    assert await waiting is not held
    assert held.ended == "discarded"


async def test_a_connection_that_died_while_idle_is_not_handed_out() -> None:
    server = Server(1)
    dead = await server.pool.take()
    server.pool.give(dead)
    dead.ended = "by the server"
    assert await server.pool.take() is not dead


async def test_a_place_is_given_on_when_connecting_fails_or_is_cancelled() -> None:
    server = Server(1)
    server.fail = lambda: True
    outcomes = await asyncio.gather(*(server.pool.take() for _ in range(5)), return_exceptions=True)
    assert all(isinstance(outcome, DatabaseUnavailable) for outcome in outcomes)
    server.fail = lambda: False
    opening = asyncio.create_task(server.pool.take())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    assert await server.pool.take() in server.links


async def test_after_a_flush_no_old_connection_is_used() -> None:
    server = Server(2)
    idle, held = await server.pool.take(), await server.pool.take()
    server.pool.give(idle)
    server.pool.flush()
    server.pool.give(held)
    assert await server.pool.take() not in (idle, held)
    await asyncio.sleep(0.01)
    assert idle.closed
    assert held.closed


async def test_what_is_idle_for_long_is_closed_and_what_is_old_is_replaced() -> None:
    server = Server(2)
    first, second = await server.pool.take(), await server.pool.take()
    server.pool.give(first)
    await server.clock.advance(IDLE_S + 1)
    server.pool.give(second)
    server.pool.sweep()
    await asyncio.sleep(0.01)
    assert (first.ended, second.ended) == ("closed", "")
    held = await server.pool.take()
    await server.clock.advance(AGE_S + 1)
    server.pool.sweep()
    assert held.ended == ""
    server.pool.give(held)
    assert await server.pool.take() is not held


async def test_closing_waits_for_what_is_in_use_and_ends_everything() -> None:
    server = Server(2)
    held, idle = await server.pool.take(), await server.pool.take()
    server.pool.give(idle)
    closing = asyncio.create_task(server.pool.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    server.pool.give(held)
    await closing
    assert server.alive == []
    with pytest.raises(DatabaseUnavailable, match="the process stops"):
        await server.pool.take()


async def test_who_waits_while_it_is_closed_is_told_and_not_cancelled() -> None:
    server = Server(1)
    held = await server.pool.take()
    waiting = asyncio.create_task(server.pool.take())
    await asyncio.sleep(0)
    closing = asyncio.create_task(server.pool.close())
    with pytest.raises(DatabaseUnavailable, match="the process stops"):
        await waiting
    server.pool.give(held)
    await closing
    assert server.alive == []


async def test_closing_and_flushing_end_the_reserve_too() -> None:
    server = Server(1)
    server.reserve = RESERVE
    held = await server.pool.take()
    with owned():
        async with server.pool.link() as spare:
            pass
        server.pool.flush()
        await asyncio.sleep(0.01)
        assert spare.closed
        async with server.pool.link():
            pass
    server.pool.give(held)
    await server.pool.close()
    assert server.alive == []


@pytest.mark.parametrize("seed", range(5))
async def test_no_connection_leaks_or_has_two_users_whatever_is_cancelled(seed: int) -> None:
    rng, server = random.Random(seed), Server(3, wait_s=0.02)
    server.reserve = RESERVE
    server.fail = lambda: rng.random() < 0.2

    async def work(own: bool) -> None:
        with use(Context(own=own)):
            link = await server.pool.take()
        link.users += 1
        assert link.users == 1
        try:
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
        finally:
            link.users -= 1
            link.doubtful = rng.random() < 0.2
            server.pool.give(link)

    tasks: list[asyncio.Task[None]] = []
    for _ in range(300):
        tasks.append(asyncio.create_task(work(own=rng.random() < 0.2)))
        if rng.random() < 0.5:
            await asyncio.sleep(0)
        if rng.random() < 0.3:
            rng.choice(tasks).cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert outcome is None or isinstance(outcome, DatabaseUnavailable | asyncio.CancelledError)
    server.fail = lambda: False
    await asyncio.sleep(0.01)
    with owned():
        everything = {await server.pool.take() for _ in range(3 + RESERVE)}
    assert len(everything) == 3 + RESERVE, "every place can be taken again"
    assert server.pool.stats()["connections"] == 3 + RESERVE


async def silent(server: Server, seconds: float) -> FakeLink:
    """A server that did not answer for so long."""
    await server.clock.advance(seconds)
    raise DatabaseUnavailable("it cannot be reached") from TimeoutError()


@pytest.mark.parametrize(
    ("left_s", "error"), [(0.1, StatementTimeout), (60.0, DatabaseUnavailable), (None, DatabaseUnavailable)]
)
async def test_a_deadline_that_passes_while_connecting_is_the_deadlines_fault(
    left_s: float | None, error: type[Exception]
) -> None:
    server = Server(1)
    server.pool._connect = lambda: silent(server, min(5.0, left_s or 5.0))
    deadline = None if left_s is None else server.clock.monotonic() + left_s
    for _ in range(2):  # the place is free again
        with use(Context(deadline=deadline)), pytest.raises(error) as raised:
            await server.pool.take()
        assert raised.type is error


async def _turns(server: Server, statements: int, others: int) -> list[str]:
    """In which order the only connection serves work that makes ``statements``, each by itself, and so many ``others`` in
    line that make one each."""
    served = list[str]()
    held = await server.pool.take()

    async def once(name: str, context: Context) -> None:
        link = server.pool.take_now(context) or await server.pool.take_later()
        served.append(name)
        await asyncio.sleep(0)
        server.pool.give(link, context)

    async def work(name: str, context: Context, times: int) -> None:
        with use(context):
            for _ in range(times):
                await once(name, context)

    tasks = [asyncio.create_task(work("many", Context(), statements))]
    for number in range(others):
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(work(f"other {number}", Context(), 1)))
    await asyncio.sleep(0)
    server.pool.give(held)
    await asyncio.gather(*tasks)
    return served


async def test_work_of_many_statements_keeps_its_connection_after_it_has_stood_in_line_twice() -> None:
    served = await _turns(Server(1), 5, others=6)
    assert served[:2] == ["many", "other 0"]
    at = served.index("many", 1)
    assert served[at : at + 4] == ["many"] * 4


class Turn:
    """Work that has stood in line twice has the only connection, and ``other`` waits for it."""

    def __init__(self, other: Context | None = None) -> None:
        self.server, self.mine, self._other = Server(1), Context(in_line=2), other or Context()

    async def begin(self) -> Turn:
        self.pool = self.server.pool
        self.link = await self.pool.take()
        self.link.turn_until = self.server.clock.monotonic() + TURN_S
        with use(self._other):
            self.waiting = asyncio.create_task(self.pool.take())
        await asyncio.sleep(0)
        return self

    def give(self) -> None:
        """Its statement is over."""
        self.pool.give(self.link, self.mine)


async def test_it_keeps_it_no_longer_than_its_turn() -> None:
    turn = await Turn().begin()
    for _ in range(3):
        turn.give()
        assert turn.pool.take_now(turn.mine) is turn.link
    await turn.server.clock.advance(TURN_S)
    turn.give()
    assert turn.pool.take_now(turn.mine) is None
    assert await turn.waiting is turn.link


@pytest.mark.parametrize("other", [Context(priority=Priority.CRITICAL), Context(tenant="quiet")])
async def test_the_more_urgent_and_other_tenants_go_before_its_next_statement(other: Context) -> None:
    turn = await Turn(other).begin()
    turn.give()
    assert turn.pool.take_now(turn.mine) is None
    assert await turn.waiting is turn.link


async def test_the_less_urgent_go_behind_its_next_statement() -> None:
    turn = await Turn(Context(priority=Priority.BACKGROUND)).begin()
    turn.give()
    assert turn.pool.take_now(turn.mine) is turn.link
    turn.waiting.cancel()


async def test_what_is_kept_is_handed_on_when_anybody_else_asks_and_not_by_a_look_in_every_round() -> None:
    turn = await Turn().begin()
    turn.give()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not turn.waiting.done(), "nobody has looked"
    assert turn.pool.take_now(Context()) is None
    assert await turn.waiting is turn.link
    assert turn.pool.take_now(turn.mine) is None
    turn.pool.give(turn.link)
    assert turn.pool.stats()["uses_total"] == 2
    assert turn.pool.take_now() is turn.link


async def test_what_is_kept_is_handed_on_when_somebody_else_gives_one_back() -> None:
    server, mine = Server(2), Context(in_line=2)
    first, second = await server.pool.take(), await server.pool.take()
    first.turn_until = server.clock.monotonic() + TURN_S
    waiting = [asyncio.create_task(server.pool.take()) for _ in range(2)]
    await asyncio.sleep(0)
    server.pool.give(first, mine)
    server.pool.give(second)
    assert await asyncio.gather(*waiting) == [first, second]


async def test_where_nobody_asks_what_is_kept_is_handed_on_by_itself_and_its_work_keeps_none_the_next_time() -> (
    None
):
    turn = await Turn().begin()
    turn.give()
    async with asyncio.timeout(KEPT_S * 1000):
        assert await turn.waiting is turn.link
    again = asyncio.create_task(turn.pool.take())
    await asyncio.sleep(0)
    turn.give()
    assert turn.pool.take_now(turn.mine) is None
    assert await again is turn.link


@pytest.mark.parametrize("closes", [True, False])
async def test_what_is_kept_is_dropped_by_a_flush_and_by_closing(closes: bool) -> None:
    turn = await Turn().begin()
    turn.give()
    if closes:
        await turn.pool.close()
        with pytest.raises(DatabaseUnavailable, match="the process stops"):
            await turn.waiting
    else:
        turn.pool.flush()
        assert turn.pool.take_now(turn.mine) is None
        assert await turn.waiting is not turn.link
    assert turn.link.closed


async def test_who_waits_is_not_given_one_that_has_died() -> None:
    turn = await Turn().begin()
    turn.link.ended = "by the server"
    turn.pool.give(turn.link)
    assert await turn.waiting is not turn.link
