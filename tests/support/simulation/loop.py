"""An event loop of virtual time. Its processes (:data:`NODE`) take their steps in an order that a seed decides."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from tenfold.db.backends import _sqlite_link
from tenfold.db.backends._sqlite_writer import Writer
from tenfold.db.pace import PROBATION_RUNS, Pace

NODE: ContextVar[str] = ContextVar("simulated_node", default="")
"""The process that a callback belongs to; empty for the world itself, which never pauses."""

STEP_S = 1e-5
"""What a step takes: without it, somebody who tries again at once would never let time pass."""


class Stuck(Exception):
    """Nobody is ready and no timer is set: the simulated fleet waits for itself."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Within a process callbacks run in the order in which they became ready, as asyncio promises; between processes in
    any. A paused process takes no step, and its timers are late."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._virtual = 0.0
        self._lines: dict[str, deque[asyncio.Handle]] = {}
        self.paused: set[str] = set()
        self.steps = 0

    def time(self) -> float:
        return self._virtual

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """At once, in this thread: what a thread does to a simulation is not in the seed."""
        return done_by(self, func, *args)

    def _write_to_self(self) -> None: ...

    def _run_once(self) -> None:
        scheduled, paused = self._scheduled, self.paused
        if self._ready or (scheduled and (scheduled[0]._when <= self._virtual or scheduled[0]._cancelled)):
            self._collect()
        ready = [line for name, line in self._lines.items() if line and name not in paused]
        if not ready:
            if not self._advance():
                raise Stuck(f"nobody can go on at {self._virtual:g} s")
            return
        handle = (ready[int(self._random.random() * len(ready))] if len(ready) > 1 else ready[0]).popleft()
        self._virtual += STEP_S
        self.steps += 1
        if not handle._cancelled:
            handle._run()

    def _collect(self) -> None:
        """Sort what is ready, and the timers that are due, into the lines of their processes."""
        scheduled = self._scheduled
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self._virtual):
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._ready.append(timer)
        lines = self._lines
        for handle in self._ready:
            owner = _owner(handle)
            if owner not in lines:
                lines[owner] = deque()
            lines[owner].append(handle)
        self._ready.clear()

    def _advance(self) -> bool:
        """Jump to the next timer."""
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
        if not self._scheduled:
            return False
        self._virtual = max(self._virtual, self._scheduled[0]._when)
        return True


def _owner(handle: asyncio.Handle) -> str:
    callback: Any = handle._callback
    while type(callback) is partial:
        callback = callback.func
    if type(getattr(callback, "__self__", None)) is Writer:
        return ""  # the database's own work, which a paused process does not hold up
    context: Any = handle._context  # type: ignore[attr-defined]
    return context.get(NODE, "")


def done_by(loop: asyncio.AbstractEventLoop, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
    """The outcome of a call, as a future that is done."""
    future: asyncio.Future[Any] = loop.create_future()
    try:
        future.set_result(func(*args))
    except Exception as error:
        future.set_exception(error)
    return future


class InlineLane:
    """In place of :class:`tenfold.db.backends._sqlite_link.Lane`: its thread's work is done at once."""

    def __init__(self, name: str) -> None: ...

    def submit(self, fn: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        return done_by(asyncio.get_running_loop(), fn, *args)

    def stop(self) -> None: ...


def without_threads(monkeypatch: Any) -> None:
    """Let SQLite's connections of this process do their work inline. Compiled statements outlive a seed, so what a
    statement has cost before must not decide how it runs."""
    monkeypatch.setattr(_sqlite_link, "Lane", InlineLane)
    monkeypatch.setattr(Pace, "__init__", _proved)


def _proved(pace: Pace) -> None:
    pace.inline, pace.cost_s, pace.runs, pace.probation = True, 0.0, PROBATION_RUNS, PROBATION_RUNS
