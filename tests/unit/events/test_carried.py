"""Events through the broker in memory: outbox, relay, intake, and what people do with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.carried import Carried, Placed
from tenfold import App, Service
from tenfold._core import tasks
from tenfold.errors import BrokerUnavailable, WrongArguments
from tenfold.events._outbox_sql import statements
from tenfold.events.backends import memory
from tenfold.events.contract import Incoming, Outgoing
from tenfold.events.intake import identity, payload_of
from tenfold.events.tables import outbox
from tenfold.events.topic import order_key

pytestmark = pytest.mark.anyio

SQLITE = "sqlite:///app.db"


async def test_an_event_is_one_row_and_a_batch_two_statements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many events there are: one statement to read, one to mark."""
    it = Carried()
    async with it.running(tmp_path, SQLITE, f"memory:{tmp_path}"):
        await it.app.stop_worker()
        await it.publish(0, 50, keys=3)
        assert await it.db.read().scalar(sa.select(sa.func.count()).select_from(outbox)) == 50
        ran: list[str] = []
        bind = it.db.backend.plans.bind

        def noted(statement: Any, params: Any) -> Any:
            plan, args = bind(statement, params)
            if "tenfold_outbox" in plan.sql:  # others of the app look at their tables now and then
                ran.append(plan.sql)
            return plan, args

        monkeypatch.setattr(it.db.backend.plans, "bind", noted)
        await it.relay.turn()
        assert len(ran) == 2, ran


async def test_nothing_is_published_of_a_transaction_that_rolled_back(tmp_path: Path) -> None:
    it = Carried()
    async with it.running(tmp_path, SQLITE, f"memory:{tmp_path}"):
        with pytest.raises(ZeroDivisionError):
            async with it.db.tx() as tx:
                await it.placed.publish(tx, Placed(1))
                raise ZeroDivisionError
        await it.publish(2, 1)
        assert set(await it.quiet(1, 5.0)) == {2}


async def test_a_message_that_is_no_json_is_in_quarantine_and_others_go_on(tmp_path: Path) -> None:
    it = Carried()
    async with it.running(tmp_path, SQLITE, f"memory:{tmp_path}"):
        await it.publish(0, 1)
        await it.quiet(1, 5.0)
        assert it.events.broker is not None
        await it.events.broker.publish([Outgoing("orders.placed", "k", "bad", b"\xff{no", {"id": "bad"})])
        await it.publish(1, 1)
        assert set(await it.quiet(2, 5.0)) == {0, 1}
        (dead,) = await it.admin.quarantine()
        assert dead.handler == "orders.took"
        assert r"\xff{no" in dead.payload or r"\\xff{no" in dead.payload
        await it.admin.retry([dead.id])


@pytest.mark.parametrize("envelope", [{}, {"datacontenttype": "application/cloudevents+json"}])
async def test_a_message_that_is_nested_too_deeply_holds_up_no_other(
    tmp_path: Path, envelope: dict[str, str]
) -> None:
    it = Carried()
    async with it.running(tmp_path, SQLITE, f"memory:{tmp_path}"):
        await it.publish(0, 1)
        await it.quiet(1, 5.0)
        assert it.events.broker is not None
        deep = b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        await it.events.broker.publish(
            [Outgoing("orders.placed", None, "deep", deep, {"id": "deep", **envelope})]
        )
        await it.publish(1, 1)
        assert set(await it.quiet(2, 5.0)) == {0, 1}
        (dead,) = await it.admin.quarantine()
        assert "recursion depth" in dead.payload


async def test_an_event_that_the_broker_breaks_off_for_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is larger than a server was told to take: the connection ends, and nothing says why."""
    it = Carried()
    async with it.running(tmp_path, SQLITE, f"memory:{tmp_path}"):
        broker = it.events.broker
        assert broker is not None
        publish, healed = broker.publish, False

        async def breaking(events: Sequence[Outgoing]) -> None:
            if not healed and any(event.body == b'{"n":1,"key":""}' for event in events):
                raise BrokerUnavailable("it closed the connection")
            await publish(events)

        monkeypatch.setattr(broker, "publish", breaking)
        await it.publish(0, 4)
        assert set(await it.quiet(3, 10.0)) == {0, 2, 3}
        await it.publish(4, 1)
        assert set(await it.quiet(4, 2.0)) == {0, 2, 3, 4}
        assert [lag.unsent for lag in await it.admin.lag()] == [1]
        healed = True
        assert set(await it.quiet(5, 5.0)) == {0, 1, 2, 3, 4}


async def test_a_message_without_an_envelope_is_taken_as_version_1(tmp_path: Path) -> None:
    it = Carried()
    async with it.running(tmp_path, SQLITE, f"memory:{tmp_path}"):
        await it.publish(0, 1)
        await it.quiet(1, 5.0)
        assert it.events.broker is not None
        foreign = Outgoing("orders.placed", None, "orders.placed@7", b'{"n": 7}')
        await it.events.broker.publish([foreign, foreign])
        assert await it.quiet(2, 5.0) == {0: 1, 7: 1}


async def test_a_replayed_range_is_published_again_and_handled_once(tmp_path: Path) -> None:
    it = Carried()
    async with it.running(tmp_path, SQLITE, f"memory:{tmp_path}"):
        begun_at = time.time()
        await it.publish(0, 30)
        await it.quiet(30, 5.0)
        published = it.relay.published
        assert await it.admin.count(begun_at, time.time(), "orders.other") == 0
        done = [n async for n in it.admin.replay(begun_at, time.time())]
        assert done == [30]
        it.relay._bell.set()
        await it.quiet(31, 0.3)
        assert it.relay.published == published + 30
        assert await it.counts() == dict.fromkeys(range(30), 1)


async def test_a_replay_finds_what_a_relay_whose_clock_is_behind_has_sent(tmp_path: Path) -> None:
    it = Carried()
    async with it.running(tmp_path, SQLITE, f"memory:{tmp_path}"):
        begun_at = time.time()
        await it.publish(0, 3)
        await it.quiet(3, 5.0)
        await it.relay.stop()
        async with it.db.tx() as tx:
            await tx.execute(sa.update(outbox).values(sent_at=outbox.c.sent_at - 300))
        assert await it.admin.count(begun_at, time.time()) == 3
        assert [n async for n in it.admin.replay(begun_at, time.time())] == [3]


async def test_an_event_that_the_broker_would_refuse_is_refused_at_once(tmp_path: Path) -> None:
    it = Carried()
    async with it.running(tmp_path, SQLITE, f"memory:{tmp_path}"):
        with pytest.raises(WrongArguments, match="1,048,576 at most"):
            async with it.db.tx() as tx:
                await it.placed.publish(tx, Placed(1, "x" * memory.SIZE_MAX_BYTES))
        with pytest.raises(WrongArguments, match="the key has 401 characters"):
            async with it.db.tx() as tx:
                await it.placed.publish(tx, Placed(1), key="x" * 401)


def test_an_inbox_that_forgets_before_the_outbox_is_refused_at_start() -> None:
    app = App("shop", [Service("orders")])
    app.configure(None, environ={}, events__url="memory:", events__inbox_keep_s=60.0)
    assert any("events.inbox_keep_s" in problem for problem in app_problems(app))


def app_problems(app: App) -> list[str]:
    from tenfold.assembly import Assembly

    return Assembly.problems(app)


def test_an_unknown_broker_is_named_with_those_that_are_known() -> None:
    app = App("shop", [Service("orders")])
    app.configure(None, environ={}, events__url="rabitmq://x")
    (problem,) = app_problems(app)
    assert "rabbitmq" in problem


def test_ids_of_other_producers_are_told_apart_by_their_source() -> None:
    ours = {"id": "1", "type": "orders.placed.v1", "source": "/a"}
    theirs = [{"id": "1", "type": "something", "source": source} for source in ("/a", "/b")]
    event = Incoming("orders.placed", None, "1", b"{}")
    known = {identity(event, attributes) for attributes in (ours, *theirs)}
    assert len(known) == 3
    assert identity(event, ours) == "1"
    assert len(identity(event._replace(event_id="x" * 500), {})) <= 64


def test_keys_that_no_column_holds_are_known_by_their_digest() -> None:
    assert order_key("s.f", "k") == "s.f:k"
    long, nul = order_key("s.f", "x" * 600), order_key("s.f", "a\0b")
    assert len(long) < 512
    assert "\0" not in nul


def test_data_of_the_version_that_the_envelope_names_are_wrapped_as_such() -> None:
    event = Incoming("t.x", None, "1", b'{"n":1}', {"id": "1", "type": "t.x.v3"})
    assert payload_of(event)[1] == '{"version":3,"data":{"n":1}}'


async def test_unsent_events_are_found_by_their_index_whatever_statistics_say(tmp_path: Path) -> None:
    """Taken while all rows had one time, they tell SQLite to read the table from its beginning, in every poll."""
    it = Carried()
    async with it.running(tmp_path, SQLITE, f"memory:{tmp_path}", worker=False):
        await it.publish(0, 200)
        async with it.db.tx() as tx:
            await tx.execute(sa.text("UPDATE tenfold_outbox SET sent_at = 1"))
            await tx.execute(sa.text("ANALYZE"))
        found = statements(it.db)
        for statement, held in ((found.unsent, {}), (found.around, {"topics": "[]", "lines": "[]"})):
            explain = sa.text(f"EXPLAIN QUERY PLAN {statement.text}")
            plan = await it.db.read().all(explain, tuple, limit=5, **held)
            assert "INDEX tenfold_outbox_unsent" in plan[0][3]


async def test_an_app_stops_though_a_client_loses_its_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``asyncio.wait_for`` does before Python 3.12, when its result comes in the same moment; many clients use it."""
    monkeypatch.setattr(tasks, "AGAIN_S", 0.05)
    fetch = memory._Consumer.fetch
    lost = asyncio.Event()

    async def loses_the_first(self: Any, limit: int, wait_s: float) -> list[Incoming]:
        try:
            return await fetch(self, limit, wait_s)
        except asyncio.CancelledError:
            if lost.is_set():
                raise
            lost.set()
            return []

    monkeypatch.setattr(memory._Consumer, "fetch", loses_the_first)
    it = Carried()
    async with asyncio.timeout(10), it.running(tmp_path, SQLITE, f"memory:{tmp_path}"):
        await it.publish(0, 1)
        await it.quiet(1, 5.0)
        async with asyncio.timeout(5):
            while not it.events._intakes[0]._consumer:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
    assert lost.is_set()
