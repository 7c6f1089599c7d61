"""Keeps the balancer informed, beside the supervisor's loop: to reload one takes seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from tenfold._core.tasks import end_tasks
from tenfold.errors import TenfoldError

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.runtime.up.fleet import Fleet
    from tenfold.runtime.up.instance import Instance

AGAIN_S: Final = 3.0
"""After a balancer has refused, or has ended."""


class Front(Protocol):
    """What stands in front of the instances: a balancer."""

    async def show(self, instances: Sequence[Instance]) -> None:
        """Send requests to these from now on, and to no others. Called when they changed."""
        ...

    def lost(self) -> bool:
        """Whether it has ended by itself."""
        ...

    def renewed(self) -> bool:
        """Whether it has other certificates to take, by being shown instances again."""
        ...

    async def stop(self) -> None:
        """Take no more requests, and let those under way end."""
        ...


class Shows:
    """One update at a time, the latest state of things in each. ``front`` is None where there is no balancer."""

    def __init__(self, front: Front | None, fleet: Fleet, clock: Clock, say: Callable[[str], object]) -> None:
        self._front, self._fleet, self._clock, self._say = front, fleet, clock, say
        self._shown: list[tuple[str, int]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")
        self.complaint = ""
        """Why the balancer does not do what it is to do; empty while it does."""
        self._changed = False

    @property
    def settled(self) -> bool:
        """Whether the balancer, if there is one, sends requests to those that are ready."""
        return self._front is None or (
            self._shown is not None and not self._changed and self._task is not None and self._task.done()
        )

    def again(self) -> None:
        """It has other options: tell it, whether other instances are ready or not."""
        self._changed, self.complaint = True, ""

    def follow(self) -> None:
        """Begin an update if other instances are ready than the balancer knows."""
        if self._front is None or self._fleet.stopping or (self._task is not None and not self._task.done()):
            return
        self._revive(self._front)
        ready = [i for i in self._fleet.instances.values() if i.state == "ready" and i.port]
        wanted = sorted((i.name, i.port) for i in ready)
        if (wanted == self._shown and not self._changed) or (self._shown is None and not self._due()):
            return
        if ready or self._shown:
            self._shown, self._changed, self._looked_at = wanted, False, self._clock.monotonic()
            self._task = asyncio.create_task(self._show(self._front, ready), name="tenfold-balancer")

    async def stop(self) -> None:
        """Have the balancer end in order."""
        if self._task is not None:
            await self._task
        if self._front is not None:
            try:
                await self._front.stop()
            except TenfoldError as error:
                self._say(f"The balancer did not end in order: {error}")

    async def end(self) -> None:
        """Leave it as it is."""
        await end_tasks(self._task)

    def _due(self) -> bool:
        return self._clock.monotonic() - self._looked_at >= AGAIN_S

    def _revive(self, front: Front) -> None:
        if self._shown and self._due():
            self._looked_at = self._clock.monotonic()
            if front.renewed():
                self._say("Certificates were changed, and the balancer takes them.")
                self._changed = True
            if front.lost():
                self._say("The balancer has ended by itself, and is started again.")
                self._shown, self._looked_at = None, float("-inf")

    async def _show(self, front: Front, ready: Sequence[Instance]) -> None:
        for instance in ready:
            instance.known = True
        try:
            await front.show(ready)
        except TenfoldError as error:
            if str(error) != self.complaint:
                how = "could not be started, and is tried again" if front.lost() else "goes on as it was"
                self._say(f"The balancer {how}: {error}")
            self.complaint, self._shown = str(error), None
            return
        self.complaint, now = "", self._clock.now()
        for instance in self._fleet.instances.values():
            if instance.known and instance not in ready:
                instance.known, instance.since = False, now
