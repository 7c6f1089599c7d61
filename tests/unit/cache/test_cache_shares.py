"""A full cache between tenants: a flood of keys evicts its own, and nobody pays for it who is alone."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold._core.clock import ManualClock
from tenfold._core.context import Context, use
from tenfold._core.fairness import Weights
from tenfold.cache.backends.memory import MemoryRegion
from tenfold.cache.contract import CacheStats
from tenfold.cache.policy import Entry
from tenfold.cache.shares import NOBODY, Shares

pytestmark = pytest.mark.anyio


class Held:
    """A region of 100 entries, and whose they are."""

    def __init__(self, weights: Weights | None = None) -> None:
        self.clock, self.stats = ManualClock(), CacheStats()
        self.region = MemoryRegion(100, self.stats, self.clock, None if weights is None else weights.of)

    async def put(self, tenant: str | None, keys: range, life_s: float = 60.0) -> None:
        until = self.clock.monotonic() + life_s
        with use(Context(tenant=tenant)):
            for number in keys:
                key = f"{tenant} {number}"
                await self.region.put(key, Entry(key, fresh_until=until, stale_until=until, tags=("all",)))

    def of(self, tenant: str | None) -> int:
        return sum(self.region.peek(f"{tenant} {number}") is not None for number in range(20_000))


async def test_a_flood_evicts_its_own_and_nothing_of_a_tenant_within_its_share() -> None:
    held = Held()
    await held.put("quiet", range(25))
    await held.put(None, range(50))
    await held.put("loud", range(10_000))
    assert (held.of("quiet"), held.of(None), held.of("loud")) == (25, 50, 25)


async def test_least_recently_used_alone_would_have_evicted_everybody() -> None:
    held = Held()

    class Lru(MemoryRegion):
        def _evicted(self, newcomer: str) -> tuple[str, Entry]:
            return self._entries.popitem()

    held.region = Lru(100, held.stats, held.clock)
    await held.put("quiet", range(25))
    await held.put("loud", range(10_000))
    assert held.of("loud") == 100


async def test_what_nobody_else_uses_a_tenant_may_fill() -> None:
    held = Held()
    await held.put("quiet", range(5))
    await held.put("loud", range(1_000))
    assert (held.of("quiet"), held.of("loud")) == (5, 95)


async def test_shares_follow_the_weights() -> None:
    held = Held(Weights({"gold": 3}))
    await held.put("gold", range(200))
    await held.put("tin", range(200))
    await held.put("gold", range(200, 400))
    await held.put("tin", range(200, 400))
    assert held.of("gold") >= 37
    await held.put("tin", range(400, 5_000))
    assert held.of("gold") >= 37, "three quarters of half of the region"


async def test_what_is_over_protects_nobody() -> None:
    held = Held()
    await held.put("quiet", range(25), life_s=10)
    await held.put("loud", range(75))
    await held.clock.advance(11)
    await held.put("loud", range(75, 200))
    assert held.of("quiet") == 0


async def test_who_is_alone_has_the_least_recently_used_go_and_pays_nothing() -> None:
    held = Held()
    await held.put(None, range(100))
    assert held.region.peek("None 0")
    await held.put(None, range(100, 199))
    assert held.region.peek("None 0")
    assert held.region._shares is None, "nothing is counted where there are no tenants"


async def test_after_everything_was_forgotten_shares_begin_anew() -> None:
    held = Held()
    await held.put("loud", range(300))
    await held.region.invalidate(["all"])
    assert held.region._shares is not None
    assert len(held.region._shares) == 0
    await held.put("loud", range(300))
    held.region.forget_all()
    await held.put("quiet", range(100))
    assert held.of("quiet") == 100


@settings(max_examples=50)
@given(st.randoms(use_true_random=False), st.integers(1, 8))
def test_whoever_has_to_go_has_at_least_its_share(rng: random.Random, tenants: int) -> None:
    names = [NOBODY, *(f"t{n}" for n in range(tenants))]
    weights = Weights({name: rng.choice([0.5, 1, 2, 5]) for name in names[1:]})
    shares, keys = Shares(40, weights.of), dict[str, str]()
    for number in range(400):
        if len(keys) == 40:
            whose = rng.choice(names)
            oldest = shares.oldest(whose)
            whose = keys.pop(oldest)
            held = 1 + Counter(keys.values())[whose]
            total = sum(weights.of(name) for name in set(keys.values()) | {whose} if name)
            share = 20 if not whose else 20 * weights.of(whose) / total
            assert held >= share - weights.of(whose) - 1
            shares.remove(whose, oldest)
        whose = rng.choice(names)
        keys[f"k{number}"] = whose
        shares.add(whose, f"k{number}")
    assert len(shares) == len(set(keys.values()))
