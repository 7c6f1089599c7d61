"""The promise of a broker backend: events of this app's topics, carried to each of their subscriptions.

The relay publishes what the outbox holds, the intake fetches and writes it into the subscriber's queue; nobody else
speaks to a broker. What is said here of a *key* is said of the pair of topic and key; events without one have no order.

* **Order.** :meth:`Broker.publish` puts the events of one key in order, and when one of them fails, no later one of
  its key in that call is published. A consumer is handed the events of one key in that order, as far as each event's
  first time is concerned; what was handed out before and not acknowledged comes again before what follows it. Where
  ``keyed_consumers`` is False, that holds while one consumer of a subscription is open at a time: the caller sees to
  it, and a new consumer takes over what the last one had not acknowledged. Where ``ordered`` is False, there is none.
* **Loss and duplication.** Once :meth:`Broker.publish` returned, every subscription that was declared has the event
  until it is acknowledged, also after the server was killed (where ``durable``) or its data are older than
  ``keep_s``; where a subscription has gone with the server's data, publishing to its topic fails until it is declared
  anew. At least once: whatever is in doubt is published again, and what is not acknowledged is delivered again.
* **Atomic with what?** With nothing. That is why there is an outbox before it and an inbox behind it.
* **Consistency.** A subscription gets what is published after it was declared; subscriptions are independent of each
  other, so that one that stands still holds up none.
* **Time-outs.** :meth:`Broker.publish` ends within ``events.timeout_s``, and what was not confirmed by then has
  failed, though it may still arrive. :meth:`Consumer.fetch` ends after ``wait_s``, with what there is. What a consumer
  that is gone had not acknowledged is delivered anew after ``events.redeliver_s`` at the latest.
* **Errors.** BrokerUnavailable when the server is away, full, slow, or does not let us; PublishFailed for some
  events of a batch; ConfigError for what no second attempt mends, at the start only. Every method connects by itself
  when there is no connection, so after any error the caller tries again, beginning with :meth:`Broker.declare`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import EventsSettings

LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What differs between brokers; the suite and callers branch on these, never on a name."""

    durable: bool
    """What was confirmed survives a crash of the server."""
    ordered: bool
    """The events of one key keep their order."""
    keyed_consumers: bool
    """Any number of consumers of one subscription may be open: the broker sees to the order of keys between them."""
    deduplicates: bool
    """An event id that is published again soon after is not delivered again."""
    replays: bool
    """It keeps what was acknowledged (for some time); else an event is gone with its last acknowledgement."""
    size_max_bytes: int | None
    """Largest body that it takes; None where only memory bounds it."""


class Outgoing(NamedTuple):
    """An event on its way to the broker."""

    topic: str
    """``orders.order-placed``: letters, digits, ``.``, ``-`` and ``_``."""
    key: str | None
    """At most 512 characters of any kind. Events of one key stay in order."""
    event_id: str
    """The same however often it is published."""
    body: bytes
    """The event's data."""
    attributes: Mapping[str, str] = {}
    """The CloudEvents envelope, ``id`` included, as :mod:`tenfold.events.envelope` makes it; a backend writes it into the
    protocol's headers by :mod:`tenfold.events.bindings`. The key travels besides: where the protocol has a key of its
    own it is that, whatever the envelope says."""


class Incoming(NamedTuple):
    """An event as a consumer gets it. ``token`` is the backend's own, for the acknowledgement."""

    topic: str
    key: str | None
    event_id: str
    """The envelope's ``id``. For a message without one, as other producers send: made of its place at the broker, the
    same in every delivery; empty where the broker tells no place, and the inbox cannot know the event again."""
    body: bytes
    attributes: Mapping[str, str] = {}
    """The envelope, as far as the headers carry one (:meth:`Binding.attributes <tenfold.events.bindings.Binding>`)."""
    token: Any = None


@dataclass(frozen=True, slots=True)
class Feed:
    """One subscription as a broker sees it: everything published on ``topic``, by itself."""

    name: str
    """``inventory.reserve``: unique among the apps that share ``events.prefix``."""
    topic: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What a broker holds for one subscription, as far as it tells."""

    waiting: int
    """Published, and not acknowledged."""
    details: Mapping[str, str] = field(default_factory=dict[str, str])


class Consumer(ABC):
    """What one process fetches for one subscription. Used by one task at a time."""

    @abstractmethod
    async def fetch(self, limit: int, wait_s: float) -> list[Incoming]:
        """At most ``limit`` events, as soon as there are any, or none after ``wait_s``. Raises BrokerUnavailable; the
        consumer is of no use then, and is closed."""

    @abstractmethod
    async def acknowledge(self, events: Sequence[Incoming]) -> None:
        """They are stored elsewhere. ``events`` are all of one or more fetches, in their order. A backend may tell the
        server of it within a fraction of a second, for several calls at once, and at the latest when it is closed: a
        crash before that delivers them again. Raises BrokerUnavailable, also for what an earlier call had put off,
        after which they may be delivered again."""

    @abstractmethod
    async def close(self) -> None:
        """Let go: what was not acknowledged is for others. Never raises."""


class Broker(ABC):
    """One app's connection to the server or cluster that ``events.url`` names. See the module for the guarantees."""

    capabilities: Capabilities
    keep_s: float | None = None
    """How long it keeps events, taken in or not; None: until they are acknowledged, and no longer."""
    returns: int = 0
    """How often a part of this process has found it back after a failure. Relay and intakes count here, and who waits
    for the end of a pause looks every :data:`LOOK_S`: pauses grow to ``events.retry_max_s``, the broker's return ends
    them all."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, *, settings: EventsSettings, clock: Clock) -> Broker:
        """Check the URL and keep the settings; connects to nothing. Raises ConfigError."""

    @abstractmethod
    async def start(self) -> None:
        """Try to connect, so that what is wrong is known now. Raises BrokerUnavailable (the app goes on, and it is
        tried again when needed), or ConfigError for what will not change."""

    @abstractmethod
    async def stop(self) -> None:
        """Let everything go. Never raises."""

    @abstractmethod
    async def health(self) -> None:
        """Returns when the server answers; raises BrokerUnavailable otherwise."""

    @abstractmethod
    async def declare(self, topics: Sequence[str], feeds: Sequence[Feed]) -> None:
        """Make what is missing for them, also on a server that was wiped; harmless to repeat, and cheap enough to be
        repeated after every error. What others have declared stays. Raises BrokerUnavailable."""

    @abstractmethod
    async def publish(self, events: Sequence[Outgoing]) -> None:
        """Returns when all are confirmed. Raises PublishFailed, which says which are not, or BrokerUnavailable when
        none is known to be. Their topics were declared."""

    @abstractmethod
    async def consume(self, feed: Feed) -> Consumer:
        """Begin to consume a declared subscription. Raises BrokerUnavailable."""

    async def counts(self, feed: Feed) -> Counts | None:
        """What waits for a subscription, or None where the broker does not tell. Raises BrokerUnavailable."""
        return None
