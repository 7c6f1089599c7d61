"""What every store of rate limits promises (:class:`tenfold.guard.limits.LimitStore`)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest

from tenfold.conformance._guard_case import NAMES, Elapse, GuardCase, Pair
from tenfold.conformance.kit import together
from tenfold.guard.gcra import Cell, Taken, decide, wait_us
from tenfold.guard.leasing import Unused
from tenfold.guard.limits import LimitStore

SECOND = 1_000_000
Log = list[tuple[Cell, Taken]]


def wrong_decisions(log: Iterable[tuple[Cell, Taken]]) -> list[str]:
    """What a log of one cell's decisions, over all instances, says against the algorithm; empty when all is well.

    Whatever was admitted moved the TAT on from where another left it, so the TATs put the admitted into the order in
    which they were decided; each is judged again in that order. A refusal has to name a TAT that the cell did have.
    """
    found: list[str] = []
    admitted = sorted((t for t in log if t[1].admitted), key=lambda t: t[1].at_us + t[1].ahead_us[0])
    tat, tats = 0, {0}
    for cell, taken in admitted:
        right = decide([cell], [tat], taken.at_us)
        if right != taken:
            found.append(f"from TAT {tat}: {taken}, where {right} is right")
        tat = taken.at_us + taken.ahead_us[0]
        tats.add(tat)
    for cell, taken in log:
        if not taken.admitted:
            here = taken.ahead_us[0]
            if here + cell[1] <= cell[2]:
                found.append(f"refused without need: {taken}")
            elif here and taken.at_us + here not in tats and here != cell[2] - cell[1] + 1:
                found.append(f"refused for a TAT that there was not: {taken}")
    return found


class LimitsConformance(GuardCase):
    @pytest.fixture
    def store(self, pair: Pair) -> LimitStore:
        """As one process has it."""
        return pair.first.stores.limits()

    @pytest.fixture
    def other(self, pair: Pair) -> LimitStore:
        """As another process has it."""
        return pair.second.stores.limits()

    async def test_an_unused_cell_admits_its_burst_and_no_more(self, store: LimitStore, name: str) -> None:
        """As much as fits into the room is admitted at once; what comes then is refused and told how long to wait."""
        cell = (name, 1_000 * SECOND, 5_000 * SECOND)
        taken = [await store.take([cell]) for _ in range(7)]
        assert [t.admitted for t in taken] == [True] * 5 + [False] * 2
        assert taken[0].ahead_us == (1_000 * SECOND,)
        wait = wait_us([cell], taken[-1])
        assert wait is not None
        assert 980 * SECOND < wait <= 1_000 * SECOND

    async def test_room_comes_back_with_time(self, store: LimitStore, elapse: Elapse, name: str) -> None:
        """After as long as a unit costs, one more is admitted."""
        cell = (name, SECOND // 2, SECOND)
        assert [(await store.take([cell])).admitted for _ in range(3)] == [True, True, False]
        await elapse(0.6)
        assert [(await store.take([cell])).admitted for _ in range(2)] == [True, False]

    async def test_every_decision_is_the_algorithms(self, store: LimitStore, name: str) -> None:
        """Decisions are those of the pure policy, to the microsecond, also over several cells with costs."""
        dice = random.Random(name)
        cells = [(f"{name} {n}", 0, room * SECOND) for n, room in enumerate((40, 55, 70))]
        tats: dict[str, int] = {}
        for _ in range(60):
            chosen = [(key, dice.randrange(1, 9 * SECOND), room) for key, _, room in dice.sample(cells, 2)]
            taken = await store.take(chosen)
            assert taken == decide(chosen, [tats.get(key, 0) for key, _, _ in chosen], taken.at_us)
            if taken.admitted:
                for (key, _, _), ahead in zip(chosen, taken.ahead_us, strict=True):
                    tats[key] = taken.at_us + ahead

    async def test_a_limit_is_never_exceeded_by_instances_that_ask_together(
        self, store: LimitStore, other: LimitStore, name: str
    ) -> None:
        """However many ask at the same time, in however many processes, no more is admitted than fits."""
        cell = (name, SECOND // 20, SECOND)

        async def client(mine: LimitStore) -> list[Taken]:
            return [await mine.take([cell]) for _ in range(15)]

        log = await together(client(mine) for mine in (store, other) for _ in range(6))
        decisions = [(cell, taken) for takens in log for taken in takens]
        assert wrong_decisions(decisions) == []
        assert {taken.admitted for _, taken in decisions} == {True, False}

    async def test_new_cells_are_exact_too(self, store: LimitStore, other: LimitStore, name: str) -> None:
        """Of many that are the first at a cell, as many are admitted as fit."""
        for n in range(5):
            cells = [(f"{name} {n} a", 900 * SECOND, 900 * SECOND), (f"{name} {n} b", 1, 900 * SECOND)]
            takens = await together(mine.take(cells) for mine in (store, other) * 4)
            assert sum(taken.admitted for taken in takens) == 1

    async def test_all_cells_count_or_none(self, store: LimitStore, name: str) -> None:
        """What one cell refuses is not counted in the others."""
        wide, narrow = (
            (f"{name} wide", 10 * SECOND, 1_000 * SECOND),
            (f"{name} narrow", 500 * SECOND, 500 * SECOND),
        )
        assert (await store.take([wide, narrow])).admitted
        for _ in range(3):
            refused = await store.take([wide, narrow])
            assert not refused.admitted
            assert refused.ahead_us[0] <= 10 * SECOND
        assert (await store.take([wide])).ahead_us[0] <= 20 * SECOND

    async def test_what_never_fits_is_refused_and_not_counted(self, store: LimitStore, name: str) -> None:
        """A cost above the room is refused, by an unused cell too."""
        cell = (name, 11 * SECOND, 10 * SECOND)
        refused = await store.take([cell])
        assert not refused.admitted
        assert wait_us([cell], refused) is None
        assert (await store.take([(name, 10 * SECOND, 10 * SECOND)])).admitted

    async def test_keys_are_told_apart(self, store: LimitStore, name: str) -> None:
        """Keys that differ in anything are different cells."""
        for key in [f"{text} {name} {text}" for text in NAMES]:
            taken = await store.take([(key, SECOND, SECOND)])
            assert (taken.admitted, taken.ahead_us) == (True, (SECOND,)), key

    async def test_instances_share_cells_where_they_say_so(
        self, store: LimitStore, other: LimitStore, name: str
    ) -> None:
        """What one process counted, the others know at once."""
        cell = (name, 600 * SECOND, 600 * SECOND)
        assert (await store.take([cell])).admitted
        assert not (await other.take([cell])).admitted

    async def test_only_unused_cells_are_pruned(self, store: LimitStore, elapse: Elapse, name: str) -> None:
        """Pruning changes no decision."""
        short, long = (f"{name} short", 10_000, 10_000), (f"{name} long", 600 * SECOND, 600 * SECOND)
        assert (await store.take([short])).admitted
        assert (await store.take([long])).admitted
        await elapse(0.05)
        while await store.prune(2) == 2:
            pass
        assert not (await store.take([long])).admitted
        assert (await store.take([short])).admitted

    async def test_what_is_given_back_can_be_taken_again(self, store: LimitStore, name: str) -> None:
        """The TAT moves back by what was not used, once; by nothing where the store does not do it."""
        cell = (name, 600 * SECOND, 1_000 * SECOND)
        taken = await store.take([cell])
        unused = Unused(name, taken.at_us + taken.ahead_us[0], 500 * SECOND)
        assert await store.give_back([unused]) == int(store.gives_back)
        assert await store.give_back([unused]) == 0
        assert (await store.take([cell])).admitted == store.gives_back

    async def test_what_another_took_since_is_not_given_back(
        self, store: LimitStore, other: LimitStore, name: str
    ) -> None:
        """Nobody's slot is given away."""
        cell = (name, 100 * SECOND, 1_000 * SECOND)
        taken = await store.take([cell])
        end_us = taken.at_us + taken.ahead_us[0]
        assert (await other.take([cell])).admitted
        assert await store.give_back([Unused(name, end_us, 100 * SECOND)]) == 0
        assert (await store.take([cell])).ahead_us[0] > 290 * SECOND

    async def test_a_request_without_cells_shows_that_the_store_answers(self, store: LimitStore) -> None:
        """With no cells there is nothing to refuse."""
        cells: Sequence[Cell] = ()
        assert (await store.take(cells)).admitted
