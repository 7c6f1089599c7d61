"""Runs one asynchronous projection: follows the events, and moves its position on with their effect."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from tenfold._core.failpoints import failpoints
from tenfold._core.tasks import end_tasks
from tenfold._core.text import keepable
from tenfold.errors import (
    DatabaseUnavailable,
    LeaseEnded,
    LeaseTaken,
    OutcomeUnknown,
    SerializationFailure,
    StatementTimeout,
    StoreUnavailable,
)
from tenfold.eventstore import progress
from tenfold.eventstore.progress import Progress
from tenfold.queue.retry import Retry

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.db.database import Database
    from tenfold.eventstore.contract import EventRow, EventStoreBackend
    from tenfold.eventstore.projection import BoundProjection
    from tenfold.guard.lease import Leases

log = logging.getLogger("tenfold.eventstore")

LEASE_S = 15.0
TAKE_OVER_S = 5.0
"""How often an instance that does not run the projection asks whether it should."""
WINDOW = 200_000
"""Positions that one statement looks through at most: events of others are passed over, but they are read."""
POISON = Retry(attempts=3, base_s=0.2)
"""How often an event is tried before it is given up."""
AWAY = Retry(attempts=2**31, base_s=0.2, max_s=10.0)
"""How long is waited while the database is away."""
PASSING = (
    DatabaseUnavailable, LeaseEnded, OutcomeUnknown, SerializationFailure, StatementTimeout, StoreUnavailable,
)  # fmt: skip
"""What is not the event's fault."""


class Moved(Exception):
    """The projection's row is not where this runner left it: paused, rebuilt, or run by another."""


class Follower:
    """One projection in one process. At most one in the fleet runs it, for as long as its lease says; and should two
    believe that they do, the position moves on for one of them only."""

    def __init__(
        self,
        projection: BoundProjection,
        database: Database,
        store: Callable[[], EventStoreBackend],
        leases: Leases,
        clock: Clock,
        *,
        poll_s: float,
    ) -> None:
        self.projection = projection
        self.name = projection.name
        self._database = database
        self._store = store
        self._leases = leases
        self._clock = clock
        self._poll_s = poll_s
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._horizon = 0
        self._at: Progress | None = None
        self._behind_since: float | None = None
        self._failures = 0
        """Of the next event, tried by itself."""
        self._pause_s = 0.0
        """How long to wait before the next turn."""
        self.handled = 0
        self.skipped = 0

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"tenfold projection {self.name}")

    async def stop(self) -> None:
        task, self._task = self._task, None
        await end_tasks(task)

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def numbers(self) -> Mapping[str, int | float]:
        """Lag in events and seconds (0 where another process runs the projection), and what was done here."""
        behind = 0 if self._at is None else max(0, self._horizon - self._at.position)
        since = self._behind_since
        lag_s = 0.0 if since is None else max(0.0, self._clock.now() - since)
        return {
            "lag_events": behind, "lag_s": lag_s, "handled_total": self.handled, "skipped_total": self.skipped,
            "failed": int(self._at is not None and self._at.state == "failed"),
        }  # fmt: skip

    # ── running ──

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                async with self._leases.hold(f"projection:{self.name}", LEASE_S):
                    await self._lead()
            except LeaseTaken:
                failures = 0
                await self._clock.sleep(self._clock.random.uniform(0.5, 1.0) * TAKE_OVER_S)
            except PASSING as error:
                failures += 1
                log.warning("projection %s goes on soon: %s", self.name, error)
                await self._clock.sleep(AWAY.delay_s(failures, self._clock.random) or 0.0)
            finally:
                self._at, self._behind_since = None, None

    async def _lead(self) -> None:
        at = await self.begin()
        if at.state == "failed":  # the code may be another one now
            await self._set_state("running")
        while True:
            self._woken.clear()
            if await self.turn():
                pause_s, self._pause_s = self._pause_s, 0.0
                if pause_s:
                    await self._clock.sleep(pause_s)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_s):
                        await self._woken.wait()

    async def begin(self) -> Progress:
        """The projection's row, made when it is missing."""
        declared = self.projection.declared
        async with self._database.tx() as tx:
            first = await self._store().horizon(tx) if declared.from_now else 0
            self._at = await progress.ensure(
                tx, self.name, declared.revision, self._clock.now(), position=first
            )
        return self._at

    async def turn(self) -> bool:
        """Handle one batch; False when there was nothing to do."""
        at = self._at or await self.begin()
        if at.state != "running":
            self._at = await progress.read(self._database.read(consistency="strong"), self.name)
            return self._at is not None and self._at.state == "running"
        if at.position >= self._horizon:
            async with self._database.tx() as tx:
                self._horizon = await self._store().horizon(tx)
            if at.position >= self._horizon:
                self._behind_since = None
                return False
        until = min(self._horizon, at.position + WINDOW)
        await self._database.passage()  # the store's SQL is that of the database that is then read
        rows = await self._store().follow(
            self._database.read(consistency="strong"), self.projection.categories, at.position, until,
            self.projection.declared.batch,
        )  # fmt: skip
        end = rows[-1].id if len(rows) == self.projection.declared.batch else until
        self._behind_since = rows[0].at if rows else None
        try:
            await self._handle(at, rows, end)
        except Moved:
            self._at = await progress.read(self._database.read(consistency="strong"), self.name)
        return True

    async def _handle(self, at: Progress, rows: Sequence[EventRow], end: int) -> None:
        if self._failures == 0:
            try:
                await self._apply(at, rows, end)
            except (*PASSING, Moved):
                raise
            except Exception as error:
                log.debug("projection %s: of a batch, each event is tried by itself: %r", self.name, error)
            else:
                return
        await self._one_by_one(rows, end)

    async def _apply(self, at: Progress, rows: Sequence[EventRow], end: int) -> None:
        """The effect of ``rows`` and the position behind them, together or not at all."""
        events = [self.projection.decode(row) for row in rows]
        async with self._database.tx() as tx:
            # First the row: it is locked until the commit, and tells at once when somebody else has moved it.
            if not await progress.advance(tx, self.name, at.position, end, self._clock.now()):
                raise Moved
            if events:
                await self.projection.apply_apart(tx, events)
            if failpoints.on:
                failpoints.visit("projection.effect")
        if failpoints.on:
            failpoints.visit("projection.moved")
        self.handled += len(events)
        self._at = _moved(at, end)

    async def _one_by_one(self, rows: Sequence[EventRow], end: int) -> None:
        """Up to the event that fails: it is tried again in the next turns, then given up."""
        for row in rows:
            assert self._at is not None
            try:
                await self._apply(self._at, [row], row.id)
                self._failures = 0
            except (*PASSING, Moved):
                raise
            except Exception as error:
                if self._tries_again():
                    return
                await self._give_up(row, error)
                if self._at.state != "running":
                    return
        assert self._at is not None
        if self._at.position < end:
            await self._apply(self._at, [], end)

    def _tries_again(self) -> bool:
        self._failures += 1
        delay_s = POISON.delay_s(self._failures, self._clock.random)
        self._pause_s = delay_s or 0.0
        return delay_s is not None

    async def _give_up(self, row: EventRow, error: Exception) -> None:
        """Leave the event out, or stop before it, as declared."""
        assert self._at is not None
        self._failures = 0
        if self.projection.declared.on_poison == "stop":
            await self._stop_at(row, error)
            return
        log.error("projection %s leaves out %s: %s", self.name, _name(row), _said(error), exc_info=error)
        await self._apply(self._at, [], row.id)
        self.skipped += 1

    async def _stop_at(self, row: EventRow, error: Exception) -> None:
        said = f"It stopped before {_name(row)}: {_said(error)}"
        log.error("projection %s: %s Mend it, then run: tenfold projections resume %s",
                  self.name, said, self.name, exc_info=error)  # fmt: skip
        await self._set_state("failed", said)

    async def _set_state(self, state: progress.State, error: str | None = None) -> None:
        async with self._database.tx() as tx:
            await progress.set_state(tx, self.name, state, self._clock.now(), error)
            self._at = await progress.read(tx, self.name)


def _moved(at: Progress, position: int) -> Progress:
    return Progress(
        at.name,
        at.revision,
        at.state,
        position,
        at.error,
        at.changed_at,
        at.rebuild_position,
        at.rebuild_revision,
    )


def _name(row: EventRow) -> str:
    return f"{row.category}/{row.stream}@{row.version} ({row.type}, position {row.id})"


def _said(error: BaseException) -> str:
    return keepable(f"{type(error).__name__}: {error}") if str(error) else type(error).__name__
