"""Events through NATS JetStream (server 2.9 or newer).

Needs ``pip install 'tenfold[nats]'``, a server with JetStream, and a URL ``nats://[user:password@]host:port[,host:port…]``
(a user without a password is a token) with options after a ``?``: ``replicas`` (1) and ``keep_s`` (604800) of the stream
that is made, ``tls=true``, ``ssl_ca_certs=file``.

One stream per ``events.prefix`` on disk holds every topic, ``<prefix>.<topic>`` being its subject; a subscription is a
durable pull consumer with a position of its own. An event's id is its ``Nats-Msg-Id``: published again within two
minutes, it is not stored again. What nobody took in is kept for ``keep_s``; a full stream refuses what is new.

Weakens: one process of all consumes a subscription at a time (the intake sees to it), for NATS does not deal out keys.
A server alone writes to its disk when it likes (``sync_interval``): what it confirmed survives its crash, not the loss
of power. Use three servers and ``replicas=3`` where that matters. The events of one key in one batch are published one
after the other, so that a key of its own passes about as many events a second as there are round trips.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import nats.js.errors

from tenfold.errors import BrokerUnavailable, PublishFailed
from tenfold.events.backends._address import Address
from tenfold.events.backends._nats_consumer import NatsConsumer
from tenfold.events.backends._nats_link import Message, NatsLink, decode_ack
from tenfold.events.backends._nats_names import Names, id_header, key_header
from tenfold.events.backends._waves import waves
from tenfold.events.bindings import NATS
from tenfold.events.contract import Broker, Capabilities, Consumer, Counts, Feed, Outgoing
from tenfold.events.policy import behind, refuse_large

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import EventsSettings

FORM = "nats://[user:password@]host[:port][,host[:port]…][?replicas=3]"
SIZE_MAX_BYTES = 1_000_000
"""Of a body. With its headers it fits into what servers take as they come (1 MiB)."""


class Backend(Broker):
    """See :class:`Broker`."""

    capabilities = Capabilities(
        durable=True,
        ordered=True,
        keyed_consumers=False,
        deduplicates=True,
        replays=True,
        size_max_bytes=SIZE_MAX_BYTES,
    )

    def __init__(self, address: Address, names: Names, settings: EventsSettings) -> None:
        self._address, self._names = address, names
        self._timeout_s, self._redeliver_s = settings.timeout_s, settings.redeliver_s
        self.keep_s = float(names.keep_s)
        self._link: NatsLink | None = None
        self._connecting = asyncio.Lock()

    @classmethod
    def from_url(cls, url: str, *, settings: EventsSettings, clock: Clock) -> Backend:
        address = Address.parse(
            url, form=FORM, options=("replicas", "keep_s", "tls", "ssl_ca_certs"), port=4222
        )
        address.tls()
        return cls(address, Names.of(address, settings), settings)

    async def start(self) -> None:
        await self.health()

    async def stop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def health(self) -> None:
        link = await self._open()
        with link.translated():
            await link.jetstream().account_info()

    async def declare(self, topics: Sequence[str], feeds: Sequence[Feed]) -> None:
        link = await self._open()
        manager, names = link.jetstream(), self._names
        with link.translated():
            last, made = await self._stream(manager)
            for feed in feeds:
                try:
                    await manager.consumer_info(names.stream, names.durable(feed))
                except nats.js.errors.NotFoundError:
                    # In a stream that was only just made, others may have published by now.
                    start = 1 if made else last + 1
                    await manager.add_consumer(names.stream, names.consumer(feed, self._redeliver_s, start))

    async def publish(self, events: Sequence[Outgoing]) -> None:
        failed = refuse_large(events, SIZE_MAX_BYTES)
        wanted = [n for n in range(len(events)) if n not in failed]
        link = await self._open()
        confirmed: set[int] = set()
        try:
            with link.translated():
                async with asyncio.timeout(self._timeout_s):
                    for wave in waves(events, wanted):
                        refused = await self._wave(
                            link, events, [n for n in wave if n not in failed], confirmed
                        )
                        failed |= refused | (behind(events, refused) if refused else {})
        except BrokerUnavailable as error:
            await self._broken(link)
            if not confirmed:
                raise
            failed |= {n: str(error) for n in wanted if n not in confirmed}
        if failed := {n: why for n, why in failed.items() if n not in confirmed}:
            raise PublishFailed(failed)

    async def consume(self, feed: Feed) -> Consumer:
        consumer = NatsConsumer(await self._open(), self._names, feed, self._redeliver_s)
        await consumer.open()
        return consumer

    async def counts(self, feed: Feed) -> Counts | None:
        link = await self._open()
        with link.translated():
            info = await link.jetstream().consumer_info(self._names.stream, self._names.durable(feed))
        held = info.num_ack_pending or 0
        return Counts((info.num_pending or 0) + held, {"handed out": str(held)})

    async def _stream(self, manager: Any) -> tuple[int, bool]:
        """The last place in the stream, and whether it was made just now."""
        try:
            info = await manager.stream_info(self._names.stream)
            return info.state.last_seq, False
        except nats.js.errors.NotFoundError:
            info = await manager.add_stream(self._names.stream_config())
            return info.state.last_seq, True

    async def _wave(
        self, link: NatsLink, events: Sequence[Outgoing], positions: Sequence[int], confirmed: set[int]
    ) -> dict[int, str]:
        """Publish at once what has no order; answers what the server refused."""
        answers = await link.send([self._message(events[n]) for n in positions])
        refused: dict[int, str] = {}
        try:
            await answers.wait()
        finally:  # what has come before a break counts
            for n, answer in zip(positions, answers.found, strict=True):
                if answer is None:
                    continue
                if why := self._refusal(link, answer):
                    refused[n] = f"NATS did not take event {events[n].event_id} of {events[n].topic}: {why}"
                else:
                    confirmed.add(n)
        if answers.error is not None:
            raise answers.error
        return refused

    def _message(self, event: Outgoing) -> Message:
        headers = {**NATS.headers(event.attributes), **key_header(event.key), **id_header(event.event_id)}
        return self._names.subject(event.topic), event.body, headers

    @staticmethod
    def _refusal(link: NatsLink, answer: bytes) -> str:
        """Why the server did not take it; empty when it did."""
        try:
            ack = decode_ack(answer)
        except msgspec.DecodeError as error:
            raise link.unavailable(f"answers what is not JetStream's: {error}") from None
        return "" if ack.error is None else ack.error.description or "it does not say why"

    async def _open(self) -> NatsLink:
        async with self._connecting:
            if self._link is None or not self._link.up:
                if self._link is not None:
                    await self._link.close()
                link = NatsLink(self._address, self._timeout_s)
                await link.open()
                self._link = link
            return self._link

    async def _broken(self, link: NatsLink) -> None:
        """A connection on which answers are missing is not used again."""
        if self._link is link:
            self._link = None
        await link.close()
