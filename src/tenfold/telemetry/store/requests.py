"""From a finished request of the HTTP layer to its summary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenfold.telemetry.recording import FAILURE
from tenfold.telemetry.store.feed import Feed
from tenfold.telemetry.store.records import RequestSummary


class Keeper:
    """Of one operation. ``sample`` says which of the requests that go well are kept."""

    __slots__ = ("_feed", "_method", "_now", "_operation", "_route", "sample")

    def __init__(self, feed: Feed, now: Callable[[], float], operation: str, method: str, route: str) -> None:
        self.sample = feed.sample
        self._feed, self._now = feed, now
        self._operation, self._method, self._route = operation, method, route

    def keep(self, request: Any, answer: Any, seconds: float, fair: bool) -> None:
        """``answer`` begins with the status; ``fair``: it is in the sample, else it has failed or was slow."""
        context = request.context
        state = context.state
        self._feed.request(
            RequestSummary(
                self._now(),
                self._operation,
                self._method,
                self._route,
                request.path,
                answer[0],
                seconds,
                context.trace_id,
                context.request_id,
                context.tenant or "",
                "",
                "" if state is None else state.get(FAILURE, ""),
            ),
            fair=fair,
        )
