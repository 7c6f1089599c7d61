"""The telemetry store of one app as a part: rings, writer and reader, and what is read of the registry.

The loop's share of the work: once a second a few additions, every five seconds one reading of all metrics. Everything
else is the writer's thread's.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import msgspec

from tenfold._core.clock import Clock
from tenfold._core.sections.store import TelemetrySettings
from tenfold._core.tasks import end_tasks
from tenfold.telemetry import names
from tenfold.telemetry.metrics import Registry
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.store.answers import Answers
from tenfold.telemetry.store.feed import Feed
from tenfold.telemetry.store.file import NAME, StoreFile
from tenfold.telemetry.store.housekeeping import Housekeeping
from tenfold.telemetry.store.records import StoreStatus
from tenfold.telemetry.store.retention import Steady
from tenfold.telemetry.store.rollup import DAY_S, FINE
from tenfold.telemetry.store.tail import Tail
from tenfold.telemetry.store.writer import Slow, Writer

TICK_S: Final = 1.0


class Store:
    """``records`` answers, ``feed`` takes. ``slow`` is told from when on an operation counts as slow."""

    def __init__(
        self,
        folder: Path,
        settings: TelemetrySettings,
        clock: Clock,
        registry: Registry,
        *,
        instance: str,
        redactor: Redactor | None = None,
        slow: Slow = lambda operation, seconds: None,
    ) -> None:
        self._clock, self._registry, self._settings = clock, registry, settings
        self.feed = Feed(
            clock.monotonic,
            requests_per_s=settings.requests_per_s,
            logs_per_s=settings.logs_per_s,
            traces_per_s=settings.traces_per_s,
            log_level=settings.log_level,
        )
        path, keep_s = folder / NAME, settings.keep_days * DAY_S
        file = StoreFile(path, writes=True)
        steady = Steady(clock.now(), clock.monotonic())
        self.writer = Writer(
            file,
            self.feed,
            clock,
            instance=instance,
            redactor=redactor or Redactor(),
            housekeeping=Housekeeping(file, keep_bytes=settings.keep_mb << 20, keep_s=keep_s, steady=steady),
            tail=Tail(),
            slow=slow,
        )
        self.records = Answers(path, clock, self._about)
        self._task: asyncio.Task[None] | None = None
        registry.reading(
            names.TELEMETRY_DROPPED,
            "What telemetry could not be kept, by kind and reason.",
            self._dropped,
            (names.REASON,),
        )

    async def start(self) -> None:
        self.writer.start()
        self._task = asyncio.create_task(self._tick(), name="tenfold-telemetry")

    async def stop(self) -> None:
        """Write what waits. Takes seconds at most, whatever the disk does."""
        task, self._task = self._task, None
        await end_tasks(task)
        self._read()
        await asyncio.to_thread(self.writer.stop)
        await asyncio.to_thread(self.records.stop)

    async def _tick(self) -> None:
        ticked = read = self._clock.monotonic()
        while True:
            await self._clock.sleep(TICK_S)
            now = self._clock.monotonic()
            self.feed.tick(now - ticked)
            ticked = now
            if now - read >= FINE.step_s - TICK_S / 2:
                read = now
                self._read()

    def _read(self) -> None:
        self.feed.snapshot(self._clock.now(), list(self._registry.collect()))

    def _dropped(self) -> dict[tuple[str, ...], float]:
        return {(reason,): count for reason, count in self._losses().items()}

    def _losses(self) -> dict[str, int]:
        tail, differ = self.writer.tail, self.writer.differ
        more = {"trace too many": tail.over, "series too many": differ.left_out}
        return {**self.feed.dropped, **{reason: count for reason, count in more.items() if count}}

    def _about(self, status: StoreStatus) -> StoreStatus:
        settings = self._settings
        return msgspec.structs.replace(
            status,
            keep_bytes=settings.keep_mb << 20,
            keep_s=settings.keep_days * DAY_S,
            dropped=self._losses(),
            sentence=self.writer.sentence,
        )
