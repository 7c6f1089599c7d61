"""The steps around a handler: who may call it, what is kept, what happens once, what is committed."""
# ruff: noqa: A002 - parameters are named as on the wire

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import pytest
from http_calls import JSON, Answer, Client, acall, app_of, call, operation, run, scope_of

from tenfold._core.clock import ManualClock
from tenfold._core.context import current
from tenfold._core.sections import AppSettings, HttpSettings, Settings
from tenfold.cache.backends.memory import Backend
from tenfold.cache.cache import Cache
from tenfold.cache.response import ResponseStore
from tenfold.db.database import Tx
from tenfold.errors import Conflict, DeclarationError, Gone, InvalidToken
from tenfold.guard.backends._memory_idempotency import MemoryIdempotencyStore
from tenfold.guard.idempotency import IdempotencyGuard
from tenfold.http.forms import Upload
from tenfold.http.middleware import Edge
from tenfold.http.mounts import Mount
from tenfold.http.operation import UNSET, ResponseCache
from tenfold.http.params import Form
from tenfold.http.pipeline import STEPS
from tenfold.http.reply import Reply
from tenfold.http.request import Request
from tenfold.security.authenticator import Authenticator
from tenfold.security.policy import authenticated, public, roles
from tenfold.security.principal import Principal
from tenfold.telemetry.access import AccessLog, JsonAccess
from tenfold.telemetry.contract import SpanExporter
from tenfold.telemetry.operations import OperationStats
from tenfold.telemetry.redact import Redactor
from tenfold.telemetry.trace import Tracer


class Customer(Principal, frozen=True, kw_only=True):
    pass


class Tokens(Authenticator):
    """``Bearer ann`` is Ann; she is remembered after the first time."""

    challenge = 'Bearer realm="shop"'

    def __init__(self) -> None:
        self.asked = 0
        self.known: dict[bytes, Principal] = {}

    def fast(self, authorization: bytes, /) -> Principal | None:
        return self.known.get(authorization)

    async def authenticate(self, headers: Any, cookies: Mapping[str, str], /) -> Principal | None:
        self.asked += 1
        token = (headers.get("authorization") or "").removeprefix("Bearer ")
        if not token:
            return None
        if token == "forged":
            raise InvalidToken("The token is not ours.")
        kind = Customer if token == "ann" else Principal
        found = kind(id=token, roles=frozenset({token}), tenant="t1")
        self.known[f"Bearer {token}".encode()] = found
        return found


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + token.encode())]


def test_the_pipeline_is_one_list_in_the_order_of_the_design() -> None:
    """Except that a request is understood before its key is claimed: decision 0005."""
    assert [step.name for step in STEPS] == [
        "trace", "measure", "causal token", "edge", "recover", "cached response for all", "caller's retries", "caller's deadline",
        "admission", "bulkhead", "deadline", "authentication", "rate limit", "cached response", "idempotency key", "decode", "idempotency", "dependencies", "database",
        "handler", "encode",
    ]  # fmt: skip


def test_what_an_operation_does_not_use_is_not_in_its_code() -> None:
    async def read() -> str:
        return ""

    (endpoint,) = app_of(operation(read)).endpoints
    for word in (
        "principal",
        "lookup",
        "work",
        "convert",
        "AsyncExitStack",
        "database",
        "stats",
        "body = await",
    ):
        assert word not in endpoint.source


class Traced:
    """Telemetry with a tracer that samples everything and an access log in a list."""

    def __init__(self) -> None:
        clock = ManualClock()
        self.tracer = Tracer(MemoryExporter(), clock)
        self.written: list[bytes] = []
        self.access = AccessLog(self.written.append, JsonAccess(Redactor()), clock)
        self.made = OperationStats("shop.read", "GET", "/")

    def stats(self, operation: str, method: str, route: str) -> OperationStats:
        return self.made


class MemoryExporter(SpanExporter):
    @classmethod
    def from_url(cls, url: str, clock: Any) -> MemoryExporter:
        return cls()

    async def export(self, spans: Any) -> None: ...


@pytest.mark.parametrize("sampled", ["00", "01"])
def test_a_request_joins_the_callers_trace_and_is_counted_and_logged(sampled: str) -> None:
    async def read() -> list[Any]:
        context = current()
        return [context.trace_id, context.tracestate, context.sampled]

    telemetry = Traced()
    trace = "0af7651916cd43dd8448eb211c80319c"
    parent = f"00-{trace}-b7ad6b7169203331-{sampled}".encode()
    app = app_of(operation(read), telemetry=telemetry)
    answer = call(app, "GET", "/", headers=[(b"traceparent", parent), (b"tracestate", b"a=b")])
    assert answer.json == [trace, "a=b", sampled == "01"]
    telemetry.access.close()
    assert [b'"operation":"shop.read"' in line and b'"status":200' in line for line in telemetry.written] == [
        True
    ]
    assert (sum(telemetry.made.statuses), telemetry.made.in_flight) == (1, 0)
    assert [s.name for s in telemetry.tracer.recent] == (["shop.read"] if sampled == "01" else [])


# ── authentication ──


def guarded(auth: Any, **options: Any) -> Any:
    async def mine(request: Request) -> list[Any]:
        return [request.principal and request.principal.id, current().tenant]

    return app_of(operation(mine, auth=auth), authenticator=Tokens(), **options)


def test_nobody_gets_401_with_a_challenge() -> None:
    answer = call(guarded(authenticated), "GET", "/")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="shop"')


def test_a_forged_token_gets_401() -> None:
    answer = call(guarded(authenticated), "GET", "/", headers=bearer("forged"))
    assert (answer.status, answer.json["type"]) == (401, "urn:tenfold:problem:invalid-token")


def test_the_wrong_one_gets_403_and_the_right_one_in() -> None:
    app = guarded(roles("admin"))
    assert call(app, "GET", "/", headers=bearer("ann")).status == 403
    assert call(app, "GET", "/", headers=bearer("admin")).json == ["admin", "t1"]


def test_a_token_that_is_known_is_not_verified_again() -> None:
    app = guarded(authenticated)
    for _ in range(3):
        assert call(app, "GET", "/", headers=bearer("ann")).status == 200
    assert app.wiring.authenticator.asked == 1


def test_a_second_credential_is_judged_also_once_the_token_is_known() -> None:
    app = guarded(authenticated)
    both = [*bearer("ann"), (b"x-api-key", b"forged")]
    call(app, "GET", "/", headers=bearer("ann"))
    for asked in (2, 3):
        call(app, "GET", "/", headers=both)
        assert app.wiring.authenticator.asked == asked


@pytest.mark.parametrize(
    ("carriers", "asked"),
    [(None, [1, 2, 3]), (("authorization", "cookie"), [0, 1, 2])],
    ids=["every", "some"],
)
def test_who_shows_nothing_is_not_judged_where_it_is_known_what_there_is_to_show(
    carriers: tuple[str, ...] | None, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tokens, "carriers", carriers)
    app, seen = guarded(authenticated), []
    for headers in ([], [(b"cookie", b"a=b")], bearer("ann")):
        assert call(app, "GET", "/", headers=headers).status == (
            200 if headers[-1:] == bearer("ann") else 401
        )
        seen.append(app.wiring.authenticator.asked)
    assert seen == asked


def test_an_asynchronous_policy_decides_with_the_request() -> None:
    async def on_mondays(principal: Principal, request: Request) -> bool:
        return request.query_string == b"monday"

    app = guarded(on_mondays)
    assert call(app, "GET", "/?monday", headers=bearer("ann")).status == 200
    assert call(app, "GET", "/?tuesday", headers=bearer("ann")).status == 403


def test_a_handler_gets_the_principal_it_asks_for() -> None:
    async def strict(customer: Customer) -> str:
        return customer.id

    async def loose(customer: Customer | None) -> str:
        return customer.id if customer else "nobody"

    app = app_of(
        operation(strict, path="/strict"),
        operation(loose, path="/loose"),
        operation(strict, path="/typed", auth=Customer),
        authenticator=Tokens(),
    )
    for path, token, result in [
        ("/strict", "ann", "ann"), ("/loose", "ann", "ann"), ("/typed", "ann", "ann"), ("/loose", "bob", "nobody"),
    ]:  # fmt: skip
        assert call(app, "GET", path, headers=bearer(token)).json == result
    assert call(app, "GET", "/loose").json == "nobody"
    assert [call(app, "GET", path).status for path in ("/strict", "/typed")] == [401, 401]
    assert [call(app, "GET", p, headers=bearer("bob")).status for p in ("/strict", "/typed")] == [403, 403]


def test_a_guarded_operation_without_an_authenticator_does_not_start() -> None:
    async def mine() -> None: ...

    with pytest.raises(DeclarationError, match="no authenticator"):
        app_of(operation(mine, auth=authenticated))


# ── whole-response cache ──


def cached_app(policy: ResponseCache, auth: Any = public) -> tuple[Any, list[int], Cache, ManualClock]:
    runs: list[int] = []

    async def read(id: int, fail: bool = False) -> Any:
        runs.append(id)
        await asyncio.sleep(0)
        if fail:
            raise Conflict("No.")
        return {"id": id, "run": len(runs)}

    clock, cache = ManualClock(), Cache("responses")
    cache.bind(Backend(100, clock), clock)
    app = app_of(
        operation(read, path="/{id}", cache=policy, auth=auth),
        response_cache=ResponseStore(cache),
        clock=clock,
        authenticator=Tokens(),
    )
    return app, runs, cache, clock


def test_a_kept_response_is_served_without_the_handler_until_its_time_is_over() -> None:
    async def main() -> None:
        app, runs, cache, clock = cached_app(ResponseCache(ttl_s=60))
        first = await acall(app, "GET", "/1?a=b")
        assert first.headers["cache-control"] == "public, max-age=60"
        await clock.advance(10)
        second = await acall(app, "GET", "/1?a=b")
        assert (second.body, second.headers["age"], len(runs)) == (first.body, "10", 1)
        etag = [(b"if-none-match", second.headers["etag"].encode())]
        third = await acall(app, "GET", "/1?a=b", headers=etag)
        assert (third.status, third.body, "content-length" in third.headers) == (304, b"", False)
        assert (await acall(app, "GET", "/1?a=c")).json["run"] == 2
        assert (await acall(app, "GET", "/2?a=b")).json["run"] == 3
        await clock.advance(60)
        assert (await acall(app, "GET", "/1?a=b")).json["run"] == 4
        await cache.unbind()

    run(main())


def test_everybody_who_waits_shares_one_run() -> None:
    async def main() -> None:
        app, runs, cache, _ = cached_app(ResponseCache())
        answers = await asyncio.gather(*[acall(app, "GET", "/1") for _ in range(20)])
        assert ({a.status for a in answers}, runs) == ({200}, [1])
        await cache.unbind()

    run(main())


def test_an_invalidated_tag_drops_the_response() -> None:
    async def main() -> None:
        app, _, cache, _ = cached_app(ResponseCache(tags=("item:{id}",)))
        await acall(app, "GET", "/1")
        await acall(app, "GET", "/2")
        await cache.invalidate("item:1")
        assert (await acall(app, "GET", "/1")).json["run"] == 3
        assert (await acall(app, "GET", "/2")).json["run"] == 2
        await cache.unbind()

    run(main())


def test_a_problem_is_not_kept() -> None:
    async def main() -> None:
        app, runs, cache, _ = cached_app(ResponseCache())
        assert [(await acall(app, "GET", "/1?fail=true")).status for _ in range(2)] == [409, 409]
        assert len(runs) == 2
        await cache.unbind()

    run(main())


def test_responses_of_a_guarded_operation_are_kept_per_caller() -> None:
    async def main() -> None:
        app, runs, cache, _ = cached_app(ResponseCache(), authenticated)
        for token in ("ann", "bob", "ann", "bob"):
            answer = await acall(app, "GET", "/1", headers=bearer(token))
            assert answer.headers["cache-control"].startswith("private")
        assert len(runs) == 2
        assert (await acall(app, "GET", "/1")).status == 401
        await cache.unbind()

    run(main())


def test_a_header_may_be_part_of_the_key() -> None:
    async def main() -> None:
        app, runs, cache, _ = cached_app(ResponseCache(vary=("Accept-Language",)))
        for language in (b"en", b"fr", b"en"):
            answer = await acall(app, "GET", "/1", headers=[(b"accept-language", language)])
            assert answer.headers["vary"] == "Accept-Language"
        assert len(runs) == 2
        await cache.unbind()

    run(main())


# ── idempotency ──


def keyed(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"idempotency-key", key.encode())]


def idempotent_app(wanted: Any = True, **policies: Any) -> tuple[Any, list[Any]]:
    runs: list[Any] = []
    go_on = asyncio.Event()

    async def place(order: dict[str, Any]) -> Reply[dict[str, Any]]:
        runs.append(order)
        if order.get("wait"):
            await go_on.wait()
        if order.get("error"):
            known = {"conflict": Conflict("No."), "gone": Gone("No.")}
            raise known.get(order["error"], ZeroDivisionError())
        return Reply({"run": len(runs)}, 201, headers={"Location": "/1"})

    clock = ManualClock()
    guard = IdempotencyGuard(MemoryIdempotencyStore(clock), clock)
    app = app_of(operation(place, "POST", idempotent=wanted, **policies), idempotency=lambda service: guard)
    app.go_on = go_on  # type: ignore[attr-defined]
    return app, runs


def test_the_same_key_has_one_effect_and_the_same_reply() -> None:
    app, runs = idempotent_app()
    first = call(app, "POST", "/", {"a": 1}, keyed("k1"))
    again = call(app, "POST", "/", {"a": 1}, keyed("k1"))
    assert (first.status, again.status, first.body) == (201, 201, again.body)
    assert (again.headers["idempotency-replayed"], again.headers["location"], len(runs)) == ("true", "/1", 1)
    assert call(app, "POST", "/", {"a": 1}, keyed("k2")).json == {"run": 2}
    assert call(app, "POST", "/", {"a": 1}).json == {"run": 3}


def test_a_key_with_another_request_is_refused() -> None:
    app, _ = idempotent_app()
    call(app, "POST", "/", {"a": 1}, keyed("k1"))
    answer = call(app, "POST", "/", {"a": 2}, keyed("k1"))
    assert (answer.status, answer.json["type"]) == (422, "urn:tenfold:problem:idempotency-mismatch")


def test_a_duplicate_that_comes_while_the_first_runs_is_told_to_wait() -> None:
    async def main() -> None:
        app, runs = idempotent_app()
        first = asyncio.create_task(acall(app, "POST", "/", {"wait": 1}, keyed("k1")))
        while not runs:  # noqa: ASYNC110 - what it waits for is a plain list
            await asyncio.sleep(0)
        second = await acall(app, "POST", "/", {"wait": 1}, keyed("k1"))
        assert (second.status, "retry-after" in second.headers) == (409, True)
        app.go_on.set()
        assert (await first).status == 201

    run(main())


def test_an_error_of_ours_frees_the_key_and_one_of_the_clients_that_stays_is_kept() -> None:
    app, runs = idempotent_app()
    assert call(app, "POST", "/", {"error": "ours"}, keyed("k1")).status == 500
    assert call(app, "POST", "/", {"error": "ours"}, keyed("k1")).status == 500
    assert len(runs) == 2
    refused = [call(app, "POST", "/", {"error": "gone"}, keyed("k2")) for _ in range(2)]
    assert ([a.status for a in refused], len(runs)) == ([410, 410], 3)
    assert refused[1].headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"nope", [JSON], 400),
        (b"{}" + b" " * 100, [JSON], 413),
        (b"{}", [(b"content-type", b"text/plain")], 415),
        (b"[]", [JSON], 422),
    ],
)
def test_a_request_that_was_not_understood_leaves_its_key_to_the_corrected_one(
    body: bytes, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    app, runs = idempotent_app(body_max_bytes=100)
    for _ in range(2):
        answer = call(app, "POST", "/", body, [*keyed("k1"), *headers])
        assert (answer.status, "idempotency-replayed" in answer.headers) == (status, False)
    assert (call(app, "POST", "/", {"a": 1}, keyed("k1")).status, len(runs)) == (201, 1)


def test_a_form_is_compared_and_replayed_like_any_other_body() -> None:
    seen: list[str] = []

    async def sign(name: Annotated[str, Form()]) -> str:
        seen.append(name)
        return name

    guard = IdempotencyGuard(MemoryIdempotencyStore(ManualClock()), ManualClock())
    app = app_of(operation(sign, "POST", idempotent=True), idempotency=lambda service: guard)
    headers = [*keyed("k1"), (b"content-type", b"application/x-www-form-urlencoded")]
    forms = [b"wrong=1", b"name=ann", b"name=ann", b"name=bob"]
    assert [call(app, "POST", "/", form, headers).status for form in forms] == [422, 200, 200, 422]
    assert seen == ["ann"]


def test_a_missing_file_leaves_the_key_as_well() -> None:
    async def store(picture: Upload) -> int:
        return picture.size

    guard = IdempotencyGuard(MemoryIdempotencyStore(ManualClock()), ManualClock())
    app = app_of(operation(store, "POST", idempotent=True), idempotency=lambda service: guard)
    headers = [*keyed("k1"), (b"content-type", b"multipart/form-data; boundary=b")]
    part = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="a"\r\n\r\nabc\r\n--b--\r\n'
    answers = [call(app, "POST", "/", part % name, headers) for name in (b"x", b"picture", b"picture")]
    assert [a.status for a in answers] == [422, 200, 200]
    assert "idempotency-replayed" in answers[2].headers


def test_a_key_may_be_required_and_must_be_usable() -> None:
    app, _ = idempotent_app("required")
    assert "Idempotency-Key" in call(app, "POST", "/", {"a": 1}).json["detail"]
    assert "Idempotency-Key" in call(app, "POST", "/", b"nope", [JSON]).json["detail"], (
        "before the body's faults"
    )
    assert call(app, "POST", "/", {"a": 1}, keyed("")).status == 400
    assert call(app, "POST", "/", {"a": 1}, keyed("x" * 256)).status == 400


# ── transactions ──


class FakeDatabase:
    def __init__(self) -> None:
        self.log: list[str] = []

    def tx(self) -> Any:
        return self

    async def __aenter__(self) -> Any:
        self.log.append("begin")
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.log.append("rollback" if kind else "commit")


def transactional(result: Any) -> tuple[Answer, list[str]]:
    database = FakeDatabase()

    async def place(tx: Tx) -> Any:
        database.log.append("handler")
        if isinstance(result, Exception):
            raise result
        return result

    app = app_of(operation(place, "POST"), databases={"shop": database})
    return call(app, "POST", "/"), database.log


def test_a_transaction_is_committed_once_the_reply_was_encoded() -> None:
    answer, log = transactional({"a": 1})
    assert (answer.status, log) == (200, ["begin", "handler", "commit"])


@pytest.mark.parametrize(("result", "status"), [(Conflict("No."), 409), ({"a": object()}, 500)])
def test_a_reply_that_fails_undoes_the_transaction(result: Any, status: int) -> None:
    answer, log = transactional(result)
    assert (answer.status, log) == (status, ["begin", "handler", "rollback"])


def test_a_transaction_without_a_database_does_not_start() -> None:
    async def place(tx: Tx) -> None: ...

    with pytest.raises(DeclarationError, match="has no database"):
        app_of(operation(place, "POST"))


# ── edge ──


def edge_app() -> Any:
    async def read(size: int = 1) -> str:
        return "x" * size

    settings = Settings(
        app=AppSettings(env="production"), http=HttpSettings(cors_origins=["https://shop.example"])
    )
    return app_of(operation(read, path="/x"), edge=Edge(settings))


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/x", 200), ("GET", "/y", 404), ("PUT", "/x", 405)]
)
def test_every_reply_has_the_security_headers_once(method: str, path: str, status: int) -> None:
    answer = call(edge_app(), method, path)
    names = [name for name, _ in answer.raw_headers]
    assert answer.status == status
    for name in (b"x-content-type-options", b"strict-transport-security", b"x-frame-options"):
        assert names.count(name) == 1


def test_large_bodies_are_compressed_for_those_who_accept_it() -> None:
    import gzip

    app = edge_app()
    packed = call(app, "GET", "/x?size=5000", headers=[(b"accept-encoding", b"gzip")])
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(packed.body) < 1000
    assert len(gzip.decompress(packed.body)) == 5002
    assert "content-encoding" not in call(app, "GET", "/x?size=5000").headers


def test_browsers_of_other_origins_are_answered_as_configured() -> None:
    app = edge_app()
    ours = [(b"origin", b"https://shop.example")]
    for path in ("/x", "/y"):
        answer = call(app, "GET", path, headers=ours)
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    preflight = call(app, "OPTIONS", "/x", headers=[*ours, (b"access-control-request-method", b"GET")])
    assert (preflight.status, "GET" in preflight.headers["access-control-allow-methods"]) == (204, True)
    theirs = call(app, "GET", "/x", headers=[(b"origin", b"https://evil.example")])
    assert "access-control-allow-origin" not in theirs.headers


# ── mounts and mount points ──


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = msgspec.json.encode([scope["root_path"], scope["path"]])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def test_a_mounted_application_gets_what_is_below_its_path() -> None:
    async def read() -> str:
        return "ours"

    app = app_of(
        operation(read, path="/admin/ours"),
        mounts=[Mount("/admin", echo, public), Mount("/admin/deep", echo, authenticated)],
        authenticator=Tokens(),
    )
    assert call(app, "GET", "/admin/ours").json == "ours"
    assert call(app, "GET", "/admin/x").json == ["/admin", "/admin/x"]
    assert call(app, "GET", "/admin").json == ["/admin", "/admin"]
    assert call(app, "GET", "/administrator").status == 404
    assert call(app, "GET", "/admin/deep/x").status == 401
    assert call(app, "GET", "/admin/deep/x", headers=bearer("ann")).json[0] == "/admin/deep"


def test_a_mount_without_a_policy_does_not_start() -> None:
    with pytest.raises(DeclarationError, match="who may use it"):
        app_of(mounts=[Mount("/x", echo, UNSET)])


def test_the_app_works_below_a_mount_point_of_another() -> None:
    async def read(name: str) -> str:
        return name

    app = app_of(operation(read, path="/files/{name}"))
    assert call(app, "GET", "/api/files/a%2Fb", root_path="/api").json == "a/b"
    assert call(app, "GET", "/files/a", root_path="/api").json == "a"


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/files/a/", "/files/a"),
        ("/list", "/list/"),
        ("/files/a%2Fb/?q=1", "/files/a%2Fb?q=1"),
        ("//evil/", None),
    ],
)
def test_a_last_slash_too_many_or_too_few_is_redirected(target: str, location: str | None) -> None:
    async def read(name: str = "") -> str:
        return name

    app = app_of(operation(read, path="/files/{name}"), operation(read, path="/list/"))
    answer = call(app, "GET", target)
    assert (answer.status, answer.headers.get("location")) == ((308, location) if location else (404, None))


def test_lifespan_starts_and_stops_the_app() -> None:
    async def main() -> None:
        app = app_of()
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        running: list[bool] = []

        async def receive() -> Any:
            running.append(app.sweeper.running)
            return messages.pop(0)

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
        assert running == [False, True]
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert not app.sweeper.running

    run(main())


def test_a_websocket_that_nobody_serves_is_refused() -> None:
    async def main() -> list[Any]:
        client = Client([b""])
        await app_of()({**scope_of("GET", "/"), "type": "websocket"}, client.receive, client.send)
        return client.sent

    assert run(main()) == [{"type": "websocket.close", "code": 1000}]
