"""Leases: one holder at a time in the whole fleet, for a time, with a number that tells holders apart.

    async with leases.hold("reindex", ttl_s=30) as lease:
        ...                                      # renewed while this runs; cancelled when it is lost

A lease is no lock: a process that stands still (a long pause, SIGSTOP) does not know that its time is over, and another
holds the lease meanwhile. What must not happen twice carries ``lease.token``: it rises with every holder, so that
whoever is written to can refuse a number below one it has seen (a *fencing token*: Kleppmann, *How to do distributed
locking*, 2016).
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tenfold._core.context import owned
from tenfold.errors import LeaseEnded, LeaseTaken, StoreUnavailable

if TYPE_CHECKING:
    from tenfold._core.clock import Clock

log = logging.getLogger("tenfold.guard")

NAME_MAX_CHARS = 200
TTL_S = 30.0
POLL_S_MAX = 1.0
"""Longest time between two looks at a lease that somebody else holds."""


class LeaseStore(ABC):
    """Where leases live.

    - Order: of concurrent :meth:`acquire` on a name exactly one wins. The tokens of a name rise with every holder,
      forever: also after a release, an expiry, and a restart of the store.
    - Loss: a store that loses its data (declared by ``durable`` False) may hand a lease out again before the holder's
      time is over, but never a token that is not above the earlier ones.
    - Time: the store's own clock. A lease has ended the moment its time is over; nothing revives it.
    - Time-out, cancellation: an :meth:`acquire` that raised may have got the lease, which then ends by itself.
    - Errors: StoreUnavailable only.
    """

    durable: bool
    shared: bool
    """Whether other processes see the same leases."""

    @abstractmethod
    async def acquire(self, name: str, ttl_s: float) -> int | None:
        """The token of the lease, now held for ``ttl_s`` seconds; None while somebody holds it."""

    @abstractmethod
    async def renew(self, name: str, token: int, ttl_s: float) -> bool:
        """Hold it for ``ttl_s`` seconds from now; False, and nothing happens, when the token's time is over."""

    @abstractmethod
    async def release(self, name: str, token: int) -> bool:
        """Let go; False, and nothing happens, when the token's time is over."""

    @abstractmethod
    async def holder(self, name: str) -> int | None:
        """The token of whoever holds the lease now."""


class Lease:
    """A lease that was got. ``token`` goes with everything that must not be done by two holders."""

    __slots__ = ("_clock", "_until", "name", "token", "ttl_s")

    def __init__(self, name: str, token: int, ttl_s: float, asked_at: float, clock: Clock) -> None:
        self.name, self.token, self.ttl_s = name, token, ttl_s
        self._clock = clock
        self._until = asked_at + ttl_s

    @property
    def remaining_s(self) -> float:
        """Seconds for which it is surely held: counted from before the store was asked. 0 when it may have ended."""
        return max(0.0, self._until - self._clock.monotonic())

    def renewed(self, asked_at: float) -> None:
        """Its time begins again, at the moment when the store was asked."""
        self._until = asked_at + self.ttl_s

    def end(self) -> None:
        """It is over, whatever the clock says."""
        self._until = float("-inf")

    def __repr__(self) -> str:
        return f"<Lease {self.name!r}, token {self.token}, {self.remaining_s:.1f} s left>"


class Leases:
    """The leases of an app; injected by type."""

    def __init__(self, store: LeaseStore, clock: Clock) -> None:
        self.store = store
        self._clock = clock

    async def acquire(self, name: str, ttl_s: float = TTL_S) -> Lease | None:
        """The lease for ``ttl_s`` seconds, or None while somebody else holds it. Never waits for a holder.

        Raises StoreUnavailable. ``name`` has at most 200 visible characters.
        """
        _check(name, ttl_s)
        asked_at = self._clock.monotonic()
        token = await self.store.acquire(name, ttl_s)
        return None if token is None else Lease(name, token, ttl_s, asked_at, self._clock)

    async def renew(self, lease: Lease) -> bool:
        """Begin its time again; False when it was over already: stop what it protects. Raises StoreUnavailable."""
        asked_at = self._clock.monotonic()
        if await self.store.renew(lease.name, lease.token, lease.ttl_s):
            lease.renewed(asked_at)
            return True
        lease.end()
        return False

    async def release(self, lease: Lease) -> bool:
        """Let go, so that the next need not wait; False when its time was over. Raises StoreUnavailable."""
        lease.end()
        return await self.store.release(lease.name, lease.token)

    @asynccontextmanager
    async def hold(self, name: str, ttl_s: float = TTL_S, *, wait_s: float = 0.0) -> AsyncGenerator[Lease]:
        """Hold the lease while the block runs, renewing it three times in ``ttl_s`` seconds.

        Waits up to ``wait_s`` seconds for another holder to let go, then raises LeaseTaken. When the lease is lost (it
        ran out, or its store was away for too long) the block is cancelled and LeaseEnded is raised.
        """
        lease = await self._wait(name, ttl_s, wait_s)
        task = asyncio.current_task()
        assert task is not None
        keeper = asyncio.create_task(self._keep(lease, task), name=f"tenfold lease {name}")
        try:
            yield lease
        except asyncio.CancelledError:
            lost = keeper.done() and not keeper.cancelled()
            if lost and task.uncancel() == 0:  # the keeper cancelled us, and nobody else did
                raise LeaseEnded(f"the lease {name!r} was lost while it was needed.") from None
            raise
        finally:
            keeper.cancel()
            await asyncio.shield(self._let_go(lease, keeper))

    async def _wait(self, name: str, ttl_s: float, wait_s: float) -> Lease:
        clock = self._clock
        until = clock.monotonic() + wait_s
        while True:
            lease = await self.acquire(name, ttl_s)
            if lease is not None:
                return lease
            left = until - clock.monotonic()
            if left <= 0:
                raise LeaseTaken(f"the lease {name!r} is held by another; it was waited for {wait_s:g} s.")
            await clock.sleep(min(left, clock.random.uniform(0.1, 0.2) * min(ttl_s, 5 * POLL_S_MAX)))

    async def _keep(self, lease: Lease, task: asyncio.Task[object]) -> None:
        """Renew until it is lost; then cancel who holds it."""
        retry_s = lease.ttl_s / 3
        while True:
            await self._clock.sleep(min(retry_s, lease.remaining_s))
            try:
                if await self._renew_in_time(lease):
                    retry_s = lease.ttl_s / 3
                    continue
            except (StoreUnavailable, TimeoutError) as error:
                retry_s = lease.ttl_s / 15
                if lease.remaining_s > 0:
                    continue
                log.warning("lease %r could not be renewed in time: %s", lease.name, error)
            task.cancel()
            return

    async def _renew_in_time(self, lease: Lease) -> bool:
        async with asyncio.timeout(lease.remaining_s):
            with owned():
                return await self.renew(lease)

    async def _let_go(self, lease: Lease, keeper: asyncio.Task[None]) -> None:
        await asyncio.wait([keeper])
        try:
            await self.release(lease)
        except StoreUnavailable as error:
            log.warning("lease %r was not released, it ends by itself: %s", lease.name, error)


def _check(name: str, ttl_s: float) -> None:
    if not 1 <= len(name) <= NAME_MAX_CHARS or not name.isprintable() or name != name.strip():
        raise ValueError(f"{name!r} is not a lease's name: 1 to {NAME_MAX_CHARS} visible characters.")
    if not 0.01 <= ttl_s <= 86_400:
        raise ValueError(f"ttl_s is {ttl_s:g}; a lease lasts from 0.01 s to a day.")
