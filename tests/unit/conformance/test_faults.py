"""The seeded wrapper: the same seed is the same trouble, and each fault is what its name says."""

from __future__ import annotations

import pytest

from tenfold.conformance.faulty import Faults, troubled

pytestmark = pytest.mark.anyio


class Store:
    def __init__(self) -> None:
        self.kept: list[int] = []

    async def keep(self, n: int) -> int:
        self.kept.append(n)
        return n

    def __len__(self) -> int:
        return len(self.kept)


async def kept(faults: Faults, count: int = 4) -> tuple[list[int], list[object]]:
    store = Store()
    shaky = troubled(store, faults, {"keep": lambda n: -n})
    answers: list[object] = []
    for n in range(1, count + 1):
        try:
            answers.append(await shaky.keep(n))
        except ConnectionError as error:
            answers.append(type(error).__name__)
    assert len(shaky) == len(store)
    return store.kept, answers


async def test_without_faults_nothing_changes() -> None:
    assert await kept(Faults(1)) == ([1, 2, 3, 4], [1, 2, 3, 4])


async def test_a_dropped_call_is_answered_and_not_made() -> None:
    assert await kept(Faults(1, drop=1)) == ([], [-1, -2, -3, -4])


async def test_a_doubled_call_is_made_twice() -> None:
    assert await kept(Faults(1, duplicate=1), 2) == ([1, 1, 2, 2], [1, 2])


async def test_a_failed_call_is_done_and_denied() -> None:
    assert await kept(Faults(1, fail=1), 2) == ([1, 2], ["ConnectionResetError"] * 2)


async def test_a_reordered_call_comes_after_the_next_one_that_is_made() -> None:
    faults = Faults(3, reorder=0.5)
    done, _ = await kept(faults, 40)
    assert faults.counts["reorder"] > 5
    assert done != sorted(done)
    assert sorted(done) == list(range(1, len(done) + 1))


async def test_the_same_seed_is_the_same_trouble() -> None:
    def faults(seed: int) -> Faults:
        return Faults(seed, delay=0.3, drop=0.2, duplicate=0.2, reorder=0.2, fail=0.1)

    assert await kept(faults(5), 60) == await kept(faults(5), 60)
    assert await kept(faults(5), 60) != await kept(faults(6), 60)
