"""WebSockets: who may connect is decided before accept; parameters and messages are typed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import msgspec
import pytest

from tenfold._core.clock import ManualClock
from tenfold._core.container import Container, Depends
from tenfold._core.context import current
from tenfold._core.sections import HttpSettings
from tenfold.errors import DeclarationError, InvalidToken
from tenfold.http.asgi import HttpApp
from tenfold.http.params import Header, Query
from tenfold.http.websocket import WebSocket, WebSocketApp, WebSocketOperation
from tenfold.security.authenticator import Authenticator
from tenfold.security.policy import authenticated, public, roles
from tenfold.security.principal import Principal


class Said(msgspec.Struct):
    text: str
    times: Annotated[int, msgspec.Meta(ge=1)] = 1


class ByHeader(Authenticator):
    async def authenticate(self, headers: Any, cookies: Any, /) -> Principal | None:
        token = headers.get("authorization")
        if token == "Bearer bad":
            raise InvalidToken("The token is forged.")
        if "session" in cookies:
            return Principal(id="ada", via="session")
        return Principal(id="ada", tenant="acme", via="bearer") if token else None


def app_of(
    fn: Callable[..., Awaitable[None]], path: str = "/rooms/{room}", auth: Any = public, **settings: Any
) -> WebSocketApp:
    return WebSocketApp(
        [WebSocketOperation(fn, service="chat", path=path, auth=auth)],
        settings=HttpSettings(**settings),
        container=Container(),
        clock=ManualClock(),
        authenticator=ByHeader(),
    )


def talk(
    app: Any,
    *messages: str | bytes,
    path: str = "/rooms/a",
    query: str = "",
    extension: bool = True,
    leave: bool = True,
    **headers: str,
) -> list[dict[str, Any]]:
    """What the server sends to a client that connects, sends its messages and leaves."""
    waiting: list[dict[str, Any]] = [{"type": "websocket.connect"}]
    for message in messages:
        kind = "text" if isinstance(message, str) else "bytes"
        waiting.append({"type": "websocket.receive", kind: message})
    if leave:
        waiting.append({"type": "websocket.disconnect", "code": 1000})
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(b"host", b"shop.example"), *((k.encode(), v.encode()) for k, v in headers.items())],
        "extensions": {"websocket.http.response": {}} if extension else {},
    }
    asyncio.run(app(scope, receive, send))
    return sent


def refused(sent: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    assert [m["type"] for m in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
    return sent[0]["status"], msgspec.json.decode(sent[1]["body"])


async def echo(socket: WebSocket, room: str, since: int = 0) -> None:
    async for message in socket.messages(Said):
        await socket.send({"room": room, "since": since, "text": message.text * message.times})


def test_messages_and_parameters_are_typed() -> None:
    sent = talk(app_of(echo), '{"text":"hi","times":2}', b'{"text":"bytes"}', query="since=7")
    assert [m["type"] for m in sent] == ["websocket.accept", "websocket.send", "websocket.send"]
    assert msgspec.json.decode(sent[1]["text"]) == {"room": "a", "since": 7, "text": "hihi"}
    assert msgspec.json.decode(sent[2]["text"])["text"] == "bytes"


def test_every_wrong_parameter_is_told_before_the_connection_is_accepted() -> None:
    async def wants(socket: WebSocket, room: int, since: int) -> None: ...

    status, problem = refused(talk(app_of(wants), query="since=x"))
    assert status == 422
    assert [(e["in"], e["path"]) for e in problem["errors"]] == [("path", "room"), ("query", "since")]


def test_without_the_extension_a_refusal_is_a_plain_close() -> None:
    sent = talk(app_of(echo), query="since=x", extension=False)
    assert [(m["type"], m["code"]) for m in sent] == [("websocket.close", 1008)]


@pytest.mark.parametrize(
    ("auth", "headers", "status"),
    [
        (authenticated, {}, 401),
        (authenticated, {"authorization": "Bearer bad"}, 401),
        (public, {"authorization": "Bearer bad"}, 401),
        (roles("admin"), {"authorization": "Bearer good"}, 403),
    ],
)
def test_the_policy_is_checked_before_the_connection_is_accepted(
    auth: Any, headers: dict[str, str], status: int
) -> None:
    assert refused(talk(app_of(echo, auth=auth), **headers))[0] == status


def test_the_handler_gets_its_principal_and_context() -> None:
    async def who(socket: WebSocket, room: str, caller: Principal) -> None:
        context = current()
        await socket.send([caller.id, context.tenant, context.operation, bool(context.request_id)])

    sent = talk(app_of(who, auth=authenticated), authorization="Bearer good", leave=False)
    assert msgspec.json.decode(sent[1]["text"]) == ["ada", "acme", "chat.who", True]
    assert sent[2]["code"] == 1000


def test_an_optional_principal_may_be_missing() -> None:
    async def who(socket: WebSocket, room: str, caller: Principal | None) -> None:
        await socket.send(caller)

    assert talk(app_of(who), leave=False)[1]["text"] == "null"


@pytest.mark.parametrize(
    ("headers", "settings", "accepted"),
    [
        ({}, {}, True),
        ({"origin": "https://shop.example"}, {}, True),
        ({"origin": "https://evil.example"}, {}, False),
        ({"origin": "null"}, {}, False),
        ({"origin": "https://app.example"}, {"cors_origins": ["https://app.example"]}, True),
        ({"origin": "https://evil.example"}, {"cors_origins": ["*"]}, True),
        ({"origin": "https://evil.example", "cookie": "session=1"}, {"cors_origins": ["*"]}, False),
    ],
)
def test_pages_of_other_sites_cannot_connect(
    headers: dict[str, str], settings: dict[str, Any], accepted: bool
) -> None:
    sent = talk(app_of(echo, **settings), **headers)
    if accepted:
        assert sent[0]["type"] == "websocket.accept"
    else:
        assert refused(sent)[0] == 403


@pytest.mark.parametrize(
    ("message", "code", "says"),
    [
        ("{", 1007, "not the JSON that is expected"),
        ('{"text":"a","times":0}', 1007, "Expected `int` >= 1 - at `$.times`"),
        (b"\xff", 1007, "not the JSON"),
        ("[" * 50 + "]" * 50, 1007, "nested"),
        ('"' + "x" * 2_000 + '"', 1009, "larger than 1,000 bytes"),
    ],
)
def test_a_wrong_message_closes_the_connection_with_a_sentence(
    message: str | bytes, code: int, says: str
) -> None:
    sent = talk(app_of(echo, body_max_bytes=1_000), message)
    assert (sent[1]["type"], sent[1]["code"]) == ("websocket.close", code)
    assert says in sent[1]["reason"]


def test_an_unforeseen_error_closes_without_telling_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(socket: WebSocket, room: str) -> None:
        raise RuntimeError("the secret is 42")

    sent = talk(app_of(broken), leave=False)
    assert sent[1]["code"] == 1011
    assert "42" not in sent[1]["reason"]
    assert "the secret is 42" in caplog.text


def test_a_client_that_leaves_ends_the_handler_quietly(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    async def wait(socket: WebSocket, room: str) -> None:
        try:
            await socket.receive()
        finally:
            ended.append(room)

    assert [m["type"] for m in talk(app_of(wait))] == ["websocket.accept"]
    assert ended == ["a"]
    assert not caplog.records


CLEANED: list[str] = []


async def clock() -> AsyncIterator[str]:
    yield "tick"
    CLEANED.append("clock")


def test_dependencies_headers_and_lists_are_bound() -> None:
    async def fn(
        socket: WebSocket,
        room: str,
        tick: Annotated[str, Depends(clock)],
        x_name: Annotated[str, Header()],
        tag: Annotated[list[int], Query()],
    ) -> None:
        await socket.send([tick, x_name, tag])

    sent = talk(app_of(fn), query="tag=1", leave=False, **{"x-name": "n"})
    assert msgspec.json.decode(sent[1]["text"]) == ["tick", "n", [1]]
    assert CLEANED == ["clock"]


def test_an_unknown_path_is_a_404() -> None:
    assert refused(talk(app_of(echo), path="/nowhere"))[0] == 404


def test_a_static_path_below_a_mount_point() -> None:
    async def hello(socket: WebSocket) -> None:
        await socket.send_text("hello")
        await socket.send_bytes(b"bytes")
        await socket.close(4000, "x" * 200)

    sent = talk(app_of(hello, path="/hello"), path="/hello", leave=False)
    assert [m["type"] for m in sent] == [
        "websocket.accept",
        "websocket.send",
        "websocket.send",
        "websocket.close",
    ]
    assert len(sent[3]["reason"]) == 123


def test_text_and_bytes_may_be_read_as_they_are() -> None:
    got: list[str | bytes] = []

    async def fn(socket: WebSocket, room: str) -> None:
        got.extend([await socket.receive_text(), await socket.receive_bytes(), await socket.receive_text()])

    sent = talk(app_of(fn), "é", "é", b"\xff")
    assert got == []
    assert sent[1]["code"] == 1007
    talk(app_of(fn), "é", "é", b"ok")
    assert got == ["é", "é".encode(), "ok"]


def test_the_http_app_hands_websockets_over() -> None:
    assert talk(HttpApp([], websocket=app_of(echo)), '{"text":"hi"}')[0]["type"] == "websocket.accept"


def test_what_cannot_work_is_found_at_start() -> None:
    async def mute(room: str) -> None: ...

    async def wrong(socket: WebSocket, other: str) -> None: ...

    with pytest.raises(DeclarationError, match="takes no WebSocket"):
        app_of(mute)
    with pytest.raises(DeclarationError, match="room"):
        app_of(wrong)
    with pytest.raises(DeclarationError, match="who may use it"):
        WebSocketApp(
            [WebSocketOperation(echo, service="chat", path="/rooms/{room}")],
            settings=HttpSettings(),
            container=Container(),
            clock=ManualClock(),
        )
