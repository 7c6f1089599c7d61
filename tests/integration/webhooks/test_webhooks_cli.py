"""``tenfold webhooks``, as people type it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from pathlib import Path

import pytest

from support.webhooks import Receiver
from tenfold.cli.program import run

APP = """
import sqlalchemy as sa
from msgspec import Struct
from tenfold import App, Service


class Placed(Struct):
    order: str


orders = Service("orders")
db = orders.database(sa.MetaData())
placed = orders.topic("placed", Placed)
hooks = orders.webhooks(placed)
app = App("shop", [orders])
"""

SETTINGS = {"TENFOLD_WEBHOOKS_ALLOW": '["127.0.0.1"]'}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("mini", "mini.app"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "app.py").write_text(APP)
    return tmp_path


async def cli(folder: Path, *arguments: str) -> tuple[int, str]:
    """In a thread of this process: the commands run a loop of their own."""
    out = io.StringIO()

    def call() -> int:
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            return run(["webhooks", *arguments])

    return await asyncio.to_thread(call), out.getvalue()


async def prepare(folder: Path, url: str) -> str:
    """An endpoint that is disabled and has missed one event."""
    from mini.app import Placed, app, db, hooks, placed  # type: ignore[import-not-found]

    app.configure(None, environ=SETTINGS, app__data_dir=str(folder / "data"))
    await app.start(worker=False)
    async with db.tx() as tx:
        made = await hooks.add(tx, url)
    async with db.tx() as tx:
        await hooks.disable(tx, made.endpoint.id, "3 attempts failed one after another.")
    await app.stop()
    await app.start(worker=True)
    async with db.tx() as tx:
        await placed.publish(tx, Placed("1"))
    async with asyncio.timeout(10):
        while not await hooks.log(made.endpoint.id):  # noqa: ASYNC110 - of a database
            await asyncio.sleep(0.02)
    await app.stop()
    return str(made.endpoint.id)


@pytest.mark.anyio
async def test_a_dead_endpoint_is_found_tested_enabled_and_replayed(folder: Path) -> None:
    async with Receiver(
        [b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\noops", b"HTTP/1.1 204 Ok\r\n\r\n"]
    ).running() as r:
        id_ = await prepare(folder, f"http://127.0.0.1:{r.port}/hook")
        status, out = await cli(folder)
        assert status == 0, out
        assert all(
            word in out for word in (id_, "disabled", "orders", "3 attempts failed one after another.")
        )
        status, out = await cli(folder, "test", id_)
        assert (status, "500: oops" in out) == (1, True)
        status, out = await cli(folder, "test", id_)
        assert (status, "204" in out) == (0, True)
        status, out = await cli(folder, "replay", id_, "--since", "1h")
        assert (status, "enable it first" in out) == (1, True)
        assert "is enabled" in (await cli(folder, "enable", id_))[1]
        status, out = await cli(folder, "replay", id_, "--since", "1h")
        assert (status, "1 event will be delivered again." in out) == (0, True), out
        status, out = await cli(folder, "log", id_)
        assert "pending" in out


@pytest.mark.anyio
async def test_wrong_calls_are_explained(folder: Path) -> None:
    await prepare(folder, "http://127.0.0.1:9/")
    for arguments, status, said in (
        (["test", "nobody"], 1, "There is no webhook endpoint 'nobody'"),
        (["enable"], 2, "name at least one id"),
        (["replay", "x", "--since", "yesterday"], 2, "'yesterday' is no moment"),
        (["replay", "x"], 2, "since"),
    ):
        found, out = await cli(folder, *arguments)
        assert (found, said in out) == (status, True), out
        assert "Traceback" not in out
