"""The AsyncAPI 3.0 document of an app, from its topics and subscriptions alone.

One channel per topic, a message per version that subscribers can read, a ``send`` operation for the service that
publishes and a ``receive`` operation for each subscription. The payload is the event; its CloudEvents envelope stands
in the headers, named as the configured broker's binding names them. The same declarations give the same bytes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tenfold._core.json_schema import Schema, Schemas
from tenfold.events import bindings
from tenfold.events.bindings import Binding
from tenfold.events.contract import Feed
from tenfold.events.envelope import JSON, type_of
from tenfold.events.subscription import Subscription
from tenfold.events.topic import Topic
from tenfold.http.asyncapi_bindings import Bindings, Carrier, carrier

VERSION = "3.0.0"


class Protocol(NamedTuple):
    """How a broker is called there, and how it carries envelopes."""

    name: str
    version: str
    binding: Binding


PROTOCOLS = {
    "rabbitmq": Protocol("amqp", "0.9.1", bindings.AMQP),
    "amqp": Protocol("amqp", "0.9.1", bindings.AMQP),
    "amqps": Protocol("amqps", "0.9.1", bindings.AMQP),
    "kafka": Protocol("kafka", "", bindings.KAFKA),
    "nats": Protocol("nats", "", bindings.NATS),
    "redis": Protocol("redis", "", bindings.FIELDS),
    "rediss": Protocol("redis", "", bindings.FIELDS),
    "sqs": Protocol("sqs", "", bindings.FIELDS),
}
"""By the scheme of ``events.url``; another backend's goes by its scheme."""

ENVELOPE: dict[str, tuple[Schema, str]] = {
    "specversion": ({"const": "1.0"}, "Version of the CloudEvents specification."),
    "id": ({"type": "string", "minLength": 1}, "The same however often the event is delivered."),
    "source": ({"type": "string", "format": "uri-reference"}, "App and service: /shop/orders."),
    "type": ({"type": "string"}, "Topic and version."),
    "subject": ({"type": "string"}, "The key: events of one key are handled in order."),
    "time": ({"type": "string", "format": "date-time"}, "When it was published."),
    "dataschema": ({"type": "string", "format": "uri"}, "Where the schema of the data is found."),
    "traceparent": ({"type": "string"}, "The publisher's span, as in W3C Trace Context."),
    "tracestate": ({"type": "string"}, "What vendors add to it."),
    "requestid": ({"type": "string"}, "The request or job that published it."),
    "tenant": ({"type": "string"}, "The tenant for whom it was published."),
    "causaltoken": ({"type": "string"}, "What the publisher had written; subscribers read nothing older."),
    "priority": (
        {"type": "string", "enum": ["0", "1", "2", "3"]},
        "How urgent the publisher's work was; 0 is most.",
    ),
}
"""Attributes of the envelope, without the prefix of a protocol's headers."""

_ALWAYS = ("specversion", "id", "source", "type", "time")


def document(
    topics: Sequence[Topic[Any]],
    subscriptions: Iterable[Subscription],
    *,
    title: str,
    version: str = "0.1.0",
    description: str = "",
    url: str = "",
    prefix: str = "tenfold",
) -> dict[str, Any]:
    """The document as a tree. ``url`` is that of the broker (its credentials are left out), ``prefix`` what names there
    begin with."""
    schemas = Schemas([], [topic.schema.type_of(n) for topic in topics for n in _versions(topic)])
    protocol = _protocol(url)
    at = carrier(protocol.name, url, prefix)
    operations = {f"publish.{topic.name}": _send(topic, at) for topic in topics}
    operations |= {each.name: _receive(each, at) for each in subscriptions}
    messages = {
        type_of(topic.name, n): _message(topic, n, schemas.of(topic.schema.type_of(n)))
        for topic in topics
        for n in _versions(topic)
    }
    components: dict[str, Any] = {
        "messages": messages,
        "messageTraits": {"cloudEvents": {"headers": _headers(protocol.binding), **_bindings(at.message())}},
        "schemas": schemas.prune(messages),
    }
    return {
        "asyncapi": VERSION,
        "info": {"title": title, "version": version, **_about(description)},
        "defaultContentType": JSON,
        **({"servers": {"broker": _server(url, protocol)}} if url else {}),
        "channels": {topic.name: _channel(topic, url, at) for topic in topics},
        "operations": operations,
        "components": _draft07(components) if topics else {},
    }


def _versions(topic: Topic[Any]) -> range:
    """Those that subscribers can read."""
    return range(topic.schema.oldest, topic.schema.version + 1)


def _protocol(url: str) -> Protocol:
    scheme = urlsplit(url).scheme
    return PROTOCOLS.get(scheme, Protocol(scheme, "", bindings.HTTP))


def _server(url: str, protocol: Protocol) -> dict[str, Any]:
    parts = urlsplit(url)
    server = {"host": parts.netloc.rpartition("@")[2] or "localhost", "protocol": protocol.name}
    return {**server, **({"protocolVersion": protocol.version} if protocol.version else {})}


def _channel(topic: Topic[Any], url: str, at: Carrier) -> dict[str, Any]:
    names = [type_of(topic.name, n) for n in _versions(topic)]
    return {
        "address": at.address(topic.name),
        "title": topic.name,
        **_about(_text(topic.type)),
        **({"servers": [{"$ref": "#/servers/broker"}]} if url else {}),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "tags": [{"name": topic.service}],
        **_bindings(at.channel(topic.name)),
    }


def _bindings(found: Bindings) -> dict[str, Any]:
    return {"bindings": found} if found else {}


def _send(topic: Topic[Any], at: Carrier) -> dict[str, Any]:
    said = f"Published by {topic.service}."
    return _operation("send", topic, [topic.schema.version], topic.service, said) | _bindings(at.send())


def _receive(subscription: Subscription, at: Carrier) -> dict[str, Any]:
    topic = subscription.topic
    summary = _text(subscription.fn).partition("\n")[0] or f"Handled by {subscription.name}."
    found = at.receive(Feed(subscription.name, topic.name))
    return _operation("receive", topic, _versions(topic), subscription.service, summary) | _bindings(found)


def _operation(
    action: str, topic: Topic[Any], versions: Iterable[int], service: str, summary: str
) -> dict[str, Any]:
    channel = f"#/channels/{topic.name}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": summary,
        "tags": [{"name": service}],
        "messages": [{"$ref": f"{channel}/messages/{type_of(topic.name, n)}"} for n in versions],
    }


def _message(topic: Topic[Any], version: int, payload: Schema) -> dict[str, Any]:
    type_ = topic.schema.type_of(version)
    return {
        "name": type_of(topic.name, version),
        "title": getattr(type_, "__name__", str(type_)),
        "summary": f"Version {version} of {topic.name}" + (
            "." if version == topic.schema.version else f"; subscribers get it as version {topic.schema.version}."
        ),
        "contentType": JSON,
        "traits": [{"$ref": "#/components/messageTraits/cloudEvents"}],
        "payload": payload,
    }  # fmt: skip


def _headers(binding: Binding) -> Schema:
    return {
        "type": "object",
        "description": "The CloudEvents 1.0 envelope, in binary mode.",
        "properties": {
            binding.prefix + name: {**schema, "description": about}
            for name, (schema, about) in ENVELOPE.items()
        },
        "required": [binding.prefix + name for name in _ALWAYS],
    }


def _about(text: str) -> dict[str, str]:
    return {"description": text} if text else {}


def _text(documented: Any) -> str:
    """The docstring that somebody wrote; not the one that dataclasses make."""
    doc = inspect.cleandoc(getattr(documented, "__doc__", None) or "")
    return "" if doc.startswith(f"{getattr(documented, '__name__', '')}(") else doc


def _draft07(schema: Any) -> Any:
    """The schema in the dialect that AsyncAPI means where nothing is said: draft 07 has tuples under another name,
    and AsyncAPI's discriminator is a name only."""
    if isinstance(schema, list):
        return [_draft07(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    out = {name: _draft07(inner) for name, inner in schema.items()}
    if "prefixItems" in out:
        rest = out.pop("items", True)
        out["items"], out["additionalItems"] = out.pop("prefixItems"), rest
    if isinstance(out.get("discriminator"), dict):
        out["discriminator"] = out["discriminator"]["propertyName"]
    return out
