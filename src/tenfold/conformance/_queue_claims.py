"""Putting in, claiming, and the lines of order keys."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tenfold.conformance._queue_case import LEASE_S, NOW, QueueCase, Worker, new
from tenfold.conformance.kit import together
from tenfold.db.contract import Capabilities
from tenfold.queue.message import Settlement
from tenfold.queue.policy import Lane


class InsertClaims(QueueCase):
    async def test_a_message_exists_if_and_only_if_its_transaction_commits(
        self, one: Worker, two: Worker
    ) -> None:
        """A message is there for every process when the transaction has committed, and never otherwise."""
        with suppress(ZeroDivisionError):
            async with one.db.tx() as tx:
                await one.queue.insert(tx, [new()])
                assert await two.states() == {}
                raise ZeroDivisionError
        assert await two.states() == {}
        ids = await one.put_ids(new(), new())
        assert await two.states() == dict.fromkeys(ids, "ready")

    async def test_ids_are_told_in_the_order_of_the_rows(self, one: Worker) -> None:
        """`insert` answers one id for each row, rising, whatever the rows have in common."""
        rows = [new(payload=f'"{n}"', priority=-n, handler=f"s.{n % 3}") for n in range(50)]
        ids = await one.put_ids(*rows)
        assert ids == sorted(set(ids))
        found = {m.id: m.payload for m in await one.claim()}
        assert [found[id_] for id_ in ids] == [row.payload for row in rows]

    async def test_as_many_go_in_at_once_as_the_backend_says(self, one: Worker) -> None:
        """`insert` takes `insert_max` messages."""
        ids = await one.put_ids(*(new() for _ in range(one.queue.insert_max)))
        assert len(set(ids)) == one.queue.insert_max

    async def test_what_was_put_in_comes_out_unchanged(self, one: Worker) -> None:
        """Payload, context and every other field reach the worker as they were given."""
        row = new(
            "s.ünï🦆", payload='{"a":"🦆 \\u0000 \' \\" \\\\ %s $1 ?"}', context='{"t":1}', queue="q", lane="s.x",
            priority=-32_768, event_id="e-1", order_key="kéy", kind="event", created_at=NOW - 0.123456,
        )  # fmt: skip
        (id_,) = await one.put_ids(row)
        (got,) = await one.claim(queue="q", lane="s.x")
        assert got.id == id_
        for field in ("kind", "handler", "payload", "context", "queue", "lane", "priority", "event_id"):
            assert getattr(got, field) == getattr(row, field)
        assert (got.run_at, got.created_at, got.order_key) == (NOW, row.created_at, "kéy")
        assert (got.failures, got.crashes, got.progress) == (0, 0, None)

    async def test_a_unique_key_has_one_pending_message(self, one: Worker, two: Worker) -> None:
        """A message whose unique key is pending is not added; `insert` answers the one that is there."""
        first, again, other = await one.put(
            new(unique_key="u"), new(unique_key="u"), new(unique_key="v", state="delayed", run_at=NOW + 9)
        )
        assert (first.existed, again, other.existed) == (False, first._replace(existed=True), False)
        third, plain, fourth = await two.put(new(unique_key="u"), new(), new(unique_key="v"))
        assert (third.id, third.existed) == (first.id, True)
        assert not plain.existed
        assert (fourth.id, fourth.existed) == (other.id, True)
        assert len(await one.states()) == 3

    async def test_a_claimed_message_leaves_its_unique_key_free(self, one: Worker) -> None:
        """A message that runs may be asked for once more, because it may have read its data already."""
        (first,) = await one.put(new(unique_key="u"))
        await one.claim()
        (second,) = await one.put(new(unique_key="u"))
        assert not second.existed
        assert second.id != first.id

    async def test_a_unique_key_that_is_taken_back_wins_or_is_superseded(self, one: Worker) -> None:
        """A message that goes back is pending again, unless a newer one with its unique key is: then it is over."""
        (first,) = await one.put(new(unique_key="u"))
        (claimed,) = await one.claim()
        await one.settle(Settlement(claimed.id, claimed.fence, "release"))
        assert (await one.put(new(unique_key="u")))[0] == first._replace(existed=True)
        (claimed,) = await one.claim()
        (newer,) = await one.put(new(unique_key="u"))
        await one.settle(Settlement(claimed.id, claimed.fence, "retry", run_at=NOW + 5, failures=1))
        assert await one.states() == {first.id: "cancelled", newer.id: "ready"}
        assert "superseded" in (await one.archived(first.id))["error"]

    async def test_a_unique_key_is_one_also_when_many_put_it_in_at_once(
        self, one: Worker, two: Worker
    ) -> None:
        """Of callers that put the same unique key in side by side, exactly one adds a message."""
        answers = await together(w.put(new(unique_key="u"), new()) for w in (one, two) * 6)
        assert sum(not keyed.existed for keyed, _ in answers) == 1
        assert len({keyed.id for keyed, _ in answers}) == 1
        assert len(await one.states()) == 13


class ClaimClaims(QueueCase):
    async def test_claims_go_by_priority_then_by_id(self, one: Worker) -> None:
        """Lower priorities first, then lower ids."""
        ids = await one.put_ids(*(new(priority=p) for p in (5, 0, 5, -1, 0)))
        claimed = [m.id for m in await one.claim(3)] + [m.id for m in await one.claim(9)]
        assert claimed == [ids[3], ids[1], ids[4], ids[0], ids[2]]

    async def test_queues_and_lanes_are_claimed_apart(self, one: Worker) -> None:
        """A claim takes from one lane of one queue only, and `look` names those that have something."""
        a, b, c = await one.put_ids(new(), new(queue="slow"), new(lane="s.job"))
        await one.put(new(queue="later", state="delayed", run_at=NOW + 1))
        look = await one.queue.look(one.db.read())
        assert set(look.lanes) == {Lane("default", ""), Lane("slow", ""), Lane("default", "s.job")}
        assert len(look.lanes) == 3
        assert [m.id for m in await one.claim(queue="slow")] == [b]
        assert [m.id for m in await one.claim(lane="s.job")] == [c]
        assert [m.id for m in await one.claim()] == [a]
        assert (await one.queue.look(one.db.read())).lanes == []

    async def test_a_claim_raises_the_fence_and_leases(self, one: Worker) -> None:
        """Every claim hands out a higher fence; `look` tells when the earliest lease ends."""
        (id_,) = await one.put_ids(new())
        assert (await one.queue.look(one.db.read())).lease_until is None
        (first,) = await one.claim()
        assert (await one.queue.look(one.db.read())).lease_until == NOW + LEASE_S
        await one.settle(Settlement(id_, first.fence, "release"))
        assert (await one.queue.look(one.db.read())).lease_until is None
        (second,) = await one.claim()
        assert second.fence > first.fence
        assert await one.claim() == []

    async def test_a_claim_that_is_rolled_back_has_not_happened(self, one: Worker, two: Worker) -> None:
        """A claim commits with the caller's transaction."""
        (id_,) = await one.put_ids(new())
        with suppress(ZeroDivisionError):
            async with one.db.tx() as tx:
                assert len(await one.claim_in(tx)) == 1
                raise ZeroDivisionError
        assert [m.id for m in await two.claim()] == [id_]

    async def test_no_message_is_claimed_twice(self, one: Worker, two: Worker) -> None:
        """Claims side by side share the messages: each goes to one of them, and none is left."""
        ids = await one.put_ids(*(new() for _ in range(60)))
        claims = await together(w.claim(10) for w in (one, two) * 6)
        claimed = [m.id for messages in claims for m in messages]
        assert len(set(claimed)) == len(claimed)
        left = [m.id for m in await one.claim()]
        assert sorted(claimed + left) == ids

    async def test_a_claim_under_way_holds_up_no_other(
        self, one: Worker, two: Worker, declared: Capabilities
    ) -> None:
        """Where rows that another one locks can be skipped, a claim takes what is left beside one that is open."""
        ids = await one.put_ids(*(new() for _ in range(6)))
        if not declared.skip_locked:
            return  # one writer: the second claim waits, which is a claim of the database suite
        async with one.db.tx() as tx:
            first = await one.claim_in(tx, 3)
            async with asyncio.timeout(5):
                second = await two.claim(3)
        assert sorted(m.id for m in first + second) == ids

    async def test_a_delayed_message_is_ready_when_its_time_has_come(self, one: Worker) -> None:
        """`wake_due` makes ready what is due, the earliest first and no more than it may; `look` tells the next."""
        late, soon, mid = await one.put_ids(*(new(state="delayed", run_at=NOW + s) for s in (30.0, 1.0, 5.0)))
        assert (await one.queue.look(one.db.read())).due_at == NOW + 1
        assert await one.claim() == []
        assert await one.wake(NOW + 0.999) == 0
        assert await one.wake(NOW + 5, limit=1) == 1
        assert await one.states() == {late: "delayed", soon: "ready", mid: "delayed"}
        assert await one.wake(NOW + 5) == 1
        assert (await one.queue.look(one.db.read())).due_at == NOW + 30

    async def test_delayed_messages_are_woken_by_name(self, one: Worker) -> None:
        """`wake` makes ready those of its ids that are delayed, at once and with its transaction, and no others."""
        early, late, left = await one.put_ids(
            *(new(state="delayed", run_at=NOW + s) for s in (1.0, 9.0, 9.0))
        )
        (ready,) = await one.put_ids(new(priority=-1))
        (held,) = await one.claim(1)
        ids = [early, late, ready, 10**9]
        with suppress(ZeroDivisionError):
            async with one.db.tx() as tx:
                assert await one.queue.wake(tx, ids, NOW) == 2
                raise ZeroDivisionError
        async with one.db.tx() as tx:
            assert await one.queue.wake(tx, [], NOW) == 0
            assert await one.queue.wake(tx, ids, NOW) == 2
            assert await one.queue.wake(tx, ids, NOW) == 0
        assert await one.states() == {early: "ready", late: "ready", left: "delayed", held.id: "running"}
        assert [(m.id, m.run_at) for m in await one.claim()] == [(early, NOW), (late, NOW)]

    async def test_running_messages_of_limited_handlers_are_counted(self, one: Worker, two: Worker) -> None:
        """`running` counts what all workers run of the handlers asked for."""
        await one.put(*(new("s.a", lane="s.a") for _ in range(3)), new("s.b", lane="s.b"), new("s.c"))
        await one.claim(2, lane="s.a")
        await two.claim(1, lane="s.b")
        async with two.db.tx() as tx:
            found = await two.queue.running(tx, ["s.a", "s.b", "s.z"])
        assert {name: count for name, count in found.items() if count} == {"s.a": 2, "s.b": 1}

    async def test_two_who_ask_what_runs_never_exceed_a_limit(self, one: Worker, two: Worker) -> None:
        """Between `running` and the end of its transaction nobody else who asks claims of the handler."""
        await one.put(*(new("s.a", lane="s.a") for _ in range(20)))

        async def claim(worker: Worker) -> None:
            async with worker.db.tx() as tx:
                room = 3 - (await worker.queue.running(tx, ["s.a"])).get("s.a", 0)
                if room > 0:
                    await worker.claim_in(tx, min(room, 2), lane="s.a")

        await together(claim(w) for w in (one, two) * 5)
        states = list((await one.states()).values())
        assert states.count("running") == 3


class OrderKeyClaims(QueueCase):
    async def test_messages_of_one_key_run_one_after_another(self, one: Worker, two: Worker) -> None:
        """Only the head of a key can be claimed; the next one is when it has been settled, by ids."""
        ids = await one.put_ids(*(new(order_key="k") for _ in range(3)))
        ids += await two.put_ids(new(order_key="k", priority=-9), new(order_key="k"))
        for id_ in ids:
            (head,) = await two.claim()
            assert head.id == id_
            assert await one.claim() == []
            assert await two.done(head) == set()
        assert set((await one.states()).values()) == {"done"}

    async def test_a_key_whose_head_waits_holds_up_nothing_else(self, one: Worker) -> None:
        """A head that failed, is parked or delayed keeps its key's others waiting, and nobody else's."""
        failed, parked, delayed = await one.put_ids(
            new(order_key="a"), new(order_key="b"), new(order_key="c", state="delayed", run_at=NOW + 50)
        )
        a, b = await one.claim()
        await one.settle(
            Settlement(a.id, a.fence, "retry", run_at=NOW + 50, failures=1),
            Settlement(b.id, b.fence, "park", error="nobody knows it"),
        )
        waiting = await one.put_ids(*(new(order_key=k) for k in "abc"))
        (free,) = await one.put_ids(new(order_key="d"))
        assert [m.id for m in await one.claim()] == [free]
        states = await one.states()
        assert [states[id_] for id_ in (failed, parked, delayed)] == ["delayed", "parked", "delayed"]
        assert {states[id_] for id_ in waiting} == {"waiting"}

    @pytest.mark.parametrize("verdict", ["done", "dead", "cancelled"])
    async def test_the_next_of_a_key_follows_whatever_became_of_the_last(
        self, one: Worker, verdict: str
    ) -> None:
        """A finished head makes room for the next, which is delayed when its own time has not come."""
        first, second = await one.put_ids(
            new(order_key="k"), new(order_key="k", state="delayed", run_at=NOW + 9)
        )
        (head,) = await one.claim()
        await one.settle(Settlement(head.id, head.fence, verdict))  # type: ignore[arg-type]
        assert await one.states() == {first: verdict, second: "delayed"}
        assert await one.wake(NOW + 9) == 1

    async def test_a_senders_clock_that_is_ahead_holds_up_no_line(self, one: Worker) -> None:
        """What was to run at once runs when its turn comes, and when its handler has come back."""
        ahead = {"order_key": "k", "run_at": NOW + 300, "created_at": NOW + 300}
        _, second = await one.put_ids(new(order_key="k"), new("later", **ahead))
        (head,) = await one.claim()
        await one.done(head)
        (next_,) = await one.claim()
        assert next_.id == second
        await one.settle(Settlement(second, next_.fence, "park"))
        async with one.db.tx() as tx:
            assert await one.queue.adopt(tx, {"later": ""}, NOW) == 1
        assert (await one.states())[second] == "ready"

    async def test_a_key_has_one_head_also_when_many_put_in_and_settle_at_once(
        self, one: Worker, two: Worker
    ) -> None:
        """However callers and workers of one key meet, none is left behind and no two run side by side."""
        running = 0

        async def put(worker: Worker) -> None:
            await worker.put(new(order_key="k"), new(order_key="k"))

        async def work(worker: Worker) -> None:
            nonlocal running
            for _ in range(8):
                for m in await worker.claim():
                    running += 1
                    assert running == 1
                    await asyncio.sleep(0)
                    running -= 1
                    assert await worker.done(m) == set()

        await together([*(put(w) for w in (one, two) * 4), *(work(w) for w in (one, two))])
        while claimed := await one.claim():
            await one.done(*claimed)
        assert list((await one.states()).values()) == ["done"] * 16
