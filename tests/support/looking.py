"""Looking at a running app's dashboard without a server: pages, parts and actions, as a browser asks for them."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from http_calls import Answer, acall

from tenfold import App
from tenfold.dashboard import attach

_TAGS = re.compile(r"<[^>]*>")


class Looks:
    """A visitor of one app's dashboard, on this machine."""

    def __init__(self, app: App, token: str = "") -> None:
        self.app = app
        bearer = [(b"authorization", b"Bearer " + token.encode())] if token else []
        self._headers = [(b"host", b"localhost:8001"), (b"accept", b"text/html"), *bearer]

    async def ask(self, path: str, **query: Any) -> Answer:
        """A page as it is."""
        target = path + (f"?{urlencode(query)}" if query else "")
        return await acall(self.app.ops, "GET", target, headers=self._headers, client=("127.0.0.1", 5))

    async def page(self, path: str, **query: Any) -> str:
        """The markup of a page that must be there."""
        answer = await self.ask(path, **query)
        assert answer.status == 200, (path, answer.status, text(answer.body.decode()))
        return answer.body.decode()

    async def read(self, path: str, **query: Any) -> str:
        """What a person reads of it."""
        return text(await self.page(path, **query))

    async def act(self, path: str, action: str, **fields: Any) -> tuple[int, str]:
        """Status and sentence of an action."""
        page, _, query = path.partition("?")
        target = f"{page}?{query}&action={action}" if query else f"{page}?action={action}"
        headers = [
            *self._headers,
            (b"hx-request", b"true"),
            (b"content-type", b"application/x-www-form-urlencoded"),
        ]
        body = urlencode(fields).encode()
        answer = await acall(self.app.ops, "POST", target, body, headers, client=("127.0.0.1", 5))
        said = msgspec.json.decode(answer.headers["hx-trigger"])["tenfold:said"]
        return answer.status, said["text"]


def text(markup: str) -> str:
    """Words of a page, white space evened out."""
    return " ".join(html.unescape(_TAGS.sub(" ", markup)).split())


@asynccontextmanager
async def looking(
    app: App, folder: Path, *, worker: bool = False, token: str = "", **settings: Any
) -> AsyncGenerator[Looks]:
    """``app`` with its dashboard while it runs."""
    app.configure(
        environ={}, app__data_dir=str(folder), **({"ops__token": token} if token else {}), **settings
    )
    attach(app)
    await app.start(worker=worker)
    try:
        yield Looks(app, token)
    finally:
        await app.stop()
