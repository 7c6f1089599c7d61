"""Deadlines on the wire, and nearer ones for a part of the work.

Between processes a deadline travels as the time that is left, in milliseconds: no two clocks are compared, and what
the way takes is the caller's to count, who stops waiting by its own clock. Inside the process it is a moment of the
monotonic clock, in :attr:`Context.deadline <tenfold._core.context.Context.deadline>`.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from tenfold._core.causal import merged
from tenfold._core.context import Context, current, use
from tenfold.errors import DeadlineExceeded, StatementTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

HEADER: Final = "Tenfold-Timeout-Ms"
"""The request header that says how many milliseconds its sender will wait for the answer."""
TIMEOUT_MAX_MS: Final = 86_400_000
"""A day. Whoever says more has most likely sent a date, or nanoseconds."""


def timeout_ms(text: str) -> int:
    """The value of the header: milliseconds, 0 when no time is left.

    Raises ValueError with the end of a sentence ("must be …") for what is not a whole number of milliseconds from 0 to
    a day.
    """
    wanted = f"it must be a whole number of milliseconds from 0 to {TIMEOUT_MAX_MS}"
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{wanted}, in digits")
    value = int(text) if len(text.lstrip("0")) <= len(str(TIMEOUT_MAX_MS)) else TIMEOUT_MAX_MS + 1
    if value > TIMEOUT_MAX_MS:
        raise ValueError(f"{wanted} (one day)")
    return value


@asynccontextmanager
async def deadline(seconds: float) -> AsyncGenerator[Context]:
    """Give the work inside the block at most ``seconds``, or until the deadline that there is already, if that is nearer::

        async with deadline(0.2):
            suggestions = await find_suggestions(order)

    It holds for everything that is begun inside: statements, waits for connections, calls between services and to other
    servers, and nested blocks. What is still under way then is cancelled, and nothing is begun any more.

    Raises :class:`~tenfold.errors.DeadlineExceeded` (504), at once and without running the block when no time is left.
    """
    outer = current()
    now = outer.monotonic()
    end = now + seconds if outer.deadline is None else min(now + seconds, outer.deadline)
    if not end > now:
        raise DeadlineExceeded("No time was left for this part of the work; it was not begun.")
    limit = asyncio.timeout(end - now)
    # The same operation goes on, so its transaction is the block's, too.
    inner = outer.child(deadline=end, state=outer.state)
    try:
        with use(inner):
            async with limit:
                yield inner
    except (TimeoutError, StatementTimeout) as error:
        # The statement's own end and the block's are the same moment: whichever was noticed first, the block is over.
        if limit.expired() or (isinstance(error, StatementTimeout) and outer.monotonic() >= end):
            raise DeadlineExceeded(
                f"This part of the work was not done within {end - now:.3g} seconds and was stopped."
            ) from error
        raise
    finally:
        if inner.causal != outer.causal:
            outer.causal = merged(outer.causal, inner.causal)
