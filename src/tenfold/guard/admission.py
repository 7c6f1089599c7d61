"""A limit on the work in progress: so much runs, a little waits, the rest is refused at once.

A queue in front of a full server only makes everybody late; a short one evens out bursts. Refusing is the
cheapest answer there is, so it comes first in the pipeline:

    if not admission.try_enter():
        await admission.wait()             # raises Unavailable (503) with Retry-After
    try: ...
    finally: admission.leave()
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal

from tenfold.errors import ConfigError, Unavailable

Verdict = Literal["run", "wait", "refuse"]


def verdict(in_flight: int, in_flight_max: int, waiting: int, waiting_max: int) -> Verdict:
    """What happens to a newcomer. Nobody overtakes those who wait."""
    if in_flight < in_flight_max and not waiting:
        return "run"
    return "wait" if waiting < waiting_max else "refuse"


class Admission:
    """At most ``in_flight_max`` run and ``waiting_max`` wait, first come first served, ``wait_s`` at most.

    The counts are plain attributes, to be read by metrics at any time. The endpoints' generated code does what
    :meth:`try_enter` does, and :meth:`leave` while nobody waits, without the calls.
    """

    __slots__ = (
        "_retry_after_s",
        "_wait_s",
        "_waiting_max",
        "admitted",
        "in_flight",
        "in_flight_max",
        "queue",
        "refused",
    )

    def __init__(
        self, in_flight_max: int, *, waiting_max: int = 0, wait_s: float = 0.5, retry_after_s: int = 1
    ) -> None:
        if in_flight_max < 1 or waiting_max < 0 or wait_s <= 0:
            raise ConfigError(
                f"in_flight_max={in_flight_max}, waiting_max={waiting_max}, wait_s={wait_s:g} admit nobody.",
                where="admission",
                remedy="At least one must run, none or more may wait, and for longer than 0 s.",
            )
        self.in_flight_max = in_flight_max
        self._waiting_max = waiting_max
        self._wait_s = wait_s
        self._retry_after_s = retry_after_s
        self.queue: deque[asyncio.Future[None]] = deque()
        self.in_flight = 0
        self.admitted = 0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """How many stand in the queue."""
        return len(self.queue)

    def try_enter(self) -> bool:
        """Enter if there is room and nobody waits. Who got True calls :meth:`leave` at the end."""
        if self.in_flight >= self.in_flight_max or self.queue:
            return False
        self.in_flight += 1
        self.admitted += 1
        return True

    async def wait(self) -> None:
        """Enter when it is our turn; then :meth:`leave` is due.

        Raises Unavailable (503, with Retry-After) when the queue is full or the turn does not come in time.
        """
        match verdict(self.in_flight, self.in_flight_max, len(self.queue), self._waiting_max):
            case "run":
                self.try_enter()
            case "wait":
                await self._stand_in_line()
            case "refuse":
                raise self._refusal()

    def leave(self) -> None:
        """The work ended: the next in line takes the place, else it is free."""
        while self.queue:
            turn = self.queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.in_flight -= 1

    async def _stand_in_line(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.queue.append(turn)
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave()  # the place came in the very moment we gave up: pass it on
            elif turn in self.queue:
                self.queue.remove(turn)
            if isinstance(error, TimeoutError):
                raise self._refusal() from None
            raise
        self.admitted += 1

    def _refusal(self) -> Unavailable:
        self.refused += 1
        return Unavailable(
            "The service is at its limit of requests in progress; try again in a moment.",
            headers={"Retry-After": str(self._retry_after_s)},
        )
