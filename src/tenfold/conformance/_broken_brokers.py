"""Brokers that do not keep their contract."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from tenfold.conformance._altered import Altered, Broken, alter, answer
from tenfold.errors import PublishFailed
from tenfold.events.contract import Counts, Feed, Incoming, Outgoing


def _publishes(change: Callable[[list[Outgoing]], list[Outgoing]]) -> Callable[[Any], Any]:
    """Something else than what it was given, and says that all is well."""

    async def publish(it: Altered, events: Sequence[Outgoing]) -> None:
        if changed := change(list(events)):
            await it.inner.publish(changed)

    return lambda broker: alter(broker, publish=publish)


def _consumes(**changes: Callable[..., Any]) -> Callable[[Any], Any]:
    """With consumers whose methods are changed."""

    async def consume(it: Altered, feed: Feed) -> Any:
        return alter(await it.inner.consume(feed), **changes)

    return lambda broker: alter(broker, consume=consume)


def _hands_out(change: Callable[[Incoming], Incoming]) -> Callable[[Any], Any]:
    async def fetch(it: Altered, limit: int, wait_s: float) -> list[Incoming]:
        return [change(event) for event in await it.inner.fetch(limit, wait_s)]

    return _consumes(fetch=fetch)


async def _publish_later(it: Altered, events: Sequence[Outgoing]) -> None:
    """Confirmed from memory: the batch before this one goes out with it, this one with the next."""
    before, it.memory["held"] = it.memory.get("held", []), list(events)
    if before:
        await it.inner.publish(before)


async def _publish_around(it: Altered, events: Sequence[Outgoing]) -> None:
    """What is refused does not hold up what follows it in its key."""
    try:
        await it.inner.publish(events)
    except PublishFailed as error:
        large = [n for n in error.failed if len(events[n].body) > 1_000]
        await it.inner.publish([events[n] for n in error.failed if n not in large])
        raise PublishFailed({n: error.failed[n] for n in large}) from None


async def _publish_all_or_nothing(it: Altered, events: Sequence[Outgoing]) -> None:
    try:
        await it.inner.publish([event for event in events if len(event.body) > 1_000])
    except PublishFailed as error:
        raise PublishFailed(dict.fromkeys(range(len(events)), str(error))) from None
    await it.inner.publish(events)


async def _publish_mute(it: Altered, events: Sequence[Outgoing]) -> None:
    try:
        await it.inner.publish(events)
    except PublishFailed as error:
        raise PublishFailed(dict.fromkeys(error.failed, "it failed")) from None


async def _acknowledge_at_once(it: Altered, limit: int, wait_s: float) -> list[Incoming]:
    events: list[Incoming] = await it.inner.fetch(limit, wait_s)
    await it.inner.acknowledge(events)
    return events


async def _acknowledge_the_last_ones(it: Altered, events: Sequence[Incoming]) -> None:
    """With the call after; what the last call said, closing forgets."""
    last, it.memory["put off"] = it.memory.get("put off", []), list(events)
    await it.inner.acknowledge(last)


async def _fetch_all(it: Altered, limit: int, wait_s: float) -> list[Incoming]:
    events: list[Incoming] = await it.inner.fetch(limit, wait_s)
    events += await it.inner.fetch(1_000, 0.01)
    return events


async def _fetch_after_the_wait(it: Altered, limit: int, wait_s: float) -> list[Incoming]:
    await asyncio.sleep(wait_s)
    events: list[Incoming] = await it.inner.fetch(limit, 0.01)
    return events


async def _fetch_newest_first(it: Altered, limit: int, wait_s: float) -> list[Incoming]:
    events: list[Incoming] = await it.inner.fetch(limit, wait_s)
    return events[::-1]


def _one_line(broker: Any) -> Any:
    """All subscriptions of a topic are one."""

    def same(feed: Feed) -> Feed:
        return Feed(f"{feed.topic}-one", feed.topic)

    async def declare(it: Altered, topics: Any, feeds: Sequence[Feed]) -> None:
        await it.inner.declare(topics, [same(feed) for feed in feeds])

    async def consume(it: Altered, feed: Feed) -> Any:
        return await it.inner.consume(same(feed))

    return alter(broker, declare=declare, consume=consume)


async def _publish_nowhere_fails(it: Altered, events: Sequence[Outgoing]) -> None:
    raise PublishFailed(dict.fromkeys(range(len(events)), "nobody subscribes to it"))


async def _count_seven_more(it: Altered, feed: Feed) -> Any:
    counts = await it.inner.counts(feed)
    return Counts(counts.waiting + 7) if counts is not None else Counts(0)


def _shuffled(events: list[Outgoing]) -> list[Outgoing]:
    return events[::-1]


_ORDER = "test_the_events_of_a_key_come_in_order"
_WHOLE = "test_what_was_published_arrives_whole"
_AGAIN = "test_what_is_not_acknowledged_comes_again"
_LARGE = "test_an_oversize_event_is_refused_in_a_sentence"


def _is_ordered(declared: Any) -> bool:
    return bool(declared.ordered)


def _has_limit(declared: Any) -> bool:
    return declared.size_max_bytes is not None


BROKER = [
    Broken("it drops one event of a batch", _ORDER, _publishes(lambda events: events[:-1]), timeout_s=1.0),
    Broken(
        "it confirms before it has published",
        _WHOLE,
        lambda b: alter(b, publish=_publish_later),
        timeout_s=1.0,
    ),
    Broken("it puts a batch in the wrong order", _ORDER, _publishes(_shuffled), concerns=_is_ordered),
    Broken(
        "it hands out the newest first", _ORDER, _consumes(fetch=_fetch_newest_first), concerns=_is_ordered
    ),
    Broken("it loses the key", _WHOLE, _hands_out(lambda event: event._replace(key=None))),
    Broken("it gives events new ids", _WHOLE, _hands_out(lambda event: event._replace(event_id="x-1"))),
    Broken("it loses the envelope", _WHOLE, _hands_out(lambda event: event._replace(attributes={}))),
    Broken(
        "it cuts large bodies off",
        "test_a_large_body_arrives_whole",
        _hands_out(lambda event: event._replace(body=event.body[:65_536])),
    ),
    Broken(
        "it takes what it hands out for acknowledged",
        _AGAIN,
        _consumes(fetch=_acknowledge_at_once),
        timeout_s=1.0,
    ),
    Broken(
        "it forgets acknowledgements",
        "test_what_is_acknowledged_does_not_come_again",
        _consumes(acknowledge=answer(None)),
        timeout_s=1.0,
    ),
    Broken(
        "it puts acknowledgements off, and closes without them",
        "test_what_is_acknowledged_does_not_come_again",
        _consumes(acknowledge=_acknowledge_the_last_ones),
        timeout_s=1.0,
    ),
    Broken(
        "it hands out more than was asked for",
        "test_a_batch_comes_in_pieces_of_the_size_asked_for",
        _consumes(fetch=_fetch_all),
        timeout_s=1.0,
    ),
    Broken(
        "a fetch is answered when its time is over",
        "test_a_fetch_waits_for_what_comes",
        _consumes(fetch=_fetch_after_the_wait),
        timeout_s=1.0,
    ),
    Broken("subscriptions share one line", "test_subscriptions_are_independent", _one_line, timeout_s=1.0),
    Broken(
        "it refuses what nobody subscribes to",
        "test_a_topic_without_subscriptions_takes_events",
        lambda b: alter(b, publish=_publish_nowhere_fails),
    ),
    Broken(
        "it publishes what follows a refused event",
        _LARGE,
        lambda b: alter(b, publish=_publish_around),
        concerns=_has_limit,
    ),
    Broken(
        "one refused event refuses the batch",
        _LARGE,
        lambda b: alter(b, publish=_publish_all_or_nothing),
        concerns=_has_limit,
    ),
    Broken("it does not say why", _LARGE, lambda b: alter(b, publish=_publish_mute), concerns=_has_limit),
    Broken(
        "it miscounts", "test_counts_are_true", lambda b: alter(b, counts=_count_seven_more), timeout_s=1.0
    ),
]

CRASHING = [
    Broken(
        "what it confirmed is in its memory only",
        "test_what_is_confirmed_survives_a_crash",
        lambda b: alter(b, publish=_publish_later),
        timeout_s=30.0,
        concerns=lambda declared: bool(declared.durable),
    ),
]
"""For servers that are quickly started again."""
