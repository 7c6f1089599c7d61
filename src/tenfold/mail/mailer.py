"""Sending mail from operations and jobs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tenfold._core.clock import Clock
from tenfold._core.context import current
from tenfold._core.resolve import backend_class
from tenfold._core.text import plural
from tenfold.errors import ConfigError, MailUnavailable, NotBound
from tenfold.mail.address import Address, parse_address
from tenfold.mail.contract import Envelope
from tenfold.mail.message import Attachment, compose, encode
from tenfold.telemetry import names
from tenfold.telemetry.trace import span

if TYPE_CHECKING:
    from tenfold._core.sections import MailSettings
    from tenfold.mail.contract import MailBackend

log = logging.getLogger("tenfold.mail")

TIMEOUT_S = 30.0
"""For work without a deadline."""


class Mailer:
    """Sends mail by what ``mail.url`` names; without one, into the mailbox folder of ``data_dir``.

    Send from a job, not from an operation: a job is enqueued in the transaction and retried, and the client does
    not wait for a mail server.
    """

    def __init__(self) -> None:
        self._backend: MailBackend | None = None
        self._clock: Clock | None = None
        self._sender = Address("")

    def bind(self, settings: MailSettings, *, data_dir: Path, clock: Clock) -> None:
        """Called by the app at start. Raises :class:`ConfigError` for settings that cannot work."""
        url = settings.url or "mailbox:"
        try:
            self._sender = parse_address(settings.sender)
        except ValueError as error:
            raise ConfigError(str(error), where="mail.sender") from None
        self._backend = backend_class("mail", url, where="mail.url").from_url(
            url, data_dir=data_dir, clock=clock
        )
        self._clock = clock

    @property
    def backend(self) -> MailBackend:
        """What delivers. Raises :class:`NotBound` before the app has started."""
        return self._bound()[0]

    async def stop(self) -> None:
        """Called by the app at its end."""
        if self._backend is not None:
            await self._backend.stop()

    async def send(
        self,
        to: str | Sequence[str],
        subject: str,
        text: str,
        html: str | None = None,
        attachments: Iterable[Attachment] = (),
        *,
        sender: str = "",
        cc: str | Sequence[str] = (),
        bcc: str | Sequence[str] = (),
        reply_to: str | None = None,
        headers: Mapping[str, str] | None = None,
        key: str = "",
    ) -> str:
        """Send one mail, by the deadline of the work in hand; its ``Message-ID`` is returned.

        With the same ``key`` (``f"receipt-{order.id}"``) it is the same mail however often it is sent: the mailbox
        keeps it once, and mail servers get the same ``Message-ID``, by which many drop the second.

        Raises :class:`InvalidInput` (an address or header that cannot be one), :class:`MailUnavailable` (try again
        later: a job does so by itself), :class:`MailRefused` (for good).
        """
        backend, clock = self._bound()
        mail = compose(
            to,
            subject,
            text,
            sender=sender or (f"{self._sender.name} <{self._sender.address}>"),
            html=html,
            cc=cc,
            bcc=bcc,
            reply_to=reply_to,
            attachments=attachments,
            headers=headers,
        )
        message_id = _message_id(key or clock.uuid(), mail.sender.domain)
        data = encode(mail, message_id=message_id, at=clock.now())
        timeout_s = _remaining_s(clock)
        with span(names.SPAN_MAIL, "client", recipients=len(mail.recipients)):
            await backend.deliver(Envelope(message_id, mail.sender.address, mail.recipients, data), timeout_s)
        # Neither subject nor address: what is in them is nobody's business here.
        log.info("mail %s went to %s", message_id, plural(len(mail.recipients), "recipient"))
        return message_id

    def _bound(self) -> tuple[MailBackend, Clock]:
        if self._backend is None or self._clock is None:
            raise NotBound("The mailer was used before its app started; start the app first.")
        return self._backend, self._clock


def _message_id(key: str, domain: str) -> str:
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@{domain}>"


def _remaining_s(clock: Clock) -> float:
    remaining = current().remaining(clock)
    if remaining is None:
        return TIMEOUT_S
    if remaining <= 0:
        raise MailUnavailable("The deadline passed before the mail was sent.")
    return min(remaining, TIMEOUT_S)
