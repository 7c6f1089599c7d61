"""Two versions of an app side by side, each in a process of its own: what `tenfold check` says of them is what happens."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.process import Process
from support.servers import free_port
from tenfold._core import context as contexts
from tenfold._core.context import Context
from tenfold.cli import main
from tenfold.errors import BadAnswer

pytestmark = pytest.mark.anyio

APP = """
from msgspec import Struct
from tenfold import App, Service, public

stock = Service("stock", auth=public, calls=[])
orders = Service("orders", auth=public, calls=["stock.find"])

class Item(Struct):
    sku: str
    FIELDS

@stock.internal
async def find(sku: str, ARGUMENTS) -> Item:
    return Item(RESULT)

app = App("shop", [orders, stock])
"""
VERSIONS = {
    "old": ("gone: int = 7", "limit: int = 3", 'f"{sku} {limit}"'),
    "new": ('added: str = "by default"', "wide: bool = False", 'f"{sku} {wide}"'),
    # What each would break is said by the check, and happens.
    "asks_more": ("needed: int", "limit: int = 3", 'f"{sku} {limit}", 1'),
    "takes_more": ("gone: int = 7", "limit: int", 'f"{sku} {limit}"'),
}


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module for each version."""
    folder = tmp_path_factory.mktemp("versions")
    for version, (fields, arguments, result) in VERSIONS.items():
        text = APP.replace("FIELDS", fields).replace("ARGUMENTS", arguments).replace("RESULT", result)
        (folder / f"shop_{version}.py").write_text(text)
    return folder


@asynccontextmanager
async def beside(version: str, url: str, folder: Path, code: Path) -> AsyncGenerator[Any]:
    """The orders of a version, here, whose stock is at ``url``; its code, called as they call."""
    sys.path.insert(0, str(code))
    try:
        module = importlib.import_module(f"shop_{version}")
    finally:
        sys.path.remove(str(code))
    app = module.app
    app.serve_only("orders")
    settings = {"app__data_dir": str(folder), "worker__enabled": False, "services__stock__url": url}
    app.configure(environ={}, **settings)
    async with app.lifespan():
        with contexts.use(Context(service="orders")):
            yield module.find


@pytest.fixture(scope="module", params=["old", "new"])
def stock(request: pytest.FixtureRequest, code: Path) -> Iterator[tuple[str, str]]:
    """The stock of a version in a process of its own, and the version."""
    port, ops_port = free_port(), free_port()
    ports = ["--port", str(port), "--ops-port", str(ops_port)]
    command = ["run", f"shop_{request.param}:app", "--service", "stock", "--no-worker", "--no-reload", *ports]
    path = os.pathsep.join([str(code), os.environ.get("PYTHONPATH", "")])
    with Process(
        [sys.executable, "-m", "tenfold", *command],
        cwd=code,
        env={"PYTHONPATH": path},
        ready=f"http://127.0.0.1:{ops_port}/health/ready",
        timeout_s=60,
    ):
        yield request.param, f"http://127.0.0.1:{port}"


async def test_versions_that_the_check_lets_pass_understand_each_other(
    stock: tuple[str, str], code: Path, tmp_path: Path
) -> None:
    version, url = stock
    if version == "old":
        async with beside("new", url, tmp_path, code) as find:
            item = await find("tea", wide=True)
            assert (item.sku, item.added) == ("tea 3", "by default"), (
                "unknown is ignored, missing has its default"
            )
        async with beside("asks_more", url, tmp_path, code) as find:
            with pytest.raises(BadAnswer, match="needed"):
                await find("tea")
    else:
        async with beside("old", url, tmp_path, code) as find:
            item = await find("tea", limit=9)
            assert (item.sku, item.gone) == ("tea False", 7)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("new", ""),
        ("asks_more", "stock.find: result needed may be missing when answered by old services"),
        ("takes_more", "stock.find: argument limit may be missing when sent by old callers"),
    ],
)
def test_the_check_says_beforehand_what_would_happen(
    version: str,
    said: str,
    code: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(code)
    monkeypatch.syspath_prepend(code)
    schema = str(tmp_path / "services.json")
    assert main(["check", "shop_old:app", "--schema", schema]) == 0
    capsys.readouterr()
    assert main(["check", f"shop_{version}:app", "--against", schema]) == (1 if said else 0)
    told = capsys.readouterr()
    assert said in told.out + told.err
