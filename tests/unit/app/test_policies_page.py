"""Policies of a running app, looked at and changed at the operations listener."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tenfold import App, Service, public
from tenfold._core.context import Context, use
from tenfold.errors import StatementTimeout, Unavailable

ANN = {"by": "ann", "why": "a flood"}
LIMIT = "/policies/shop.listed.limit"


def made(**options: Any) -> App:
    shop = Service("shop", auth=public, **options)
    shop.database(sa.MetaData())
    shop.http("payments", "https://payments.example")

    @shop.get("/listed")
    async def listed() -> str:
        return "here"

    @shop.internal
    async def counted() -> int:
        return 1

    @shop.get("/through")
    async def through() -> int:
        return await counted()

    return App("shop", [shop])


class Answer(msgspec.Struct):
    status: int
    type: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


async def ask(app: App, method: str, path: str, body: Any = None, *, ops: bool = True) -> Answer:
    raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"host", b"localhost:8001"), (b"content-type", b"application/json")], "client": ("127.0.0.1", 5),
    }  # fmt: skip
    await (app.ops if ops else app)(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers.get("content-type", ""), headers, sent[1]["body"])


async def listed(app: App) -> Answer:
    return await ask(app, "GET", "/listed", ops=False)


@asynccontextmanager
async def running(app: App, folder: Path, **settings: Any) -> AsyncGenerator[App]:
    async with app.test(app__data_dir=str(folder), **settings):
        yield app


async def test_a_limit_that_was_never_declared_is_put_in_and_taken_out(tmp_path: Path) -> None:
    async with running(made(), tmp_path) as app:
        put = await ask(app, "PUT", LIMIT, {"value": "1/hour", **ANN})
        assert (put.status, put.json["by"], put.json["value"]) == (200, "ann", "1/hour")
        assert [(await listed(app)).status for _ in range(2)] == [200, 429]
        assert (await ask(app, "GET", LIMIT)).json["why"] == "a flood"
        gone = await ask(app, "DELETE", LIMIT, {"by": "ann", "why": "over"})
        assert gone.json == {"removed": True}
        assert (await listed(app)).status == 200
        assert (await ask(app, "GET", LIMIT)).status == 404


async def test_a_services_limit_is_changed_for_all_its_operations(tmp_path: Path) -> None:
    async with running(made(limit="1/hour"), tmp_path) as app:
        assert [(await listed(app)).status for _ in range(2)] == [200, 429]
        await ask(app, "PUT", "/policies/shop.limit", {"value": None, **ANN})
        answer = await listed(app)
        assert answer.status == 200
        assert "ratelimit" not in answer.headers
        await ask(app, "DELETE", "/policies/shop.limit", {"by": "ann"})
        assert (await listed(app)).status == 429


async def test_a_change_is_shown_with_its_source(tmp_path: Path) -> None:
    async with running(made(timeout_s=7.0), tmp_path) as app:
        await ask(app, "PUT", "/policies/shop.listed.priority", {"value": "sheddable", **ANN})
        answer = (await ask(app, "GET", "/policies")).json
        rows = {row["operation"]: {p["name"]: p for p in row["policies"]} for row in answer["operations"]}
        assert rows["shop.listed"]["priority"]["source"] == "override"
        assert rows["shop.listed"]["priority"]["value"] == "sheddable"
        assert rows["shop.listed"]["timeout_s"]["source"] == "service shop"
        assert [o["name"] for o in answer["overrides"]] == ["shop.listed.priority"]
        assert "http.concurrency" in answer["names"]


async def test_calls_between_services_heed_a_changed_bound(tmp_path: Path) -> None:
    app = made()
    async with running(app, tmp_path):
        counted = next(o for o in app.operations if o.name == "shop.counted")
        assert await counted() == 1
        await ask(app, "PUT", "/policies/shop.counted.concurrency", {"value": 1, **ANN})
        app.assembly.http.wiring.bulkheads["shop.counted"].enter()
        with pytest.raises(Unavailable, match=r"shop\.counted is done 1 at a time"):
            await counted()


async def test_the_breaker_of_a_client_is_held_open_for_hosts_known_and_to_come(tmp_path: Path) -> None:
    async with running(made(), tmp_path) as app:
        (payments,) = app.clients
        known = payments._bound.hosts.of("payments.example")
        await ask(app, "PUT", "/policies/payments.breaker", {"value": "open", **ANN})
        later = payments._bound.hosts.of("other.example")
        assert [known.breaker.forced, later.breaker.forced] == ["open", "open"]
        await ask(app, "DELETE", "/policies/payments.breaker", {"by": "ann"})
        assert [known.breaker.forced, later.breaker.forced] == [None, None]


async def test_the_admission_limit_is_set_and_given_back(tmp_path: Path) -> None:
    async with running(made(), tmp_path) as app:
        gate = app.assembly.http.wiring.admission
        assert gate is not None
        learned = gate.limit
        await ask(app, "PUT", "/policies/http.concurrency", {"value": 7, **ANN})
        assert (gate.limit, gate.learned) == (7, False)
        await ask(app, "DELETE", "/policies/http.concurrency", {"by": "ann"})
        assert (gate.limit, gate.learned) == (learned, True)


async def test_changes_survive_a_restart(tmp_path: Path) -> None:
    before, after = made(), made()
    for app in (before, after):
        app.configure(environ={}, app__data_dir=str(tmp_path))
    async with before.lifespan():
        await ask(before, "PUT", LIMIT, {"value": "1/hour", **ANN})
    async with after.lifespan():
        assert [(await listed(after)).status for _ in range(2)] == [200, 429]


BAD_INPUT: list[tuple[str, str, Any, int, str]] = [
    ("PUT", LIMIT, {"value": "5/minut", **ANN}, 422, "at character 3: 'minut'"),
    ("PUT", LIMIT, {"value": "5/minute", "by": "ann"}, 422, "missing required field `why`"),
    ("PUT", LIMIT, {"value": "5/minute", "by": " ", "why": "x"}, 422, "Who changes it must be said"),
    ("PUT", LIMIT, {"value": "5/minute", "until": "soon", **ANN}, 422, "'soon' is no time"),
    ("PUT", LIMIT, {"value": [5], **ANN}, 422, "got `array`"),
    ("PUT", LIMIT, {"valeu": 5, **ANN}, 422, "unknown field `valeu`"),
    ("PUT", LIMIT, b'{"value": 5,}', 400, "byte 12"),
    ("PUT", "/policies/shop.listed.limt", {"value": 5, **ANN}, 404, "Did you mean 'shop.listed.limit'?"),
    ("PUT", "/policies/shop.counted.limit", {"value": 5, **ANN}, 404, "There is no policy"),
    ("PUT", "/policies/payments.breaker", {"value": "ajar", **ANN}, 422, "Write open or closed."),
    ("PUT", "/policies/http.concurrency", {"value": 0, **ANN}, 422, "a number from 1"),
    ("POST", LIMIT, {}, 405, "GET, PUT and DELETE"),
    ("DELETE", "/policies", {}, 405, "/policies answers GET"),
]


async def test_bad_input_is_a_problem_that_says_where_and_changes_nothing(tmp_path: Path) -> None:
    async with running(made(), tmp_path) as app:
        for method, path, body, status, said in BAD_INPUT:
            answer = await ask(app, method, path, body)
            assert (answer.status, answer.type) == (status, "application/problem+json"), said
            assert said in answer.body.decode()
        assert (await ask(app, "GET", "/policies")).json["overrides"] == []


async def test_neither_the_callers_deadline_nor_a_slow_statement_makes_a_change_a_504(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change has no deadline of whoever asks for it, and a database that is too slow is one that is away."""

    async def slow(*_: Any) -> Any:
        raise StatementTimeout("the statement ran past its deadline and was stopped.")

    async with running(made(), tmp_path) as app:
        with use(Context(deadline=0.0)):
            assert (await ask(app, "PUT", LIMIT, {"value": "1/hour", **ANN})).status == 200
        monkeypatch.setattr("tenfold.guard.backends._sql_overrides.alone", slow)
        for method, body in (("PUT", {"value": "2/hour", **ANN}), ("DELETE", ANN)):
            assert (await ask(app, method, LIMIT, body)).status == 503
