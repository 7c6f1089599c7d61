"""Events through RabbitMQ.

Needs RabbitMQ 3.10 or newer and ``pip install 'tenfold[rabbitmq]'``. ``rabbitmq://user:password@host:5672/vhost``, or
``amqp://``; ``rabbitmqs://`` and ``amqps://`` for TLS. One durable topic exchange named like ``events.prefix``, whose
routing keys are topics, and one quorum queue per subscription with a single active consumer: RabbitMQ itself hands a
queue to the next process when one is gone, what was not acknowledged first. Two connections per process.

Confirmed means written to disk by the majority of a queue's members. Events with a key are published one after another
within their key, since RabbitMQ may refuse one and take the next.

A queue itself is on disk only some time after it was declared for the first time. Nothing is published to it before
that: it is bound to the exchange when it has had ``?settle_s=2`` seconds.

Weakens: a node without others that is killed within these seconds may come back with a queue that confirms nothing, and
has to be told to delete it (``rabbitmqctl delete_queue``); no event was in it. Who starts in these seconds for the first
time binds the queue that another process has just made.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pamqp.commands as spec

from tenfold.errors import BrokerUnavailable, ConfigError, PublishFailed
from tenfold.events.backends._amqp import Channel, Delivered, Link, Lost, Refused
from tenfold.events.backends._amqp_address import Address
from tenfold.events.backends._rabbitmq_publisher import KEY_HEADER, Publisher
from tenfold.events.bindings import AMQP
from tenfold.events.contract import Broker, Capabilities, Consumer, Counts, Feed, Incoming, Outgoing

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tenfold._core.clock import Clock
    from tenfold._core.sections import EventsSettings

log = logging.getLogger("tenfold.events")

WHERE = "events.url"
SIZE_MAX_BYTES = 16_777_216
"""RabbitMQ 4's own default; older servers take more."""
CONNECT_S = 5.0
QUEUE: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-single-active-consumer": True,
    # RabbitMQ 4 drops a message after 20 deliveries unless it is told otherwise: the intake puts nothing aside there.
    "x-delivery-limit": 1_000_000_000,
}


class Backend(Broker):
    """See :class:`Broker`."""

    capabilities = Capabilities(
        durable=True,
        ordered=True,
        keyed_consumers=True,
        deduplicates=False,
        replays=False,
        size_max_bytes=SIZE_MAX_BYTES,
    )

    def __init__(self, address: Address, settings: EventsSettings, clock: Clock) -> None:
        self._address, self._settings, self._clock = address, settings, clock
        self._links: dict[str, Link] = {}
        self._turns = {name: asyncio.Lock() for name in ("publish", "consume")}
        self._publisher: Publisher | None = None
        self._publishing = asyncio.Lock()
        self._declaring = asyncio.Lock()
        self._fed: set[str] = set()
        """Topics that have a subscription which we know of."""

    @classmethod
    def from_url(cls, url: str, *, settings: EventsSettings, clock: Clock) -> Backend:
        return cls(Address(url, WHERE), settings, clock)

    # ── life ──

    async def start(self) -> None:
        try:
            await self._connect("publish")
        except Refused as why:
            raise ConfigError(
                f"rabbitmq {self._address}: {why}.",
                where=WHERE,
                remedy="Check user, password and virtual host.",
            ) from None

    async def stop(self) -> None:
        links, self._links = self._links, {}
        for link in links.values():
            await link.close()

    async def health(self) -> None:
        link = await self._link("publish")
        if link.blocked:
            raise self._away(Lost(link.blocked))

    async def _link(self, purpose: str) -> Link:
        """The connection for publishing, or that for consuming: RabbitMQ holds up the former when it is full."""
        try:
            return await self._connect(purpose)
        except Refused as why:
            raise self._away(why) from None

    async def _connect(self, purpose: str) -> Link:
        async with self._turns[purpose]:
            link = self._links.get(purpose)
            if link is None or link.lost is not None:
                beat = max(1, int(self._settings.redeliver_s / 2))
                try:
                    link = await Link.connect(self._address, heartbeat_s=min(beat, 30), timeout_s=CONNECT_S)
                except Refused:
                    raise
                except (Lost, OSError, TimeoutError) as error:
                    raise self._away(error) from None
                self._links[purpose] = link
            return link

    def _away(self, why: BaseException) -> BrokerUnavailable:
        text = str(why) or ("no answer in time" if isinstance(why, TimeoutError) else type(why).__name__)
        return BrokerUnavailable(f"rabbitmq {self._address} (events.url) cannot be used: {text}.")

    async def _answered(self, work: Awaitable[Any], what: str) -> Any:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await work
        except Lost as why:
            raise self._away(Lost(f"{what}: {why}")) from None
        except TimeoutError:
            raise self._away(Lost(f"{what}: no answer within {self._settings.timeout_s:g} s")) from None

    # ── names ──

    def _queue(self, feed: Feed) -> str:
        return f"{self._settings.prefix}.{feed.name}"

    async def declare(self, topics: Sequence[str], feeds: Sequence[Feed]) -> None:
        exchange, queues = self._settings.prefix, {self._queue(feed): feed.topic for feed in feeds}
        async with self._declaring:  # who comes second finds queues that are settled
            new = [queue for queue in queues if not await self._exists(queue)]
            made = [spec.Queue.Declare(queue=queue, durable=True, arguments=dict(QUEUE)) for queue in queues]
            await self._ask(
                spec.Exchange.Declare(exchange=exchange, exchange_type="topic", durable=True), *made
            )
            if new:
                await self._clock.sleep(self._address.settle_s)
            binds = [
                spec.Queue.Bind(queue=queue, exchange=exchange, routing_key=topic)
                for queue, topic in queues.items()
            ]
            await self._ask(*binds)
        self._fed.update(queues.values())

    async def _exists(self, queue: str) -> bool:
        try:
            await self._ask(spec.Queue.Declare(queue=queue, passive=True))
        except BrokerUnavailable as error:
            if "404 NOT_FOUND" not in str(error):
                raise
            return False
        return True

    async def _ask(self, *frames: Any) -> None:
        """On a channel of its own, which a refusal ends."""
        link = await self._link("consume")
        channel = await self._answered(link.channel(), "opening a channel")
        try:
            await self._answered(self._all_of(channel, frames), "declaring")
        finally:
            await channel.close()

    @staticmethod
    async def _all_of(channel: Channel, frames: Sequence[Any]) -> None:
        outcomes = await asyncio.gather(*map(channel.ask, frames), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    # ── publishing ──

    async def publish(self, events: Sequence[Outgoing]) -> None:
        async with self._publishing:
            publisher = await self._ready()
            failed = await publisher.publish(events, self._fed)
        if publisher.why:
            self._publisher = None
            if len(failed) == len(events):
                raise self._away(Lost(publisher.why))
        if failed:
            raise PublishFailed(failed)

    async def _ready(self) -> Publisher:
        publisher = self._publisher
        if publisher is None or publisher.channel.lost is not None:
            link = await self._link("publish")
            if link.blocked:
                raise self._away(Lost(link.blocked))
            channel = await self._answered(link.channel(), "opening a channel")
            await self._answered(channel.ask(spec.Confirm.Select()), "asking for confirmations")
            publisher = self._publisher = Publisher(
                channel, self._settings.prefix, SIZE_MAX_BYTES, self._settings.timeout_s
            )
        return publisher

    # ── consuming ──

    async def consume(self, feed: Feed) -> Consumer:
        link = await self._link("consume")
        channel = await self._answered(link.channel(), "opening a channel")
        consumer = _Consumer(self, channel, feed)
        try:
            await self._answered(
                channel.ask(spec.Basic.Qos(prefetch_count=min(2 * self._settings.batch, 65_535))),
                "setting the prefetch",
            )
            await self._answered(
                channel.ask(spec.Basic.Consume(queue=self._queue(feed), no_ack=False)),
                f"consuming {feed.name}",
            )
        except BaseException:
            await consumer.close()
            raise
        return consumer

    async def counts(self, feed: Feed) -> Counts | None:
        link = await self._link("consume")
        channel = await self._answered(link.channel(), "opening a channel")
        try:
            answer = await self._answered(
                channel.ask(spec.Queue.Declare(queue=self._queue(feed), passive=True)),
                f"counting {feed.name}",
            )
        except BrokerUnavailable:
            return None  # it was never declared
        finally:
            await channel.close()
        return Counts(answer.message_count, {"consumers": str(answer.consumer_count)})


class _Consumer(Consumer):
    def __init__(self, backend: Backend, channel: Channel, feed: Feed) -> None:
        self._backend, self._channel, self._feed = backend, channel, feed
        self._came: deque[Delivered] = deque()
        self._bell = asyncio.Event()
        channel.on_delivery = self._deliver
        channel.on_lost = self._bell.set

    def _deliver(self, message: Delivered) -> None:
        self._came.append(message)
        self._bell.set()

    async def fetch(self, limit: int, wait_s: float) -> list[Incoming]:
        self._check()
        if not self._came:
            self._bell.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._bell.wait()
            except TimeoutError:
                return []
            self._check()
        return [self._incoming(self._came.popleft()) for _ in range(min(limit, len(self._came)))]

    def _incoming(self, message: Delivered) -> Incoming:
        properties = message.properties
        headers = dict(properties.headers or {})
        key = headers.pop(KEY_HEADER, None)
        attributes = AMQP.attributes(headers, properties.content_type)
        id_ = attributes.get("id") or properties.message_id or ""
        return Incoming(
            message.routing_key or self._feed.topic,
            key if isinstance(key, str) else None,
            id_,
            message.body,
            attributes,
            message.tag,
        )

    async def acknowledge(self, events: Sequence[Incoming]) -> None:
        self._check()
        if events:
            self._channel.send(spec.Basic.Ack(delivery_tag=events[-1].token, multiple=True))

    async def close(self) -> None:
        self._came.clear()
        await self._channel.close()

    def _check(self) -> None:
        if self._channel.lost is not None:
            raise self._backend._away(self._channel.lost)
