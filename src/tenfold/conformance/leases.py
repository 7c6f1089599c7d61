"""What every store of leases promises (:class:`tenfold.guard.lease.LeaseStore`)."""

from __future__ import annotations

import asyncio

import pytest

from tenfold._core.clock import ManualClock, SystemClock
from tenfold.conformance._guard_case import NAMES, Elapse, GuardCase, Pair
from tenfold.conformance.kit import together
from tenfold.errors import LeaseEnded, LeaseTaken
from tenfold.guard.lease import Leases, LeaseStore

SHORT_S = 0.15


class LeasesConformance(GuardCase):
    @pytest.fixture
    def store(self, pair: Pair) -> LeaseStore:
        """As one process has it."""
        return pair.first.stores.leases()

    @pytest.fixture
    def other(self, pair: Pair) -> LeaseStore:
        """As another process has it."""
        return pair.second.stores.leases()

    async def test_of_many_that_ask_one_holds_it(
        self, store: LeaseStore, other: LeaseStore, name: str
    ) -> None:
        """Of concurrent requests, in all processes, exactly one gets the lease."""
        for n in range(5):
            tokens = await together(mine.acquire(f"{name} {n}", 60) for mine in (store, other) * 5)
            assert len([token for token in tokens if token is not None]) == 1

    async def test_while_it_is_held_nobody_else_gets_it(
        self, store: LeaseStore, other: LeaseStore, name: str
    ) -> None:
        """A lease has one holder; everybody can see which."""
        token = await store.acquire(name, 60)
        assert token is not None
        assert await other.acquire(name, 60) is None
        assert await store.acquire(name, 60) is None
        assert await other.holder(name) == token

    async def test_a_released_lease_is_free_at_once(
        self, store: LeaseStore, other: LeaseStore, name: str
    ) -> None:
        """Who lets go need not be waited for."""
        token = await store.acquire(name, 60)
        assert token is not None
        assert await store.release(name, token)
        assert await other.holder(name) is None
        assert await other.acquire(name, 60) is not None

    async def test_a_lease_ends_with_its_time(
        self, store: LeaseStore, other: LeaseStore, elapse: Elapse, name: str
    ) -> None:
        """When its time is over, another gets it."""
        assert await store.acquire(name, SHORT_S) is not None
        await elapse(SHORT_S + 0.05)
        assert await other.holder(name) is None
        assert await other.acquire(name, 60) is not None

    async def test_tokens_rise_with_every_holder(
        self, store: LeaseStore, other: LeaseStore, elapse: Elapse, name: str
    ) -> None:
        """A later holder's token is above every earlier one, after releases and after expiries."""
        tokens: list[int] = []
        for n in range(6):
            mine = (store, other)[n % 2]
            released = n % 3 > 0
            token = await mine.acquire(name, 60 if released else SHORT_S)
            assert token is not None
            tokens.append(token)
            if released:
                assert await mine.release(name, token)
            else:
                await elapse(SHORT_S + 0.05)
        assert tokens == sorted(set(tokens))

    async def test_renewing_begins_its_time_again(
        self, store: LeaseStore, other: LeaseStore, elapse: Elapse, name: str
    ) -> None:
        """A holder that renews in time keeps the lease for as long as it likes."""
        token = await store.acquire(name, 1.0)
        assert token is not None
        for _ in range(3):
            await elapse(0.4)
            assert await store.renew(name, token, 1.0)
        assert await other.acquire(name, 60) is None

    async def test_whose_time_is_over_can_neither_renew_nor_release(
        self, store: LeaseStore, other: LeaseStore, elapse: Elapse, name: str
    ) -> None:
        """An expired holder changes nothing: not before another has the lease, and not after."""
        late = await store.acquire(name, SHORT_S)
        assert late is not None
        await elapse(SHORT_S + 0.05)
        assert not await store.renew(name, late, 60)
        assert not await store.release(name, late)
        token = await other.acquire(name, 60)
        assert token is not None
        assert not await store.renew(name, late, 60)
        assert not await store.release(name, late)
        assert await other.holder(name) == token

    async def test_names_are_told_apart(self, store: LeaseStore, name: str) -> None:
        """Names that differ in anything are different leases."""
        for text in (f"{text}{name[-9:]}" for text in NAMES):
            assert await store.acquire(text, 60) is not None, text

    async def test_holders_exclude_each_other(self, pair: Pair, name: str) -> None:
        """What is done under one lease is done by one at a time, and everybody gets a turn."""
        inside = most = turns = 0

        async def work(leases: Leases) -> None:
            nonlocal inside, most, turns
            async with leases.hold(name, 5, wait_s=20):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1
                turns += 1

        facades = [Leases(instance.stores.leases(), SystemClock()) for instance in pair]
        await together(work(leases) for leases in facades * 2)
        assert (most, turns) == (1, 4)

    async def test_a_block_that_loses_its_lease_is_cancelled(
        self, store: LeaseStore, clock: ManualClock, elapse: Elapse, name: str
    ) -> None:
        """Who learns that the lease is gone stops what it was for."""
        clocks = SystemClock() if elapse is asyncio.sleep else clock
        leases = Leases(store, clocks)
        never = asyncio.Event()

        async def lose() -> None:
            async with leases.hold(name, 0.3) as lease:
                assert await store.release(name, lease.token)
                await never.wait()

        losing = asyncio.create_task(lose())
        await asyncio.sleep(0.02)
        await elapse(0.35)
        async with asyncio.timeout(5):
            with pytest.raises(LeaseEnded):
                await losing

    async def test_who_does_not_want_to_wait_is_told(self, store: LeaseStore, name: str) -> None:
        """A lease that is held raises LeaseTaken when nobody wants to wait."""
        assert await store.acquire(name, 60) is not None
        with pytest.raises(LeaseTaken, match="held by another"):
            async with Leases(store, SystemClock()).hold(name):
                pass
