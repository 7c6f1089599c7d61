"""Calls of services that were refused: counted each, logged once a minute for each edge."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tenfold.telemetry import names

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.telemetry.metrics import Registry

log = logging.getLogger("tenfold.identity")

EVERY_S = 60.0
EDGES_MAX = 1_000
"""Edges that are remembered as logged; the one logged longest ago makes room."""
UNKNOWN = "unknown"
"""The caller, where no token has proved one."""


class Refusals:
    """What was refused in this process. One log line for each caller, operation and reason every ``EVERY_S`` seconds,
    with the number of those that came since the line before: a caller that tries again and again fills no disk."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        about = "Calls between services that were refused, by caller, operation and reason."
        labels = (names.CALLER, names.OPERATION, names.REASON)
        self._counter = registry.counter(names.CALLS_REFUSED, about, labels)
        self._monotonic = clock.monotonic
        self._logged: dict[tuple[str, str, str], tuple[float, int]] = {}

    def note(self, caller: str, operation: str, reason: str, sentence: str) -> None:
        """One refusal. ``caller`` is empty where nobody proved who calls."""
        edge = (caller or UNKNOWN, operation, reason)
        self._counter.labels(*edge).inc()
        now = self._monotonic()
        since, more = self._logged.get(edge, (now - EVERY_S, 0))
        if now - since < EVERY_S:
            self._logged[edge] = (since, more + 1)
            return
        self._logged.pop(edge, None)
        while len(self._logged) >= EDGES_MAX:
            del self._logged[next(iter(self._logged))]
        self._logged[edge] = (now, 0)
        fields = {"caller": edge[0], "operation": operation, "reason": reason, "said": sentence}
        if more:
            fields["more"] = str(more)
        log.warning(names.LOG_CALL_REFUSED, extra={"fields": fields})
