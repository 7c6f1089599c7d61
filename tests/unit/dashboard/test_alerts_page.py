"""Alerts on the dashboard: what is wrong, silences that are made and ended, and what is said where nothing is watched."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from support.looking import looking
from tenfold import App, Service, public
from tenfold.telemetry.alerts.rules import Alert
from tenfold.telemetry.alerts.state import State

pytestmark = pytest.mark.anyio


def shop() -> App:
    return App("shop", [Service("books", auth=public)])


def alert(app: App) -> Alert:
    now = app.clock.now()
    labels = (("queue", "<mail>"),)
    return Alert("QueueLate", labels, "page", "firing", now - 60, now, sentence="<mail> is late.", do="Look.")


async def test_an_alert_is_shown_silenced_and_told_of_again(tmp_path: Path) -> None:
    app = shop()
    async with looking(app, tmp_path, telemetry__store=True, alerts__every_s=600.0) as dashboard:
        watch = app.assembly.alerts
        assert watch is not None
        watch.state = State(app.clock.now(), "web.1", [alert(app)])
        assert "&lt;mail&gt; is late." in await dashboard.page("/alerts")
        key = msgspec.json.encode(watch.state.alerts[0].key).decode()
        status, said = await dashboard.act("/alerts", "hush", alert=key)
        assert (status, said) == (200, "Nobody is told of QueueLate for an hour.")
        assert "silenced on the page of alerts" in await dashboard.read("/alerts")
        (silence,) = watch.silences
        assert (await dashboard.act("/alerts", "lift", id=silence.id))[0] == 200
        assert watch.silences == []


async def test_everything_is_silenced_with_a_reason_and_for_a_time_only(tmp_path: Path) -> None:
    app = shop()
    async with looking(app, tmp_path, telemetry__store=True, alerts__every_s=600.0) as dashboard:
        assert (await dashboard.act("/alerts", "silence_all", hours="9999", why="a move"))[0] == 422
        assert (await dashboard.act("/alerts", "silence_all", hours="4"))[0] == 422
        status, said = await dashboard.act(
            "/alerts", "silence_all", hours="4", why="the move of the database"
        )
        assert (status, said) == (200, "Nobody is told of anything for four hours.")
        assert "the move of the database" in await dashboard.read("/alerts")


async def test_what_is_over_cannot_be_silenced(tmp_path: Path) -> None:
    app = shop()
    async with looking(app, tmp_path, telemetry__store=True, alerts__every_s=600.0) as dashboard:
        key = msgspec.json.encode(alert(app).key).decode()
        assert (await dashboard.act("/alerts", "hush", alert=key)) == (404, "It is over.")
        assert (await dashboard.act("/alerts", "hush", alert="{"))[0] == 404


async def test_without_telemetry_the_page_says_why_nothing_is_watched(tmp_path: Path) -> None:
    async with looking(shop(), tmp_path, telemetry__store=False) as dashboard:
        assert "No telemetry is kept (telemetry.store)" in await dashboard.read("/alerts")
        assert (await dashboard.act("/alerts", "silence_all", hours="4", why="because"))[0] == 404
