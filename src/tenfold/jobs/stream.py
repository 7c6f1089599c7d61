"""Progress as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from tenfold.http.stream import Event, EventStream
from tenfold.jobs.groups import BatchStatus
from tenfold.jobs.handle import JobStatus

S = TypeVar("S", JobStatus, BatchStatus)


def stream(statuses: AsyncGenerator[S]) -> EventStream[S]:
    """Each status an event: ``progress`` until the last, which is called by its state, ``done``, ``dead`` and so on."""
    return EventStream(_events(statuses))


async def _events(statuses: AsyncGenerator[S]) -> AsyncGenerator[Event]:
    async with aclosing(statuses) as source:
        async for status in source:
            yield Event(status, event=status.state if status.finished else "progress")
