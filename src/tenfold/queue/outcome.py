"""From how a run ended to what becomes of its message. Pure: time and randomness are handed in."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from tenfold._core.text import keepable
from tenfold.errors import FlowError, JobCancelled, LeaseLost, RetryLater
from tenfold.queue import expiry
from tenfold.queue.message import Message, Settlement
from tenfold.queue.policy import CRASHES_MAX, CRASHES_UNTIL_SUSPECT, QUARANTINED

if TYPE_CHECKING:
    import random

    from tenfold.queue.contract import Expired
    from tenfold.queue.retry import Retry

ERROR_MAX_CHARS = 4_000
"""Longest error text kept with a message; of longer tracebacks the end, which tells most."""


def done(message: Message, result: str | None = None, result_until: float | None = None) -> Settlement:
    """The run returned."""
    return Settlement(
        message.id,
        message.fence,
        "done",
        result=result,
        result_until=result_until,
        queue=message.queue,
        order_key=message.order_key,
    )


def parked(message: Message, reason: str) -> Settlement:
    """Nobody here can run it: kept, with a sentence, until a worker that can starts."""
    return Settlement(message.id, message.fence, "park", error=keepable(reason))


def undecodable(message: Message, reason: str) -> Settlement:
    """Nothing can be made of it: kept among the dead, with a sentence, for somebody to retry."""
    return Settlement(message.id, message.fence, "dead", error=keepable(reason))


def released(message: Message) -> Settlement:
    """The worker stops before the run ended: ready again at once, nothing counted."""
    return Settlement(message.id, message.fence, "release")


def moved(message: Message, lane: str) -> Settlement:
    """It stands in the wrong lane: ready again in the right one, nothing counted."""
    return Settlement(message.id, message.fence, "release", lane=lane)


def cancelled(message: Message, reason: str) -> Settlement:
    """Somebody cancelled it while it ran."""
    return Settlement(message.id, message.fence, "cancelled", error=keepable(reason), queue=message.queue)


def expired(message: Message, until: float, *, begun: bool) -> Settlement:
    """Its deadline has passed: before this run, or in it."""
    return cancelled(message, expiry.expired(until, begun))


def failed(
    message: Message, error: BaseException, retry: Retry, now: float, random: random.Random
) -> Settlement | None:
    """The run raised ``error``; None when the lease was lost, for then another worker decides."""
    if isinstance(error, LeaseLost):
        return None
    if isinstance(error, JobCancelled):
        return cancelled(message, str(error))
    text = describe_error(error)
    if isinstance(error, RetryLater):
        return Settlement(message.id, message.fence, "retry", now + error.delay_s, 0, text)
    delay_s = retry.delay_s(message.failures + 1, random)
    if delay_s is None or isinstance(error, FlowError):
        return Settlement(message.id, message.fence, "dead", 0.0, 1, text, queue=message.queue)
    return Settlement(message.id, message.fence, "retry", now + delay_s, 1, text)


def describe_error(error: BaseException) -> str:
    """The error on the first line, then the traceback from the first line outside of Tenfold on, cut to
    :data:`ERROR_MAX_CHARS`, without what no database keeps."""
    head = keepable("".join(traceback.format_exception_only(error)).strip()[:ERROR_MAX_CHARS])
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("tenfold."):
        trace = trace.tb_next
    space = ERROR_MAX_CHARS - len(head) - 1
    if trace is None or space <= 0:
        return head
    return f"{head}\n{keepable(''.join(traceback.format_tb(trace)).rstrip()[-space:])}"


def crashed(expired: Expired) -> Settlement:
    """Its lease ran out: the worker died, or was silent for too long."""
    crashes = expired.crashes + 1
    id_, fence, queue = expired.id, expired.fence, expired.queue
    if expired.cancel is not None:
        reason = f"{expired.cancel}; its worker died before it could stop"
        return Settlement(id_, fence, "cancelled", error=reason, crashes=1, queue=queue)
    if crashes >= CRASHES_MAX:
        return Settlement(id_, fence, "dead", error=QUARANTINED, crashes=1, queue=queue)
    return Settlement(id_, fence, "crash", crashes=1, suspect=crashes >= CRASHES_UNTIL_SUSPECT)
