"""A policy that is changed at one instance holds in the other one within two seconds, and ends in both."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from support.process import Process
from support.servers import free_port

APP = """
from __future__ import annotations

import sqlalchemy as sa

from tenfold import App, Service, public

shop = Service("shop", auth=public)
shop.database(sa.MetaData())


@shop.get("/listed")
async def listed() -> str:
    return "here"


app = App("shop", [shop])
"""
REACHES_ALL_WITHIN_S = 2.0
LIMIT = "/policies/shop.listed.limit"


class Instance:
    def __init__(self, folder: Path, database: str) -> None:
        port, ops_port = free_port(), free_port()
        self.url, self.ops = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}"
        self.process = Process(
            [sys.executable, "-m", "tenfold", "run", "fleet_app:app", "--port", str(port), "--ops-port", str(ops_port)],
            cwd=folder,
            env={"TENFOLD_DATABASE_URL": database, "TENFOLD_WORKER_ENABLED": "false"},
            ready=f"{self.ops}/health/ready",
        )  # fmt: skip

    def policy(self) -> str | None:
        return httpx2.get(f"{self.url}/listed", timeout=10.0).headers.get("ratelimit-policy")


@pytest.fixture
def fleet(tmp_path: Path, postgres_url: str) -> Generator[tuple[Instance, Instance]]:
    (tmp_path / "fleet_app.py").write_text(APP)
    with ExitStack() as stack:
        one = Instance(tmp_path, postgres_url)
        stack.enter_context(one.process)  # the tables are made by the first one
        other = Instance(tmp_path, postgres_url)
        stack.enter_context(other.process)
        yield one, other


def seconds_until(holds: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < 10, "it never held"
    return time.monotonic() - began


def test_a_change_reaches_the_other_instance_within_two_seconds_and_ends_by_itself(
    fleet: tuple[Instance, Instance],
) -> None:
    one, other = fleet
    change = {"value": "1000/second per address", "by": "ann", "why": "a flood", "until": "2s"}
    put = httpx2.put(f"{one.ops}{LIMIT}", json=change, timeout=10.0)
    assert put.status_code == 200, put.text
    assert one.policy() is not None  # before the answer was sent
    assert seconds_until(lambda: other.policy() is not None) <= REACHES_ALL_WITHIN_S
    assert seconds_until(lambda: other.policy() is None) <= 2 + REACHES_ALL_WITHIN_S
    said = other.process.output
    assert "policy override in force: shop.listed.limit" in said
    assert "its time is over" in said
