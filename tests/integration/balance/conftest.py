"""A real balancer of each kind, in a folder of its own, stopped at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.servers import free_port, program
from tenfold.runtime.balance import Balancer, Listener, Options, Plan, Pool, Upstream, balancer_of

FAST = Options(drain_s=0.3, stop_timeout_s=3.0, slow_start_s=0.5)
"""Where clients go on asking while something changes."""
ALONE = Options(drain_s=0.05, stop_timeout_s=3.0, slow_start_s=0.2)
"""Where nobody does."""


@pytest.fixture(params=["nginx", "haproxy"])
async def balancer(request: pytest.FixtureRequest) -> AsyncIterator[Balancer]:
    """NGINX, then HAProxy."""
    program(request.param)
    found = balancer_of(request.param)
    assert found is not None
    yield found
    await found.stop()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "b"


def plan_for(port: int, *ports: int, options: Options = ALONE, paths: tuple[str, ...] = ("/",)) -> Plan:
    """One listener in front of one pool."""
    upstreams = tuple(Upstream(f"web.{number}", "127.0.0.1", at) for number, at in enumerate(ports, 1))
    return Plan((Listener("public", "127.0.0.1", port),), (Pool("web", upstreams, paths),), options=options)
