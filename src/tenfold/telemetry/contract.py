"""What a span exporter promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import msgspec

from tenfold._core.clock import Clock


class Span(msgspec.Struct, kw_only=True):
    """One timed piece of work in a trace. Times are seconds since the epoch, UTC."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str = ""
    kind: str = "internal"
    """``server``, ``client``, ``producer``, ``consumer`` or ``internal``, as in OpenTelemetry."""
    started: float
    ended: float = 0.0
    error: str = ""
    """What went wrong; empty when all went well."""
    attributes: dict[str, Any] = {}

    def set(self, key: str, value: Any) -> None:
        """Add an attribute."""
        self.attributes[key] = value


class SpanExporter(ABC):
    """Sends finished spans somewhere. Implementations are ``tenfold.telemetry.backends.<scheme>.Backend``.

    Order: spans of one trace come children first. Loss: a batch whose export raises is counted and dropped,
    never retried: telemetry must not grow a backlog in an outage. Duplication: none by us. Time-out: each
    ``export`` is cancelled after five seconds. Errors: any exception; the tracer logs it once a minute.
    Called from one task at a time, never on the way of a request; attributes are redacted already.
    """

    discards: ClassVar[bool] = False
    """Whether nothing comes of what is exported: it is not prepared for it then."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, clock: Clock) -> Self:
        """Build from the setting ``trace.exporter``; raises ConfigError when the URL cannot work."""

    @abstractmethod
    async def export(self, spans: Sequence[Span]) -> None:
        """Send a batch of at most 512 spans."""

    async def stop(self) -> None:
        """Release connections; called once, after the last export."""
        return
