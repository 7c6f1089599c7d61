"""All events in one order: nothing is skipped, however late it commits."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tenfold.conformance._eventstore_case import CART, STAMP, EventStoreCase, Process, Reading, write
from tenfold.conformance.kit import together, until
from tenfold.db.contract import Capabilities
from tenfold.errors import SerializationFailure

if TYPE_CHECKING:
    from tenfold.db.database import Tx


class OrderClaims(EventStoreCase):
    async def test_everything_is_followed_in_one_order(self, one: Process, two: Process) -> None:
        """Positions rise, page after page, over all streams and categories."""
        await one.append(write("a", *"12"))
        await two.append(write("b", "3"), category="shop.wishes")
        await one.append(write("a", *"45"))
        reading = Reading(two, limit=2)
        await reading.go_on()
        assert reading.data == list("12345")
        reading.check()

    async def test_a_follower_gets_the_categories_it_names(self, one: Process) -> None:
        """The others' events are left out."""
        await one.append(write("a", "1"))
        await one.append(write("a", "2"), category="shop.wishes")
        await one.append(write("a", "3"), category="shop.lists")
        await one.horizon()
        assert [row.data for row in await one.follow(categories=["shop.wishes"])] == ["2"]
        assert [row.data for row in await one.follow(categories=["shop.lists", CART])] == ["1", "3"]

    async def test_the_horizon_reaches_what_is_committed(self, one: Process, two: Process) -> None:
        """As soon as nothing is under way, all that was committed is below it; a rollback leaves no obstacle."""
        with pytest.raises(ZeroDivisionError):
            async with one.db.tx() as tx:
                await one.append_in(tx, write("a", "no"))
                raise ZeroDivisionError
        await one.append(write("a", "yes"))
        horizon = await two.horizon()
        rows = await two.follow(until=horizon)
        assert [row.data for row in rows] == ["yes"]

    @pytest.mark.parametrize("count", [1, 3])
    async def test_what_commits_late_is_not_skipped(
        self, one: Process, two: Process, declared: Capabilities, count: int
    ) -> None:
        """A follower that has read what committed first also gets what had begun before it, in its place."""
        # Streams of this round only: InnoDB locks the gaps around entries that the last round has left to be purged.
        reading = Reading(two)
        async with AsyncExitStack() as stack:
            tx = await stack.enter_async_context(one.db.tx())
            late = asyncio.create_task(_append_and_wait(one, tx, count))
            await asyncio.wait([late])
            if declared.parallel_writers:
                await together([two.append(write(f"fast-{count}", *"12"[:count]))])
                await reading.go_on()
                assert "late" not in reading.data, "what is not committed is read"
        await two.append(write(f"after-{count}", "3"))
        await reading.go_on()
        assert reading.data.count("late") == count, "what committed late was skipped"
        assert "3" in reading.data
        reading.check()

    async def test_the_horizon_waits_for_nobody_who_appends_nothing(
        self, one: Process, two: Process, declared: Capabilities
    ) -> None:
        """A long transaction that only reads holds up no follower."""
        async with one.db.tx() as tx:
            await one.store.versions(tx, CART, ["a"])
            if declared.parallel_writers:
                await together([two.append(write("a", "1"))])
                assert [row.data for row in await two.follow(until=await two.horizon())] == ["1"]
        reading = Reading(two)
        await reading.go_on()
        assert len(reading.rows) == declared.parallel_writers

    @pytest.mark.parametrize("seed", range(2))
    async def test_random_commits_are_followed_without_loss(
        self, one: Process, two: Process, seed: int
    ) -> None:
        """Many writers that commit late, or not at all: who follows them meanwhile gets each event once."""
        dice = random.Random(seed)
        kept: list[str] = []
        reading, done = Reading(two), asyncio.Event()

        async def append(writer: int) -> None:
            process = (one, two)[writer % 2]
            for n in range(8):
                texts = [f"{writer}.{n}.{k}" for k in range(dice.choice([1, 1, 3]))]
                pause_s, fails = dice.choice([0, 0, 0.002, 0.01]), dice.random() < 0.2
                try:
                    async with process.db.tx() as tx:
                        stored = await process.append_in(tx, write(f"s{dice.randrange(20)}", *texts))
                        await asyncio.sleep(pause_s)
                        if fails:
                            raise ZeroDivisionError  # noqa: TRY301 - it rolls back
                    kept.extend(texts if stored else [])
                except (
                    ZeroDivisionError,
                    SerializationFailure,
                ):  # waiters for what is rolled back may deadlock
                    continue

        async def follow() -> None:
            while not done.is_set():
                await reading.go_on()
                await asyncio.sleep(0)

        following = asyncio.create_task(follow())
        try:
            await together(append(writer) for writer in range(6))
        finally:
            done.set()
            await following
        await reading.go_on()
        assert sorted(reading.data) == sorted(kept)
        reading.check()


class GateClaims(EventStoreCase):
    async def test_who_holds_a_category_sees_all_of_it(
        self, one: Process, two: Process, declared: Capabilities
    ) -> None:
        """Holding waits for gated appends that are under way, and keeps others out until the holder is done."""
        if declared.parallel_writers:
            await one.append(write("first", "0"), gated=True)
            held, release = asyncio.Event(), asyncio.Event()
            async with one.db.tx() as tx:
                await one.store.append(tx, CART, [write("a", "1")], STAMP, gated=True)
                holder = asyncio.create_task(_hold(two, held, release))
                await asyncio.sleep(0.1)
                assert not held.is_set(), "an append was under way"
            await until(held.is_set, "the holder's turn")
            later = asyncio.create_task(one.append(write("b", "2"), gated=True))
            other = await one.append(write("c", "3"), category="shop.wishes", gated=True)
            assert other == {"c": 1}
            await asyncio.sleep(0.1)
            assert not later.done(), "an append began although the category is held"
            release.set()
            assert await together([holder]) == [["0", "1"]]
            assert await together([later]) == [{"b": 1}]
        else:
            async with one.db.tx() as tx:
                await one.store.hold(tx, [CART])


async def _append_and_wait(process: Process, tx: Tx, count: int) -> None:
    await process.append_in(tx, write(f"late-{count}", *["late"] * count))


async def _hold(process: Process, held: asyncio.Event, release: asyncio.Event) -> list[str]:
    async with process.db.tx() as tx:
        await process.store.hold(tx, [CART])
        held.set()
        await process.store.horizon(tx)
        seen = [row.data for row in await process.store.follow(tx, [CART], 0, 2**62, 100)]
        await release.wait()
    return seen
