"""Who may read the API's documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenfold import App, Service, public
from tenfold.testing.client import Client

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("env", "docs", "status"),
    [
        ("development", None, 200),
        ("production", None, 404),
        ("production", True, 200),
        ("development", False, 404),
    ],
)
async def test_the_documentation_is_not_served_in_production_unless_asked_for(
    tmp_path: Path, env: str, docs: bool | None, status: int
) -> None:
    service = Service("s", auth=public)

    @service.get("/x")
    async def x() -> int:
        return 1

    app = App("s", [service])
    key = "k" * 48
    app.configure(environ={}, app__data_dir=str(tmp_path), app__env=env, app__secret_key=key, http__docs=docs)
    await app.start(worker=False)
    try:
        assert (await Client(app).get("/openapi.json")).status == status
        assert (await Client(app).get("/docs")).status == status
    finally:
        await app.stop()
