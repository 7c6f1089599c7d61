"""What every broker backend promises (:mod:`tenfold.events.contract`)."""

from __future__ import annotations

import pytest

from tenfold.conformance._broker_case import BrokerCase, Subscriber, event, numbers
from tenfold.errors import PublishFailed
from tenfold.events.contract import Broker, Capabilities, Feed

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


class BrokerConformance(BrokerCase):
    # ── publishing and taking in ──

    async def test_what_was_published_arrives_whole(
        self, broker: Broker, topic: str, subscriber: Subscriber
    ) -> None:
        """Body, key, id and attributes come back as they were, whatever characters they have."""
        plain = event(topic, 1, key="Zoë/№ 1 ", body='{"text":"näive \\u0000 ☃"}'.encode())
        sent = plain._replace(
            attributes={**plain.attributes, "tenant": "Ünicorn & Söhne", "traceparent": TRACE}
        )
        await broker.publish([sent])
        (got,) = await subscriber.take(1)
        assert (got.topic, got.key, got.event_id, got.body) == (topic, sent.key, sent.event_id, sent.body)
        assert dict(got.attributes) == dict(sent.attributes)

    async def test_the_events_of_a_key_come_in_order(
        self, broker: Broker, topic: str, subscriber: Subscriber, declared: Capabilities
    ) -> None:
        """Over many batches, and whatever other keys do."""
        for start in range(0, 90, 30):
            await broker.publish([event(topic, n, key=f"k{n % 3}") for n in range(start, start + 30)])
        came = await subscriber.take_new(90)
        assert sorted(numbers(came)) == list(range(90))
        for key in ("k0", "k1", "k2"):
            of_key = numbers([one for one in came if one.key == key])
            assert not declared.ordered or of_key == sorted(of_key)

    async def test_what_is_not_acknowledged_comes_again(
        self, broker: Broker, topic: str, feed: Feed, subscriber: Subscriber
    ) -> None:
        """The next consumer gets it, before what follows it in its key."""
        await broker.publish([event(topic, n, key="k") for n in range(6)])
        taken = await subscriber.take(4)
        await subscriber.acknowledge(taken[:2])
        await subscriber.close()
        assert numbers(await subscriber.take_new(4)) == [2, 3, 4, 5]

    async def test_an_oversize_event_is_refused_in_a_sentence(
        self, broker: Broker, topic: str, subscriber: Subscriber, declared: Capabilities
    ) -> None:
        """It says how large it is and what is allowed; the others of the batch are published."""
        if declared.size_max_bytes is None:
            await broker.publish([event(topic, 0)])
            return
        large = event(topic, 1, body=b'"' + b"x" * declared.size_max_bytes + b'"')
        with pytest.raises(PublishFailed, match=f"{declared.size_max_bytes:,}") as refused:
            await broker.publish([event(topic, 0), large, event(topic, 2)])
        assert list(refused.value.failed) == [1]
        assert sorted(numbers(await subscriber.take_new(2))) == [0, 2]
