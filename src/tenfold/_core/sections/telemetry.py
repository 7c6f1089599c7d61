"""What a process tells about itself."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tenfold._core.sections.kinds import Count


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[log]"""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] | None = None
    """Default: text on a terminal, JSON elsewhere."""
    access: bool = True
    """One line per request."""


class TraceSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """[trace]"""

    ratio: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of the traces that start here which are recorded; a caller's decision is followed."""
    exporter: str = "none:"
    """Where finished spans go: "none:" or "console:"."""
    ring: Count = 1000
    """Finished spans kept in memory."""
