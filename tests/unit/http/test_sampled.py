"""A request whose trace is recorded is served as any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.asgi import serving
from tenfold import App, Authenticator, Context, Principal, Service, authenticated
from tenfold._core.context import current
from tenfold.http.stream import Stream

pytestmark = pytest.mark.anyio


class Header(Authenticator):
    """``x-user`` says who it is."""

    async def authenticate(self, headers: Any, cookies: Any, /) -> Principal | None:
        user = headers.get("x-user")
        return Principal(id=user) if user else None


@pytest.mark.parametrize(("ratio", "store"), [(0.0, False), (1.0, False), (1.0, True)])
async def test_what_it_calls_knows_who_asks_and_how_long_it_may_take(
    tmp_path: Path, ratio: float, store: bool
) -> None:
    desk = Service("desk", auth=authenticated)

    @desk.get("/name")
    async def name(who: Principal, context: Context) -> tuple[str, float]:
        assert context.deadline is not None
        return who.id, context.deadline - context.monotonic()

    @desk.get("/outer")
    async def outer() -> tuple[str, float]:
        return await name()

    app = App("test", [desk], auth=Header())
    app.configure(environ={}, app__data_dir=str(tmp_path), trace__ratio=ratio, telemetry__store=store)
    async with serving(app) as client:
        asked = {"x-user": "ann", "tenfold-timeout-ms": "700"}
        user, left_s = (await client.get("/outer", headers=asked)).expect(200).json()
    assert user == "ann"
    assert left_s < 0.7


@pytest.mark.parametrize("ratio", [0.0, 1.0])
async def test_what_it_streams_knows_who_asks_and_has_no_deadline(tmp_path: Path, ratio: float) -> None:
    desk = Service("desk", auth=authenticated)

    async def pieces() -> AsyncIterator[str]:
        yield f"{current().principal} {current().deadline}"

    @desk.get("/pieces")
    async def stream() -> Stream:
        return Stream(pieces())

    app = App("test", [desk], auth=Header())
    app.configure(environ={}, app__data_dir=str(tmp_path), trace__ratio=ratio)
    async with serving(app) as client:
        said = (await client.get("/pieces", headers={"x-user": "ann"})).expect(200).text
    assert "ann" in said
    assert said.endswith(" None")
