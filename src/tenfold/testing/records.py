"""What an app did during a test: jobs enqueued, events published, mails sent."""

from __future__ import annotations

from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import TYPE_CHECKING, Any, Self

import msgspec

if TYPE_CHECKING:
    from tenfold.db.database import Tx
    from tenfold.mail.contract import Envelope
    from tenfold.queue.message import NewMessage


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A job in the queue since a transaction committed."""

    name: str
    """``service.function``."""
    arguments: dict[str, Any]
    """As they travel: by name, in JSON's types, without those left to their default."""
    run_at: float
    """Seconds since the epoch, UTC."""
    queue: str
    priority: int


@dataclass(frozen=True, slots=True)
class Published:
    """An event of a transaction that committed."""

    topic: str
    """``service.topic``."""
    event: Any
    """The object that was published."""
    key: str | None


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that the app sent; ``to`` is everybody who gets it."""

    to: tuple[str, ...]
    subject: str
    text: str
    html: str | None
    message: EmailMessage
    """The whole message."""

    @classmethod
    def of(cls, envelope: Envelope) -> Self:
        """Parsed from what would have gone over the wire."""
        message = message_from_bytes(envelope.data, EmailMessage, policy=default)
        return cls(
            to=envelope.recipients,
            subject=str(message["subject"]),
            text=_part(message, "plain") or "",
            html=_part(message, "html"),
            message=message,
        )


class Recorder:
    """Writes down what commits; the queue's watcher (see :class:`tenfold.queue.queue.Watcher`)."""

    def __init__(self) -> None:
        self.jobs: list[Enqueued] = []
        self.events: list[Published] = []

    def clear(self) -> None:
        """Forget everything, in new lists: a test keeps those it holds."""
        self.jobs, self.events = [], []

    def enqueued(self, tx: Tx, message: NewMessage) -> None:
        if message.kind != "job":
            return
        arguments = msgspec.json.decode(message.payload)
        job = Enqueued(message.handler, arguments, message.run_at, message.queue, message.priority)
        tx.on_commit(lambda: self.jobs.append(job))

    def published(self, tx: Tx, topic: str, event: object, key: str | None) -> None:
        tx.on_commit(lambda: self.events.append(Published(topic, event, key)))


def _part(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))
    return None if part is None else str(part.get_content()).replace("\r\n", "\n")
