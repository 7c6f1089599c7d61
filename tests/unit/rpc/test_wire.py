"""What peers send that is old, new, wrong, slow or nothing at all; and who may call."""
# Without postponed annotations: operations are local to their making, and so are some of their types.

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from support.callee import Callee, Got, never, reply
from support.split import configured, serving
from tenfold import App, Context, Service, public
from tenfold._core import context as contexts
from tenfold.errors import (
    BadAnswer,
    CallError,
    CallRefused,
    ConfigError,
    DeadlineExceeded,
    DependencyFailed,
    DependencyUnavailable,
    InvalidInput,
    InvalidToken,
    NotFound,
    Overloaded,
    Problem,
    TenfoldError,
)
from tenfold.rpc.door import Door
from tenfold.security.identity.refusals import Refusals
from tenfold.telemetry.metrics import Registry

pytestmark = pytest.mark.anyio

PATH = "/_tenfold/call/stock.find"


class Old(msgspec.Struct):
    sku: str
    gone: int = 7


class New(msgspec.Struct):
    sku: str
    added: str = "default"


class Strict(msgspec.Struct):
    sku: str
    needed: int


def made(find: Callable[..., Any]) -> tuple[App, Any]:
    stock = Service("stock", auth=public)
    orders = Service("orders", auth=public, calls=["stock.find"])
    return App("test", [orders, stock]), stock.get("/find")(find)


async def old(sku: str, limit: int = 3) -> Old:
    return Old(f"{sku} {limit}")


async def new(sku: str, wide: bool = False) -> New:
    return New(f"{sku} {wide}")


async def strict(sku: str) -> Strict:
    return Strict(sku, 1)


for each in (old, new, strict):
    each.__name__ = "find"


@asynccontextmanager
async def calling(
    url: str | list[str], folder: Path, find: Any = old, **settings: Any
) -> AsyncGenerator[Any]:
    app, operation = made(find)
    app.serve_only("orders")
    configured(app, folder, services__stock__url=url, **settings)
    async with app.lifespan():
        with contexts.use(Context(service="orders", request_id="r-1")):
            yield operation


@asynccontextmanager
async def stock(folder: Path, find: Any = old, identity: Any = None, **settings: Any) -> AsyncGenerator[str]:
    app, _ = made(find)
    app.serve_only("stock")
    app.identity = identity
    async with serving(configured(app, folder, **settings)) as url:
        yield url


# ── two versions ──


async def test_an_older_caller_and_a_newer_one_understand_each_other(tmp_path: Path) -> None:
    """What one side does not know is ignored, what it does not get has its default."""
    async with stock(tmp_path, new) as url, calling(url, tmp_path, old) as find:
        assert await find("tea", limit=9) == Old("tea False")
    async with stock(tmp_path, old) as url, calling(url, tmp_path, new) as find:
        assert await find("tea", wide=True) == New("tea 3")


async def test_a_result_that_lacks_what_is_needed_is_said_with_its_field_and_the_remedy(
    tmp_path: Path,
) -> None:
    async with stock(tmp_path, new) as url, calling(url, tmp_path, strict) as find:
        with pytest.raises(BadAnswer, match=r"missing required field `needed`.*tenfold check --against"):
            await find("tea")


# ── peers that are away, slow, or talk nonsense ──


def msgpack(content: Any, status: int = 200, **headers: str) -> bytes:
    return reply(msgspec.msgpack.encode(content), status, Content_Type="application/msgpack", **headers)


FAULT = {"Tenfold_Error": "NotFound"}
OVERLOADED = {"type": "urn:tenfold:problem:overloaded", "status": 503}
ANSWERS: list[tuple[bytes, type[TenfoldError], int, str]] = [
    (reply(b"<html>"), BadAnswer, 502, "not application/msgpack"),
    (reply(b"\xc1", Content_Type="application/msgpack"), BadAnswer, 502, "cannot read"),
    (msgpack({"sku": 5}), BadAnswer, 502, "At sku: Expected `str`, got `int`"),
    (msgpack([1] * 3, 404, **FAULT), BadAnswer, 502, "An error, of which"),
    (
        msgpack({"error": ["NotFound"], "status": 404, "state": {"headers": 5}}, 404, **FAULT),
        BadAnswer,
        502,
        "An error",
    ),
    (
        msgpack({"error": ["Newer", "NotFound"], "status": 404, "detail": "x"}, 404, **FAULT),
        NotFound,
        404,
        "^x$",
    ),
    (msgpack({"error": ["Newer"], "status": 418, "detail": "x"}, 418, **FAULT), TenfoldError, 418, "^x$"),
    (
        msgpack({"error": ["m:Newer", "Problem"], "status": 418, "detail": "x"}, 418, **FAULT),
        Problem,
        418,
        "^x$",
    ),
    (reply(OVERLOADED, 503), Overloaded, 503, "more calls than it can serve"),
    (reply(b"no", 503), DependencyUnavailable, 503, "answered 503: no"),
    (reply(b"no", 504), DeadlineExceeded, 504, "did not answer in time"),
    (reply(b"no", 404), DependencyUnavailable, 503, "has no operation stock.find, or takes no calls"),
    (reply(b"no", 401), DependencyFailed, 502, "does not take calls from here: no"),
    (reply(b"no", 500), DependencyFailed, 502, "was answered 500: no"),
    (b"garbage\r\n\r\n", DependencyUnavailable, 503, "broke the connection off"),
    (b"", DependencyUnavailable, 503, "broke the connection off"),
]


async def test_every_strange_answer_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    for answer, type_, status, words in ANSWERS:

        async def handle(_: Got, answer: bytes = answer) -> bytes:
            return answer

        callee = Callee(handle)
        async with callee.running(), calling(f"http://127.0.0.1:{callee.port}", tmp_path) as find:
            with pytest.raises(type_, match=words) as caught:
                await find("tea")
            assert caught.value.status == status, answer


async def test_a_peer_that_is_silent_costs_no_more_than_the_deadline(tmp_path: Path) -> None:
    callee = Callee(never)
    async with callee.running(), calling(f"http://127.0.0.1:{callee.port}", tmp_path) as find:
        ends = Context().monotonic() + 0.2
        late = contexts.use(Context(service="orders", deadline=ends))
        with late, pytest.raises(DeadlineExceeded, match=r"stock\.find did not answer within"):
            await find("tea")
    assert 0 < int(callee.got[0].headers["tenfold-timeout-ms"]) <= 200


async def test_a_peer_that_is_away_is_said_and_another_place_is_taken(tmp_path: Path) -> None:
    with socket.socket() as probe:  # bound, and not listening: refuses
        probe.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{probe.getsockname()[1]}"
        async with calling(away, tmp_path) as find:
            with pytest.raises(DependencyUnavailable, match="could not be connected to"):
                await find("tea")
        async with stock(tmp_path) as url, calling([away, url], tmp_path) as find:
            assert [await find("tea") for _ in range(20)] == [Old("tea 3")] * 20


async def test_what_may_have_begun_is_sent_once_unless_it_only_reads(tmp_path: Path) -> None:
    async def broken(_: Got) -> bytes:
        return b""

    def app_of(method: str) -> tuple[App, Any]:
        stock, orders = Service("stock", auth=public), Service("orders", auth=public, calls=["stock.find"])
        return App("test", [orders, stock]), getattr(stock, method)("/find")(old)

    for method, tries in [("get", 3), ("post", 1), ("put", 1)]:
        callee, (app, find) = Callee(broken), app_of(method)
        app.serve_only("orders")
        async with callee.running():
            configured(app, tmp_path, services__stock__url=f"http://127.0.0.1:{callee.port}")
            async with app.lifespan():
                with contexts.use(Context(service="orders")), pytest.raises(CallError):
                    await find("tea")
                with contexts.use(Context(service="orders", retried=True)), pytest.raises(CallError):
                    await find("tea")  # whoever asked tries again by itself
        assert len(callee.got) == tries + 1
        assert ["tenfold-retries" in got.headers for got in callee.got] == [method == "get"] * tries + [True]


async def test_a_service_of_which_nobody_said_where_it_is_is_unavailable(tmp_path: Path) -> None:
    async with calling([], tmp_path) as find:
        with pytest.raises(DependencyUnavailable, match=r"\[services\.stock\] url does not say where it is"):
            await find("tea")


# ── who may call ──


async def ask(
    url: str, content: bytes = b'{"sku":"tea"}', path: str = PATH, **headers: str
) -> httpx2.Response:
    sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    async with httpx2.AsyncClient() as client:
        return await client.post(url + path, content=content, headers=sent)


async def test_others_may_speak_json(tmp_path: Path) -> None:
    async with stock(tmp_path) as url:
        got = await ask(url)
        assert (got.status_code, got.json()) == (200, {"sku": "tea 3", "gone": 7})
        wrong = await ask(url, b'{"sku":5}')
        assert wrong.status_code == 422
        assert wrong.headers["tenfold-error"] == "InvalidInput"
        assert wrong.json()["error"][0] == InvalidInput.__name__
        assert (await ask(url, b"{")).headers["tenfold-error"] == "MalformedBody"
        assert (await ask(url, Content_Type="text/plain")).status_code == 415
        assert (await ask(url, path="/_tenfold/call/stock.fnd")).status_code == 404
        assert (await ask(url, Tenfold_Principal="!")).status_code == 400
        assert (await ask(url, b"[" * 100_000)).status_code == 422


async def test_without_an_identity_browsers_proxies_and_other_machines_are_refused(tmp_path: Path) -> None:
    async with stock(tmp_path) as url:
        for header in ("Origin", "Sec-Fetch-Site", "X-Forwarded-For", "Forwarded", "Via"):
            got = await ask(url, **{header: "x"})
            assert (got.status_code, got.json()["reason"]) == (403, "way")
    app, _ = made(old)
    app.serve_only("stock")
    async with configured(app, tmp_path).lifespan():
        status = await _from(app, "10.0.0.9")
        assert status == 403
        assert await _from(app, "127.0.0.1") == 200


async def _from(app: App, address: str) -> int:
    sent: list[Any] = []
    body = [{"type": "http.request", "body": b'{"sku":"tea"}', "more_body": False}]

    async def receive() -> Any:
        return body.pop() if body else await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {
        "type": "http", "method": "POST", "path": PATH, "query_string": b"", "headers": headers,
        "client": (address, 5), "scheme": "http", "http_version": "1.1",
    }  # fmt: skip
    await app(scope, receive, send)
    status: int = sent[0]["status"]
    return status


async def test_in_production_nobody_may_call_without_an_identity(tmp_path: Path) -> None:
    app, _ = made(old)
    app.serve_only("stock")
    configured(app, tmp_path, app__env="production", app__secret_key="k" * 40)
    with pytest.raises(ConfigError, match="have to prove who they are in production"):
        await app.start()
    assert not Door(None, env="production", refusals=Refusals(Registry(), app.clock)).opens


async def test_a_process_that_serves_everything_takes_no_calls(tmp_path: Path) -> None:
    app, _ = made(old)
    async with serving(configured(app, tmp_path)) as url:
        assert (await ask(url)).status_code == 404


class Papers:
    """An identity: tokens say who calls whom, and only ``orders`` may."""

    def issue(self, caller: str, audience: str) -> str:
        return f"{caller}>{audience}"

    def admit(self, token: str, operation: str, shown: Any) -> str:
        caller, _, audience = token.partition(">")
        if audience != operation.partition(".")[0]:
            raise InvalidToken("Not for me.", reason="audience")
        if caller != "orders":
            raise CallRefused("Not declared.", caller=caller, operation=operation, reason="edge")
        return caller


async def test_with_an_identity_a_token_says_who_calls(tmp_path: Path) -> None:
    async with stock(tmp_path, identity=Papers(), app__env="production", app__secret_key="k" * 40) as url:
        for token, status, reason in [
            ("", 401, "missing"), ("Bearer orders>stock", 401, "missing"), ("Tenfold orders>mill", 401, "audience"),
            ("Tenfold mill>stock", 403, "edge"),
        ]:  # fmt: skip
            got = await ask(url, Authorization=token)
            assert (got.status_code, got.json()["reason"]) == (status, reason)
            assert "tenfold-error" not in got.headers
        assert (await ask(url, Authorization="Tenfold orders>stock")).status_code == 200
        app, find = made(old)
        app.identity = Papers()
        app.serve_only("orders")
        async with configured(app, tmp_path, services__stock__url=url).lifespan():
            with contexts.use(Context(service="orders")):
                assert await find("tea") == Old("tea 3")
