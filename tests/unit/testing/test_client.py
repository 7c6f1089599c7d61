"""The in-process client, against plain ASGI applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import msgspec
import pytest

from tenfold.testing import Client

pytestmark = pytest.mark.anyio

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def echo(scope: Any, receive: Any, send: Send) -> None:
    """Answers with what it was asked."""
    message = await receive()
    said = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
        "body": message["body"].decode(),
    }
    headers = [(b"set-cookie", b"a=1; Path=/"), (b"Set-Cookie", b"b=2"), (b"x-one", b"first")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    data = msgspec.json.encode(said)
    await send({"type": "http.response.body", "body": data[:10], "more_body": True})
    await send({"type": "http.response.body", "body": data[10:]})


async def test_json_is_sent_with_its_type() -> None:
    said = (await Client(echo).post("/x", json={"a": [1]})).json()
    assert said["body"] == '{"a":[1]}'
    assert said["headers"]["content-type"] == "application/json"
    assert said["headers"]["content-length"] == "9"


async def test_null_is_json_too() -> None:
    assert (await Client(echo).put("/x", json=None)).json()["body"] == "null"


async def test_a_form_is_encoded() -> None:
    said = (await Client(echo).patch("/x", form={"a": "1 2", "b": ["x", "y"]})).json()
    assert said["body"] == "a=1+2&b=x&b=y"


async def test_query_parameters_join_those_of_the_path() -> None:
    said = (await Client(echo).get("/x?a=1", query={"b": ["2", "3"]})).json()
    assert said["query"] == "a=1&b=2&b=3"


async def test_paths_are_quoted_once() -> None:
    said = (await Client(echo).get("/a b/%2F")).json()
    assert said["raw_path"] == "/a%20b/%2F"
    assert said["path"] == "/a b//"


async def test_cookies_are_kept_and_headers_go_with_every_request() -> None:
    client = Client(echo)
    client.headers["x-always"] = "yes"
    first = await client.delete("/x")
    assert first.headers.all("set-cookie") == ["a=1; Path=/", "b=2"]
    said = (await client.get("/x", headers={"X-Once": "now"})).json()
    assert said["headers"]["cookie"] == "a=1; b=2"
    assert (said["headers"]["x-always"], said["headers"]["x-once"]) == ("yes", "now")


async def test_what_a_request_sets_in_context_is_not_the_tests() -> None:
    seen: ContextVar[str] = ContextVar("seen", default="test")

    async def setting(scope: Any, receive: Any, send: Send) -> None:
        seen.set("request")
        await echo(scope, receive, send)

    await Client(setting).get("/x")
    assert seen.get() == "test"


async def test_an_app_that_raises_raises_here() -> None:
    async def broken(scope: Any, receive: Any, send: Send) -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await Client(broken).get("/x")


async def test_half_an_answer_is_an_error() -> None:
    async def half(scope: Any, receive: Any, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    with pytest.raises(RuntimeError, match="GET /x: the app ended without a whole answer"):
        await Client(half).get("/x")
