"""Settling, heartbeats, leases, and housekeeping."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa

from tenfold.conformance._queue_case import KEEP, LEASE_S, NOW, QueueCase, Worker, new
from tenfold.conformance.kit import together
from tenfold.queue.message import Message, Settlement, Verdict
from tenfold.queue.tables import inbox, message


class SettleClaims(QueueCase):
    async def test_a_finished_message_is_kept_in_the_archive_with_what_became_of_it(
        self, one: Worker
    ) -> None:
        """Done, dead and cancelled messages leave the hot table and are kept, the dead ones longer."""
        await one.put(*(new(payload=f"{n}", unique_key=f"u{n}", order_key=f"k{n}") for n in range(3)))
        a, b, c = await one.claim()
        assert await one.settle(
            Settlement(a.id, a.fence, "done", result='"r"', result_until=NOW + 500, progress='{"done":1}'),
            Settlement(b.id, b.fence, "dead", failures=1, crashes=1, error="it broke"),
            Settlement(c.id, c.fence, "cancelled"), now=NOW + 3,
        ) == set()  # fmt: skip
        assert await one.db.read().all(sa.select(message.c.id), int) == []
        done, dead, gone = [await one.archived(m.id) for m in (a, b, c)]
        assert (done["state"], done["result"], done["payload"], done["progress"]) == (
            "done",
            '"r"',
            "0",
            '{"done":1}',
        )
        assert (done["finished_at"], done["started_at"], done["expires_at"]) == (NOW + 3, NOW, NOW + 500)
        assert (dead["state"], dead["failures"], dead["crashes"], dead["error"]) == ("dead", 1, 1, "it broke")
        assert (dead["expires_at"], gone["expires_at"]) == (NOW + 3 + KEEP.dead_s, NOW + 3 + KEEP.done_s)
        assert (gone["state"], gone["unique_key"], gone["order_key"]) == ("cancelled", "u2", "k2")

    @pytest.mark.parametrize(
        ("settlement", "state", "expected"),
        [
            ({"verdict": "retry", "run_at": NOW + 7, "failures": 1, "error": "e"}, "delayed",
             {"run_at": NOW + 7, "failures": 1, "crashes": 0, "error": "e"}),
            ({"verdict": "retry", "run_at": NOW, "failures": 1}, "ready", {"failures": 1}),
            ({"verdict": "release", "lane": "s.job"}, "ready", {"failures": 0, "lane": "s.job"}),
            ({"verdict": "park", "error": "nobody knows it"}, "parked", {"error": "nobody knows it"}),
            ({"verdict": "crash", "crashes": 1}, "ready", {"crashes": 1, "failures": 0, "lane": ""}),
            ({"verdict": "crash", "crashes": 1, "suspect": True}, "ready", {"crashes": 1, "lane": "!"}),
        ],
        ids=["retry later", "retry now", "release", "park", "crash", "suspect"],
    )  # fmt: skip
    async def test_a_message_that_goes_back_is_as_the_settlement_says(
        self, one: Worker, settlement: dict[str, Any], state: str, expected: dict[str, Any]
    ) -> None:
        """Retried, released, parked and crashed messages are pending again, held by nobody."""
        (id_,) = await one.put_ids(new())
        (held,) = await one.claim()
        assert await one.settle(Settlement(id_, held.fence, **settlement)) == set()
        row = await one.row(id_)
        assert row["state"] == state
        assert {name: row[name] for name in expected} == expected
        assert (row["lease_until"], row["worker"]) == (None, None)

    async def test_only_the_holder_of_the_newest_fence_settles(self, one: Worker, two: Worker) -> None:
        """A settlement with another fence is not recorded; the answer names its message."""
        (id_,) = await one.put_ids(new())
        (first,) = await one.claim()
        await one.settle(Settlement(id_, first.fence, "crash", crashes=1))
        (second,) = await two.claim()
        assert await one.done(first, result='"late"', result_until=NOW + 9) == {id_}
        assert await one.settle(Settlement(id_, first.fence, "retry", run_at=NOW)) == {id_}
        assert await two.states() == {id_: "running"}
        assert await two.done(second) == set()
        assert (await one.archived(id_))["result"] is None
        assert await two.done(second) == {id_}
        assert await two.settle(Settlement(id_, second.fence, "release")) == {id_}
        assert await two.settle(Settlement(id_ + 999, 1, "done")) == {id_ + 999}
        assert await two.states() == {id_: "done"}

    async def test_lost_and_held_messages_may_be_settled_together(self, one: Worker) -> None:
        """In one call the held messages are recorded and the lost ones named."""
        await one.put(*(new() for _ in range(4)))
        a, b, c, d = await one.claim()
        await one.settle(Settlement(b.id, b.fence, "release"), Settlement(d.id, d.fence, "release"))
        await one.claim()
        lost = await one.settle(
            Settlement(a.id, a.fence, "done"), Settlement(b.id, b.fence, "done"),
            Settlement(c.id, c.fence, "retry", run_at=NOW + 5), Settlement(d.id, d.fence, "retry", run_at=NOW + 5),
        )  # fmt: skip
        assert lost == {b.id, d.id}
        assert await one.states() == {a.id: "done", b.id: "running", c.id: "delayed", d.id: "running"}

    async def test_a_settlement_commits_with_its_transaction(self, one: Worker) -> None:
        """A settlement in a transaction that is rolled back has not happened."""
        (id_,) = await one.put_ids(new())
        (held,) = await one.claim()
        with suppress(ZeroDivisionError):
            async with one.db.tx() as tx:
                assert await one.queue.settle(tx, [Settlement(id_, held.fence, "done")], NOW, KEEP) == set()
                raise ZeroDivisionError
        assert await one.states() == {id_: "running"}
        assert await one.done(held) == set()
        assert await one.states() == {id_: "done"}

    async def test_of_two_who_settle_the_same_messages_one_does(self, one: Worker, two: Worker) -> None:
        """Settlements of the same messages at the same time: each is recorded once, the other is told."""
        await one.put(*(new() for _ in range(20)))
        held = await one.claim()
        lost = await together([one.done(*held), two.done(*reversed(held))])
        assert sorted(lost, key=len) == [set(), {m.id for m in held}]
        assert list((await one.states()).values()) == ["done"] * 20


class LeaseClaims(QueueCase):
    async def test_a_lease_that_ran_out_shows_and_the_message_is_handed_out_again(
        self, one: Worker, two: Worker
    ) -> None:
        """`expired` names running messages past their lease; given back, they are claimed with a new fence."""
        (id_,) = await one.put_ids(new())
        (first,) = await one.claim()
        async with two.db.tx() as tx:
            assert await two.queue.expired(tx, NOW + LEASE_S - 0.001, 10) == []
            (found,) = await two.queue.expired(tx, NOW + LEASE_S + 0.001, 10)
        assert (found.id, found.fence, found.crashes, found.cancel) == (id_, first.fence, 0, None)
        await two.settle(Settlement(found.id, found.fence, "crash", crashes=1))
        (second,) = await two.claim(now=NOW + LEASE_S + 1)
        assert (second.fence > first.fence, second.attempt) == (True, 2)
        assert await one.done(first) == {id_}

    async def test_no_more_expired_messages_are_named_than_asked_for(self, one: Worker) -> None:
        """`expired` answers at most its limit."""
        await one.put(*(new() for _ in range(5)))
        await one.claim()
        async with one.db.tx() as tx:
            assert len(await one.queue.expired(tx, NOW + 99, 3)) == 3

    async def test_a_heartbeat_prolongs_tells_and_keeps_progress(self, one: Worker, two: Worker) -> None:
        """`extend` prolongs what is still held, names what is lost or cancelled, and keeps the progress."""
        await one.put(*(new() for _ in range(4)))
        a, b, c, d = await one.claim()
        await one.settle(Settlement(b.id, b.fence, "release"))
        await two.claim()
        await one.done(d)
        async with one.db.tx() as tx:
            await tx.execute(sa.update(message).where(message.c.id == c.id).values(cancel="by anna"))
        async with one.db.tx() as tx:
            held = [(m.id, m.fence) for m in (a, b, c, d)]
            beat = await one.queue.extend(tx, held, NOW + 99, {a.id: '{"done":1}', b.id: '{"done":9}'})
        assert (beat.lost, beat.cancelled) == ({b.id, d.id}, {c.id: "by anna"})
        assert await two.queue.asked_to_stop(two.db.read(), [m.id for m in (a, b, c, d)]) == {c.id: "by anna"}
        kept, lost = await one.row(a.id), await one.row(b.id)
        assert (kept["lease_until"], kept["progress"]) == (NOW + 99, '{"done":1}')
        assert (lost["lease_until"], lost["progress"]) == (NOW + LEASE_S, None)
        async with one.db.tx() as tx:
            await one.queue.extend(tx, [(a.id, a.fence)], NOW + 199, {})
        assert (await one.row(a.id))["progress"] == '{"done":1}'
        async with one.db.tx() as tx:
            expired = await one.queue.expired(tx, NOW + 100, 10)
        assert {e.id: e.cancel for e in expired} == {b.id: None, c.id: "by anna"}


class KeepingClaims(QueueCase):
    async def test_parked_messages_are_taken_up_by_who_knows_them(self, one: Worker) -> None:
        """`adopt` makes parked messages of its handlers ready, in the lane it names for each."""
        await one.put(new("s.a"), new("s.b"), new("s.a", state="delayed", run_at=NOW + 9))
        a, b = await one.claim()
        await one.settle(Settlement(a.id, a.fence, "park", error="x"), Settlement(b.id, b.fence, "park"))
        async with one.db.tx() as tx:
            assert await one.queue.adopt(tx, {"s.a": "s.a", "s.z": ""}, NOW) == 1
        (again,) = await one.claim(lane="s.a")
        assert again.id == a.id
        assert (await one.row(b.id))["state"] == "parked"

    async def test_pruning_removes_what_has_expired_and_no_more_than_it_may(self, one: Worker) -> None:
        """`prune` removes finished messages and results past their time, in pieces."""
        await one.put(*(new() for _ in range(5)))
        held = await one.claim()
        await one.done(*held[:4])
        await one.done(held[4], result='"r"', result_until=NOW + 10)
        async with one.db.tx() as tx:
            assert await one.queue.prune(tx, NOW + 5, 100) == 0
            assert await one.queue.prune(tx, NOW + 10, 100) == 1
        assert (await one.archived(held[4].id))["result"] is None
        async with one.db.tx() as tx:
            assert await one.queue.prune(tx, NOW + KEEP.done_s, 3) == 3
            assert await one.queue.prune(tx, NOW + KEEP.done_s, 3) == 2
        assert await one.states() == {}

    async def test_an_event_is_new_to_a_subscription_once(self, one: Worker, two: Worker) -> None:
        """`remember` is True once per subscription and event, until the row has expired and was pruned."""

        async def is_new(worker: Worker, subscription: str, event: str) -> bool:
            async with worker.db.tx() as tx:
                return await worker.queue.remember(tx, subscription, event, NOW + 50)

        assert await is_new(one, "s.a", "e1")
        assert not await is_new(two, "s.a", "e1")
        assert await is_new(two, "s.b", "e1")
        assert await is_new(two, "s.a", "E1")
        async with one.db.tx() as tx:
            assert await one.queue.prune(tx, NOW + 49, 10) == 0
            assert await one.queue.prune(tx, NOW + 50, 10) == 3
        assert await is_new(one, "s.a", "e1")

    async def test_an_event_that_was_given_up_is_not_new(self, one: Worker, two: Worker) -> None:
        """Settled as dead or cancelled, an event is remembered as long as it is kept, and no shorter than events are:
        but no other kind of message, none with a unique key, and by nobody who lost it."""
        ends = {
            "dead": {}, "cancelled": {}, "done": {}, "retry": {}, "job": {"kind": "job"}, "unique": {"unique_key": "u"},
            "lost": {},
        }  # fmt: skip
        await one.put(
            *(new("s.a", **{"kind": "event", "event_id": end, **more}) for end, more in ends.items())
        )
        held: dict[str, Message] = {m.event_id or "": m for m in await one.claim()}
        verdicts: dict[str, Verdict] = {"cancelled": "cancelled", "done": "done", "retry": "retry"}
        await one.settle(
            *(
                Settlement(m.id, m.fence + (end == "lost"), verdicts.get(end, "dead"))
                for end, m in held.items()
            ),
            keep=KEEP._replace(cancelled_s=10.0, inbox_s=50.0),
        )
        rows = await one.db.read().all(sa.select(inbox).order_by(inbox.c.event_id), tuple)
        assert rows == [("s.a", "cancelled", NOW + 50, NOW), ("s.a", "dead", NOW + KEEP.dead_s, NOW)]
        async with two.db.tx() as tx:
            new_ones = [e for e in ends if await two.queue.remember(tx, "s.a", e, NOW + 50)]
        assert new_ones == ["done", "retry", "job", "unique", "lost"]

    async def test_an_event_is_remembered_with_its_effect(self, one: Worker, two: Worker) -> None:
        """`remember` commits with its transaction; side by side, one of several is told that it is new."""
        with suppress(ZeroDivisionError):
            async with one.db.tx() as tx:
                assert await one.queue.remember(tx, "s.a", "e1", NOW + 50)
                raise ZeroDivisionError

        async def handle(worker: Worker) -> bool:
            return await worker.db.transact(
                lambda tx: worker.queue.remember(tx, "s.a", "e1", NOW + 50), attempts=50
            )

        assert sorted(await together(handle(w) for w in (one, two) * 3)) == [False] * 5 + [True]
