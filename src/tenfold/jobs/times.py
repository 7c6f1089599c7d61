"""Times as people write them, as seconds."""

from __future__ import annotations

from datetime import datetime, timedelta

from tenfold.errors import DeclarationError


def seconds(duration: timedelta | float) -> float:
    """A duration in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def timestamp(at: float | datetime, where: str) -> float:
    """Seconds since the epoch. Raises DeclarationError for a datetime without a time zone."""
    if not isinstance(at, datetime):
        return float(at)
    if at.tzinfo is None:
        raise DeclarationError(
            f"the time {at.isoformat()} has no time zone.", where=where, remedy="Use an aware datetime."
        )
    return at.timestamp()
