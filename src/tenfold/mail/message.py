"""From typed parts to one RFC 5322 message, with nothing a caller passes able to become a header of its own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from tenfold.errors import FieldError, InvalidInput
from tenfold.mail.address import Address, parse_address

RECIPIENTS_MAX = 100
SUBJECT_MAX = 998
"""Characters; RFC 5322 § 2.1.1 sets it for a line."""
MESSAGE_BYTES_MAX = 25_000_000
"""What common providers take."""

_HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,75}")
_OURS = frozenset(
    {"from", "to", "cc", "bcc", "reply-to", "sender", "subject", "date", "message-id", "mime-version"}
)
_MEDIA_TYPE = re.compile(r"([a-z0-9][a-z0-9!#$&^_.+-]*)/([a-z0-9][a-z0-9!#$&^_.+-]*)")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in a mail; ``media_type`` as in ``text/csv``."""

    name: str
    content: bytes = field(repr=False)
    media_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail, checked: every address parsed, every header safe. Make it with :func:`compose`."""

    sender: Address
    to: tuple[Address, ...]
    subject: str
    text: str = field(repr=False)
    html: str | None = field(default=None, repr=False)
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: Address | None = None
    attachments: tuple[Attachment, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def recipients(self) -> tuple[str, ...]:
        """Every address the mail goes to, once each."""
        return tuple(dict.fromkeys(a.address for a in (*self.to, *self.cc, *self.bcc)))


def compose(
    to: str | Sequence[str],
    subject: str,
    text: str,
    *,
    sender: str,
    html: str | None = None,
    cc: str | Sequence[str] = (),
    bcc: str | Sequence[str] = (),
    reply_to: str | None = None,
    attachments: Iterable[Attachment] = (),
    headers: Mapping[str, str] | None = None,
) -> Mail:
    """Check every part. Raises :class:`InvalidInput` listing all that is wrong, none of it sent."""
    check = _Check()
    mail = Mail(
        sender=check.address("sender", sender),
        to=check.addresses("to", to),
        subject=check.line("subject", subject, SUBJECT_MAX),
        text=check.body("text", text),
        html=None if html is None else check.body("html", html),
        cc=check.addresses("cc", cc),
        bcc=check.addresses("bcc", bcc),
        reply_to=None if reply_to is None else check.address("reply_to", reply_to),
        attachments=tuple(check.attachment(f"attachments[{i}]", a) for i, a in enumerate(attachments)),
        headers={name: check.header(name, value) for name, value in (headers or {}).items()},
    )
    check.count("to", len(mail.recipients))
    if check.errors:
        raise InvalidInput(errors=check.errors)
    return mail


def encode(mail: Mail, *, message_id: str, at: float) -> bytes:
    """The message as it goes over the wire, without its ``Bcc``; ``at`` is its date, seconds since the epoch.

    Raises :class:`InvalidInput` when it is larger than :data:`MESSAGE_BYTES_MAX`.
    """
    from datetime import UTC, datetime

    message = EmailMessage(policy=SMTP)
    message["From"] = _shown(mail.sender)
    if mail.to:
        message["To"] = [_shown(a) for a in mail.to]
    if mail.cc:
        message["Cc"] = [_shown(a) for a in mail.cc]
    if mail.reply_to:
        message["Reply-To"] = _shown(mail.reply_to)
    message["Subject"] = mail.subject
    message["Date"] = format_datetime(datetime.fromtimestamp(at, UTC))
    message["Message-ID"] = message_id
    for name, value in mail.headers.items():
        message[name] = value
    _fill(message, mail)
    data = message.as_bytes()
    if len(data) > MESSAGE_BYTES_MAX:
        raise InvalidInput(f"The mail has {len(data):,} bytes; at most {MESSAGE_BYTES_MAX:,} can be sent.")
    return data


def _fill(message: EmailMessage, mail: Mail) -> None:
    message.set_content(mail.text)
    if mail.html is not None:
        message.add_alternative(mail.html, subtype="html")
    for attachment in mail.attachments:
        main, _, sub = attachment.media_type.partition("/")
        message.add_attachment(attachment.content, maintype=main, subtype=sub, filename=attachment.name)


def _shown(address: Address) -> HeaderAddress:
    return HeaderAddress(address.name, address.local, address.domain)


class _Check:
    """Collects everything that is wrong; what it returns for a wrong part is never used."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []

    def wrong(self, path: str, message: str) -> None:
        self.errors.append(FieldError("mail", path, message))

    def address(self, path: str, text: str) -> Address:
        try:
            return parse_address(text)
        except ValueError as error:
            self.wrong(path, f"{text!r}: {error}")
            return Address("")

    def addresses(self, path: str, given: str | Sequence[str]) -> tuple[Address, ...]:
        if isinstance(given, str):
            return (self.address(path, given),)
        return tuple(self.address(f"{path}[{i}]", text) for i, text in enumerate(given))

    def line(self, path: str, text: str, length_max: int) -> str:
        if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text):
            self.wrong(path, "It has control characters or line breaks, which could forge headers.")
        elif len(text) > length_max:
            self.wrong(path, f"It is longer than {length_max} characters.")
        return text

    def body(self, path: str, text: str) -> str:
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
            self.wrong(path, "It has characters that mail cannot carry.")
        return text

    def header(self, name: str, value: str) -> str:
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OURS or name.lower().startswith("content-"):
            self.wrong(f"headers.{name}", "This is not the name of a header that may be added.")
        return self.line(f"headers.{name}", value, SUBJECT_MAX)

    def attachment(self, path: str, attachment: Attachment) -> Attachment:
        if not _MEDIA_TYPE.fullmatch(attachment.media_type):
            self.wrong(path, f"{attachment.media_type!r} is not a media type such as text/csv.")
        if not attachment.name or "/" in attachment.name or "\\" in attachment.name:
            self.wrong(path, f"{attachment.name!r} is not a file name.")
        self.line(path, attachment.name, 255)
        return attachment

    def count(self, path: str, recipients: int) -> None:
        if not 1 <= recipients <= RECIPIENTS_MAX:
            self.wrong(path, f"A mail goes to 1 to {RECIPIENTS_MAX} addresses, not {recipients}.")
