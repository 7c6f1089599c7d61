"""Sending by the transport of calls out: judged addresses, no redirects, no proxies of the environment.

None of a client's policies are around it: a delivery has a schedule of its own, and lines that bound it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

from tenfold.client.contract import Incoming, Outgoing, Unanswered
from tenfold.client.transport import HttpTransport
from tenfold.guard.addresses import Place, networks
from tenfold.webhooks.contract import Answer, Sender

if TYPE_CHECKING:
    from tenfold._core.clock import Clock
    from tenfold._core.sections import WebhookSettings
    from tenfold.client.network import Resolver

BODY_KEPT = 1000
"""Characters of an answer that are kept for the log."""


class HttpSender(Sender):
    """See the module's docstring. ``resolver`` is asked for every connection; the system's by default."""

    def __init__(
        self,
        settings: WebhookSettings,
        clock: Clock,
        *,
        context: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._transport = HttpTransport(networks(settings.allow), context=context, resolver=resolver)

    async def post(self, place: Place, headers: Mapping[str, str], body: bytes) -> Answer:
        begun = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answer = await self._post(place, headers, body)
        except TimeoutError:
            answer = Answer(error=f"There was no answer within {self._settings.timeout_s:g} s.")
        except Unanswered as error:
            answer = Answer(error=str(error))
        took_ms = (self._clock.monotonic() - begun) * 1000
        return Answer(
            status=answer.status,
            error=answer.error,
            retry_after=answer.retry_after,
            body=answer.body,
            duration_ms=round(took_ms, 1),
        )

    async def stop(self) -> None:
        await self._transport.stop()

    async def _post(self, place: Place, headers: Mapping[str, str], body: bytes) -> Answer:
        incoming = await self._transport.send(
            Outgoing(
                method="POST",
                place=place,
                headers=list(headers.items()),
                content=body,
                connect_timeout_s=self._settings.timeout_s,
                read_timeout_s=self._settings.timeout_s,
            )
        )
        try:
            return Answer(
                status=incoming.status,
                retry_after=dict(incoming.headers).get("retry-after", "")[:100],
                body=await self._beginning(incoming),
            )
        finally:
            await incoming.close()

    async def _beginning(self, incoming: Incoming) -> str:
        """What fits of the answer; the connection is closed when there is more."""
        kept, read = bytearray(), 0
        async with aclosing(incoming.pieces()) as pieces:
            async for piece in pieces:
                kept += piece[: BODY_KEPT * 4 - len(kept)]
                read += len(piece)
                if read > self._settings.answer_max_bytes:
                    break
        text = kept.decode("utf-8", "replace")[:BODY_KEPT]
        return "".join(char if char.isprintable() else " " for char in text).strip()
