"""What pages ask of the store of telemetry: every statement of every page takes an index, whatever is filtered for."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.looking import looking
from support.telemetry_questions import Heard
from support.telemetry_store import request
from tenfold import App, Service, public
from tenfold.dashboard.pages import pages

pytestmark = pytest.mark.anyio
FILTERS = (
    "/traces?why=failed&operation=shop.read&slower=1", "/traces?kind=job", "/traces?show=requests&why=failed&slower=0.1",
    "/traces?show=requests&operation=shop.read", "/logs?text=some+words&level=error", "/logs?logger=shop", "/logs?level=warning",
    "/operations/shop.read", "/services/shop", f"/traces/{7:032x}", "/jobs?state=dead",
)  # fmt: skip


async def test_no_page_walks_through_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Service("shop", auth=public)

    @shop.get("/read")
    async def read() -> int:
        return 1

    heard = Heard(monkeypatch)
    async with looking(App("shop", [shop]), tmp_path, telemetry__store=True) as looks:
        store = looks.app.assembly.telemetry.store
        assert store is not None
        store.feed.request(
            request(looks.app.clock.now(), operation="shop.read", trace_id=f"{7:032x}"), fair=True
        )
        store.writer.turn()
        for path in (*(page.path for page in pages() if "{" not in page.path), *FILTERS):
            for window in ("15m", "7d"):
                await looks.ask(f"{path}{'&' if '?' in path else '?'}window={window}")
        assert len(heard.statements) > 25
        assert heard.walks(store.writer._file) == {}
