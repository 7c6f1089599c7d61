"""What things are called at AWS, and how queues are to be."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from tenfold.errors import ConfigError
from tenfold.events.backends._address import WHERE, Address

if TYPE_CHECKING:
    from tenfold._core.sections import EventsSettings
    from tenfold.events.contract import Feed, Outgoing

FORM = "sqs://[key:secret@]region[?fifo=true&endpoint=http://host:port]"
OPTIONS = ("fifo", "keep_s", "endpoint")
KEEP_S = 604_800
KEEP_MAX_S = 1_209_600
_PREFIX = re.compile(r"[A-Za-z0-9._-]{1,40}")
_REGION = re.compile(r"[a-z0-9-]+")
_PLAIN = re.compile(r"[A-Za-z0-9!-/:-@\[-`{-~]{1,100}")
"""What a message group may be called, with room for our mark."""


@dataclass(frozen=True, slots=True)
class Account:
    """A region of an account, and how topics and queues in it are made."""

    region: str
    key: str
    secret: str
    endpoint: str | None
    fifo: bool
    prefix: str
    keep_s: int
    redeliver_s: int
    timeout_s: float

    @classmethod
    def from_url(cls, url: str, settings: EventsSettings) -> Account:
        address = Address.parse(url, form=FORM, options=OPTIONS, port=None)
        region = address.hosts[0]
        if len(address.hosts) > 1 or not _REGION.fullmatch(region):
            raise ConfigError("it names no region.", where=WHERE, remedy=f'Write "{FORM}".')
        if not _PREFIX.fullmatch(settings.prefix):
            raise ConfigError(
                f"{settings.prefix!r} cannot begin the names of SQS queues.",
                where="events.prefix",
                remedy="Use at most 40 letters, digits, dots, hyphens and underscores.",
            )
        keep_s = address.number("keep_s", KEEP_S, least=60)
        if keep_s > KEEP_MAX_S:
            raise ConfigError(f"SQS keeps messages for {KEEP_MAX_S} s at most (keep_s).", where=WHERE)
        return cls(
            region=region,
            key=address.user,
            secret=address.password,
            endpoint=address.options.get("endpoint") or None,
            fifo=address.flag("fifo", True),
            prefix=settings.prefix,
            keep_s=keep_s,
            redeliver_s=max(1, round(settings.redeliver_s)),
            timeout_s=settings.timeout_s,
        )

    def topic(self, name: str) -> str:
        """Of SNS."""
        return self._name(name)

    def queue(self, feed: Feed) -> str:
        """Of a subscription."""
        return self._name(feed.name)

    def topic_attributes(self) -> dict[str, str]:
        """Of a new topic."""
        return {"FifoTopic": "true", "ContentBasedDeduplication": "false"} if self.fifo else {}

    def queue_attributes(self) -> dict[str, str]:
        """Of a new queue."""
        attributes = {
            "VisibilityTimeout": str(self.redeliver_s),
            "MessageRetentionPeriod": str(self.keep_s),
        }
        return attributes | ({"FifoQueue": "true"} if self.fifo else {})

    def group(self, event: Outgoing) -> str:
        """Messages of one group come in order. Events without a key have a group each, which holds up none."""
        if event.key is None:
            return f"#{_digest(event.event_id)}"
        return f"={event.key}" if _PLAIN.fullmatch(event.key) else f"*{_digest(event.key)}"

    def identity(self, event: Outgoing) -> str:
        """Published again within five minutes, it is not delivered again."""
        return event.event_id if _PLAIN.fullmatch(event.event_id) else _digest(event.event_id)

    def _name(self, name: str) -> str:
        """At most 80 characters without dots; the digest tells apart what looks alike without them."""
        full = f"{self.prefix}-{name}"
        plain = re.sub("[^A-Za-z0-9_-]", "-", full)[:55]
        return f"{plain}-{_digest(full)[:16]}{'.fifo' if self.fifo else ''}"


def policy(queue_arn: str, topic_arn: str) -> str:
    """Lets one topic, and nobody else, write into a queue."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic_arn}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
