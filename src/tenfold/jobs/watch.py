"""Following something that another process works on: its states as they change, by looking."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from tenfold._core.clock import Clock

POLL_MIN_S, POLL_MAX_S = 0.05, 1.0


class Finishing(Protocol):
    """A status that says whether it is the last."""

    @property
    def finished(self) -> bool: ...


S = TypeVar("S", bound=Finishing)


async def changes(look: Callable[[], Awaitable[S]], clock: Clock, timeout_s: float) -> AsyncGenerator[S]:
    """What ``look`` gives, whenever it is not what it gave before, up to a finished one or for ``timeout_s`` seconds.

    Looks soon after a change and ever less often without one, at least once a second.
    """
    end, pause_s = clock.monotonic() + timeout_s, POLL_MIN_S
    before: S | None = None
    while True:
        now = await look()
        if now != before:
            before, pause_s = now, POLL_MIN_S
            yield now
            if now.finished:
                return
        left_s = end - clock.monotonic()
        if left_s <= 0:
            return
        await clock.sleep(min(pause_s, left_s))
        pause_s = min(POLL_MAX_S, pause_s * 1.5)
