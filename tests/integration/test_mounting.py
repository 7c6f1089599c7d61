"""Tenfold inside other frameworks, and other applications inside Tenfold (examples/mounting)."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from support.asgi import serving
from tenfold import App, Service, public
from tenfold.errors import ConfigError, DeclarationError
from tenfold.testing import Client

pytestmark = pytest.mark.anyio

HOSTS = ["in_fastapi:site", "in_starlette:site", "in_django:application"]


def example(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f"mounting.{module}"), attribute)


@pytest.fixture
def settle(tmp_path: Path) -> Callable[[App], App]:
    """Gives an app a folder of its own and no settings from outside."""

    def settled(app: App) -> App:
        app.configure(environ={}, app__data_dir=str(tmp_path), worker__poll_s=0.05)
        return app

    return settled


@pytest.fixture(params=HOSTS)
async def host(request: pytest.FixtureRequest, settle: Callable[[App], App]) -> AsyncGenerator[Client]:
    settle(example("notes:app"))
    async with serving(example(request.param)) as client:
        yield client


async def until_true(client: Client, path: str, what: Callable[[Any], bool]) -> Any:
    """The body at ``path`` once ``what`` holds for it."""
    async with asyncio.timeout(10):
        while not what(body := (await client.get(path)).expect(200).json()):  # noqa: ASYNC110 - the worker tells nobody
            await asyncio.sleep(0.01)
    return body


async def test_the_host_serves_its_own_pages_and_the_mounted_app_its_operations(host: Client) -> None:
    assert "This is" in (await host.get("/hello")).expect(200).text
    note = (await host.post("/api/notes", json={"text": "two words"})).expect(201).json()
    assert (await host.get(f"/api/notes/{note['id']}")).expect(200).json()["text"] == "two words"


async def test_jobs_of_a_mounted_app_run_while_the_host_lives(host: Client) -> None:
    note = (await host.post("/api/notes", json={"text": "one two three"})).expect(201).json()
    counted = await until_true(host, f"/api/notes/{note['id']}", lambda body: body["words"] is not None)
    assert counted["words"] == 3


async def test_problems_name_the_whole_path(host: Client) -> None:
    missing = (await host.get("/api/notes/77")).expect(404).json()
    assert missing["instance"] == "/api/notes/77"
    unknown = (await host.get("/api/nothing")).expect(404).json()
    assert unknown["instance"] == "/api/nothing"
    wrong = (await host.post("/api/notes", json={"text": ""})).expect(422).json()
    assert (wrong["instance"], wrong["errors"][0]["path"]) == ("/api/notes", "text")


async def test_the_api_document_says_where_it_is_mounted(host: Client) -> None:
    document = (await host.get("/api/openapi.json")).expect(200).json()
    assert document["servers"] == [{"url": "/api"}]
    assert "/notes" in document["paths"]
    page = (await host.get("/api/docs")).expect(200).text
    for asset in ("docs/explorer.js", "openapi.json"):
        assert asset in page
        (await host.get(f"/api/{asset}")).expect(200)


async def test_redirects_stay_below_the_mount_point(host: Client) -> None:
    assert (await host.get("/api/docs/")).expect(308).headers["location"] == "/api/docs"


async def test_after_the_host_has_stopped_the_app_has_too(settle: Callable[[App], App]) -> None:
    app = settle(example("notes:app"))
    async with serving(example("in_starlette:site")):
        assert app.started
    assert not app.started


async def test_applications_mounted_in_tenfold_are_started_and_served(settle: Callable[[App], App]) -> None:
    async with serving(settle(example("inside:app"))) as client:
        assert (await client.get("/legacy/hello")).expect(200).json() == "This is FastAPI."
        assert (await client.get("/legacy/openapi.json")).json()["servers"] == [{"url": "/legacy"}]
        style = (await client.get("/static/style.css")).expect(200)
        assert style.headers["content-type"].startswith("text/css")
        missing = (await client.get("/static/../notes.py")).expect(404).json()
        assert (missing["title"], missing["instance"]) == ("Not Found", "/static/../notes.py")
        (await client.post("/notes", json={"text": "ours"})).expect(201)


async def test_database_and_jobs_serve_a_fastapi_app_on_their_own(settle: Callable[[App], App]) -> None:
    settle(example("pieces:app"))
    async with serving(example("pieces:site")) as client:
        (await client.post("/signups", json={"email": "ada@example.org"})).expect(201)
        found = await until_true(client, "/signups", lambda body: body[0]["welcomed"])
        assert found == [{"email": "ada@example.org", "welcomed": True}]


# ── what a mount promises ────────────────────────────────────────────────────────────────────────


def app_with(settle: Callable[[App], App], *mounts: tuple[str, Any]) -> App:
    site = Service("site")
    for path, mounted in mounts:
        site.mount(path, mounted, auth=public)
    return settle(App("site", [site]))


class Probe:
    """An application that writes down what happens to it."""

    def __init__(self, fails: str = "") -> None:
        self.happened: list[str] = []
        self.fails = fails

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            answer = f"{scope['root_path']} {scope['path']} {scope['state'].get('pool')}".encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": answer})
            return
        assert (await receive())["type"] == "lifespan.startup"
        if self.fails:
            await send({"type": "lifespan.startup.failed", "message": self.fails})
            return
        self.happened.append("started")
        scope["state"]["pool"] = "pool"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        self.happened.append("stopped")
        await send({"type": "lifespan.shutdown.complete"})


async def test_a_mounted_app_lives_as_long_as_tenfold_and_finds_its_state(
    settle: Callable[[App], App],
) -> None:
    probe = Probe()
    async with serving(app_with(settle, ("/probe", probe))) as client:
        assert (await client.get("/probe/x")).text == "/probe /probe/x pool"
        assert probe.happened == ["started"]
    assert probe.happened == ["started", "stopped"]


async def test_a_mount_at_the_root_takes_what_no_operation_does(settle: Callable[[App], App]) -> None:
    async with serving(app_with(settle, ("/", Probe()), ("/deep", Probe()))) as client:
        assert (await client.get("/anything")).text == " /anything pool"
        assert (await client.get("/deep/er")).text == "/deep /deep/er pool"
        assert (await client.get("/openapi.json")).json()["info"]["title"] == "site"


async def test_an_app_without_lifespan_can_be_mounted(settle: Callable[[App], App]) -> None:
    async def bare(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"bare"})

    async with serving(app_with(settle, ("/bare", bare))) as client:
        assert (await client.get("/bare")).text == "bare"


async def test_a_mounted_app_that_cannot_start_keeps_tenfold_from_starting(
    settle: Callable[[App], App],
) -> None:
    healthy = Probe()
    app = app_with(settle, ("/healthy", healthy), ("/broken", Probe(fails="no such host")))
    with pytest.raises(
        ConfigError, match="mount /broken: the application there does not start: no such host"
    ):
        await app.start()
    assert healthy.happened == ["started", "stopped"]


def test_two_apps_at_one_path_are_refused(settle: Callable[[App], App]) -> None:
    app = app_with(settle, ("/a", Probe()), ("/a/", Probe()))
    assert app.check() == ["mount /a: two applications are mounted there."]
    with pytest.raises(DeclarationError):
        app.openapi()
