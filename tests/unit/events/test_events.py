"""Events: published in the transaction, delivered to every subscription, effects once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from support.queues import add_effect, all_effects, bind, rig
from tenfold.db import Tx
from tenfold.errors import DeclarationError, NotBound, WrongArguments
from tenfold.events import Subscription, Topic
from tenfold.queue.tables import inbox
from tenfold.queue.testing import captured, run_pending

pytestmark = pytest.mark.anyio


class Placed(msgspec.Struct):
    order: int


class Other(msgspec.Struct):
    order: int


async def reserve(event: Placed, tx: Tx) -> None:
    await tx.execute(add_effect, what=f"reserve {event.order}")


async def notify(event: Placed, tx: Tx) -> None:
    await tx.execute(add_effect, what=f"notify {event.order}")


def shop(*functions: Any, **options: Any) -> tuple[Topic[Placed], list[Subscription]]:
    topic = Topic("orders", "placed", Placed)
    return topic, [Subscription(fn.__name__, topic, fn, **options) for fn in functions]


async def test_every_subscription_handles_an_event_of_a_committed_transaction(tmp_path: Path) -> None:
    topic, subscriptions = shop(reserve, notify)
    async with rig(tmp_path, *subscriptions) as r:
        with pytest.raises(ValueError, match="no"):
            async with r.db.tx() as tx:
                await topic.publish(tx, Placed(1))
                raise ValueError("no")
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(2))
        assert [(i.handler, i.payload) for i in await captured(r.queue)] == [
            ("reserve.reserve", '{"version":1,"data":{"order":2}}'),
            ("notify.notify", '{"version":1,"data":{"order":2}}'),
        ]
        assert await run_pending(r.worker()) == 2
        assert sorted(await r.did()) == ["notify 2", "reserve 2"]


async def test_a_failing_subscription_holds_up_no_other(tmp_path: Path) -> None:
    async def broken(event: Placed) -> None:
        raise ValueError

    topic, subscriptions = shop(broken, reserve)
    async with rig(tmp_path, *subscriptions) as r:
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1))
        await run_pending(r.worker())
        assert await r.did() == ["reserve 1"]
        assert set((await r.states()).values()) == {"delayed", "done"}


async def test_a_failure_after_the_effect_undoes_the_effect_and_the_inbox_row(tmp_path: Path) -> None:
    failing = True

    async def half(event: Placed, tx: Tx) -> None:
        await tx.execute(add_effect, what="half")
        if failing:
            raise ValueError

    topic, subscriptions = shop(half)
    async with rig(tmp_path, *subscriptions) as r:
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1))
        await run_pending(r.worker())
        assert await r.did() == []
        failing = False
        await r.clock.advance(60)
        await run_pending(r.worker())
        assert await r.did() == ["half"]


@pytest.mark.parametrize("style", ["takes a Tx", "opens transactions itself"])
async def test_a_repeated_delivery_has_no_second_effect(tmp_path: Path, style: str) -> None:
    async def opens(event: Placed) -> None:
        async with r.db.tx() as tx:
            await tx.execute(add_effect, what="first")
        async with r.db.tx() as tx:
            await tx.execute(add_effect, what="second")

    async def takes(event: Placed, tx: Tx) -> None:
        await tx.execute(add_effect, what="first")
        await tx.execute(add_effect, what="second")

    topic, subscriptions = shop(takes if style == "takes a Tx" else opens)
    async with rig(tmp_path, *subscriptions) as r:
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1))
        await run_pending(r.worker())
        assert await r.did() == ["first", "second"]
        async with r.db.tx() as tx:  # the same delivery again, as a broker would
            await tx.execute(
                sa.text(
                    "INSERT INTO tenfold_message (kind, handler, state, queue, lane, priority, run_at, created_at,"
                    " payload, event_id) SELECT kind, handler, 'ready', queue, lane, 0, 0, 0, payload, event_id"
                    " FROM tenfold_message_archive"
                )
            )
        assert await run_pending(r.worker()) == 1
        assert await r.did() == ["first", "second"]
        assert set((await r.states()).values()) == {"done"}


async def test_what_a_subscriber_commits_itself_is_undone_when_it_fails(tmp_path: Path) -> None:
    async def opens(event: Placed) -> None:
        async with r.db.tx() as tx:
            await tx.execute(add_effect, what="undone")
        raise ValueError

    topic, subscriptions = shop(opens)
    async with rig(tmp_path, *subscriptions) as r:
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1))
        await run_pending(r.worker())
        assert await r.did() == []


async def test_a_late_worker_cannot_commit_what_the_subscriber_did_itself(tmp_path: Path) -> None:
    import asyncio

    gate = asyncio.Event()
    runs: list[int] = []

    async def opens(event: Placed) -> None:
        runs.append(1)
        run = len(runs)
        if run == 1:
            await gate.wait()
        async with r.db.tx() as tx:
            await tx.execute(add_effect, what=f"run {run}")

    topic, subscriptions = shop(opens)
    async with rig(tmp_path, *subscriptions) as r:
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1))
        late = r.worker()
        await late.turn()
        await asyncio.sleep(0)
        await r.clock.advance(16)
        await run_pending(r.worker())
        gate.set()
        await run_pending(late)
        assert await r.did() == ["run 2"]


async def test_events_may_cause_further_events(tmp_path: Path) -> None:
    async def chain(event: Placed, tx: Tx) -> None:
        await tx.execute(add_effect, what=str(event.order))
        if event.order < 4:
            await topic.publish(tx, Placed(event.order + 1))

    topic, subscriptions = shop(chain)
    async with rig(tmp_path, *subscriptions) as r:
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1))
        assert await run_pending(r.worker()) == 4
        assert await r.did() == ["1", "2", "3", "4"]


async def test_events_of_one_key_are_handled_in_order_per_subscription(tmp_path: Path) -> None:
    topic, subscriptions = shop(reserve, notify)
    async with rig(tmp_path, *subscriptions) as r:
        for n in range(6):
            async with r.db.tx() as tx:
                await topic.publish(tx, Placed(n), key="customer 1")
        await run_pending(r.worker())
        did = await r.did()
        for what in ("reserve", "notify"):
            assert [d for d in did if d.startswith(what)] == [f"{what} {n}" for n in range(6)]


async def test_a_subscriber_in_another_database_handles_each_event_once(tmp_path: Path) -> None:
    topic, subscriptions = shop(reserve)
    async with rig(tmp_path) as publisher, rig(tmp_path, database="sqlite:///other.db") as r:
        handlers = bind(subscriptions, publisher.queues, r.container, r.db)
        for _ in range(2):
            async with publisher.db.tx() as tx:
                await topic.publish(tx, Placed(1))
        await run_pending(publisher.worker(handlers=handlers))
        assert await r.did() == ["reserve 1", "reserve 1"]  # two events
        assert await publisher.did() == []
        assert await r.db.read().scalar(sa.select(sa.func.count()).select_from(inbox)) == 2
        assert set((await publisher.states()).values()) == {"done"}


async def test_the_inbox_forgets_after_the_retention(tmp_path: Path) -> None:
    topic, subscriptions = shop(reserve)
    async with rig(tmp_path, *subscriptions) as r:
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1))
        worker = r.worker(settings={"retention_s": 100.0})
        await run_pending(worker)
        await r.clock.advance(101)
        assert await worker.keeper.prune() == 2
        assert await r.db.read().all(all_effects, str) == ["reserve 1"]


async def test_publishing_to_a_database_instead_of_a_transaction_gets_a_sentence(tmp_path: Path) -> None:
    topic, subscriptions = shop(reserve)
    async with rig(tmp_path, *subscriptions) as r:
        with pytest.raises(WrongArguments, match=r"orders\.placed: publish takes an open transaction"):
            await topic.publish(r.db, Placed(1))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def test_an_event_of_the_wrong_type_is_an_error_at_the_call(tmp_path: Path) -> None:
    topic, subscriptions = shop(reserve)
    async with rig(tmp_path, *subscriptions) as r, r.db.tx() as tx:
        with pytest.raises(WrongArguments, match=r"orders\.placed.*\$\.order"):
            await topic.publish(tx, Placed("one"))  # type: ignore[arg-type]


async def test_an_event_without_subscribers_writes_nothing(tmp_path: Path) -> None:
    topic = Topic("orders", "placed", Placed)
    async with rig(tmp_path) as r:
        topic.bind(r.queues, [])
        async with r.db.tx() as tx:
            await topic.publish(tx, Placed(1))
        assert await captured(r.queue) == []


async def test_publishing_before_the_app_has_started_is_a_sentence() -> None:
    with pytest.raises(NotBound, match=r"orders\.placed"):
        await Topic("orders", "placed", Placed).publish(None, Placed(1))  # type: ignore[arg-type]


async def test_a_subscriber_of_another_type_or_shape_is_refused_at_start(tmp_path: Path) -> None:
    async def wrong_type(event: Other) -> None: ...

    async def two(event: Placed, more: int) -> None: ...

    for fn, says in ((wrong_type, "Other"), (two, "more")):
        _, subscriptions = shop(fn)
        with pytest.raises(DeclarationError, match=says):
            async with rig(tmp_path, *subscriptions):
                pass
