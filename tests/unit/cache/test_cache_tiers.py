"""What the tiers owe their store when it was away, and what they tell transactions that announce themselves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import pytest

from tenfold._core.clock import Clock, ManualClock
from tenfold._core.sections import CacheSettings
from tenfold.cache.backends._store import (
    NOTHING,
    REGION,
    Answer,
    Keys,
    Right,
    Store,
    StoreAway,
    Stored,
)
from tenfold.cache.backends._tiers import OWED_MAX, TieredBackend
from tenfold.cache.contract import CacheStats
from tenfold.cache.policy import Purpose
from tenfold.errors import Unavailable

pytestmark = pytest.mark.anyio


class FakeStore(Store):
    """Generations in a dict. ``fails()`` says of each call whether the store is away then."""

    poll_s = 0.01

    def __init__(self) -> None:
        self.away = False
        self.flaky = random.Random(0)
        self.failure_rate = 0.0
        self.generations: dict[str, int] = {}
        self.marked: set[tuple[str, str]] = set()
        self.batches: list[int] = []
        self.renewed: list[Right] = []

    async def start(self, backend: TieredBackend) -> None: ...

    async def stop(self) -> None: ...

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.away or self.flaky.random() < self.failure_rate:
            raise StoreAway("it is away")

    async def begin(
        self, keys: Keys, names: tuple[str, ...], purpose: Purpose | None, token: str, *, waited: bool
    ) -> Answer:
        await self._answer()
        return NOTHING

    async def finish(self, right: Right, stored: Stored | None) -> bool:
        await self._answer()
        return False

    async def put(self, keys: Keys, stored: Stored) -> bool:
        await self._answer()
        return False

    async def bump(self, generations: list[str]) -> None:
        await self._answer()
        self.batches.append(len(generations))
        self._raise(generations)

    async def mark(self, generations: list[str], token: str) -> None:
        await self._answer()
        self.marked |= {(generation, token) for generation in generations}

    async def settle(self, generations: list[str], token: str) -> None:
        await self._answer()
        self.marked -= {(generation, token) for generation in generations}
        self._raise(generations)

    async def renew(self, rights: list[Right]) -> None:
        await self._answer()
        self.renewed = rights

    def _raise(self, generations: Iterable[str]) -> None:
        for generation in generations:
            self.generations[generation] = self.generations.get(generation, 0) + 1


class Backend(TieredBackend):
    @classmethod
    def from_url(cls, url: str, settings: CacheSettings, clock: Clock) -> Backend:
        raise NotImplementedError


class Tiers:
    """A backend with one region on a store that does as it is told."""

    def __init__(self, *, strict: bool = False) -> None:
        self.clock, self.store = ManualClock(), FakeStore()
        self.backend = Backend(CacheSettings(), self.clock, self.store)
        self.region = self.backend.region("shop", CacheStats())
        self.region.strict = strict

    @property
    def owed(self) -> int:
        return int(self.backend.numbers()["owed_invalidations"])

    async def rest(self) -> None:
        """Until nothing goes on in the background."""
        while tasks := tuple(self.backend._tasks):
            await asyncio.wait(tasks)

    def generation(self, name: str) -> str:
        return self.region.generations([name])[0]


async def test_a_commit_is_marked_before_and_settled_after() -> None:
    tiers = Tiers()
    ended = await tiers.backend.announce(["a"])
    assert ended is not None
    assert {generation for generation, _ in tiers.store.marked} == {tiers.generation("a")}
    ended(True)
    await tiers.rest()
    assert (tiers.store.marked, tiers.store.generations) == (set(), {tiers.generation("a"): 1})


async def test_a_strict_region_refuses_a_transaction_that_its_store_was_not_told_of() -> None:
    """And what may have arrived there all the same is taken away again when it is back."""
    tiers = Tiers(strict=True)
    tiers.store.away = True
    with pytest.raises(Unavailable, match="rolled back") as refused:
        await tiers.backend.announce(["a"])
    assert refused.value.headers["Retry-After"] == "1"
    await tiers.rest()
    assert tiers.owed == 1
    tiers.store.away = False
    tiers.backend.is_back()
    await tiers.rest()
    assert (tiers.owed, tiers.store.generations) == (0, {tiers.generation("a"): 1})


async def test_without_strictness_a_commit_goes_on_and_its_invalidation_is_owed() -> None:
    tiers = Tiers()
    tiers.store.away = True
    ended = await tiers.backend.announce(["a", "b"])
    assert ended is not None
    waiting = ended(True)
    assert waiting is not None, "the reader of what it wrote must not come first"
    await waiting
    assert tiers.owed == 2


async def test_a_rolled_back_transaction_that_was_not_marked_owes_nothing() -> None:
    tiers = Tiers()
    tiers.store.away = True
    ended = await tiers.backend.announce(["a"])
    assert ended is not None
    ended(False)
    await tiers.rest()
    assert tiers.owed == 0


async def test_many_debts_are_paid_in_batches_and_too_many_by_region() -> None:
    tiers = Tiers()
    tiers.backend.owe(f"g{n}" for n in range(2_500))
    tiers.backend.is_back()
    await tiers.rest()
    assert tiers.store.batches == [1000, 1000, 500]
    tiers.backend.owe(f"g{n}" for n in range(OWED_MAX + 1))
    assert tiers.owed == 1
    tiers.backend.is_back()
    await tiers.rest()
    assert tiers.store.generations[tiers.region.keys.generations + REGION] == 1


async def test_what_could_not_be_paid_is_still_owed() -> None:
    tiers = Tiers()
    tiers.backend.owe(["g"])
    tiers.store.away = True
    tiers.backend.is_back()
    await tiers.rest()
    assert tiers.owed == 1


async def test_leases_of_long_loads_are_renewed_four_times_in_their_life() -> None:
    tiers = Tiers()
    right = Right(tiers.region.keys, "a", "token", 1, (), leased=True, strict=False)
    await tiers.backend.start()
    tiers.backend.leased.add(right)
    await tiers.clock.advance(tiers.backend.settings.lease_s / 4)
    assert tiers.store.renewed == [right]
    await tiers.backend.stop()


@pytest.mark.parametrize("seed", range(20))
async def test_no_invalidation_is_lost_however_the_store_comes_and_goes(seed: int) -> None:
    """After each commit the generation rises at once, or once the store is back."""
    rng, tiers = random.Random(seed), Tiers()
    tiers.store.flaky = random.Random(seed)
    for _ in range(100):
        tiers.store.failure_rate = rng.choice([0.0, 0.3, 1.0])
        name = f"n{rng.randrange(5)}"
        before = tiers.store.generations.get(tiers.generation(name), 0)
        ended = await tiers.backend.announce([name])
        assert ended is not None
        ended(True)
        if rng.random() < 0.5:
            tiers.backend.is_back()
        await tiers.rest()
        tiers.store.failure_rate = 0.0
        tiers.backend.is_back()
        await tiers.rest()
        assert tiers.store.generations[tiers.generation(name)] > before
        assert tiers.owed == 0
