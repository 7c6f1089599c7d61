"""The operations listener's ``/grow``: how ``tenfold grow`` speaks to a running process (:mod:`tenfold.assembly.switch`).

``GET`` answers the status. ``POST /grow/prepare``, ``/hold``, ``/resume`` and ``/forget`` take JSON with the id of the
move, which only who can read the database's file knows; so no web page can send one, with or without ``ops.token``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold.errors import BadRequest, ConfigError, DatabaseError, Problem, TenfoldError
from tenfold.telemetry.ops import read_body

if TYPE_CHECKING:
    from tenfold.assembly.switch import Status, Switch
    from tenfold.telemetry.ops import Receive, Scope, Send

BODY_MAX_BYTES = 65_536


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a POST."""

    id: str
    url: str = ""
    quiet_s: float = 0.5
    hold_s: float = 1.5


_decode = msgspec.json.Decoder(Order).decode


class SwitchPage:
    """An ASGI application for :class:`~tenfold.telemetry.ops.Pages`."""

    def __init__(self, switch: Switch) -> None:
        self._switch = switch
        self._orders: dict[str, Callable[[Order], Awaitable[Status]]] = {
            "prepare": lambda order: switch.prepare(order.id, order.url),
            "hold": lambda order: switch.hold(order.id, order.quiet_s, order.hold_s),
            "resume": lambda order: switch.resume(order.id),
            "forget": lambda order: switch.forget(order.id),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await _answer(send, 200, await self._act(scope, receive))
        except TenfoldError as error:
            said = error.detail if isinstance(error, Problem) else str(error)
            kind = "config" if isinstance(error, ConfigError) else "database"
            status = error.status if isinstance(error, (Problem, DatabaseError)) else 409
            await _answer(send, status, {"error": said, "kind": kind})

    async def _act(self, scope: Scope, receive: Receive) -> Status:
        name = scope["path"].removeprefix(scope["root_path"]).strip("/")
        if scope["method"] in {"GET", "HEAD"} and not name:
            return self._switch.status
        act = self._orders.get(name) if scope["method"] == "POST" else None
        if act is None:
            raise BadRequest(f"GET /grow, or POST /grow/{', /grow/'.join(self._orders)}.")
        try:
            order = _decode(await read_body(receive, BODY_MAX_BYTES))
        except msgspec.DecodeError as error:
            raise BadRequest(f"The body is not an order: {error}.") from None
        return await act(order)


async def _answer(send: Send, status: int, answer: Any) -> None:
    body = msgspec.json.encode(answer) + b"\n"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
