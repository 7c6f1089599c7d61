"""A Redis that may lose confirmed events says which of its settings would have to change."""

from __future__ import annotations

import logging

import pytest

from support.servers import Redis, running
from tenfold._core.clock import SystemClock
from tenfold._core.sections import EventsSettings
from tenfold.events.backends.redis import Backend

pytestmark = pytest.mark.anyio


async def warnings_of(server: Redis, caplog: pytest.LogCaptureFixture) -> str:
    caplog.clear()
    backend = Backend.from_url(server.url(), settings=EventsSettings(), clock=SystemClock())
    with caplog.at_level(logging.WARNING, "tenfold.events"):
        await backend.start()
    await backend.stop()
    return caplog.text


async def test_settings_that_lose_events_are_named_at_start(caplog: pytest.LogCaptureFixture) -> None:
    with running(Redis("--appendonly", "yes")) as server:
        said = await warnings_of(server, caplog)
    assert "its appendfsync is everysec and should be always" in said
    assert "appendonly" not in said


async def test_a_durable_server_is_no_matter(
    durable_redis_url: str, durable_redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    assert await warnings_of(durable_redis, caplog) == ""
