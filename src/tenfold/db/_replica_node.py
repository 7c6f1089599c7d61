"""One node of a replicated database as this process knows it: looked at all the time, left out when it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tenfold._core.backoff import bound_s
from tenfold._core.causal import ORIGIN, Position
from tenfold.db.routing import NEVER
from tenfold.errors import ConfigError, DatabaseError, DatabaseUnavailable

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.contract import DatabaseBackend
    from tenfold.db.watch import Look, Watch

log = logging.getLogger("tenfold.db")

R = TypeVar("R")

LOOK_EVERY_S = 0.2
"""Between two looks at a node when nobody waits for news."""
LOOK_SOON_S = 0.02
"""Between two looks when reads had to go to the primary because no copy was known to have come far enough."""
LOOK_TIMEOUT_S = 1.0
"""A node that does not answer a look for so long is taken to be down, and its reads go elsewhere."""
SHUN_MIN_S, SHUN_MAX_S = 0.2, 5.0
"""How long a copy gets no reads after one failed on it; doubled with every failure in a row."""


class NodeLost(DatabaseUnavailable):
    """A read was given up because its node does not answer looks any more."""


class Node:
    """A backend, and what is known of its node. ``seen(node, look, began)`` is called after every look that worked.
    Unless it is ``started``, the backend is started by the first of them and stopped with the node.

    As a :class:`~tenfold.db.routing.Candidate` it starts out as down.
    """

    def __init__(
        self,
        name: str,
        backend: DatabaseBackend,
        clock: Clock,
        seen: Callable[[Node, Look, float], None],
        *,
        started: bool = False,
    ) -> None:
        self.name = name
        self.backend = backend
        self.up = False
        self.position: Position = ORIGIN
        self.as_of = NEVER
        self.shunned_until = 0.0
        self.in_flight = 0
        self.reads = 0
        self.failures = 0
        """Reads that failed on it since the start."""
        self._streak = 0
        self._clock = clock
        self._seen = seen
        self._owned = not started
        self._started = started
        self._one_look = asyncio.Lock()
        self._watch: Watch | None = None
        self._scopes: set[asyncio.Timeout] = set()
        self._news_wanted = asyncio.Event()
        self._complaint = ""
        """What was logged last, so that a dead node fills no log."""

    # ── looking ──

    async def look(self) -> Look:
        """One look now. Raises DatabaseUnavailable, or ConfigError when the node refuses to tell."""
        async with self._one_look:
            look = await self._look()
            if not self._started:
                await self.backend.start()
                self._started = True
            return look

    async def _look(self) -> Look:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                if self._watch is None:
                    self._watch = await self.backend.watch(self._connection_lost)
                return await self._watch.look()
        except TimeoutError:
            self._close_watch()
            raise DatabaseUnavailable(f"it did not answer within {LOOK_TIMEOUT_S:g} s.") from None
        except BaseException:
            self._close_watch()
            raise

    async def keep_looking(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            began = self._clock.monotonic()
            try:
                look = await self.look()
            except (DatabaseError, ConfigError) as error:
                self.down(str(error))
            else:
                self._seen(self, look, began)
            await self._pause()

    def want_news(self) -> None:
        """Have the next look happen soon."""
        self._news_wanted.set()

    async def _pause(self) -> None:
        await asyncio.sleep(LOOK_SOON_S)
        try:
            async with asyncio.timeout(LOOK_EVERY_S - LOOK_SOON_S):
                await self._news_wanted.wait()
        except TimeoutError:
            return
        finally:
            self._news_wanted.clear()

    def _connection_lost(self) -> None:
        # A copy that is restarted begins before the place where it was, so what was known of it holds no more.
        self._watch = None
        self.down("its connection broke.")
        self.want_news()

    def _close_watch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()

    # ── what the looks found ──

    def good(self, position: Position, as_of: float) -> None:
        """It is a copy that has come to ``position``."""
        self.position, self.as_of = position, as_of
        if not self.up:
            self.up = True
            if self._complaint:
                log.info("%s is back", self.name, extra={"event": "db.replica_up"})
                self._complaint = ""

    def down(self, why: str) -> None:
        """No reads until a look says otherwise; those that are under way go elsewhere."""
        if self._complaint != why:
            self._complaint = why
            log.warning("%s is away: %s", self.name, why, extra={"event": "db.replica_down"})
        self.up = False
        now = asyncio.get_running_loop().time()
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(now)

    # ── reading ──

    async def run(self, call: Callable[..., Awaitable[R]], *args: Any) -> R:
        """``await call(*args)``; raises NodeLost as soon as the node is known to be down."""
        scope = asyncio.timeout(None)
        self.in_flight += 1
        self.reads += 1
        self._scopes.add(scope)
        try:
            async with scope:
                result = await call(*args)
            self._streak = 0
            return result
        except TimeoutError:
            if scope.expired():
                raise NodeLost(f"{self.name} went away while it was read from.") from None
            raise
        finally:
            self.in_flight -= 1
            self._scopes.discard(scope)

    def failed(self) -> None:
        """A read failed because of the node: shun it for a while, and look at it soon."""
        self.failures += 1
        self._streak += 1
        pause_s = bound_s(self._streak, base_s=SHUN_MIN_S, most_s=SHUN_MAX_S)
        self.shunned_until = self._clock.monotonic() + pause_s
        self.want_news()

    async def stop(self) -> None:
        """Disconnect."""
        self.up = False
        self._close_watch()
        if self._owned and self._started:
            self._started = False
            await self.backend.stop()
