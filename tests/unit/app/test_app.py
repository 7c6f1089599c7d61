"""An app: checked before it starts, whole or not running at all, started and stopped by whoever may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from http_calls import acall

from tenfold import (
    App,
    Authenticator,
    Context,
    Principal,
    Service,
    authenticated,
    current,
    public,
)
from tenfold._core.sections import Settings
from tenfold.errors import ConfigError, DeclarationError, NotBound, UnknownSetting

pytestmark = pytest.mark.anyio


def configured(tmp_path: Path, *services: Service, auth: Any = None, **settings: Any) -> App:
    app = App("test", services, auth=auth)
    app.configure(environ={}, app__data_dir=str(tmp_path), app__env="test", **{"ops__port": 0, **settings})
    return app


def hello(name: str = "hello") -> Service:
    service = Service(name, auth=public)

    @service.get(f"/{name}")
    async def greet() -> str:
        return f"{name} {current().service}"

    return service


# ── declarations ──


@pytest.mark.parametrize("name", ["", "Orders", "1st", "my orders", "a.b"])
def test_a_service_is_named_like_a_module(name: str) -> None:
    with pytest.raises(DeclarationError, match="is not a service name"):
        Service(name)


@pytest.mark.parametrize("prefix", ["v1", "/v1/", "/"])
def test_a_prefix_begins_with_a_slash_and_does_not_end_with_one(prefix: str) -> None:
    with pytest.raises(DeclarationError, match="must begin with a slash and not end with one"):
        Service("orders", prefix=prefix)


def test_settings_are_a_struct() -> None:
    with pytest.raises(DeclarationError, match=r"service orders: its settings .* are not a msgspec Struct"):
        Service("orders", settings=dict)


def test_a_service_has_one_database() -> None:
    service = Service("orders")
    service.database(sa.MetaData())
    with pytest.raises(DeclarationError, match="it has a database already"):
        service.database(sa.MetaData())


def test_migrations_stand_beside_the_module_that_declares_the_service() -> None:
    service = Service("big-orders")
    here = Path(__file__).parent
    assert service.home == here
    assert service.database(sa.MetaData()).migrations == here / "migrations" / "big_orders"


def test_services_jobs_and_topics_of_the_same_name_are_refused() -> None:
    with pytest.raises(DeclarationError, match="more than one service named 'a'"):
        App("test", [Service("a"), Service("a")])
    service = Service("a")
    service.database(sa.MetaData())
    for _ in range(2):
        service.topic("placed", int)
    with pytest.raises(DeclarationError, match="more than one topic named"):
        App("test", [service])
    service = Service("a")
    for _ in range(2):

        @service.job(name="send")
        async def job() -> None: ...

    with pytest.raises(DeclarationError, match="more than one job named"):
        App("test", [service])


def test_hooks_are_async_functions() -> None:
    with pytest.raises(DeclarationError, match=r"it is not an async function\. Write `async def`"):
        Service("a").on_start(lambda: None)


def test_a_service_is_found_by_its_name_or_the_nearest_is_named() -> None:
    app = App("test", [Service("orders")])
    assert app.service("orders") is app.services[0]
    with pytest.raises(KeyError, match="Did you mean 'orders'"):
        app.service("order")


# ── check ──


def no_policy(service: Service) -> None:
    @service.get("/open")
    async def get() -> None: ...


def no_authenticator(service: Service) -> None:
    @service.get("/mine", auth=authenticated)
    async def get() -> None: ...


def no_database(service: Service) -> None:
    @service.job()
    async def job() -> None: ...


def no_keys(service: Service) -> None:
    @service.post("/pay", auth=public, idempotent=True)
    async def pay() -> None: ...


def foreign_topic(service: Service) -> None:
    service.database(sa.MetaData())

    @service.on(Service("other").topic("placed", int))
    async def handle(event: int) -> None: ...


def hook(service: Service) -> None:
    @service.on_stop
    async def stop(size: int) -> None: ...


def twin_paths(service: Service) -> None:
    for _ in range(2):

        @service.get("/same", auth=public)
        async def get() -> None: ...


@pytest.mark.parametrize(
    ("declare", "sentence"),
    [
        (no_policy, "it does not say who may use it"),
        (no_authenticator, "the app has no authenticator"),
        (no_database, "no service has one"),
        (no_keys, "an idempotent operation keeps its keys in the service's database"),
        (foreign_topic, "whose service is not part of this app"),
        (hook, "nothing provides its parameter 'size'"),
        (twin_paths, "/same"),
    ],
)
def test_what_cannot_work_is_found_without_starting(tmp_path: Path, declare: Any, sentence: str) -> None:
    service = Service("orders")
    declare(service)
    app = configured(tmp_path / "data", service)
    [found] = app.check()
    assert sentence in found
    with pytest.raises(DeclarationError):
        asyncio.run(app.start())
    assert not (tmp_path / "data").exists()


async def test_a_check_of_a_sound_app_finds_nothing_and_disturbs_no_running_one(tmp_path: Path) -> None:
    app = configured(tmp_path, hello())
    assert app.check() == []
    async with app.lifespan():
        mailer = app.assembly.mailer
        assert app.check() == []
        assert app.openapi()["info"]["title"] == "test"
        assert await resolved(app, type(mailer)) is mailer


async def resolved(app: App, type_: Any) -> Any:
    from contextlib import AsyncExitStack

    def ask(value: Any) -> None: ...

    ask.__annotations__ = {"value": type_}
    async with AsyncExitStack() as stack:
        return (await app.container.plan(ask).resolve({}, stack))["value"]


# ── settings ──


def test_overrides_are_paths_with_two_underscores_for_dots(tmp_path: Path) -> None:
    app = App("test", [])
    loaded = app.configure(environ={"TENFOLD_HTTP_PORT": "5"}, http__port=9, http__host=None)
    assert (app.settings.http.port, app.settings.http.host) == (9, "127.0.0.1")
    assert loaded.settings is app.settings
    with pytest.raises(UnknownSetting, match=r"Did you mean 'http\.port'"):
        app.configure(environ={}, http_port=9)


class OrderSettings(msgspec.Struct, frozen=True):
    page: int = 20


async def test_a_services_settings_are_injected_by_their_type(tmp_path: Path) -> None:
    service = Service("orders", settings=OrderSettings, auth=public)

    @service.get("/page")
    async def page(own: OrderSettings, all_: Settings) -> list[Any]:
        return [own.page, all_.app.env]

    app = configured(tmp_path, service, services__orders__page=7)
    async with app.lifespan():
        assert (await acall(app, "GET", "/page")).json == [7, "test"]


# ── life ──


async def test_starting_and_stopping_again_is_harmless(tmp_path: Path) -> None:
    service, log = Service("a"), []
    service.on_start(_noting(log, "start"))
    service.on_stop(_noting(log, "stop"))
    app = configured(tmp_path, service)
    for _ in range(2):
        await asyncio.gather(app.start(), app.start())
        await app.start()
        await asyncio.gather(app.stop(), app.stop())
    assert log == ["start", "stop"] * 2


def _noting(log: list[str], what: str) -> Any:
    async def note() -> None:
        log.append(what)

    return note


def test_an_app_outlives_event_loops(tmp_path: Path) -> None:
    app = configured(tmp_path, hello())

    async def ask_twice() -> list[int]:
        try:
            answers = await asyncio.gather(*(acall(app, "GET", "/hello") for _ in range(2)))
            return [answer.status for answer in answers]
        finally:
            await app.stop()

    assert asyncio.run(ask_twice()) == asyncio.run(ask_twice()) == [200, 200]


async def test_hooks_run_in_the_order_of_services_and_stop_in_reverse_before_the_databases(
    tmp_path: Path,
) -> None:
    log: list[str] = []
    services = []
    for name in ("a", "b"):
        service = Service(name)
        database = service.database(sa.MetaData())

        @service.on_start
        async def first(context: Context, name: str = name, database: Any = database) -> None:
            await database.read().scalar(sa.text("select 1"))
            log.append(f"{context.operation} of {context.principal.id}")

        service.on_start(_noting(log, f"{name} second"))

        @service.on_stop
        async def stop_first(name: str = name, database: Any = database) -> None:
            await database.read().scalar(sa.text("select 1"))
            log.append(f"{name} stop")

        service.on_stop(_noting(log, f"{name} stop second"))
        services.append(service)
    async with configured(tmp_path, *services).lifespan():
        started = ["a.first of service:a", "a second", "b.first of service:b", "b second"]
        assert log == started
    assert log == [*started, "b stop second", "b stop", "a stop second", "a stop"]


async def test_when_a_hook_fails_to_start_the_app_is_not_running_and_nothing_stays_open(
    tmp_path: Path,
) -> None:
    a, b, log = Service("a"), Service("b"), []
    database = a.database(sa.MetaData())
    a.on_stop(_noting(log, "a stopped"))
    b.on_stop(_noting(log, "b stopped"))
    fails = [True]

    @b.on_start
    async def connect() -> None:
        if fails[0]:
            raise ConnectionError("nobody there")

    app = configured(tmp_path, a, b)
    with pytest.raises(ConnectionError, match="nobody there"):
        await app.start()
    assert (app.started, log) == (False, ["a stopped"])
    with pytest.raises(NotBound, match="database 'a' was used before its app started"):
        database.read()
    with pytest.raises(NotBound, match="app 'test' has not started"):
        _ = app.assembly
    fails[0] = False
    async with app.lifespan():
        assert app.started
    assert log == ["a stopped", "b stopped", "a stopped"]


async def test_a_stop_hook_that_fails_is_logged_and_the_others_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service, log = Service("a"), []
    service.on_stop(_noting(log, "first"))

    @service.on_stop
    async def broken() -> None:
        raise OSError("disk")

    async with configured(tmp_path, service).lifespan():
        pass
    assert log == ["first"]
    assert [r.exc_info is not None for r in caplog.records if r.levelno >= logging.ERROR] == [True]


async def test_a_data_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    app = configured(tmp_path / "file" / "data", hello())
    with pytest.raises(ConfigError, match=r"app\.data_dir: the folder .* cannot be made: Not a directory"):
        await app.start()


class Pool:
    """Opened once per app."""

    def __init__(self) -> None:
        self.open = True


async def test_what_services_provide_is_made_once_and_cleaned_up_when_the_app_stops(tmp_path: Path) -> None:
    service = Service("a", auth=public)
    pools: list[Pool] = []

    async def connect() -> AsyncGenerator[Pool]:
        pools.append(Pool())
        yield pools[-1]
        pools[-1].open = False

    service.provide(Pool, connect)

    @service.get("/open")
    async def is_open(pool: Pool) -> bool:
        return pool.open

    @service.on_stop
    async def still_open(pool: Pool) -> None:
        assert pool.open

    app = configured(tmp_path, service)
    for round_ in (1, 2):
        async with app.lifespan():
            assert [(await acall(app, "GET", "/open")).json for _ in range(2)] == [True, True]
            assert len(pools) == round_
        assert not pools[-1].open


async def test_invalidations_reach_caches_once_however_often_the_app_started(tmp_path: Path) -> None:
    service = Service("a")
    database, cache = service.database(sa.MetaData()), service.cache()
    app = configured(tmp_path, service)
    for _ in range(3):
        async with app.lifespan():
            assert len(database._listeners) == 2  # the service's cache and that of responses
            await cache.set("k", 1, tags=("t",))
            async with database.tx() as tx:
                tx.invalidate("t")
            assert await cache.get("k") is None
    assert not database._listeners


# ── entries ──


async def test_the_first_request_starts_the_app_when_nobody_did(tmp_path: Path) -> None:
    app = configured(tmp_path, hello())
    answers = await asyncio.gather(*(acall(app, "GET", "/hello") for _ in range(5)))
    assert [answer.json for answer in answers] == ["hello hello"] * 5
    await app.stop()
    assert not app.started


class Server:
    """The server's side of the lifespan protocol."""

    def __init__(self, app: App) -> None:
        self.sent: list[dict[str, Any]] = []
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        self.task = asyncio.create_task(app({"type": "lifespan"}, self._inbox.get, self._send))

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        await self._outbox.put(message)

    async def ask(self, type_: str) -> dict[str, Any]:
        await self._inbox.put({"type": f"lifespan.{type_}"})
        async with asyncio.timeout(10):
            answer: dict[str, Any] = await self._outbox.get()
        return answer


@pytest.mark.parametrize("started_before", [False, True])
async def test_a_server_starts_and_stops_the_app_unless_somebody_else_did(
    tmp_path: Path, started_before: bool
) -> None:
    app = configured(tmp_path, hello())
    if started_before:
        await app.start()
    server = Server(app)
    assert await server.ask("startup") == {"type": "lifespan.startup.complete"}
    assert (await acall(app, "GET", "/hello")).status == 200
    assert await server.ask("shutdown") == {"type": "lifespan.shutdown.complete"}
    await server.task
    assert app.started is started_before
    if started_before:
        assert (await acall(app, "GET", "/hello")).status == 200
    await app.stop()


async def test_a_server_is_told_why_the_app_does_not_start(tmp_path: Path) -> None:
    service = Service("a")
    no_policy(service)
    server = Server(configured(tmp_path, service))
    answer = await server.ask("startup")
    assert answer["type"] == "lifespan.startup.failed"
    assert "it does not say who may use it" in answer["message"]
    with pytest.raises(DeclarationError):
        await server.task


class Header(Authenticator):
    """``x-user`` says who it is."""

    async def authenticate(self, headers: Any, cookies: Any, /) -> Principal | None:
        user = headers.get("x-user")
        return Principal(id=user) if user else None


async def test_a_mounted_app_is_behind_its_policy(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    async def legacy(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError("no lifespan here")
        seen.append((scope["root_path"], scope["path"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"legacy"})

    service = Service("a", prefix="/v1", auth=authenticated)
    service.mount("/old", legacy)
    service.mount("/free", legacy, auth=public)
    app = configured(tmp_path, service, auth=Header())
    async with app.lifespan():
        assert (await acall(app, "GET", "/v1/old/page")).status == 401
        assert not seen
        user = [(b"x-user", b"ann")]
        assert (await acall(app, "GET", "/v1/old/page", headers=user)).body == b"legacy"
        assert (await acall(app, "GET", "/v1/free/")).body == b"legacy"
    assert [root for root, _ in seen] == ["/v1/old", "/v1/free"]


async def test_refused_requests_are_shown_to_the_operations_listener(tmp_path: Path) -> None:
    service = Service("a", auth=public)
    gate, inside = asyncio.Event(), asyncio.Event()

    @service.get("/wait")
    async def wait() -> None:
        inside.set()
        await gate.wait()

    app = configured(tmp_path, service, http__concurrency_max=1, http__waiting_max=0)
    async with app.lifespan():
        waiting = asyncio.create_task(acall(app, "GET", "/wait"))
        await inside.wait()
        assert (await acall(app, "GET", "/wait")).status == 503
        page = await acall(app.ops, "GET", "/metrics", client=("127.0.0.1", 1))
        assert 'tenfold_http_requests_shed_total{priority="default"} 1' in page.body.decode()
        gate.set()
        assert (await waiting).status == 204


async def test_a_draining_app_is_not_ready(tmp_path: Path) -> None:
    app = configured(tmp_path, hello())
    async with app.lifespan():
        scope: Any = {"client": ("127.0.0.1", 1)}
        assert not app.draining
        assert (await acall(app.ops, "GET", "/health/ready", **scope)).status == 200
        app.draining = True
        assert app.draining
        assert (await acall(app.ops, "GET", "/health/ready", **scope)).status == 503
        assert (await acall(app.ops, "GET", "/health/live", **scope)).status == 200
