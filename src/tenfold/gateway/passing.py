"""The answer of a service as an answer of the gateway: passed on while it comes, or kept for others as well."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from tenfold.client.body import whole
from tenfold.client.contract import Unanswered
from tenfold.http.encoding import BODILESS
from tenfold.http.reply import Response, StreamingResponse
from tenfold.http.streaming import CutOff

if TYPE_CHECKING:
    from tenfold.client.trying import Open
    from tenfold.gateway.headers import Pair
    from tenfold.http.reply import Headers
    from tenfold.http.request import Request


log = logging.getLogger("tenfold.gateway")


class Passed(StreamingResponse):
    """Reads no faster than the client takes it; the place at the service is held until the end."""

    __slots__ = ("_opened",)

    def __init__(self, opened: Open, headers: list[Pair]) -> None:
        super().__init__(opened.incoming.status)
        self.headers: Headers = headers
        if self.status in BODILESS:
            self.headers = [pair for pair in headers if pair[0] != b"content-length"]
        self._opened = opened

    async def chunks(self, request: Request) -> AsyncIterator[bytes]:
        if self.status in BODILESS:
            return
        try:
            async with aclosing(self._opened.incoming.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
        except Unanswered as error:
            log.warning("an answer to %s %s broke off: %s", request.method, request.path, error)
            raise CutOff from None

    async def close(self) -> None:
        await self._opened.close()


def passed(opened: Open, headers: list[Pair], body: bytes) -> Response:
    """The same where all of the body has come with the head, as that of a small answer has: it goes on in one piece."""
    response = Response(None, opened.incoming.status)
    response.headers, response.body = headers, body
    return response


async def read_whole(opened: Open) -> bytes:
    """The body in one piece. Raises :class:`~tenfold.client.contract.Unanswered`."""
    try:
        return await whole(opened.incoming.pieces())
    finally:
        await opened.close()
