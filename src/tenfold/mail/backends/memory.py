"""``memory:`` keeps mails in this process. For tests."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from tenfold._core.clock import Clock
from tenfold.mail.contract import Envelope, MailBackend


class Backend(MailBackend):
    """``sent`` holds every mail once, in the order in which they came."""

    def __init__(self) -> None:
        self.sent: dict[str, Envelope] = {}

    @classmethod
    def from_url(cls, url: str, *, data_dir: Path, clock: Clock) -> Self:
        return cls()

    async def deliver(self, envelope: Envelope, timeout_s: float) -> None:
        self.sent.setdefault(envelope.message_id, envelope)
