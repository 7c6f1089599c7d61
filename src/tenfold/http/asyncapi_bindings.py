"""What is particular to the configured broker, as AsyncAPI's binding objects: names, keys, groups. Pure.

https://github.com/asyncapi/bindings; RabbitMQ's are those of AMQP 0-9-1. Redis has none that may say anything, and NATS
only one that is not ours (queue groups): there the address of the channel says where events are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from tenfold._core.sections import EventsSettings
from tenfold.errors import ConfigError
from tenfold.events.contract import Feed

Bindings = dict[str, Any]


class Carrier:
    """Where the events of an app are at a broker. Of one that is not known here nothing is said."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url, self.prefix = url, prefix

    def address(self, topic: str) -> str:
        """Of a topic."""
        return topic

    def channel(self, topic: str) -> Bindings:
        """Of a topic."""
        return {}

    def send(self) -> Bindings:
        """Of publishing."""
        return {}

    def receive(self, feed: Feed) -> Bindings:
        """Of a subscription."""
        return {}

    def message(self) -> Bindings:
        """Of every event."""
        return {}


class Amqp(Carrier):
    """One exchange, whose routing keys are topics; a queue per subscription."""

    version = "0.3.0"

    def channel(self, topic: str) -> Bindings:
        exchange = {
            "name": self.prefix,
            "type": "topic",
            "durable": True,
            "autoDelete": False,
            "vhost": unquote(urlsplit(self.url).path[1:]) or "/",
        }
        return {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": self.version}}

    def send(self) -> Bindings:
        return {"amqp": {"deliveryMode": 2, "mandatory": True, "bindingVersion": self.version}}

    def receive(self, feed: Feed) -> Bindings:
        return {"amqp": {"ack": True, "bindingVersion": self.version}}


class Kafka(Carrier):
    """A topic per topic, a consumer group per subscription; the key of an event is the record's."""

    version = "0.5.0"

    def address(self, topic: str) -> str:
        return f"{self.prefix}.{topic}"

    def channel(self, topic: str) -> Bindings:
        return {"kafka": {"topic": self.address(topic), "bindingVersion": self.version}}

    def receive(self, feed: Feed) -> Bindings:
        group = {"type": "string", "enum": [f"{self.prefix}.{feed.name}"]}
        return {"kafka": {"groupId": group, "bindingVersion": self.version}}

    def message(self) -> Bindings:
        key = {"type": "string", "description": "The event's key, where it has one."}
        return {"kafka": {"key": key, "bindingVersion": self.version}}


class Nats(Carrier):
    """A subject per topic."""

    def address(self, topic: str) -> str:
        return f"{self.prefix}.{topic}"


class Redis(Carrier):
    """A stream per topic."""

    def address(self, topic: str) -> str:
        return f"{self.prefix}:events:{topic}"


class Sqs(Carrier):
    """A topic of SNS per topic, a queue per subscription."""

    version = "0.2.0"

    def receive(self, feed: Feed) -> Bindings:
        from tenfold.events.backends._sqs_names import Account

        try:
            account = Account.from_url(self.url, EventsSettings(url=self.url, prefix=self.prefix))
        except ConfigError:
            return {}  # the app says what is wrong when it is made; here nobody could read it
        queue = {"name": account.queue(feed), "fifoQueue": account.fifo}
        return {"sqs": {"queues": [queue], "bindingVersion": self.version}}


_KNOWN: dict[str, Callable[[str, str], Carrier]] = {
    "amqp": Amqp,
    "amqps": Amqp,
    "kafka": Kafka,
    "nats": Nats,
    "redis": Redis,
    "sqs": Sqs,
}


def carrier(protocol: str, url: str, prefix: str) -> Carrier:
    """By AsyncAPI's name of a protocol."""
    return _KNOWN.get(protocol, Carrier)(url, prefix)
