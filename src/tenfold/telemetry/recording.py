"""The spans of one recorded piece of work, together until it is over."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from tenfold.telemetry.contract import Span

SPANS_MAX: Final = 500
"""Of one piece of work; what goes beyond is counted and left out."""


class Recording(Struct, eq=False):
    """Everything from the outermost span of this process on down. ``kind`` is ``request``, ``job``, ``event`` or
    ``schedule``; ``operation`` what ran."""

    trace_id: str
    operation: str
    kind: str
    spans: list[Span]
    """Finished ones, the outermost last. Not redacted yet."""
    left_out: int = 0
    failed: bool = False
    over: bool = False
    """The outermost span has ended: what ends later is lost."""

    def add(self, span: Span) -> None:
        """A span has ended."""
        if self.over or len(self.spans) >= SPANS_MAX:
            self.left_out += 1
        else:
            self.spans.append(span)
