"""Events through AWS: a topic of SNS for each topic, a queue of SQS for each subscription.

Needs ``pip install 'tenfold[sqs]'`` and a URL ``sqs://[key:secret@]region`` (without a key, the credentials that AWS's
own tools would use) with options after a ``?``: ``fifo`` (true), ``keep_s`` of the queues (604800, 1209600 at most) and
``endpoint`` for a server that stands in for AWS. It makes topics, queues and subscriptions itself, so it needs the
permission to, or that they exist.

With ``fifo=true`` an event's key is its message group and its id the deduplication id: order per key with any number of
consumers, and an id that is published again within five minutes is not delivered again. Envelope and data travel as one
JSON document, for messages may have only ten attributes.

Weakens: an event has at most 240,000 bytes. ``fifo=false`` has no order and delivers some events twice, for queues that
carry more than a FIFO topic does. Redelivery is in whole seconds. One call takes ten messages, so the events of a busy
key, published one after the other, are slow; what was acknowledged is gone, so a queue that was deleted is refilled
from the outbox (``tenfold events replay``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tenfold.errors import BrokerUnavailable, PublishFailed
from tenfold.events.backends._sqs_body import written
from tenfold.events.backends._sqs_client import SqsLink
from tenfold.events.backends._sqs_consumer import BATCH, CALLS_AT_ONCE, SqsConsumer, pieces
from tenfold.events.backends._sqs_names import Account, policy
from tenfold.events.backends._waves import waves
from tenfold.events.contract import Broker, Capabilities, Consumer, Counts, Feed, Outgoing
from tenfold.events.policy import behind, refuse_large

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import EventsSettings

SIZE_MAX_BYTES = 240_000
CALL_MAX_BYTES = 262_144
"""Of all messages of a call together."""


class Backend(Broker):
    """See :class:`Broker`."""

    def __init__(self, account: Account, clock: Clock) -> None:
        self._account, self._link, self._clock = account, SqsLink(account), clock
        self.keep_s = float(account.keep_s)
        self.capabilities = Capabilities(
            durable=True,
            ordered=account.fifo,
            keyed_consumers=True,
            deduplicates=account.fifo,
            replays=False,
            size_max_bytes=SIZE_MAX_BYTES,
        )
        self._topics: dict[str, str] = {}
        self._queues: dict[str, str] = {}

    @classmethod
    def from_url(cls, url: str, *, settings: EventsSettings, clock: Clock) -> Backend:
        return cls(Account.from_url(url, settings), clock)

    async def start(self) -> None:
        await self.health()

    async def stop(self) -> None:
        await self._link.close()

    async def health(self) -> None:
        async with self._link.calling() as (_, sqs):
            await sqs.list_queues(QueueNamePrefix=self._account.prefix, MaxResults=1)

    async def declare(self, topics: Sequence[str], feeds: Sequence[Feed]) -> None:
        async with self._link.calling() as (sns, sqs):
            names = sorted({*topics, *(feed.topic for feed in feeds)})
            arns = await asyncio.gather(*(self._make_topic(sns, name) for name in names))
            self._topics |= dict(zip(names, arns, strict=True))
            urls = await asyncio.gather(*(self._make_queue(sns, sqs, feed) for feed in feeds))
            self._queues |= {feed.name: url for feed, url in zip(feeds, urls, strict=True)}

    async def publish(self, events: Sequence[Outgoing]) -> None:
        texts, failed = self._texts(events)
        confirmed: set[int] = set()
        try:
            async with self._link.calling() as (sns, _):
                for wave in waves(events, texts):
                    await self._wave(
                        sns, events, texts, [n for n in wave if n not in failed], failed, confirmed
                    )
        except BrokerUnavailable as error:
            self._topics.clear()
            if not confirmed:
                raise
            failed |= {n: str(error) for n in range(len(events)) if n not in confirmed and n not in failed}
        if failed:
            raise PublishFailed(failed)

    async def consume(self, feed: Feed) -> Consumer:
        return SqsConsumer(self._link, feed, await self._queue(feed), self._clock)

    async def counts(self, feed: Feed) -> Counts | None:
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        url = await self._queue(feed)
        async with self._link.calling() as (_, sqs):
            answer = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
        waiting, held = (int(answer["Attributes"][name]) for name in names)
        return Counts(waiting + held, {"handed out": str(held), "counted": "approximately"})

    # ── publishing ──

    def _texts(self, events: Sequence[Outgoing]) -> tuple[Mapping[int, str], dict[int, str]]:
        """What can be published, and what cannot with a sentence why."""
        failed = refuse_large(events, SIZE_MAX_BYTES)
        texts: dict[int, str] = {}
        for n, event in enumerate(events):
            if n in failed:
                continue
            try:
                text = written(event)
            except UnicodeDecodeError:
                failed[n] = f"event {event.event_id} of {event.topic} is not UTF-8; SQS carries text only"
                continue
            if len(text.encode()) > CALL_MAX_BYTES:
                failed[n] = (
                    f"event {event.event_id} of {event.topic} exceeds {CALL_MAX_BYTES:,} bytes with its envelope"
                )
            else:
                texts[n] = text
        failed |= behind(events, failed)
        return {n: text for n, text in texts.items() if n not in failed}, failed

    async def _wave(
        self,
        sns: Any,
        events: Sequence[Outgoing],
        texts: Mapping[int, str],
        positions: Sequence[int],
        failed: dict[int, str],
        confirmed: set[int],
    ) -> None:
        """Publish at once what has no order: ten messages a call, several calls at a time."""
        calls: list[tuple[str, list[int]]] = []
        for topic in sorted({events[n].topic for n in positions}):
            of_topic = [n for n in positions if events[n].topic == topic]
            calls += [(topic, part) for part in self._parts(of_topic, texts)]
        refused: dict[int, str] = {}
        for together in pieces(calls, CALLS_AT_ONCE):
            answers = await asyncio.gather(
                *(self._call(sns, topic, events, texts, part) for topic, part in together)
            )
            for (_, part), answer in zip(together, answers, strict=True):
                why = {int(one["Id"]): one.get("Message") or one["Code"] for one in answer.get("Failed", [])}
                refused |= {
                    n: f"SNS did not take event {events[n].event_id}: {text}" for n, text in why.items()
                }
                confirmed.update(n for n in part if n not in why)
        if refused:
            failed |= refused | behind(events, refused)
            for n in confirmed:
                failed.pop(n, None)

    def _parts(self, positions: Sequence[int], texts: Mapping[int, str]) -> list[list[int]]:
        """Positions, ten at most together, and no more than a call carries."""
        parts: list[list[int]] = []
        size = CALL_MAX_BYTES + 1
        for n in positions:
            own = len(texts[n].encode())
            if not parts or len(parts[-1]) == BATCH or size + own > CALL_MAX_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(n)
            size += own
        return parts

    async def _call(
        self, sns: Any, topic: str, events: Sequence[Outgoing], texts: Mapping[int, str], part: Sequence[int]
    ) -> Any:
        entries: list[dict[str, Any]] = []
        for n in part:
            entry: dict[str, Any] = {"Id": str(n), "Message": texts[n]}
            if self._account.fifo:
                group, identity = self._account.group(events[n]), self._account.identity(events[n])
                entry |= {"MessageGroupId": group, "MessageDeduplicationId": identity}
            entries.append(entry)
        arn = self._topics.get(topic) or await self._make_topic(sns, topic)
        self._topics[topic] = arn
        return await sns.publish_batch(TopicArn=arn, PublishBatchRequestEntries=entries)

    # ── what exists ──

    async def _make_topic(self, sns: Any, topic: str) -> str:
        made = await sns.create_topic(
            Name=self._account.topic(topic), Attributes=self._account.topic_attributes()
        )
        arn: str = made["TopicArn"]
        return arn

    async def _make_queue(self, sns: Any, sqs: Any, feed: Feed) -> str:
        account = self._account
        made = await sqs.create_queue(QueueName=account.queue(feed), Attributes=account.queue_attributes())
        url: str = made["QueueUrl"]
        told = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn", "Policy"])
        queue_arn, topic_arn = told["Attributes"]["QueueArn"], self._topics[feed.topic]
        if not told["Attributes"].get("Policy"):
            await sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy(queue_arn, topic_arn)})
        await sns.subscribe(
            TopicArn=topic_arn,
            Protocol="sqs",
            Endpoint=queue_arn,
            Attributes={"RawMessageDelivery": "true"},
            ReturnSubscriptionArn=True,
        )
        return url

    async def _queue(self, feed: Feed) -> str:
        if feed.name not in self._queues:
            async with self._link.calling() as (_, sqs):
                answer = await sqs.get_queue_url(QueueName=self._account.queue(feed))
                self._queues[feed.name] = answer["QueueUrl"]
        return self._queues[feed.name]
