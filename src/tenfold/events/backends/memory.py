"""Events through the memory of one process: for tests, and as the plainest broker that keeps the contract.

Needs nothing. ``memory:`` and ``memory:name`` are different brokers; everything in a process that is given the same URL
shares one, for as long as somebody holds it.

Weakens: not durable. What was published and not taken in is gone with the process; the outbox can publish it again
(``tenfold events replay``). Other processes do not see it. One consumer of a subscription at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from tenfold.errors import BrokerUnavailable, PublishFailed
from tenfold.events.contract import Broker, Capabilities, Consumer, Counts, Feed, Incoming, Outgoing
from tenfold.events.policy import refuse_large

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import EventsSettings

SIZE_MAX_BYTES = 1_048_576


class Line:
    """What waits for one subscription, and what its consumers hold."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.waiting: deque[Incoming] = deque()
        self.came = asyncio.Event()

    def put(self, event: Incoming) -> None:
        self.waiting.append(event)
        self.came.set()

    def give_back(self, events: Sequence[Incoming]) -> None:
        """What was handed out and not acknowledged goes before what follows it."""
        self.waiting = deque(sorted([*events, *self.waiting], key=lambda event: event.token))
        self.came.set()


class Server:
    """What stands for the server: tests stop it, start it again, and wipe it."""

    def __init__(self) -> None:
        self.up = True
        self.topics: set[str] = set()
        self.lines: dict[str, Line] = {}
        self.consumers: set[_Consumer] = set()
        self._next = 0

    def check(self) -> None:
        """Raises BrokerUnavailable while it is down."""
        if not self.up:
            raise BrokerUnavailable("the broker in memory (events.url) is stopped.")

    def put(self, event: Outgoing) -> None:
        """To every subscription of the topic."""
        self._next += 1
        incoming = Incoming(*event, token=self._next)
        for line in self.lines.values():
            if line.topic == event.topic:
                line.put(incoming)

    def stop(self) -> None:
        """Nobody is connected any more."""
        self.up = False
        for consumer in list(self.consumers):
            consumer.cut()

    def start(self) -> None:
        self.up = True

    def wipe(self) -> None:
        """Forget everything, as a server does whose disk is replaced."""
        self.stop()
        self.topics.clear()
        self.lines.clear()
        self.start()


_servers: WeakValueDictionary[str, Server] = WeakValueDictionary()


class Backend(Broker):
    """See :class:`Broker`."""

    capabilities = Capabilities(
        durable=False,
        ordered=True,
        keyed_consumers=False,
        deduplicates=False,
        replays=False,
        size_max_bytes=SIZE_MAX_BYTES,
    )

    def __init__(self, server: Server) -> None:
        self.server = server
        self._mine: list[_Consumer] = []

    @classmethod
    def from_url(cls, url: str, *, settings: EventsSettings, clock: Clock) -> Backend:
        return cls(_servers.setdefault(url, Server()))

    async def start(self) -> None:
        self.server.check()

    async def stop(self) -> None:
        while self._mine:
            await self._mine.pop().close()
        self.server = Server()  # whoever else holds ours keeps it

    async def health(self) -> None:
        self.server.check()

    async def declare(self, topics: Sequence[str], feeds: Sequence[Feed]) -> None:
        self.server.check()
        self.server.topics.update(topics)
        for feed in feeds:
            if feed.name not in self.server.lines:
                self.server.lines[feed.name] = Line(feed.topic)

    async def publish(self, events: Sequence[Outgoing]) -> None:
        self.server.check()
        failed = refuse_large(events, SIZE_MAX_BYTES)
        for n, event in enumerate(events):
            if n not in failed and event.topic not in self.server.topics:
                failed[n] = (
                    f"the broker has no topic {event.topic}; it is declared anew before the next attempt"
                )
        for n, event in enumerate(events):
            if n not in failed:
                self.server.put(event)
        if failed:
            raise PublishFailed(failed)

    async def consume(self, feed: Feed) -> Consumer:
        self.server.check()
        line = self.server.lines.get(feed.name)
        if line is None:
            raise BrokerUnavailable(f"the broker has no subscription {feed.name}; it was wiped.")
        for other in [one for one in self.server.consumers if one.line is line]:
            other.cut()  # one at a time: the new one takes over what the last one had not acknowledged
        consumer = _Consumer(self.server, line)
        self.server.consumers.add(consumer)
        self._mine.append(consumer)
        return consumer

    async def counts(self, feed: Feed) -> Counts | None:
        self.server.check()
        line = self.server.lines.get(feed.name)
        if line is None:
            return Counts(0)
        held = sum(len(consumer.held) for consumer in self.server.consumers if consumer.line is line)
        return Counts(len(line.waiting) + held)


class _Consumer(Consumer):
    def __init__(self, server: Server, line: Line) -> None:
        self.server, self.line = server, line
        self.held: dict[int, Incoming] = {}
        self._cut = False

    async def fetch(self, limit: int, wait_s: float) -> list[Incoming]:
        self._check()
        if not self.line.waiting:
            self.line.came = asyncio.Event()  # of this event loop: a process may have one after another
            try:
                async with asyncio.timeout(wait_s):
                    await self.line.came.wait()
            except TimeoutError:
                return []
            self._check()
        waiting = self.line.waiting
        events = [waiting.popleft() for _ in range(min(limit, len(waiting)))]
        self.held.update((event.token, event) for event in events)
        return events

    async def acknowledge(self, events: Sequence[Incoming]) -> None:
        self._check()
        for event in events:
            self.held.pop(event.token, None)

    async def close(self) -> None:
        self.cut()

    def cut(self) -> None:
        """The connection is gone: what is held is for the next consumer."""
        self._cut = True
        self.server.consumers.discard(self)
        held, self.held = self.held, {}
        self.line.give_back(list(held.values()))

    def _check(self) -> None:
        if self._cut:
            raise BrokerUnavailable("the connection to the broker in memory (events.url) is closed.")
