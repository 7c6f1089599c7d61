"""Consuming from JetStream: one pull request at a time from a durable consumer."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import nats.errors

from tenfold.events.backends._nats_names import key_of
from tenfold.events.bindings import NATS
from tenfold.events.contract import Consumer, Feed, Incoming

if TYPE_CHECKING:
    from tenfold.events.backends._nats_link import NatsLink
    from tenfold.events.backends._nats_names import Names

EXPIRE_S = 0.001
SETTLE_S = 0.15
"""The server looks 100 ms after a change for what has expired."""
GRACE_S = 1.0
"""How much later than asked the answer to a pull request may come."""


class Place(NamedTuple):
    """Where a message stands in the stream, and where its acknowledgement goes."""

    sequence: int
    reply: str


class NatsConsumer(Consumer):
    """See :class:`Consumer`. What the one before held and did not acknowledge, the server would give out again after
    ``events.redeliver_s`` only, and what follows it before that; :meth:`open` sees to the order."""

    def __init__(self, link: NatsLink, names: Names, feed: Feed, redeliver_s: float) -> None:
        self._link, self._names, self._feed, self._redeliver_s = link, names, feed, redeliver_s
        self._durable = names.durable(feed)
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{names.stream}.{self._durable}"
        self._inbox = link.client.new_inbox()
        self._requests = itertools.count(1)
        self._came: deque[Any] = deque()
        self._bell = asyncio.Event()
        self._ended = 0
        """The last pull request that the server has said to be over."""
        self._held: dict[int, str] = {}
        self._behind = 0
        """While positive: what stands after this sequence must wait for what the last consumer held."""
        self._subscription: Any = None

    async def open(self) -> None:
        """Raises BrokerUnavailable."""
        with self._link.translated():
            self._subscription = await self._link.client.subscribe(f"{self._inbox}.*", cb=self._on)
            info = await self._link.jetstream().consumer_info(self._names.stream, self._durable)
            if info.num_ack_pending:
                self._behind = info.delivered.stream_seq
                await self._expire()
            elif (
                info.config.ack_wait != self._redeliver_s
            ):  # another setting, or one who was killed in _expire
                await self._wait_for_ack(info.config, self._redeliver_s)

    async def fetch(self, limit: int, wait_s: float) -> list[Incoming]:
        with self._link.translated():
            messages = await self._pull(limit, wait_s)
            if self._behind:
                messages = await self._in_order(messages)
        for message in messages:
            self._held[_sequence(message)] = message.reply
        return [self._incoming(message) for message in messages]

    async def acknowledge(self, events: Sequence[Incoming]) -> None:
        with self._link.translated():
            await self._settle([event.token for event in events], b"+ACK")

    async def close(self) -> None:
        """What is held goes back at once, unless the connection is gone."""
        left = [Place(_sequence(message), message.reply) for message in self._came]
        left += [Place(sequence, reply) for sequence, reply in self._held.items()]
        self._came.clear()
        if not self._link.up:
            return
        try:
            async with asyncio.timeout(GRACE_S):
                if self._subscription is not None:
                    await self._subscription.unsubscribe()
                await self._settle(sorted(left), b"-NAK")
        except (nats.errors.Error, OSError, TimeoutError):
            return  # the next one finds out by itself

    # ── pulling ──

    async def _pull(self, limit: int, wait_s: float) -> list[Any]:
        """What there is; else the first that comes, and what came with it."""
        await self._request(limit, None)
        if not self._came and wait_s > 0:
            await self._request(1, wait_s)
            if self._came and limit > 1:
                await self._request(limit - 1, None)
        return [self._came.popleft() for _ in range(min(limit, len(self._came)))]

    async def _request(self, count: int, wait_s: float | None) -> None:
        """One pull request, to its end: the server has sent so many, or says that there are no more."""
        if not self._link.up:
            raise self._link.unavailable("closed the connection")
        number = next(self._requests)
        ask: dict[str, Any] = {"batch": count}
        ask |= {"no_wait": True} if wait_s is None else {"expires": int(wait_s * 1e9)}
        wanted = len(self._came) + count
        await self._link.client.publish(self._next, msgspec.json.encode(ask), reply=f"{self._inbox}.{number}")
        try:
            async with asyncio.timeout((wait_s or 0.0) + self._names.timeout_s):
                while len(self._came) < wanted and self._ended < number:
                    self._bell.clear()
                    await self._ring()
        finally:
            self._ended = max(self._ended, number)

    async def _ring(self) -> None:
        """Until something came, or the connection broke."""
        bell = asyncio.ensure_future(self._bell.wait())
        broken = asyncio.ensure_future(self._link.broken.wait())
        try:
            await asyncio.wait((bell, broken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            bell.cancel()
            broken.cancel()
        if self._link.broken.is_set():
            raise self._link.unavailable("closed the connection")

    async def _on(self, message: Any) -> None:
        if message.subject.startswith(self._inbox):  # a status: no more messages, time over, consumer gone
            self._ended = max(self._ended, int(message.subject.rpartition(".")[2]))
        else:
            self._came.append(message)
        self._bell.set()

    # ── what the last consumer held ──

    async def _in_order(self, messages: list[Any]) -> list[Any]:
        """Of what came, what may be handed out: nothing that overtakes what the last consumer still held."""
        old = [message for message in messages if _sequence(message) <= self._behind]
        new = [message for message in messages if _sequence(message) > self._behind]
        info = await self._link.jetstream().consumer_info(self._names.stream, self._durable)
        missing = info.num_ack_pending - len(messages) - len(self._held)
        if missing <= 0:
            self._behind = 0
            return sorted(messages, key=_sequence)
        await self._settle([Place(_sequence(message), message.reply) for message in new], b"-NAK")
        if not old:
            await self._expire()
        return old

    async def _expire(self) -> None:
        """Have the server take back what nobody acknowledged. Only what was given out before is touched: whoever
        consumes is alone, and holds nothing yet."""
        info = await self._link.jetstream().consumer_info(self._names.stream, self._durable)
        await self._wait_for_ack(info.config, EXPIRE_S)
        await asyncio.sleep(SETTLE_S)
        await self._wait_for_ack(info.config, self._redeliver_s)

    async def _wait_for_ack(self, config: Any, seconds: float) -> None:
        config.ack_wait = seconds
        await self._link.jetstream().add_consumer(self._names.stream, config)

    async def _settle(self, places: Sequence[Place], verdict: bytes) -> None:
        """One small message each, and one round trip for all: the server works through a connection in order."""
        for place in places:
            await self._link.client.publish(place.reply, verdict)
            self._held.pop(place.sequence, None)
        if places:
            await self._link.client.flush(timeout=max(1, int(self._names.timeout_s)))

    def _incoming(self, message: Any) -> Incoming:
        headers = message.headers or {}
        attributes = NATS.attributes(headers)
        sequence = _sequence(message)
        return Incoming(
            topic=self._feed.topic,
            key=key_of(headers),
            event_id=attributes.get("id") or f"{self._names.stream}-{sequence}",
            body=message.data,
            attributes=attributes,
            token=Place(sequence, message.reply),
        )


def _sequence(message: Any) -> int:
    """Its place in the stream, from ``$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.…``; newer servers put a
    domain and an account before the stream's name."""
    parts = message.reply.split(".")
    return int(parts[5] if len(parts) == 9 else parts[7])
