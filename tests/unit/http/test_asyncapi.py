"""The AsyncAPI document says what topics and subscriptions do, and is valid by the official schema."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from shop.app import app as shop
from tenfold import App, Service, public
from tenfold._core.sections import EventsSettings
from tenfold.events.backends._address import Address
from tenfold.events.backends._kafka_client import Cluster
from tenfold.events.backends._nats_names import Names
from tenfold.events.backends._sqs_names import Account
from tenfold.events.contract import Feed
from tenfold.events.subscription import Subscription
from tenfold.events.topic import Topic
from tenfold.http.asyncapi import PROTOCOLS, document
from tenfold.testing.client import Client

SPEC = Path(__file__).parents[2] / "support" / "asyncapi" / "3.0.0.json.gz"


class Line(msgspec.Struct):
    sku: str
    at: tuple[int, str]


class Cash(msgspec.Struct, tag=True):
    given: int


class Card(msgspec.Struct, tag=True):
    number: str


class OldPlaced(msgspec.Struct):
    order: int


class Placed(msgspec.Struct):
    """An order was placed."""

    order_id: int
    lines: list[Line]
    paid: Cash | Card
    note: str | None = None


def from_v1(data: dict[str, Any]) -> OldPlaced:
    return OldPlaced(data["id"])


def from_v2(old: OldPlaced) -> Placed:
    return Placed(old.order, [], Cash(0))


async def reserve(event: Placed) -> None:
    """Take the goods from the stock.

    And nothing else."""


placed = Topic("orders", "placed", Placed, version=3, upcast={1: from_v1, 2: from_v2})
cancelled = Topic("orders", "cancelled", int)
subscription = Subscription("stock", placed, reserve)


@cache
def validator() -> Any:
    return jsonschema_rs.validator_for(json.loads(gzip.decompress(SPEC.read_bytes())))


def assert_valid(tree: dict[str, Any]) -> None:
    problems = [
        f"{'/'.join(map(str, e.instance_path))}: {e.message[:300]}" for e in validator().iter_errors(tree)
    ]
    assert problems == []
    for ref in _references(tree):
        found: Any = tree
        for part in ref.removeprefix("#/").split("/"):
            assert part in found, ref
            found = found[part]


def _references(piece: Any) -> list[str]:
    if isinstance(piece, dict):
        own = [piece["$ref"]] if isinstance(piece.get("$ref"), str) else []
        return own + [ref for inner in piece.values() for ref in _references(inner)]
    return [ref for inner in piece for ref in _references(inner)] if isinstance(piece, list) else []


def described(url: str = "") -> dict[str, Any]:
    return document(
        [placed, cancelled], [subscription], title="Shop", version="1.2", description="Sells.", url=url
    )


@pytest.mark.parametrize(
    "url", ["", *(f"{scheme}://user:secret@one:1234/x" for scheme in PROTOCOLS), "acme://host"]
)
def test_it_is_valid_for_every_broker_and_names_no_secret(url: str) -> None:
    tree = described(url)
    assert_valid(tree)
    assert "secret" not in json.dumps(tree)
    assert ("servers" in tree) == bool(url)


def test_the_validator_can_fail() -> None:
    with pytest.raises(AssertionError):
        assert_valid({**described(), "channels": {"x": {"adress": "typo"}}})


def test_each_topic_is_a_channel_with_every_version_that_can_be_read() -> None:
    tree = described()
    assert tree["info"] == {"title": "Shop", "version": "1.2", "description": "Sells."}
    channel = tree["channels"]["orders.placed"]
    assert channel["description"] == "An order was placed."
    assert list(channel["messages"]) == ["orders.placed.v1", "orders.placed.v2", "orders.placed.v3"]
    messages = tree["components"]["messages"]
    assert messages["orders.placed.v1"]["payload"]["type"] == "object"
    assert messages["orders.placed.v2"]["payload"] == {"$ref": "#/components/schemas/OldPlaced"}
    assert (
        messages["orders.placed.v2"]["summary"]
        == "Version 2 of orders.placed; subscribers get it as version 3."
    )
    assert messages["orders.cancelled.v1"]["payload"]["type"] == "integer"


def test_services_send_the_current_version_and_subscriptions_receive_all() -> None:
    operations = described()["operations"]
    assert operations["publish.orders.placed"]["action"] == "send"
    assert [m["$ref"] for m in operations["publish.orders.placed"]["messages"]] == [
        "#/channels/orders.placed/messages/orders.placed.v3"
    ]
    receive = operations["stock.reserve"]
    assert receive["action"] == "receive"
    assert receive["summary"] == "Take the goods from the stock."
    assert receive["tags"] == [{"name": "stock"}]
    assert len(receive["messages"]) == 3


def test_tuples_and_unions_are_said_as_draft_07_says_them() -> None:
    schemas = described()["components"]["schemas"]
    at = schemas["Line"]["properties"]["at"]
    assert [item["type"] for item in at["items"]] == ["integer", "string"]
    assert at["additionalItems"] is False
    assert schemas["Placed"]["properties"]["paid"]["discriminator"] == "type"


@pytest.mark.parametrize(
    ("url", "protocol", "header"),
    [
        ("rabbitmq://h", "amqp", "cloudEvents_id"),
        ("kafka://a:1,b:2", "kafka", "ce_id"),
        ("nats://h", "nats", "ce-id"),
    ],
)
def test_headers_and_server_are_those_of_the_configured_broker(url: str, protocol: str, header: str) -> None:
    tree = described(url)
    assert tree["servers"]["broker"]["protocol"] == protocol
    assert header in tree["components"]["messageTraits"]["cloudEvents"]["headers"]["required"]


def test_bindings_are_those_of_rabbitmq() -> None:
    tree = described("rabbitmq://user:secret@h/my%20shop")
    channel = tree["channels"]["orders.placed"]
    assert channel["address"] == "orders.placed"
    amqp = channel["bindings"]["amqp"]
    assert amqp["is"] == "routingKey"
    assert amqp["exchange"]["name"] == "tenfold"
    assert amqp["exchange"]["vhost"] == "my shop"
    assert tree["operations"]["stock.reserve"]["bindings"]["amqp"]["ack"] is True
    assert tree["operations"]["publish.orders.placed"]["bindings"]["amqp"]["deliveryMode"] == 2


def test_names_in_bindings_are_those_that_the_backends_make() -> None:
    settings = EventsSettings(prefix="tenfold")
    feed = Feed("stock.reserve", "orders.placed")
    tree = described("kafka://a:1,b:2")
    cluster = Cluster.from_url("kafka://a:1,b:2", settings)
    kafka = tree["operations"]["stock.reserve"]["bindings"]["kafka"]
    assert tree["channels"]["orders.placed"]["bindings"]["kafka"]["topic"] == cluster.topic(feed.topic)
    assert kafka["groupId"]["enum"] == [cluster.group(feed)]
    assert "kafka" in tree["components"]["messageTraits"]["cloudEvents"]["bindings"]
    address = Address.parse("nats://h", form="", options=(), port=4222)
    subject = Names.of(address, settings).subject(feed.topic)
    assert described("nats://h")["channels"]["orders.placed"]["address"] == subject
    tree = described("sqs://eu-west-1")
    assert_valid(tree)
    account = Account.from_url("sqs://eu-west-1", settings)
    (queue,) = tree["operations"]["stock.reserve"]["bindings"]["sqs"]["queues"]
    assert queue == {"name": account.queue(feed), "fifoQueue": account.fifo}


def test_an_app_without_topics_has_a_document_too() -> None:
    assert_valid(document([], [], title="Quiet"))


def test_the_shops_document_is_valid_and_the_same_every_time() -> None:
    shop.configure(environ={})
    tree = shop.asyncapi()
    assert_valid(tree)
    assert "orders.order-placed" in tree["channels"]
    assert json.dumps(tree) == json.dumps(shop.asyncapi())


@pytest.mark.anyio
@pytest.mark.parametrize(("docs", "status"), [(True, 200), (False, 404)])
async def test_it_is_served_under_the_same_rule_as_the_api_document(
    tmp_path: Path, docs: bool, status: int
) -> None:
    service = Service("orders", auth=public)
    service.topic("placed", Placed)
    app = App("s", [service])
    app.configure(environ={}, app__data_dir=str(tmp_path), http__docs=docs)
    await app.start(worker=False)
    try:
        answer = await Client(app).get("/asyncapi.json")
        assert answer.status == status
        assert (await Client(app).get("/docs/events")).status == status
        if docs:
            assert_valid(answer.json())
    finally:
        await app.stop()
