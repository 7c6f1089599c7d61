"""The text of generated clients: the same for the same API, and as good engineers write it.

When an intended change makes the golden files differ: GOLDEN=write pytest tests/unit/clients
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shop.app import app as shop
from support import every_kind
from support.clients import compiled, needs_typescript
from tenfold import App, Request, Service, WebSocket, public
from tenfold.clients import python, reading, typescript

GOLDEN = Path(__file__).parent / "golden"
Client = msgspec.defstruct("Client", [("list", list[int]), ("str", str), ("self", int)])
LANGUAGES: dict[str, Callable[..., Any]] = {
    "every_kind_client.txt": python.render,
    "every-kind-client.txt": typescript.render,
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_same_api_gives_the_same_text(name: str) -> None:
    text, _ = LANGUAGES[name](reading.read(every_kind.app))
    again, _ = LANGUAGES[name](reading.read(App("every kind", [every_kind.service], version="1.2.3")))
    assert text == again
    if os.environ.get("GOLDEN") == "write":
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def test_python_passes_linter_formatter_and_type_checker(tmp_path: Path) -> None:
    paths = []
    for app in (shop, every_kind.app):
        api = reading.read(app)
        paths.append(tmp_path / python.file_name(api))
        paths[-1].write_text(python.render(api)[0], encoding="utf-8")
    rules = "E4,E7,E9,F,I,UP,B,SIM,RET,C4,RUF,PIE,W"
    modern = ("--isolated", "--target-version", "py311")
    for words in (
        ("ruff", "check", *modern, "--select", rules),
        ("ruff", "format", "--check", "--diff", *modern),
        ("mypy", "--strict"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", *words, *map(str, paths)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@needs_typescript
def test_typescript_passes_the_strictest_compiler(tmp_path: Path) -> None:
    api = reading.read(shop)
    path = tmp_path / typescript.file_name(api)
    path.write_text(typescript.render(api)[0], encoding="utf-8")
    compiled(path)


def test_neither_needs_tenfold() -> None:
    for render in LANGUAGES.values():
        text, _ = render(reading.read(shop))
        assert "import tenfold" not in text
        assert "from tenfold" not in text


def rendered(service: Service) -> tuple[str, list[str]]:
    return python.render(reading.read(App("some", [service])))


def test_what_cannot_be_expressed_is_said() -> None:
    service = Service("some", auth=public)

    @service.post("/hook")
    async def hook(request: Request) -> None: ...

    @service.get("/any")
    async def anything():  # type: ignore[no-untyped-def]
        return 1

    @service.websocket("/live")
    async def live(socket: WebSocket) -> None: ...

    _, notes = rendered(service)
    assert notes == [
        "some.hook reads its request by itself, so what it expects is not declared: its method takes the body as bytes.",
        "some.anything does not say what it returns: its result has no type.",
        "/live is a WebSocket, which has no declared messages: the client leaves it out.",
    ]


def test_names_that_python_needs_for_itself_are_changed() -> None:
    service = Service("class", auth=public)

    @service.post("/import")
    async def lambda_(new: Client, timeout_s: int = 1, page: int = 2) -> Client:  # type: ignore[valid-type]
        return new

    @service.get("/two")
    async def get_two() -> int:
        return 2

    text, _ = rendered(service)
    assert "class ClientData(Struct" in text
    assert 'list_: list[int] = field(name="list")' in text
    assert "self.class_ = ClassApi(self._http)" in text
    assert "timeout_s_2: int | None = None" in text


def test_prose_of_an_app_cannot_end_a_comment() -> None:
    service = Service("some", auth=public)

    @service.get("/odd")
    async def odd() -> int:
        return 1

    odd.fn.__doc__ = 'Ends """ here, and */ there, with a \\ in it.'
    api = reading.read(App("some", [service]))
    compile(python.render(api)[0], "client.py", "exec")
    assert "and *\\/ there" in typescript.render(api)[0]
