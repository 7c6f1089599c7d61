"""The rate limiter that operations and users hold: it measures, remembers refusals, and does without its store."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from tenfold._core.tasks import end_tasks
from tenfold.errors import StoreUnavailable, TooManyRequests, Unavailable
from tenfold.guard.backends._memory_limits import MemoryLimits
from tenfold.guard.gcra import Cell, Taken, wait_us
from tenfold.guard.leased import LeasedLimits
from tenfold.guard.rates import Away, Limit, Window, as_limit

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.guard.limits import LimitStore

log = logging.getLogger("tenfold.guard")

PROBE_EVERY_S = 1.0
"""How often a store that is away is asked whether it is back. Nobody's request waits for that."""
PRUNE_EVERY_S = 60.0
PRUNE_BATCH = 1_000
LEASE_S = 1.0
REMEMBERED_MAX = 10_000


class Verdict(msgspec.Struct, frozen=True):
    """What a limit says to one piece of work."""

    admitted: bool
    retry_after_s: float | None
    """When the same would be admitted, if nobody else came; 0 when it was, None when it never will be."""
    remaining: int
    """Units that would be admitted now, by the strictest window."""


class RateLimiter:
    """Rate limits by the piece; injected by type. ``limit=`` on operations goes through the same one.

        await limiter.check("5/hour", key=f"mail {address}")      # TooManyRequests (429) with Retry-After

    ``away`` says what happens while the store is away: all are admitted (``open``), none (``closed``, 503), or each
    process counts by itself (``local``). An answer that takes longer than ``timeout_s`` counts as none. Once a store is
    away, nobody waits for it: it is asked once a second in the background.

    Of a limit that this process checks often, units are taken ahead from a store that is shared, for ``lease_s`` seconds
    at most (:mod:`tenfold.guard.leasing`): most checks then cost no round trip, and none admits more. 0: each asks.
    """

    def __init__(
        self,
        store: LimitStore,
        clock: Clock,
        *,
        away: Away = "local",
        timeout_s: float = 0.25,
        lease_s: float = LEASE_S,
    ) -> None:
        self._leased = LeasedLimits(store, clock, lease_s) if store.shared and lease_s else None
        self.store: LimitStore = self._leased or store
        self._lease_s = lease_s
        self.away: bool = False
        """Whether the store is away now."""
        self._clock = clock
        self._policy: Away = away
        self._timeout_s = timeout_s
        self._local = MemoryLimits(clock)
        self._tats_us: dict[str, int] = {}
        """The least TAT, on our clock, of cells that refused lately: it only moves on, so refusing again needs nobody."""
        self._tasks: list[asyncio.Task[None]] = []
        self._probe: asyncio.Task[None] | None = None
        self.admitted = 0
        self.refused = 0
        self.refused_at_once = 0
        """Refused without asking the store."""
        self.without_store = 0

    # ── life ──

    async def start(self) -> None:
        """Begin to delete unused cells; limits work without it."""
        self._tasks.append(asyncio.create_task(self._keep_pruning(), name="limit-pruner"))
        if self._leased is not None:
            self._tasks.append(asyncio.create_task(self._keep_settling(self._leased), name="limit-leases"))

    async def stop(self) -> None:
        """Stop deleting and probing, and give back what was taken ahead."""
        await end_tasks(*self._tasks, self._probe)
        self._tasks.clear()
        self._probe = None
        if self._leased is not None and not self.away:
            await self._settle(self._leased, all_of_them=True)

    def numbers(self) -> dict[str, int]:
        """Counts since the start, for metrics."""
        return {
            "admitted_total": self.admitted,
            "refused_total": self.refused,
            "refused_at_once_total": self.refused_at_once,
            "without_store_total": self.without_store,
            "store_away": int(self.away),
            **(self._leased.numbers() if self._leased is not None else {}),
        }

    # ── for users ──

    async def take(self, limit: str | Limit, *, key: str, cost: int = 1) -> Verdict:
        """Count ``cost`` units for ``key``, if every window of the limit has room for them; then or else say so.

        Whom a limit counts is the key's business here, so ``per …`` says nothing. Equal limits with equal keys share
        their count, wherever they are written. Raises Unavailable when the store is away and the policy is closed.
        """
        if cost < 1:
            raise ValueError(f"cost is {cost}; work costs 1 or more.")
        declared = as_limit(limit)
        cells = tuple(
            (f"{window} {key}", cost * window.interval_us, window.room_us) for window in declared.windows
        )
        taken = self.take_now(cells)
        if taken is None:
            taken = await self.decide(cells, declared.away)
        wait = wait_us(cells, taken)
        return Verdict(
            taken.admitted, None if wait is None else wait / 1_000_000, remaining(declared.windows, taken)
        )

    async def check(self, limit: str | Limit, *, key: str, cost: int = 1) -> None:
        """The same, and TooManyRequests (429, with Retry-After) instead of a no."""
        verdict = await self.take(limit, key=key, cost=cost)
        if not verdict.admitted:
            raise refusal(str(as_limit(limit)).replace(" per principal", ""), verdict.retry_after_s)

    # ── for the pipeline ──

    def take_now(self, cells: Sequence[Cell]) -> Taken | None:
        """The decision at once, where the store is in this process; else None, and :meth:`decide` is to be awaited."""
        taken = self.store.take_now(cells)
        if taken is not None:
            if taken.admitted:
                self.admitted += 1
            else:
                self.refused += 1
        return taken

    async def decide(self, cells: Sequence[Cell], away: Away | None = None) -> Taken:
        """The decision; ``away`` overrides the policy. Raises Unavailable when that is closed and the store away."""
        taken = self._refused_before(cells)
        if taken is None:
            taken = self._without(cells, away) if self.away else await self._ask(cells, away)
        if taken.admitted:
            self.admitted += 1
        else:
            self.refused += 1
        return taken

    async def _ask(self, cells: Sequence[Cell], away: Away | None) -> Taken:
        started_us = int(self._clock.monotonic() * 1_000_000)
        try:
            taken = await self._in_time(cells)
        except (StoreUnavailable, TimeoutError) as error:
            self._lose(error)
            return self._without(cells, away)
        if not taken.admitted:
            self._remember(cells, taken, started_us)
        return taken

    async def _in_time(self, cells: Sequence[Cell]) -> Taken:
        if self.store.bounded:
            return await self.store.take(cells)
        async with asyncio.timeout(self._timeout_s):
            return await self.store.take(cells)

    def _without(self, cells: Sequence[Cell], away: Away | None) -> Taken:
        self.without_store += 1
        match away or self._policy:
            case "open":
                return Taken(True, 0, (0,) * len(cells))
            case "local":
                return self._local.take_now(cells)
            case "closed":
                raise Unavailable(
                    "Requests cannot be counted at the moment, and this operation is not done uncounted.",
                    headers={"Retry-After": "1"},
                    limit="guard.away",
                    value="closed",
                )

    # ── refusals that need nobody ──

    def _remember(self, cells: Sequence[Cell], taken: Taken, started_us: int) -> None:
        if len(self._tats_us) >= REMEMBERED_MAX:
            self._tats_us.clear()
        for (key, _, _), ahead in zip(cells, taken.ahead_us, strict=True):
            # Counted from before the store was asked: never later than the store's own time of admission.
            self._tats_us[key] = started_us + ahead

    def _refused_before(self, cells: Sequence[Cell]) -> Taken | None:
        if not self._tats_us:
            return None
        now_us = int(self._clock.monotonic() * 1_000_000)
        ahead = [max(self._tats_us.get(key, 0) - now_us, 0) for key, _, _ in cells]
        if all(here + cost <= room for here, (_, cost, room) in zip(ahead, cells, strict=True)):
            return None
        self.refused_at_once += 1
        return Taken(False, now_us, tuple(ahead))

    # ── the store's comings and goings ──

    def _lose(self, error: Exception) -> None:
        if self.away:
            return
        self.away = True
        if self._leased is not None:
            self._leased.forget()
        log.warning(
            "the store of rate limits is away (%s); until it is back they are %s",
            str(error) or f"no answer within {self._timeout_s:g} s",
            {"open": "not applied", "closed": "refusing everything", "local": "counted in each process"}[
                self._policy
            ],
        )
        # In a context of its own: it outlives the request that noticed.
        self._probe = asyncio.create_task(self._until_back(), context=contextvars.Context())

    async def _until_back(self) -> None:
        while self.away:
            await self._clock.sleep(PROBE_EVERY_S)
            try:
                await self._in_time(())
                self.away = False
            except (StoreUnavailable, TimeoutError):
                continue
        log.info("the store of rate limits is back")

    async def _keep_settling(self, leased: LeasedLimits) -> None:
        while True:
            await self._clock.sleep(self._lease_s)
            if not self.away:
                await self._settle(leased)

    async def _settle(self, leased: LeasedLimits, *, all_of_them: bool = False) -> None:
        with suppress(TimeoutError):  # what is not given back flows out
            async with asyncio.timeout(self._timeout_s):
                await leased.settle(all_of_them=all_of_them)

    async def _keep_pruning(self) -> None:
        while True:
            await self._clock.sleep(PRUNE_EVERY_S)
            try:
                while await self.store.prune(PRUNE_BATCH) >= PRUNE_BATCH:
                    pass
            except StoreUnavailable as error:
                log.warning("unused rate limits were not deleted, the next try is in a minute: %s", error)


def remaining(windows: Sequence[Window], taken: Taken) -> int:
    """Units that would still be admitted, by the strictest window."""
    return min(
        max(0, window.room_us - ahead) // window.interval_us
        for window, ahead in zip(windows, taken.ahead_us, strict=True)
    )


def refusal(
    limit: str,
    retry_after_s: float | None,
    headers: dict[str, str] | None = None,
    violated: Sequence[str] = (),
) -> TooManyRequests:
    """What a client is told: which limit, and when to come back. ``violated`` are the names of its windows in the
    headers; the member is called as in the draft that they are from."""
    headers = dict(headers or {})
    names: dict[str, object] = {"violated-policies": list(violated)} if violated else {}
    if retry_after_s is None:
        return TooManyRequests(
            f"The limit is {limit}, and this alone is more than it ever admits at once.",
            headers=headers,
            limit=limit,
            **names,
        )
    seconds = max(1, math.ceil(retry_after_s))
    headers["Retry-After"] = str(seconds)
    return TooManyRequests(
        f"The limit is {limit}; come back in {seconds} s.",
        headers=headers,
        limit=limit,
        **names,
    )
