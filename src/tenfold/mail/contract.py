"""What a way of sending mail must do.

Order: none. Loss: after :meth:`MailBackend.deliver` returned, the mail is the receiving side's; it survives our
crash. Duplicates: a caller that retries after an error or a crash may send twice; a backend that can tell the
``message_id`` again does not. Atomic with: nothing, so mail is sent from jobs, after the transaction. On time-out
the outcome is unknown and :class:`~tenfold.errors.MailUnavailable` is raised. Errors: MailUnavailable (try again
later), MailRefused (never).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tenfold._core.clock import Clock


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message ready for the wire, and who gets it."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    data: bytes = field(repr=False)


class MailBackend(ABC):
    """Delivers envelopes. One instance serves concurrent calls."""

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, *, data_dir: Path, clock: Clock) -> Self:
        """Made from ``mail.url``. Raises :class:`~tenfold.errors.ConfigError` for a URL that cannot work."""

    @abstractmethod
    async def deliver(self, envelope: Envelope, timeout_s: float) -> None:
        """Hand the mail over within ``timeout_s`` seconds, or raise."""

    async def stop(self) -> None:
        """Give back what is held."""
        return
