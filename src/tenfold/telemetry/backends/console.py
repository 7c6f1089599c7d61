"""``console:`` writes spans as lines of JSON to standard error. For a look during development; blocks the loop."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Self, TextIO

import msgspec

from tenfold._core.clock import Clock
from tenfold.telemetry.contract import Span, SpanExporter


class Backend(SpanExporter):
    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    @classmethod
    def from_url(cls, url: str, clock: Clock) -> Self:
        return cls()

    async def export(self, spans: Sequence[Span]) -> None:
        lines = [msgspec.json.encode(span).decode() + "\n" for span in spans]
        stream = self._stream or sys.stderr
        stream.write("".join(lines))
        stream.flush()
