"""WebSockets through the gateway: two connections, and what comes from one goes to the other, no faster than it is taken."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from tenfold._core.tasks import end_tasks
from tenfold.client.contract import BrokenOff, Slow, Unreached

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tenfold.guard.addresses import Place
    from tenfold.http.mounts import Receive, Scope, Send
    from tenfold.http.reply import Answer

BAD_GATEWAY: Final = 1014
"""Close code (IANA): the service's connection ended without one."""
NORMAL, GONE = 1000, 1001
_MAY_BE_SENT = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
QUEUE_MAX: Final = 4
"""Messages of the service that wait for the client; then the service is not read."""


class Refused(Exception):
    """The service answered the handshake with a status."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"the service answered the handshake with {status}")


class Joined:
    """An open WebSocket to a service; ``leave`` is called at its end."""

    def __init__(self, connection: ClientConnection, leave: Callable[[], None]) -> None:
        self.connection = connection
        self._leave = leave

    async def close(self, code: int, reason: str) -> None:
        """Again is harmless."""
        leave, self._leave = self._leave, _nothing
        try:
            await self.connection.close(code if code in _MAY_BE_SENT else GONE, reason[:100])
        finally:
            leave()


async def joined(
    place: Place,
    headers: dict[str, str],
    subprotocols: list[str],
    *,
    open_s: float,
    close_s: float,
    max_bytes: int,
    trusted: ssl.SSLContext | None = None,
) -> ClientConnection:
    """Open one; ``trusted`` says whom to believe where it is TLS, by default whom the system does. Raises the errors of :mod:`tenfold.client.contract`, and :class:`Refused`."""
    scheme = {"http": "ws", "https": "wss"}[place.scheme]
    try:
        return await connect(
            f"{scheme}://{place.authority}{place.target}",
            additional_headers=headers,
            subprotocols=[Subprotocol(each) for each in subprotocols] or None,
            user_agent_header=None,
            compression=None,
            proxy=None,
            ssl=(trusted or True) if scheme == "wss" else None,
            open_timeout=open_s,
            close_timeout=close_s,
            max_size=max_bytes,
            max_queue=QUEUE_MAX,
        )
    except InvalidStatus as error:
        raise Refused(error.response.status_code) from None
    except TimeoutError:
        raise Slow(f"{place.authority} did not answer the handshake in time.") from None
    except ConnectionRefusedError as error:
        raise Unreached(f"{place.authority} could not be connected to: {error}") from None
    except (OSError, EOFError, InvalidHandshake) as error:
        raise BrokenOff(f"{place.authority} ended the handshake: {error or type(error).__name__}") from None


async def pump(socket: Joined, receive: Receive, send: Send) -> None:
    """Accept the client's handshake and pass messages on until one side closes; the other is closed with its code."""
    code, reason = GONE, ""
    tasks: list[asyncio.Task[tuple[int, str]]] = []
    try:
        if (await receive())["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept", "subprotocol": socket.connection.subprotocol, "headers": []})
        tasks = [
            asyncio.create_task(_inward(socket.connection, receive), name="gateway to service"),
            asyncio.create_task(_outward(socket.connection, send), name="gateway to client"),
        ]
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        code, reason = ended.pop().result()
    finally:
        await end_tasks(*tasks)
        await socket.close(code, reason)


async def _inward(connection: ClientConnection, receive: Receive) -> tuple[int, str]:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return message.get("code") or GONE, message.get("reason") or ""
        data: str | bytes | None = message.get("text")
        try:
            await connection.send(message["bytes"] if data is None else data)
        except ConnectionClosed:
            await asyncio.Event().wait()  # the other direction has its last messages and its code


async def _outward(connection: ClientConnection, send: Send) -> tuple[int, str]:
    try:
        while True:
            data = await connection.recv()
            kind = "text" if isinstance(data, str) else "bytes"
            await send({"type": "websocket.send", kind: data})
    except ConnectionClosed as error:
        close = error.rcvd
        code = BAD_GATEWAY if close is None or close.code not in _MAY_BE_SENT else close.code
        reason = "" if close is None else close.reason
        with suppress(OSError):
            await send({"type": "websocket.close", "code": code, "reason": reason})
        return code, reason
    except OSError:  # some servers raise when they send to nobody
        return GONE, ""


async def answer_handshake(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a handshake with the answer, where the server can; else close, which servers make a 403."""
    await receive()
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    status, headers, body, _ = answer
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def _nothing() -> None:
    return
