"""What sending webhooks promises, and what a way of sending must do.

Order: none between events, unless the endpoint is ``ordered``: then events of one key arrive in the order in which
they were published, and one that fails holds up its line until it is delivered or given up. Loss: an event's deliveries
are written in one transaction, begun by a message that was written in the event's own; each is tried by the schedule
of :class:`~tenfold.webhooks.policy.Patience`, then kept as ``failed`` until it is replayed or
``webhooks.keep_s`` is over. Duplicates: an attempt whose answer got lost is made again; ``webhook-id`` is the same in
every attempt, so that the receiver can tell. Atomic with: the event; and the log of an attempt with what follows
from it. Consistency: a new or changed endpoint is used from the next event on. On time-out the attempt counts as
failed, although the receiver may have taken it. Errors: what goes wrong at the other side is an answer in the log,
never an exception in the service.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from msgspec import Struct

from tenfold.guard.addresses import Place


class Answer(Struct, frozen=True, kw_only=True):
    """What became of one attempt. ``status`` is None when there was no answer; then ``error`` says why."""

    status: int | None = None
    error: str = ""
    retry_after: str = ""
    body: str = ""
    """The beginning of the answer."""
    duration_ms: float = 0.0

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def sentence(self) -> str:
        """For the log and for people."""
        if self.status is None:
            return self.error
        return f"{self.status}" + (f": {self.body[:200]}" if self.body and not self.delivered else "")


class Sender(ABC):
    """Posts one body to one place. One instance serves concurrent calls."""

    @abstractmethod
    async def post(self, place: Place, headers: Mapping[str, str], body: bytes) -> Answer:
        """Try once, within ``webhooks.timeout_s``; never raises for what the other side does.

        Follows no redirect, reads at most ``webhooks.answer_max_bytes`` of the answer, and connects to no address
        that :func:`~tenfold.guard.addresses.refusal` refuses, whatever the name stands for by then.
        """

    async def stop(self) -> None:
        """Close what is open."""
        return
