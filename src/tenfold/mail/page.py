"""The mailbox at the operations listener, for scripts; people have the dashboard's page of it.

GET /mailbox            the newest mails, as JSON
GET /mailbox/ID         one of them, as JSON
GET /mailbox/ID/html    its HTML part as it is, in a sandbox: what the dashboard's page frames
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

import msgspec

from tenfold.errors import NotFound
from tenfold.mail import mailbox

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}


class MailboxPage:
    """An ASGI application for :class:`~tenfold.telemetry.ops.Pages`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __call__(self, scope: MutableMapping[str, Any], _receive: Any, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", "")).strip("/")
        try:
            status, (body, headers) = 200, await asyncio.to_thread(self._shown, path)
        except NotFound as problem:
            status, body, headers = 404, _json({"error": problem.detail}), _JSON
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        raw.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _shown(self, path: str) -> tuple[bytes, Mapping[str, str]]:
        mail_id, _, part = path.partition("/")
        if not mail_id:
            return _json(mailbox.entries(self._folder)), _JSON
        letter = mailbox.read(self._folder, mail_id)
        if part == "html":
            return (letter.html or "").encode(), mailbox.HTML_HEADERS
        if part:
            raise NotFound("There is no such page.")
        return _json(letter), _JSON


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
