"""What the process says about itself: build, event loop lag. (Memory, CPU, garbage collection: exposition.)"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
from collections.abc import Mapping
from importlib.metadata import version

from tenfold._core.clock import Clock
from tenfold._core.tasks import end_tasks
from tenfold.telemetry import names
from tenfold.telemetry.metrics import Family, Registry, Sample


def instance_name() -> str:
    """What this process is called among those of the app: ``TENFOLD_INSTANCE``, as `tenfold up` sets it, or host and id."""
    return os.environ.get("TENFOLD_INSTANCE") or f"{socket.gethostname()}.{os.getpid()}"


def build_info(registry: Registry, *, app: str, extra: Mapping[str, str] | None = None) -> None:
    """Show which code runs: ``tenfold_build_info{app, version, python, …} 1``."""
    labels = {"app": app, "version": version("tenfold"), "python": platform.python_version(), **(extra or {})}
    family = Family(
        names.BUILD_INFO.removesuffix("_info"), "info", "Versions of what runs.", [Sample("_info", labels, 1)]
    )
    registry.collector(lambda: [family], names.BUILD_INFO)


class LoopLag:
    """A part that measures how late the event loop runs what is due: by the oversleep of short sleeps."""

    def __init__(self, registry: Registry, clock: Clock, *, interval_s: float = 0.25) -> None:
        self._clock, self._interval_s = clock, interval_s
        self._task: asyncio.Task[None] | None = None
        self._histogram = registry.histogram(
            names.LOOP_LAG, "How late the event loop ran a timer, in seconds."
        ).labels()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._measure(), name="tenfold-loop-lag")

    async def stop(self) -> None:
        task, self._task = self._task, None
        await end_tasks(task)

    async def _measure(self) -> None:
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep(self._interval_s)
            self._histogram.observe(max(0.0, self._clock.monotonic() - before - self._interval_s))
