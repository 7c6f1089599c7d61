"""Deadlines without a timer per request: one task looks at all requests in flight, at least 20 times a second.

It cancels requests whose deadline passed (504), whose body does not arrive (408) and whose client went away. Between
two looks it sleeps until the nearest deadline that it knows of, so a request is cancelled at its deadline and not at
the next look. Requests that are still in flight at the second look get a watcher for the client's disconnection; quick
ones, which are nearly all, cost one dict entry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tenfold._core.deadlines import HEADER, timeout_ms
from tenfold._core.tasks import AGAIN_S, end_tasks
from tenfold.errors import BadRequest, DeadlineExceeded, Problem, RequestTimeout

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.http.request import Request

log = logging.getLogger("tenfold.http")

TICK_S = 0.05
"""Longest time between two looks. A request whose time is shorter asks for a look of its own: :meth:`Sweeper.look_at`."""
_PAUSE_MIN_S = 0.000_5
"""Shortest, so that a clock that is read coarsely does not make the loop spin."""
RAW_HEADER = HEADER.lower().encode()


class Sweeper:
    """Requests in flight by task. The generated code enters and leaves them; nothing else may."""

    def __init__(
        self,
        clock: Clock,
        *,
        body_timeout_s: float,
        bytes_per_s_min: int = 1024,
        on_tick: Callable[[], None] | None = None,
    ) -> None:
        self.inflight: dict[asyncio.Task[object], Request] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop that it sweeps, once started."""
        self._clock = clock
        self._body_timeout_s = body_timeout_s
        self._bytes_per_s_min = bytes_per_s_min
        self._on_tick = on_tick
        self._runner: asyncio.Task[None] | None = None
        self._watchers: set[asyncio.Task[None]] = set()
        self._ended: dict[asyncio.Task[object], float] = {}
        """When the requests were cancelled that have not ended since."""

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
        before, pause_s = self._clock.monotonic(), TICK_S
        while True:
            await self._clock.sleep(pause_s)
            now = self._clock.monotonic()
            pause_s = self.sweep(now, now - before)
            before = now
            if self._on_tick is not None:
                self._on_tick()

    def sweep(self, now: float, elapsed_s: float) -> float:
        """One look at everything in flight; answers in how many seconds the next one is due."""
        nearest = now + TICK_S
        for task, request in list(self.inflight.items()):
            deadline = request.context.deadline
            if request.ended:
                self._end_again(task, now)
            elif deadline is not None and now >= deadline:
                self._end(task, request, "deadline")
            else:
                if deadline is not None and deadline < nearest:
                    nearest = deadline
                self._look(task, request, elapsed_s)
        if self._ended:
            self._ended = {task: at for task, at in self._ended.items() if task in self.inflight}
        return max(nearest - now, _PAUSE_MIN_S)

    def look_at(self, moment: float) -> None:
        """Look at this moment of the monotonic clock, too: it may be nearer than the next look."""
        if self.loop is not None:
            self._keep(self.loop.create_task(self._sweep_at(moment), name="tenfold deadline"))

    async def _sweep_at(self, moment: float) -> None:
        await self._clock.sleep(moment - self._clock.monotonic())
        now = self._clock.monotonic()
        for task, request in list(self.inflight.items()):
            deadline = request.context.deadline
            if deadline is not None and now >= deadline and not request.ended:
                self._end(task, request, "deadline")

    def _look(self, task: asyncio.Task[object], request: Request, elapsed_s: float) -> None:
        """At a request that has time left."""
        if request.reading:
            request.body_wait_s += elapsed_s
            if request.body_wait_s > self._body_timeout_s + request.body_bytes / self._bytes_per_s_min:
                request.body_timeout_s = self._body_timeout_s
                self._end(task, request, "body")
        elif request.looks < 2:
            request.looks += 1
            if request.looks == 2:
                self._watch(task, request)

    def _end(self, task: asyncio.Task[object], request: Request, why: str) -> None:
        request.ended = why
        self._ended[task] = self._clock.monotonic()
        task.cancel()

    def _end_again(self, task: asyncio.Task[object], now: float) -> None:
        """For one that lives on: ``asyncio.wait_for`` before Python 3.12, which many libraries use, loses a cancellation
        that comes in the same moment as its result. Not at once, for it may be cleaning up."""
        if now - self._ended.setdefault(task, now) >= AGAIN_S:
            self._ended[task] = now
            task.cancel()

    def _watch(self, task: asyncio.Task[object], request: Request) -> None:
        """Await the client's disconnection, unless the body is still to be read: only one may receive."""
        if request.method in BODYLESS:
            request.consumed = request.complete = True
        if not request.complete:
            request.looks = 1  # look again at the next sweep
            return
        self._keep(asyncio.get_running_loop().create_task(self._disconnected(task, request)))

    def _keep(self, watcher: asyncio.Task[None]) -> None:
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _disconnected(self, task: asyncio.Task[object], request: Request) -> None:
        ends = 0
        while (message := await request.receive())["type"] == "http.request":
            ends += not message.get("more_body", False)
            if ends > 1:
                # The body has ended before: this server answers at once where it should wait for the client to go away,
                # and asking it again and again would hold the loop for ever.
                return
        if task in self.inflight and not request.ended:
            self._end(task, request, "disconnect")


BODYLESS = frozenset({"GET", "HEAD"})
"""A body of these has no meaning (RFC 9110 § 9.3.1); a slow handler of theirs finds it empty."""


# ── what the caller says ──


def asked_ms(request: Request) -> int | None:
    """How long the caller will wait, in milliseconds; the shortest where several on the way have said so.

    Raises BadRequest for a value that is none.
    """
    said = [value.decode("latin-1") for name, value in request.raw_headers if name == RAW_HEADER]
    try:
        return min(map(timeout_ms, said), default=None)
    except ValueError as error:
        raise BadRequest(f"The header {HEADER} cannot be used: {error}.") from None


class Caller:
    """The deadline that a caller may ask for: it shortens the operation's, and never lengthens it."""

    def __init__(self, sweeper: Sweeper) -> None:
        self._sweeper = sweeper

    def narrow(self, request: Request, started: float) -> None:
        """Take over what the header says. Raises BadRequest, and DeadlineExceeded when no time is left: then nothing
        of the request is begun."""
        left_ms = asked_ms(request)
        context = request.context
        if left_ms is None:
            return
        if left_ms == 0:
            raise DeadlineExceeded(
                f"The caller had no time left ({HEADER}: 0), so nothing was begun.", limit=HEADER, value=0
            )
        end = started + left_ms / 1000
        if context.deadline is None or end < context.deadline:
            context.deadline = end
            if left_ms / 1000 <= TICK_S:
                self._sweeper.look_at(end)


# ── what the caller is told ──


def too_late(request: Request, seconds: float) -> DeadlineExceeded:
    """Raised in front of a handler whose time was over before it began."""
    return DeadlineExceeded(
        f"{_limit(request, seconds)} passed before the operation could begin; nothing was done.",
        **_limit_members(request, seconds),
    )


def problem_of(request: Request, seconds: float) -> Problem:
    """What the client is told about a request that the sweeper cancelled; ``seconds`` are the operation's."""
    if request.ended == "body":
        return RequestTimeout(
            f"The body did not arrive in time: after {request.body_wait_s:.3g} s of waiting, {request.body_bytes:,} bytes"
            " had come (http.body_timeout_s, and a second for each http.bytes_per_s_min bytes that come).",
            headers={"Connection": "close"},
            limit="http.body_timeout_s",
            value=request.body_timeout_s,
        )
    return DeadlineExceeded(
        f"The operation was not done within {_limit(request, seconds)} and was stopped.",
        **_limit_members(request, seconds),
    )


def _limit(request: Request, seconds: float) -> str:
    """The limit that held, with its value."""
    left_ms = _callers_ms(request, seconds)
    return (
        f"its {seconds:g} seconds"
        if left_ms is None
        else f"the {left_ms} ms that the caller allowed ({HEADER})"
    )


def _limit_members(request: Request, seconds: float) -> dict[str, Any]:
    """The same for programs."""
    left_ms = _callers_ms(request, seconds)
    return (
        {"limit": "timeout_s", "value": seconds} if left_ms is None else {"limit": HEADER, "value": left_ms}
    )


def _callers_ms(request: Request, seconds: float) -> int | None:
    """What the caller allowed, where that was less than the operation does."""
    left_ms = asked_ms(request) if RAW_HEADER in request.header_bytes else None
    return left_ms if left_ms is not None and left_ms / 1000 < seconds else None
