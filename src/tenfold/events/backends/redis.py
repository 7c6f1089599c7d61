"""Events through the streams of Redis or Valkey.

Needs Redis 6.2 or newer with ``appendonly yes``, ``appendfsync always`` and ``maxmemory-policy noeviction``, and ``pip
install 'tenfold[redis]'``. Not for Redis Cluster. A stream per topic and a consumer group per subscription, read by one process
at a time; one more connection per subscription where it is read. A batch is added by one script, whole or not at all.

Entries are removed once every group has acknowledged them; a group that nobody reads any more keeps them, so remove it
(``XGROUP DESTROY``) with the subscription.

Weakens: confirmed means on the server's own disk; a fail-over may lose what the replica had not got. With ``appendfsync
everysec``, Redis' default, it means in the server's memory: while the disk is slow, Redis puts off even the writing for up
to two seconds, which the end of its process loses as well as that of the machine. The outbox can publish it again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tenfold.cache.backends._redis_link import Address, RedisLink, Refused
from tenfold.cache.backends._store import StoreAway
from tenfold.errors import BrokerUnavailable, ConfigError, PublishFailed
from tenfold.events.backends._redis_entries import ADD, fields_of, group_end, incoming_of
from tenfold.events.contract import Broker, Capabilities, Consumer, Counts, Feed, Incoming, Outgoing
from tenfold.events.policy import refuse_large

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import EventsSettings

log = logging.getLogger("tenfold.events")

WHERE = "events.url"
SIZE_MAX_BYTES = 16_777_216
"""Far below what Redis takes (512 MB), since all of it is kept in memory."""
HEARTBEAT_S = 5.0
CONSUMER = "tenfold"
"""Every process reads under this name, one at a time: what one has not acknowledged is the next one's own."""
DURABLE = (("appendonly", b"yes"), ("appendfsync", b"always"), ("maxmemory-policy", b"noeviction"))
"""Settings of a server that keeps what it confirmed."""
TRIM_EVERY = 1_000
"""Events of a topic between two looks at what can be removed."""


class Backend(Broker):
    """See :class:`Broker`."""

    capabilities = Capabilities(
        durable=True,
        ordered=True,
        keyed_consumers=False,
        deduplicates=False,
        replays=False,
        size_max_bytes=SIZE_MAX_BYTES,
    )

    def __init__(self, address: Address, settings: EventsSettings, clock: Clock) -> None:
        self._address, self._settings, self._clock = address, settings, clock
        self._link: RedisLink | None = None
        self._added: dict[str, int] = {}
        """Per topic: events since the stream was trimmed."""
        self._fed: set[str] = set()
        """Topics that have a subscription which we know of."""

    @classmethod
    def from_url(cls, url: str, *, settings: EventsSettings, clock: Clock) -> Backend:
        return cls(Address(url, WHERE), settings, clock)

    # ── life ──

    async def start(self) -> None:
        try:
            link = await self._connected()
        except Refused as why:
            raise ConfigError(
                f"redis {self._address}: {why}.",
                where=WHERE,
                remedy="Check user, password and database in the URL.",
            ) from None
        if link.state != "up":
            raise self.away(StoreAway("it cannot be reached"))
        await self._warn()

    async def stop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.stop()

    async def health(self) -> None:
        await self.call("PING")

    async def connect(self) -> RedisLink:
        """A connection of its own. Raises Refused; one that cannot be reached goes on trying."""
        link = RedisLink(
            self._address,
            self._clock,
            timeout_s=self._settings.timeout_s,
            greeting=[],
            heartbeat_s=HEARTBEAT_S,
            on_push=_nothing,
            on_up=_nothing,
            serves="events",
        )
        await link.start()
        return link

    async def _connected(self) -> RedisLink:
        if self._link is None:
            self._link = await self.connect()
        return self._link

    async def call(self, *command: Any) -> Any:
        """One command on the shared connection. Raises BrokerUnavailable."""
        try:
            return await (await self._connected()).call(*command)
        except (StoreAway, Refused) as why:
            raise self.away(why) from None

    def away(self, why: Exception) -> BrokerUnavailable:
        return BrokerUnavailable(f"redis {self._address} ({WHERE}) cannot be used: {why}.")

    async def _warn(self) -> None:
        """Of settings that lose events; managed servers may not tell."""
        for name, good in DURABLE:
            try:
                answer = await self.call("CONFIG", "GET", name)
            except BrokerUnavailable:
                return
            value = next(iter(answer.values()), good) if isinstance(answer, dict) else answer[1]
            if value != good:
                log.warning(
                    "redis %s (%s) may lose events: its %s is %s and should be %s.",
                    self._address, WHERE, name, value.decode(), good.decode(),
                )  # fmt: skip

    # ── topics and subscriptions ──

    def stream(self, topic: str) -> str:
        """The name of its key."""
        return f"{self._settings.prefix}:events:{topic}"

    async def declare(self, topics: Sequence[str], feeds: Sequence[Feed]) -> None:
        for feed in feeds:
            link = await self._connected()
            try:
                await link.call("XGROUP", "CREATE", self.stream(feed.topic), feed.name, "$", "MKSTREAM")
            except StoreAway as why:
                if not str(why).startswith("BUSYGROUP"):  # it is there
                    raise self.away(why) from None
            self._fed.add(feed.topic)

    # ── publishing ──

    async def publish(self, events: Sequence[Outgoing]) -> None:
        failed = refuse_large(events, SIZE_MAX_BYTES)
        taken = [event for n, event in enumerate(events) if n not in failed]
        if taken:
            await self._add(taken)
        if failed:
            raise PublishFailed(failed)

    async def _add(self, events: Sequence[Outgoing]) -> None:
        """All of them, or none."""
        topics = {event.topic: 0 for event in events}
        numbers = {topic: n + 1 for n, topic in enumerate(topics)}
        arguments: list[Any] = [int(topic in self._fed) for topic in topics]
        for event in events:
            fields = fields_of(event)
            arguments += (numbers[event.topic], len(fields), *fields)
            topics[event.topic] += 1
        missing = await self.call("EVAL", ADD, len(topics), *map(self.stream, topics), *arguments)
        if missing:
            gone = self.stream(list(topics)[missing - 1])
            raise self.away(StoreAway(f"its stream {gone} is gone; it is made anew before the next attempt"))
        for topic, count in topics.items():
            self._added[topic] = self._added.get(topic, 0) + count
            if self._added[topic] >= TRIM_EVERY:
                self._added[topic] = 0
                await self.trim(topic)

    async def trim(self, topic: str) -> None:
        """Remove what every group has acknowledged. Whatever happens meanwhile, what is looked at here only grows:
        nothing is removed that somebody still needs."""
        stream = self.stream(topic)
        try:
            last = _pairs(await self.call("XINFO", "STREAM", stream))[b"last-generated-id"]
            ends = [last]
            for group in map(_pairs, await self.call("XINFO", "GROUPS", stream)):
                pending = await self.call("XPENDING", stream, group[b"name"]) if group[b"pending"] else None
                ends.append(pending[1] if pending and pending[1] else group[b"last-delivered-id"])
            await self.call("XTRIM", stream, "MINID", min(ends, key=group_end))
        except BrokerUnavailable as error:
            log.info("stream %s was not trimmed this time: %s", stream, error)

    # ── consuming ──

    async def consume(self, feed: Feed) -> Consumer:
        try:
            link = await self.connect()
        except Refused as why:
            raise self.away(why) from None
        if link.state != "up":
            await link.stop()
            raise self.away(StoreAway("it cannot be reached"))
        return _Consumer(self, link, feed, self._settings.timeout_s / 2)

    async def counts(self, feed: Feed) -> Counts | None:
        try:
            groups = await self.call("XINFO", "GROUPS", self.stream(feed.topic))
        except BrokerUnavailable as error:
            if "no such key" in str(error):
                return None
            raise
        for group in map(_pairs, groups):
            if group[b"name"].decode() == feed.name:
                return await self._counts(feed, group)
        return None

    async def _counts(self, feed: Feed, group: dict[bytes, Any]) -> Counts:
        lag = group.get(b"lag")
        if lag is None:  # before Redis 7, or after entries were removed out of order
            after = b"(" + group[b"last-delivered-id"]
            lag = len(await self.call("XRANGE", self.stream(feed.topic), after, "+"))
        return Counts(group[b"pending"] + lag, {"pending": str(group[b"pending"])})


class _Consumer(Consumer):
    """First what was handed out before and not acknowledged, oldest first; then what is new."""

    def __init__(self, backend: Backend, link: RedisLink, feed: Feed, wait_max_s: float) -> None:
        self._backend, self._link, self._feed, self._wait_max_s = backend, link, feed, wait_max_s
        self._stream = backend.stream(feed.topic)
        self._after: str | None = "0"
        """Where to go on among what was handed out before; None once that is done."""
        self._acknowledged = 0

    async def fetch(self, limit: int, wait_s: float) -> list[Incoming]:
        if self._after is not None:
            events = await self._read(limit, self._after, 0.0)
            self._after = events[-1].token if events else None
            if events:
                return events
        return await self._read(limit, ">", min(wait_s, self._wait_max_s))

    async def _read(self, limit: int, after: str, wait_s: float) -> list[Incoming]:
        block = ("BLOCK", max(1, int(wait_s * 1000))) if wait_s > 0 else ()
        answer = await self._call(
            "XREADGROUP",
            "GROUP",
            self._feed.name,
            CONSUMER,
            "COUNT",
            limit,
            *block,
            "STREAMS",
            self._stream,
            after,
        )
        if not answer:
            return []
        entries = next(iter(answer.values())) if isinstance(answer, dict) else answer[0][1]
        return [incoming_of(self._feed.topic, id_, fields) for id_, fields in entries if fields is not None]

    async def acknowledge(self, events: Sequence[Incoming]) -> None:
        if not events:
            return
        await self._call("XACK", self._stream, self._feed.name, *(event.token for event in events))
        self._acknowledged += len(events)
        if self._acknowledged >= TRIM_EVERY:
            self._acknowledged = 0
            await self._backend.trim(self._feed.topic)

    async def close(self) -> None:
        await self._link.stop()

    async def _call(self, *command: Any) -> Any:
        try:
            return await self._link.call(*command)
        except StoreAway as why:
            raise self._backend.away(why) from None


def _pairs(answer: Any) -> dict[bytes, Any]:
    """A map, as RESP3 has it or as a flat list."""
    return answer if isinstance(answer, dict) else dict(zip(answer[::2], answer[1::2], strict=True))


def _nothing(*_: Any) -> None:
    """Nobody asked the server to tell anything."""
