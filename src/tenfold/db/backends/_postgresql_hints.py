"""Hints to and from other processes by NOTIFY, which are never part of a business transaction.

NOTIFY makes commits wait for each other, so it is sent by itself: at most once in :data:`GAP_MIN_S`, and less often where
many hints come (:func:`gap_after`). One that comes alone goes in the packet of the commit that it tells
of, as a transaction of its own behind that: whoever listens is woken before who commits knows of it. LISTEN is lost
with its connection, silently when the network swallows packets: the connection is tried every :data:`PING_S`, and
after each reconnect everybody is woken, since hints may have been missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tenfold._core.tasks import end_tasks
from tenfold.db.backends._postgresql_line import query
from tenfold.db.plan import Plan
from tenfold.errors import DatabaseError

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.backends._pool import Pool
    from tenfold.db.backends._postgresql_driver import PgLink
    from tenfold.db.hints import Hints

log = logging.getLogger("tenfold.db")

CHANNEL = "tenfold"
GAP_MIN_S, GAP_BUSY_S, GAP_MAX_S = 0.001, 0.005, 0.02
BUSY_PER_S, CROWD_PER_S = 250, 1000
"""So many hints make the gap between two that are sent longer."""
ALONE_S = 0.002
"""A hint is alone when the one before it is so long ago."""
PING_S = 10.0
_TIMEOUT_S = 5.0
_RETRY_MIN_S, _RETRY_MAX_S = 0.1, 5.0
_NOTIFY = Plan(
    "SELECT count(pg_notify('tenfold', topic)) FROM unnest($1::text[]) AS topic", (), None, named=False
)


def gap_after(gap_s: float, given: int, seconds: float) -> float:
    """How long to gather hints after ``gap_s``, when ``given`` came within ``seconds``. Where few come, each is waited for.
    Where many do, whoever is told is busy anyway, and what tells him costs as much as a small transaction."""
    if given > seconds * CROWD_PER_S:
        return min(2 * gap_s, GAP_MAX_S)
    return min(2 * gap_s, GAP_BUSY_S) if given > seconds * BUSY_PER_S else GAP_MIN_S


class Wire:
    """The hints of one process. ``connect`` makes a connection outside of the pool."""

    def __init__(
        self,
        pool: Pool[PgLink],
        connect: Callable[[], Awaitable[PgLink]],
        hints: Hints,
        clock: Clock,
    ) -> None:
        self._pool, self._connect, self._hints, self._clock = pool, connect, hints, clock
        self._self = f"{clock.random.getrandbits(48):x}"
        """Marks our own notifications, which have woken everybody here already."""
        self._topics: set[str] = set()
        self._given = 0
        """Hints since the last one was sent."""
        self._given_at = float("-inf")
        """Monotonic, of the last one."""
        self._carrier: PgLink | None = None
        """The connection that took the last one along with a commit."""
        self._sender: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None

    # ── giving ──

    def along(self, topic: str, link: PgLink) -> bytes:
        """The query that tells the other processes, for who sends it right behind its commit on ``link``; nothing where
        hints come so close together that one does for several, or one is held up: then it is to be given after the commit."""
        now = self._clock.monotonic()
        before, self._given_at = self._given_at, now
        if now - before < ALONE_S or not self._is_free() or not link.takes_behind:
            return b""
        self._carrier = link
        return query(f"NOTIFY {CHANNEL}, '{self._self}:{topic}'")

    def give(self, topic: str) -> None:
        """Tell the other processes soon."""
        self._given_at = self._clock.monotonic()
        self._topics.add(topic)
        self._given += 1
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        gap_s = GAP_MIN_S
        while self._topics:
            begun, self._given = self._clock.monotonic(), 0
            topics, self._topics = [f"{self._self}:{topic}" for topic in self._topics], set()
            try:
                async with self._pool.link() as link:
                    await link.fetch(_NOTIFY, (topics,), 0, _TIMEOUT_S)
            except Exception as error:
                log.debug("a hint was lost: %s", error)
            await asyncio.sleep(gap_s)
            gap_s = gap_after(gap_s, self._given, self._clock.monotonic() - begun)

    def _is_free(self) -> bool:
        """Whether no hint is on its way: NOTIFY waits for others, and is to hold up one connection at most."""
        carrier = self._carrier
        if carrier is not None and not carrier.takes_behind and not carrier.closed:
            return False
        return self._sender is None or self._sender.done()

    # ── getting ──

    def listen(self) -> None:
        """Begin to listen, if that has not been done."""
        if self._listener is None:
            self._listener = asyncio.get_running_loop().create_task(self._keep_listening())

    async def _keep_listening(self) -> None:
        delay_s = _RETRY_MIN_S
        while True:
            try:
                link = await self._connect()
                try:
                    delay_s = _RETRY_MIN_S
                    await self._listen_on(link.connection)
                finally:
                    await link.close()
            except (DatabaseError, OSError, TimeoutError) as error:
                log.info("hints of other processes are not heard for a while: %s", error)
            except Exception:
                log.exception("hints of other processes are not heard for a while")
            await self._clock.sleep(delay_s * self._clock.random.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, _RETRY_MAX_S)

    async def _listen_on(self, connection: Any) -> None:
        """Until the connection is lost."""
        gone = asyncio.Event()
        connection.add_termination_listener(lambda _: gone.set())
        await connection.add_listener(CHANNEL, self._heard)
        self._hints.give_all()
        while not gone.is_set():
            try:
                async with asyncio.timeout(PING_S):
                    await gone.wait()
            except TimeoutError:
                await connection.execute("SELECT 1", timeout=_TIMEOUT_S)

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        sender, _, topic = payload.partition(":")
        if sender != self._self:
            self._hints.give(topic)

    # ── the end ──

    async def stop(self) -> None:
        """Send what is left to be sent; listen no more."""
        listener, self._listener = self._listener, None
        await end_tasks(listener)
        if self._sender is not None:
            await asyncio.wait([self._sender], timeout=_TIMEOUT_S)
