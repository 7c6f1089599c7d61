"""Publishes a batch on one channel and waits for its confirmations."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from tenfold.events.backends import _amqp_frames as frames
from tenfold.events.bindings import AMQP
from tenfold.events.envelope import JSON
from tenfold.events.policy import refuse_large

if TYPE_CHECKING:
    from tenfold.events.backends._amqp import Channel, Delivered
    from tenfold.events.contract import Outgoing

KEY_HEADER = "partitionkey"
PIECE = 100
"""Events that are written at once."""


class Publisher:
    """The channel is in confirm mode, and nobody else publishes on it. After a failure of the channel as a whole,
    ``why`` says which, and the publisher is of no more use."""

    def __init__(self, channel: Channel, exchange: str, size_max_bytes: int, timeout_s: float) -> None:
        self.channel, self._exchange = channel, exchange
        self._size_max_bytes, self._timeout_s = size_max_bytes, timeout_s
        self.why = ""
        self._tag = 0
        self._batch: _Batch | None = None
        channel.on_confirm = self._confirmed
        channel.on_return = self._returned
        channel.on_lost = self._ended

    async def publish(self, events: Sequence[Outgoing], fed: Collection[str]) -> dict[int, str]:
        """What failed, by position. ``fed`` are the topics that somebody subscribes to for sure."""
        refused = refuse_large(events, self._size_max_bytes)
        batch = self._batch = _Batch(events, refused)
        batch.next = lambda n: self._send(batch, n, fed)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send_heads(batch, fed)
                await batch.done.wait()
        except TimeoutError:
            link = self.channel.link
            self.why = link.blocked or f"no confirmation within {self._timeout_s:g} s"
            # What may still be on the way must not overtake the next attempt.
            link.abort(self.why)
        finally:
            self._batch = None
        return batch.failures(self.why)

    async def _send_heads(self, batch: _Batch, fed: Collection[str]) -> None:
        """In pieces, so that the server begins with the first while the last are put together."""
        for at, n in enumerate(batch.heads(), 1):
            if self.why:
                return
            self._send(batch, n, fed)
            if not at % PIECE:
                await asyncio.sleep(0)

    def _send(self, batch: _Batch, n: int, fed: Collection[str]) -> None:
        event = batch.events[n]
        self._tag += 1
        batch.waiting[self._tag] = n
        channel = self.channel
        headers = AMQP.headers(event.attributes)
        if event.key is not None:
            headers[KEY_HEADER] = event.key
        content_type = event.attributes.get("datacontenttype", JSON)
        channel.link.write(
            frames.method_of_publish(channel.number, self._exchange, event.topic, event.topic in fed),
            *frames.content(
                channel.number, headers, content_type, event.event_id, event.body, channel.link.frame_max
            ),
        )

    def _confirmed(self, tag: int, multiple: bool, taken: bool) -> None:
        batch = self._batch
        if batch is None:
            return
        tags = list(takewhile(lambda one: one <= tag, batch.waiting)) if multiple else [tag]
        for one in tags:
            batch.settle(
                one, "" if taken else "RabbitMQ refuses it (its queue is full, or has no leader for now)"
            )

    def _returned(self, message: Delivered, why: str) -> None:
        if self._batch is not None:
            self._batch.unroutable[message.properties.message_id] = why

    def _ended(self) -> None:
        self.why = str(self.channel.lost)
        if self._batch is not None:
            self._batch.done.set()


class _Batch:
    """What of a batch is sent, confirmed and refused. Of each key, one event at a time is on the way."""

    def __init__(self, events: Sequence[Outgoing], refused: dict[int, str]) -> None:
        self.events, self.refused = events, refused
        self.waiting: dict[int, int] = {}
        """Position by delivery tag, for what is sent and not confirmed: in the order of the tags."""
        self.unroutable: dict[str, str] = {}
        self.done = asyncio.Event()
        self.next: Callable[[int], object] = int  # until it is told how to send
        self._taken: set[int] = set()
        self._lines: dict[tuple[str, str], deque[int]] = {}
        self._left = len(events) - len(refused)
        if not self._left:
            self.done.set()

    def heads(self) -> list[int]:
        """Positions that can be sent at once: those without a key, and the first of each key."""
        heads: list[int] = []
        for n, event in enumerate(self.events):
            if n in self.refused:
                continue
            if event.key is None:
                heads.append(n)
            elif (line := self._lines.get((event.topic, event.key))) is None:
                self._lines[event.topic, event.key] = deque()
                heads.append(n)
            else:
                line.append(n)
        return heads

    def settle(self, tag: int, why: str) -> None:
        """One is confirmed, or refused for a reason."""
        n = self.waiting.pop(tag, None)
        if n is None:
            return
        event = self.events[n]
        why = why or self._lost_on_the_way(event.event_id)
        line = self._lines.get((event.topic, event.key)) if event.key is not None else None
        self._left -= 1
        if not why:
            self._taken.add(n)
            if line:
                self.next(line.popleft())
        else:
            self.refused[n] = why
            for behind in line or ():
                self.refused[behind] = "it waits behind an event of its key that was not published"
                self._left -= 1
            if line:
                line.clear()
        if self._left == 0:
            self.done.set()

    def _lost_on_the_way(self, event_id: str) -> str:
        """Why a message that was confirmed is in no queue; empty when it is in one."""
        why = self.unroutable.pop(event_id, "")
        return (
            f"RabbitMQ has no queue for it any more ({why}); it is declared anew before the next attempt"
            if why
            else ""
        )

    def failures(self, why: str) -> dict[int, str]:
        """By position; what was neither confirmed nor refused failed with the channel."""
        return {n: self.refused.get(n, why) for n in range(len(self.events)) if n not in self._taken}
