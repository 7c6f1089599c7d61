"""The mailbox at the operations listener: what a development app wrote instead of sending it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from html import escape
from pathlib import Path
from typing import Any

from tenfold.errors import NotFound
from tenfold.mail import mailbox
from tenfold.telemetry.ops import link
from tenfold.telemetry.ops_page import page

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'",
    "Cache-Control": "no-store",
}
_FRAME = "width:100%;min-height:28rem;border:1px solid var(--line);border-radius:10px;background:#fff"
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;color:var(--ink);margin-top:1.5rem"


class MailboxPage:
    """An ASGI application: ``/mailbox`` lists the mails, ``/mailbox/ID`` shows one, ``/mailbox/ID/html`` its
    HTML part, in a sandbox of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __call__(self, scope: MutableMapping[str, Any], _receive: Any, send: Send) -> None:
        root = scope.get("root_path", "")
        mail_id, _, part = scope["path"].removeprefix(root).strip("/").partition("/")
        try:
            body, headers = self._shown(scope, root, mail_id, part)
            await _reply(send, 200, body, headers)
        except NotFound as problem:
            body = page("Mailbox", f"<h1>Mailbox</h1><p>{escape(problem.detail)}</p>")
            await _reply(send, 404, body, _PAGE_HEADERS)

    def _shown(
        self, scope: MutableMapping[str, Any], root: str, mail_id: str, part: str
    ) -> tuple[str, Mapping[str, str]]:
        if not mail_id:
            return self._list(scope, root), _PAGE_HEADERS
        if part == "html":
            return mailbox.read(self._folder, mail_id).html or "", mailbox.HTML_HEADERS
        if part:
            raise NotFound("There is no such page.")
        return self._letter(scope, root, mail_id), _PAGE_HEADERS

    def _list(self, scope: MutableMapping[str, Any], root: str) -> str:
        found = mailbox.entries(self._folder)
        rows = "".join(
            f'<li><span>{escape(entry.date[:22])}</span><span><a href="{escape(link(scope, f"{root}/{entry.id}"))}">'
            f"{escape(entry.subject or '(no subject)')}</a><br>to {escape(entry.to)}</span></li>"
            for entry in found
        )
        count = mailbox.count(self._folder)
        shown = f"the newest {len(found)} of {count:,}" if count > len(found) else f"{count:,}"
        body = f"<ul>{rows}</ul>" if found else "<p>Nothing was sent yet.</p>"
        back = f'<a href="{escape(link(scope, "/"))}">Operations</a>'
        return page("Mailbox", f"<p>{back}</p><h1>Mailbox</h1><p>Mails: {shown}.</p><h2>Newest</h2>{body}")

    def _letter(self, scope: MutableMapping[str, Any], root: str, mail_id: str) -> str:
        letter = mailbox.read(self._folder, mail_id)
        head = "".join(
            f"<li><b>{name}</b><span>{escape(value)}</span></li>"
            for name, value in (("From", letter.sender), ("To", letter.to), ("Date", letter.date))
        )
        attached = "".join(
            f"<li><b>Attached</b><span>{escape(name)} ({escape(media)}, {size:,} bytes)</span></li>"
            for name, media, size in letter.attachments
        )
        html = ""
        if letter.html is not None:
            source = escape(link(scope, f"{root}/{mail_id}/html"))
            html = f'<h2>HTML</h2><iframe sandbox title="HTML part" style="{_FRAME}" src="{source}"></iframe>'
        back = f'<a href="{escape(link(scope, root))}">Mailbox</a>'
        return page(
            letter.subject or "(no subject)",
            f"<p>{back}</p><h1>{escape(letter.subject or '(no subject)')}</h1><ul>{head}{attached}</ul>"
            f'<pre style="{_TEXT}">{escape(letter.text)}</pre>{html}',
        )


async def _reply(send: Send, status: int, html: str, headers: Mapping[str, str]) -> None:
    body = html.encode()
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
