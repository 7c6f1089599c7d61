"""What is going on, in one look."""

from __future__ import annotations

from tenfold.dashboard import ui
from tenfold.dashboard.html import Html, join
from tenfold.dashboard.page import Page, live
from tenfold.dashboard.view import View


class Overview(Page):
    path = "/"
    title = "Overview"
    about = "Traffic, errors, latency and saturation."
    group = "Now"
    windowed = True

    async def body(self, view: View) -> Html:
        return join(await view.live(self.operations))

    @live(every_s=2)
    async def operations(self, view: View) -> Html:
        found = await view.records.operations(since=view.since)
        rows = [(each.operation, ui.duration(each.p95)) for each in found]
        return ui.card(
            "Operations", ui.table(("operation", "p95"), rows, nothing="No request yet."), flush=True
        )
