"""Consuming from a queue of SQS, ten messages a call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tenfold.errors import BrokerUnavailable
from tenfold.events.backends._sqs_body import read
from tenfold.events.backends._sqs_client import LONG_POLL_S
from tenfold.events.contract import Consumer, Feed, Incoming

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold.events.backends._sqs_client import SqsLink

BATCH = 10
"""What one call takes at most."""
CALLS_AT_ONCE = 10

T = TypeVar("T")


class Place(NamedTuple):
    """The handle of one delivery."""

    handle: str


class SqsConsumer(Consumer):
    """See :class:`Consumer`. The queue itself holds a group back while one of its messages is handed out."""

    def __init__(self, link: SqsLink, feed: Feed, queue_url: str, clock: Clock) -> None:
        self._link, self._feed, self._queue_url, self._clock = link, feed, queue_url, clock
        self._held: dict[str, None] = {}

    async def fetch(self, limit: int, wait_s: float) -> list[Incoming]:
        found = await self._receive(min(limit, BATCH), min(LONG_POLL_S, int(wait_s)))
        while found and len(found) < limit:
            left = limit - len(found)
            sizes = [min(BATCH, left - n * BATCH) for n in range(min(CALLS_AT_ONCE, -(-left // BATCH)))]
            more = await asyncio.gather(*(self._receive(size, 0) for size in sizes))
            found += [message for part in more for message in part]
            if not all(more):
                break
        self._held |= dict.fromkeys(message["ReceiptHandle"] for message in found)
        if not found and wait_s < 1:  # calls wait for whole seconds only
            await self._clock.sleep(wait_s)
        return [self._incoming(message) for message in found]

    async def acknowledge(self, events: Sequence[Incoming]) -> None:
        handles = [event.token.handle for event in events]
        async with self._link.calling() as (_, sqs):
            answers = await asyncio.gather(
                *(
                    sqs.delete_message_batch(QueueUrl=self._queue_url, Entries=entries)
                    for entries in _entries(handles)
                )
            )
        for handle in handles:
            self._held.pop(handle, None)
        refused = [one for answer in answers for one in answer.get("Failed", [])]
        if refused:
            raise self._link.unavailable(f"did not take an acknowledgement: {refused[0].get('Message', '')}")

    async def close(self) -> None:
        """What is held is for others at once."""
        held, self._held = list(self._held), {}
        try:
            async with self._link.calling() as (_, sqs):
                for entries in _entries(held, VisibilityTimeout=0):
                    await sqs.change_message_visibility_batch(QueueUrl=self._queue_url, Entries=entries)
        except BrokerUnavailable:
            return  # they come again when their time is over

    async def _receive(self, count: int, wait_s: int) -> list[dict[str, Any]]:
        async with self._link.calling(wait_s) as (_, sqs):
            answer = await sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=count,
                WaitTimeSeconds=wait_s,
            )
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found

    def _incoming(self, message: dict[str, Any]) -> Incoming:
        attributes, body, key = read(message["Body"])
        return Incoming(
            topic=self._feed.topic,
            key=key,
            event_id=attributes.get("id") or message["MessageId"],
            body=body,
            attributes=attributes,
            token=Place(message["ReceiptHandle"]),
        )


def _entries(handles: Iterable[str], **more: Any) -> list[list[dict[str, Any]]]:
    entries = [{"Id": str(n), "ReceiptHandle": handle, **more} for n, handle in enumerate(handles)]
    return pieces(entries, BATCH)


def pieces(items: Iterable[T], size: int) -> list[list[T]]:
    """``items`` in lists of at most ``size``."""
    rest = iter(items)
    found: list[list[T]] = []
    while part := list(islice(rest, size)):
        found.append(part)
    return found
