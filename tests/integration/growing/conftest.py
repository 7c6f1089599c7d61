"""Two instances of the shop with the servers behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fleet import Fleet, settings_of_the_guide
from support.servers import Postgres, Redis, running
from support.standby import Standby


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running(Postgres()) as primary, running(Standby(primary)) as standby, running(Redis()) as redis:
        settings = settings_of_the_guide(primary.url(), standby.url(), redis.url())
        (tmp_path / "tenfold.toml").write_text(settings)
        made = Fleet(tmp_path, standby, redis)
        try:
            made.a.process.wait_ready()
            made.b.process.wait_ready()
            yield made
        finally:
            made.a.process.kill()
            made.b.process.kill()
