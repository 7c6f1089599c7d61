"""Taking turns within a lane, pausing queues, and counting what starts."""

from __future__ import annotations

from collections import Counter

from tenfold.conformance._queue_case import LEASE_S, NOW, QueueCase, Worker, new
from tenfold.conformance.kit import together
from tenfold.guard.rates import parse
from tenfold.queue.admin import Admin
from tenfold.queue.gates import Gates
from tenfold.queue.message import Claim, Message
from tenfold.queue.options import QueueOptions
from tenfold.queue.policy import Lane
from tenfold.queue.queue import Queue

LIMITED = QueueOptions("limited", rate="10/minute", concurrency=8)


async def in_turn(worker: Worker, limit: int, after: str = "") -> list[Message]:
    async with worker.db.tx() as tx:
        return await worker.queue.claim_in_turn(
            tx, Claim("default", "", limit), after, worker.name, NOW, NOW + LEASE_S
        )


def facade(worker: Worker) -> Queue:
    return Queue(worker.queue, worker.db, worker.db.backend.clock, {LIMITED.name: LIMITED})


class TurnClaims(QueueCase):
    async def test_shares_of_a_lane_are_claimed_in_turn(self, one: Worker) -> None:
        """`claim_in_turn` takes equally many of each share, whatever one has waiting, from the share that follows."""
        await one.put(*(new(share="big") for _ in range(50)))
        await one.put(new(share="a", priority=5), new(share="a", priority=-5), new(share="c"), new())
        assert Counter(m.share for m in await in_turn(one, 4)) == {"": 1, "a": 1, "big": 1, "c": 1}
        assert [m.priority for m in await in_turn(one, 1, after="")] == [5]
        assert [m.share for m in await in_turn(one, 1, after="a")] == ["big"]
        assert [m.share for m in await in_turn(one, 1, after="c")] == ["big"]
        assert len(await in_turn(one, 40)) == 40

    async def test_in_a_share_it_goes_by_priority_then_by_id(self, one: Worker) -> None:
        """The messages of one share keep the order that they would have alone."""
        ids = await one.put_ids(*(new(share="a", priority=p) for p in (1, 0, 1, 0)), new(share="b"))
        claimed = sorted(await in_turn(one, 4), key=lambda m: m.share)
        assert [m.id for m in claimed] == [ids[1], ids[3], ids[4]]

    async def test_no_share_is_claimed_twice_side_by_side(self, one: Worker, two: Worker) -> None:
        """Workers that take turns at the same time never get the same message, and get all of them."""
        await one.put(*(new(share=f"t{n % 7}") for n in range(70)))
        found: list[Message] = []
        while got := [m for part in await together(in_turn(w, 14) for w in (one, two)) for m in part]:
            found += got
        assert len({m.id for m in found}) == len(found) == 70

    async def test_a_look_tells_which_lanes_have_shares(self, one: Worker) -> None:
        """`look` says of each lane whether its messages are to be claimed in turn."""
        await one.put(new(), new(queue="fair"), new(queue="fair", share="a"))
        look = await one.queue.look(one.db.read())
        assert sorted(look.lanes) == [Lane("default", ""), Lane("fair", "", shared=True)]

    async def test_a_claim_without_turns_takes_nobodys_share(self, one: Worker) -> None:
        """`claim` leaves shares to `claim_in_turn`."""
        (plain, _) = await one.put_ids(new(), new(share="a"))
        assert [m.id for m in await one.claim()] == [plain]


class PauseClaims(QueueCase):
    async def test_of_a_paused_queue_nothing_is_claimed(self, one: Worker, two: Worker) -> None:
        """From the commit of a pause to that of the resumption claims give nothing; then all, in order."""
        ids = await one.put_ids(*(new() for _ in range(3)), new(share="a"))
        admin = Admin(facade(one))
        assert await admin.pause("default", by="anna", why="the server is away")
        assert not await admin.pause("default")
        late = await one.put_ids(new())
        assert await two.claim() == []
        assert await in_turn(two, 9) == []
        assert (await two.queue.look(two.db.read())).paused == {"default"}
        (other,) = await one.put_ids(new(queue="other"))
        assert [m.id for m in await two.claim(queue="other")] == [other]
        assert await admin.resume("default")
        assert not await admin.resume("default")
        assert [m.id for m in await two.claim()] == [*ids[:3], *late]
        assert (await two.queue.look(two.db.read())).paused == set()

    async def test_what_comes_due_in_a_paused_queue_stays(self, one: Worker) -> None:
        """Delayed messages of a paused queue become ready and wait there."""
        (id_,) = await one.put_ids(new(state="delayed", run_at=NOW + 1))
        admin = Admin(facade(one))
        await admin.pause("default")
        assert await one.wake(NOW + 1) == 1
        assert await one.claim() == []
        await admin.resume("default")
        assert [m.id for m in await one.claim()] == [id_]


class LimitClaims(QueueCase):
    async def test_no_more_start_than_the_rate_allows_whoever_asks(self, one: Worker, two: Worker) -> None:
        """Two who ask and spend at the same time never start more than the rate's burst together."""
        started = 0

        async def start(worker: Worker) -> None:
            nonlocal started
            gates = Gates(worker.db, {LIMITED.name: LIMITED})
            for _ in range(12):
                async with worker.db.tx() as tx:
                    gate = (await gates.ask(tx, [LIMITED.name], free=2)).get(LIMITED.name)
                    if gate is not None and gate.allowed:
                        await gates.spend(tx, LIMITED.name, gate, gate.allowed)
                        started += gate.allowed

        await Gates(one.db, {LIMITED.name: LIMITED}).open()
        await Gates(two.db, {LIMITED.name: LIMITED}).open()
        await together([start(one), start(two)])
        assert started == parse(LIMITED.rate)[0].burst

    async def test_messages_that_run_count_against_the_queues_limit(self, one: Worker, two: Worker) -> None:
        """A queue with a limit is open to as many as do not run yet, in all workers together."""
        gates = Gates(two.db, {LIMITED.name: LIMITED})
        await gates.open()
        await one.put(*(new(queue=LIMITED.name, lane=LIMITED.lane) for _ in range(9)), new())
        held = await one.claim(3, queue=LIMITED.name, lane=LIMITED.lane)
        await one.claim()
        async with two.db.tx() as tx:
            assert (await gates.ask(tx, [LIMITED.name], free=99))[LIMITED.name].allowed == 5
        await one.done(*held)
        async with two.db.tx() as tx:
            assert (await gates.ask(tx, [LIMITED.name], free=99))[LIMITED.name].allowed == 8

    async def test_nobody_waits_at_a_gate_where_another_is(self, one: Worker, two: Worker) -> None:
        """Where several may write, a worker passes over a queue that another is claiming from."""
        gates = [Gates(w.db, {LIMITED.name: LIMITED}) for w in (one, two)]
        await gates[0].open()
        if not one.db.backend.capabilities.parallel_writers:
            return
        async with one.db.tx() as tx, two.db.tx() as other:
            assert LIMITED.name in await gates[0].ask(tx, [LIMITED.name], free=1)
            assert await gates[1].ask(other, [LIMITED.name], free=1) == {}
