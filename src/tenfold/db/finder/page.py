"""The findings at the operations listener: ``GET /database``, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from tenfold.db.finder.findings import Report


class FindingsPage:
    """An ASGI application for :class:`~tenfold.telemetry.ops.Pages`."""

    def __init__(self, report: Callable[[], Awaitable[Report]]) -> None:
        self._report = report

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Any, send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["method"] in {"GET", "HEAD"}:
            status, said = 200, msgspec.json.encode(await self._report())
        else:
            status, said = 405, b'{"error":"/database answers GET and HEAD."}'
        body = msgspec.json.format(said, indent=2) + b"\n"
        headers = [
            (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store"),
        ]  # fmt: skip
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
