"""What every broker backend promises (:mod:`tenfold.events.contract`)."""

from __future__ import annotations

import asyncio

import pytest

from tenfold.conformance._broker_case import (
    BrokerCase,
    Pair,
    ServerSwitch,
    Subscriber,
    event,
    numbers,
    publish_until,
)
from tenfold.conformance.kit import until
from tenfold.errors import BrokerUnavailable, PublishFailed
from tenfold.events.contract import Broker, Capabilities, Feed

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

    async def test_a_large_body_arrives_whole(
        self, broker: Broker, topic: str, subscriber: Subscriber, declared: Capabilities
    ) -> None:
        """Up to the size that is declared (half a megabyte is tried)."""
        size = min(declared.size_max_bytes or 500_000, 500_000)
        body = b'"' + b"x" * (size - 2) + b'"'
        await broker.publish([event(topic, 1, body=body)])
        (got,) = await subscriber.take(1)
        assert got.body == body

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

    async def test_a_batch_comes_in_pieces_of_the_size_asked_for(
        self, broker: Broker, topic: str, subscriber: Subscriber
    ) -> None:
        """A fetch never gives more than it was asked for, and the rest comes with the next ones."""
        await broker.publish([event(topic, n) for n in range(10)])
        assert len(await subscriber.take(3, limit=3)) == 3
        rest = await subscriber.take(7, limit=4)
        assert len(rest) == 7

    async def test_a_fetch_waits_for_what_comes(
        self, broker: Broker, topic: str, feed: Feed, subscriber: Subscriber
    ) -> None:
        """It answers soon after something was published, and with nothing when its time is over."""
        assert await subscriber.look(wait_s=0.05) == []
        loop = asyncio.get_running_loop()
        fetching = asyncio.create_task(subscriber.look(wait_s=self.patience_s))
        await asyncio.sleep(0.05)
        begun = loop.time()
        await broker.publish([event(topic, 1)])
        assert numbers(await fetching) == [1]
        assert loop.time() - begun < self.patience_s / 2

    async def test_publishing_again_delivers_at_least_once(
        self, broker: Broker, topic: str, subscriber: Subscriber, declared: Capabilities
    ) -> None:
        """What was in doubt is published again; a broker that says so does not deliver it again."""
        await broker.publish([event(topic, 1, key="k")])
        await broker.publish([event(topic, 1, key="k"), event(topic, 2, key="k")])
        came: list[int] = []
        while 2 not in came:
            events = await subscriber.take(1)
            await subscriber.acknowledge(events)
            came += numbers(events)
        assert set(came) == {1, 2}
        assert not declared.deduplicates or came == [1, 2]

    # ── acknowledging ──

    async def test_what_is_not_acknowledged_comes_again(
        self, broker: Broker, topic: str, feed: Feed, subscriber: Subscriber
    ) -> None:
        """The next consumer gets it, before what follows it in its key."""
        await broker.publish([event(topic, n, key="k") for n in range(6)])
        taken = await subscriber.take(4)
        await subscriber.acknowledge(taken[:2])
        await subscriber.close()
        assert numbers(await subscriber.take_new(4, timeout_s=self.patience_s)) == [2, 3, 4, 5]

    async def test_what_is_acknowledged_does_not_come_again(
        self, broker: Broker, topic: str, other: Broker, feed: Feed, subscriber: Subscriber
    ) -> None:
        """Not to the next consumer, and not in another process."""
        await broker.publish([event(topic, n) for n in range(5)])
        await subscriber.acknowledge(await subscriber.take(5))
        await subscriber.settled()
        await subscriber.close()
        await broker.publish([event(topic, 9)])
        second = Subscriber(other, feed)
        assert numbers(await second.take(1, timeout_s=self.patience_s)) == [9]
        await second.close()

    async def test_another_process_takes_over_what_a_dead_one_held(
        self, broker: Broker, other: Broker, topic: str, feed: Feed, subscriber: Subscriber
    ) -> None:
        """A consumer that never acknowledged is gone; the next process gets all of it, in order."""
        await broker.publish([event(topic, n, key="k") for n in range(5)])
        await subscriber.take(5)
        await subscriber.close()
        second = Subscriber(other, feed)
        assert numbers(await second.take_new(5, timeout_s=self.patience_s)) == [0, 1, 2, 3, 4]
        await second.close()

    # ── subscriptions ──

    async def test_subscriptions_are_independent(self, broker: Broker, topic: str) -> None:
        """Each gets everything; one that stands still, or is late, holds up no other."""
        feeds = [Feed(f"{topic}-{name}", topic) for name in ("a", "b")]
        await broker.declare([topic], feeds)
        first, second = (Subscriber(broker, feed) for feed in feeds)
        await broker.publish([event(topic, n) for n in range(4)])
        assert len(await first.take_new(4)) == 4
        assert len(await second.take(1, limit=1)) == 1  # and holds it
        await broker.publish([event(topic, 4)])
        assert numbers(await first.take_new(1)) == [4]
        await second.close()
        assert sorted(numbers(await second.take_new(5, timeout_s=self.patience_s))) == [0, 1, 2, 3, 4]
        for one in (first, second):
            await one.close()

    async def test_topics_are_told_apart(self, broker: Broker, topic: str) -> None:
        """A subscription gets its own topic only, also beside one whose name begins like it."""
        longer = f"{topic}x"
        feeds = [Feed(f"{topic}-s", topic), Feed(f"{longer}-s", longer)]
        await broker.declare([topic, longer], feeds)
        await broker.publish([event(longer, 1), event(topic, 2)])
        for feed, wanted in zip(feeds, ([2], [1]), strict=True):
            one = Subscriber(broker, feed)
            assert numbers(await one.take(1)) == wanted
            assert await one.look() == []
            await one.close()

    async def test_a_topic_without_subscriptions_takes_events(self, broker: Broker, topic: str) -> None:
        """Nobody is interested, which is no failure."""
        await broker.declare([topic], [])
        await broker.publish([event(topic, 1), event(topic, 2, key="k")])

    async def test_declaring_again_changes_nothing(
        self, broker: Broker, other: Broker, topic: str, feed: Feed, subscriber: Subscriber
    ) -> None:
        """Every process declares, again and again; what waits stays."""
        await broker.publish([event(topic, 1)])
        for one in (broker, other, broker):
            await one.declare([topic], [feed])
        assert numbers(await subscriber.take(1)) == [1]

    async def test_two_consumers_of_one_subscription_share_it(
        self, broker: Broker, other: Broker, topic: str, feed: Feed, declared: Capabilities
    ) -> None:
        """What one has acknowledged the other does not get, and the events of a key stay in order between them,
        where the broker says so."""
        if not declared.keyed_consumers:
            return  # the caller opens one at a time
        pair = [Subscriber(broker, feed), Subscriber(other, feed)]
        for one in pair:
            await one.look()
        await broker.publish([event(topic, n, key=f"k{n % 4}") for n in range(40)])
        came: list[int] = []

        async def all_came() -> bool:
            for one in pair:
                events = await one.look(limit=5)
                came.extend(numbers(events))
                await one.acknowledge(events)
            return len(set(came)) == 40

        await until(all_came, "every event comes to one of the two", timeout_s=2 * self.patience_s)
        first_times = list(dict.fromkeys(came))
        for key in range(4):
            of_key = [n for n in first_times if n % 4 == key]
            assert not declared.ordered or of_key == sorted(of_key)
        for one in pair:
            await one.close()

    # ── what goes wrong ──

    async def test_an_oversize_event_is_refused_in_a_sentence(
        self, broker: Broker, topic: str, subscriber: Subscriber, declared: Capabilities
    ) -> None:
        """It says how large it is and what is allowed; what follows in its key waits, all else is published."""
        if declared.size_max_bytes is None:
            await broker.publish([event(topic, 0)])
            return
        large = event(topic, 1, key="k", body=b'"' + b"x" * declared.size_max_bytes + b'"')
        with pytest.raises(PublishFailed, match=f"{declared.size_max_bytes:,}") as refused:
            await broker.publish([event(topic, 0), large, event(topic, 2), event(topic, 3, key="k")])
        assert sorted(refused.value.failed) == [1, 3]
        assert sorted(numbers(await subscriber.take_new(2))) == [0, 2]

    async def test_what_is_confirmed_survives_a_crash(
        self,
        pair: Pair,
        topic: str,
        feed: Feed,
        subscriber: Subscriber,
        switch: ServerSwitch | None,
        declared: Capabilities,
    ) -> None:
        """The server is killed right after it confirmed: everybody is told soon, in a sentence that names the setting;
        once it is back nothing is lost, and order stays. A broker that is not durable may lose it, and goes on."""
        if switch is None:
            return
        await subscriber.look()
        await pair.first.publish([event(topic, n, key="k") for n in range(20)])
        await switch.stop()
        try:
            await self._everybody_is_told(pair, topic, feed)
        finally:
            await switch.start()
        await publish_until(pair.first, [event(topic, 20, key="k")], [feed], self.patience_s)
        if not declared.durable:
            assert 20 in numbers(await subscriber.take_until(20, timeout_s=self.patience_s))
            return
        came = numbers(await subscriber.take_new(21, timeout_s=self.patience_s))
        assert sorted(came) == list(range(21))
        assert not declared.ordered or came == sorted(came)

    async def _everybody_is_told(self, pair: Pair, topic: str, feed: Feed) -> None:
        begun = asyncio.get_running_loop().time()
        with pytest.raises((BrokerUnavailable, PublishFailed), match=r"\w+ \w+"):
            await pair.first.publish([event(topic, 99)])
        with pytest.raises(BrokerUnavailable, match=r"events\.url"):
            await pair.second.health()
        with pytest.raises(BrokerUnavailable, match=r"events\.url"):
            await pair.second.declare([topic], [feed])
        assert asyncio.get_running_loop().time() - begun < 3 * self.timeout_s

    async def test_a_wiped_server_works_again(
        self, broker: Broker, topic: str, feed: Feed, subscriber: Subscriber, switch: ServerSwitch | None
    ) -> None:
        """What it knew is gone: nothing is confirmed that the subscription misses, and declared anew, it carries what is
        published from now on."""
        if switch is None:
            return
        await broker.publish([event(topic, 1)])
        await switch.wipe()
        try:
            await broker.publish([event(topic, 3)])
        except (BrokerUnavailable, PublishFailed):
            confirmed = False
        else:
            confirmed = True
        await publish_until(broker, [event(topic, 2)], [feed], self.patience_s)
        came = numbers(await subscriber.take_until(2, timeout_s=self.patience_s))
        assert 3 in came or not confirmed

    async def test_counts_are_true(self, broker: Broker, topic: str, feed: Feed) -> None:
        """Where a broker tells what waits for a subscription, it is what waits."""
        if await broker.counts(feed) is None:
            return
        await broker.publish([event(topic, n) for n in range(7)])

        async def seven() -> bool:
            counts = await broker.counts(feed)
            return counts is not None and counts.waiting == 7

        await until(seven, "the broker counts seven events", timeout_s=self.patience_s)
