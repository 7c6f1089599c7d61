"""Until when a message is of use: said by whoever puts it in, kept in its context, looked at before each run.

A queue does not inherit the deadline of the request that put a message in: that a client stopped waiting does not mean
that its order is not to be sent. What is worthless after a while has a deadline of its own. Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from tenfold._core.context import Context
from tenfold.errors import WrongArguments

UNTIL: Final = "until"
"""The member of the context that a message carries: seconds since the epoch, on the database's clock."""
_MEMBER: Final = f'"{UNTIL}":'
_MOMENT_MAX = 253_402_300_000.0
"""The end of the year 9999, after which there is no date to show."""
_encode = msgspec.json.Encoder().encode

Deadline = float | timedelta | datetime
"""Seconds (or a timedelta) from now on, or an aware datetime."""


def moment_of(deadline: Deadline, now: float, where: str) -> float:
    """Seconds since the epoch. Raises WrongArguments for one that has passed, or is no time; ``where`` names what it
    is for."""
    if isinstance(deadline, datetime):
        if deadline.tzinfo is None:
            raise WrongArguments(f"{where}: its deadline {deadline.isoformat()} has no time zone.")
        until = deadline.timestamp()
    else:
        until = now + (deadline.total_seconds() if isinstance(deadline, timedelta) else deadline)
    if not now < until <= _MOMENT_MAX:
        raise WrongArguments(
            f"{where}: its deadline {deadline} has passed, or is no time: give the seconds from now, or a later moment."
        )
    return until


def wire_of(context: Context, until: float | None) -> str | None:
    """What a message keeps of the sender's context, as JSON text."""
    wire: dict[str, Any] = context.to_wire()
    if until is not None:
        wire[UNTIL] = until
    return _encode(wire).decode() if wire else None


def until_of(context: str | None) -> float | None:
    """Until when the message with this context is of use; None where nobody has said."""
    if context is None or _MEMBER not in context:
        return None
    value = msgspec.json.decode(context).get(UNTIL)
    return value if isinstance(value, int | float) else None


def expired(until: float, begun: bool) -> str:
    """The sentence that is kept with a message that is no longer of use."""
    at = datetime.fromtimestamp(until, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"expired: its deadline {at} passed " + ("while it ran" if begun else "before it was begun")
