"""The guards' suites can fail: each broken store is convicted by the claim that it breaks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from support import faulty_guards as faulty
from tenfold._core.clock import ManualClock, SystemClock
from tenfold.conformance._guard_case import Instance, Pair
from tenfold.conformance.idempotency import IdempotencyConformance
from tenfold.conformance.kit import convict
from tenfold.conformance.leases import LeasesConformance
from tenfold.conformance.limits import LimitsConformance
from tenfold.conformance.sessions import SessionsConformance
from tenfold.db.database import Database
from tenfold.guard.backends._memory_sessions import MemorySessions
from tenfold.guard.backends.memory import Backend

pytestmark = pytest.mark.anyio

LIMITS, LEASES = LimitsConformance(), LeasesConformance()
KEYS, SESSIONS = IdempotencyConformance(), SessionsConformance()


BROKEN: list[tuple[Callable[[Any], Any], Callable[..., Any]]] = [
    (faulty.TornLimits, LIMITS.test_a_limit_is_never_exceeded_by_instances_that_ask_together),
    (faulty.TornLimits, LIMITS.test_new_cells_are_exact_too),
    (faulty.RevivingLeases, LEASES.test_whose_time_is_over_can_neither_renew_nor_release),
    (faulty.HastyKeys, KEYS.test_of_many_claims_one_wins),
    (
        faulty.OverridingKeys,
        KEYS.test_who_was_given_up_and_completes_first_keeps_the_key,
    ),
    (lambda _: faulty.UndyingSessions(), SESSIONS.test_a_revoked_session_stays_revoked),
]


async def judge(run: Callable[..., Any], claim: Any, store: Any, db: Database, clock: ManualClock) -> None:
    instance = Instance(Backend(clock), db)
    given = {
        "store": store, "other": store, "name": "convicted", "clock": clock, "elapse": clock.advance, "db": db,
        "pair": Pair(instance, instance), "now": SystemClock().now(),
    }  # fmt: skip
    await run(claim, **given)


@pytest.mark.parametrize(("make", "claim"), BROKEN)
async def test_a_broken_store_is_convicted(make: Callable[[Any], Any], claim: Any, db: Database) -> None:
    clock = ManualClock()
    await judge(convict, claim, make(clock), db, clock)


@pytest.mark.parametrize(("make", "claim"), BROKEN)
async def test_and_not_for_another_reason(make: Callable[[Any], Any], claim: Any, db: Database) -> None:
    """The sound store that the broken one is made from passes under the same circumstances."""
    clock = ManualClock()
    sound = type(make(clock)).__mro__[1]

    async def passes(test: Callable[..., Any], **given: Any) -> None:
        await test(**{name: given[name] for name in inspect.signature(test).parameters})

    await judge(passes, claim, sound() if sound is MemorySessions else sound(clock), db, clock)
