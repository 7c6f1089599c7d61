"""Progress as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from tenfold.http.stream import Event, EventStream

if TYPE_CHECKING:
    from tenfold.jobs.handle import JobStatus


def stream(statuses: AsyncGenerator[JobStatus]) -> EventStream[JobStatus]:
    """Each status an event: ``progress`` until the last, which is called ``done``, ``dead`` or ``cancelled``."""
    return EventStream(_events(statuses))


async def _events(statuses: AsyncGenerator[JobStatus]) -> AsyncGenerator[Event]:
    async with aclosing(statuses) as source:
        async for status in source:
            yield Event(status, event=status.state if status.finished else "progress")
