"""Reading the mailbox folder, for the operations page and for tests. Nothing here trusts what a mail contains."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from email import message_from_bytes
from email.message import EmailMessage, MIMEPart
from email.policy import default
from pathlib import Path

import msgspec

from tenfold.errors import NotFound

_ID = re.compile(r"[0-9a-f]{32}")
_PREVIEW_BYTES = 65_536
_TEXT_MAX = 500_000

HTML_HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Headers to serve a mail's HTML part with: no scripts, no forms, no requests, an origin of its own."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list. Every text may hold anything: escape it."""

    id: str
    subject: str
    sender: str
    to: str
    date: str
    size_bytes: int
    received_at: float


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One mail. ``html`` is the sender's own: serve it with :data:`HTML_HEADERS` only, never inside a page."""

    id: str
    headers: list[tuple[str, str]]
    subject: str
    sender: str
    to: str
    date: str
    text: str
    html: str | None
    attachments: list[tuple[str, str, int]]
    """``(file name, media type, bytes)`` of each."""


def entries(folder: Path, *, limit: int = 100, offset: int = 0) -> list[Entry]:
    """The mails of ``folder``, newest first; none when there is no folder."""
    files: list[tuple[int, str, int]] = []
    try:
        with os.scandir(folder) as found:
            for file in found:
                name, _, suffix = file.name.partition(".")
                if suffix == "eml" and _ID.fullmatch(name):
                    stat = file.stat()
                    files.append((stat.st_mtime_ns, name, stat.st_size))
    except FileNotFoundError:
        return []
    files.sort(reverse=True)
    return [_entry(folder, *file) for file in files[offset : offset + limit]]


def count(folder: Path) -> int:
    """How many mails there are."""
    try:
        return sum(name.endswith(".eml") and not name.startswith(".") for name in os.listdir(folder))
    except FileNotFoundError:
        return 0


def read(folder: Path, mail_id: str) -> Letter:
    """One mail. Raises :class:`NotFound`, also for an id that is none (so no path leads out of the folder)."""
    if not _ID.fullmatch(mail_id):
        raise NotFound("There is no such mail.")
    try:
        data = (folder / f"{mail_id}.eml").read_bytes()
    except FileNotFoundError:
        raise NotFound("There is no such mail.") from None
    message = _parse(data)
    return Letter(
        id=mail_id,
        headers=[(name, str(value)) for name, value in message.items()],
        subject=_header(message, "Subject"),
        sender=_header(message, "From"),
        to=_header(message, "To"),
        date=_header(message, "Date"),
        text=_part(message, "plain") or "",
        html=_part(message, "html"),
        attachments=[
            (part.get_filename() or "", part.get_content_type(), len(_payload(part)))
            for part in message.iter_attachments()
        ],
    )


def _entry(folder: Path, mtime_ns: int, mail_id: str, size: int) -> Entry:
    with (folder / f"{mail_id}.eml").open("rb") as file:
        message = _parse(file.read(_PREVIEW_BYTES).partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
    return Entry(
        id=mail_id,
        subject=_header(message, "Subject"),
        sender=_header(message, "From"),
        to=_header(message, "To"),
        date=_header(message, "Date"),
        size_bytes=size,
        received_at=mtime_ns / 1e9,
    )


def _parse(data: bytes) -> EmailMessage:
    return message_from_bytes(data, EmailMessage, policy=default)


def _header(message: EmailMessage, name: str) -> str:
    return str(message.get(name, ""))


def _part(message: EmailMessage, kind: str) -> str | None:
    part = message.get_body((kind,))
    if part is None:
        return None
    charset = part.get_content_charset("utf-8")
    try:
        text = _payload(part).decode(charset, "replace")
    except LookupError:  # a charset that does not exist
        text = _payload(part).decode("utf-8", "replace")
    return text.replace("\r\n", "\n")[:_TEXT_MAX]


def _payload(part: MIMEPart) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""
