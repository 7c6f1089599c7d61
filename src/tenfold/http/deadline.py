"""Deadlines without a timer per request: one task looks at all requests in flight, about 20 times a second.

It cancels requests whose deadline passed (504), whose body does not arrive (408) and whose client went away.
Requests that are still in flight at the second look get a watcher for the client's disconnection; quick ones,
which are nearly all, cost one dict entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from tenfold._core.tasks import end_tasks
from tenfold.errors import DeadlineExceeded, Problem, RequestTimeout

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.http.request import Request

log = logging.getLogger("tenfold.http")

TICK_S = 0.05


class Sweeper:
    """Requests in flight by task. The generated code enters and leaves them; nothing else may."""

    def __init__(
        self, clock: Clock, *, body_timeout_s: float, on_tick: Callable[[], None] | None = None
    ) -> None:
        self.inflight: dict[asyncio.Task[object], Request] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop that it sweeps, once started."""
        self._clock = clock
        self._body_timeout_s = body_timeout_s
        self._on_tick = on_tick
        self._runner: asyncio.Task[None] | None = None
        self._watchers: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> bool:
        return self._runner is not None and not self._runner.done()

    def start(self) -> None:
        """Begin sweeping on the running loop; again is harmless."""
        if not self.running:
            self.loop = asyncio.get_running_loop()
            self._runner = self.loop.create_task(self._run(), name="tenfold deadlines")

    async def stop(self) -> None:
        """Stop sweeping; requests in flight go on without deadlines."""
        tasks = [*self._watchers, *([self._runner] if self._runner else [])]
        self._runner = self.loop = None
        await end_tasks(*tasks)

    async def _run(self) -> None:
        before = self._clock.monotonic()
        while True:
            await self._clock.sleep(TICK_S)
            now = self._clock.monotonic()
            self.sweep(now, now - before)
            before = now
            if self._on_tick is not None:
                self._on_tick()

    def sweep(self, now: float, elapsed_s: float) -> None:
        """One look at everything in flight."""
        for task, request in list(self.inflight.items()):
            if request.ended:
                continue
            deadline = request.context.deadline
            if deadline is not None and now >= deadline:
                self._end(task, request, "deadline")
            elif request.reading:
                request.body_wait_s += elapsed_s
                if request.body_wait_s > self._body_timeout_s:
                    self._end(task, request, "body")
            elif request.looks < 2:
                request.looks += 1
                if request.looks == 2:
                    self._watch(task, request)

    def _end(self, task: asyncio.Task[object], request: Request, why: str) -> None:
        request.ended = why
        task.cancel()

    def _watch(self, task: asyncio.Task[object], request: Request) -> None:
        """Await the client's disconnection, unless the body is still to be read: only one may receive."""
        if request.method in BODYLESS:
            request.consumed = request.complete = True
        if not request.complete:
            request.looks = 1  # look again at the next sweep
            return
        watcher = asyncio.get_running_loop().create_task(self._disconnected(task, request))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _disconnected(self, task: asyncio.Task[object], request: Request) -> None:
        while (await request.receive())["type"] == "http.request":
            pass
        if task in self.inflight and not request.ended:
            self._end(task, request, "disconnect")


BODYLESS = frozenset({"GET", "HEAD"})
"""A body of these has no meaning (RFC 9110 § 9.3.1); a slow handler of theirs finds it empty."""


def problem_of(ended: str, seconds: float) -> Problem:
    """What the client is told about a request that the sweeper cancelled."""
    if ended == "body":
        return RequestTimeout(
            "The body did not arrive in time; send it again, or in smaller pieces.",
            headers={"Connection": "close"},
        )
    return DeadlineExceeded(f"The operation was not done within its {seconds:g} seconds and was stopped.")
