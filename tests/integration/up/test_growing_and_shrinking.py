"""A real fleet with a range for its count: more instances under work that waits, fewer once it is done."""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from support.process import Process
from support.servers import free_port
from tenfold.runtime.up.control import Request, ask
from tenfold.runtime.up.state import State

APP = """
import asyncio, os
from tenfold import App, Service, Tx, public
import sqlalchemy as sa

small = Service("small", auth=public)
small.database(sa.MetaData())

@small.job()
async def work(number: int) -> None:
    await asyncio.sleep(0.1 if number < 40 else 0.0)
    while number >= 40 and not os.path.exists("go"):
        await asyncio.sleep(0.05)

@small.post("/work")
async def more(tx: Tx, count: int) -> None:
    await work.enqueue_many(tx, [{"number": number} for number in range(count)])

app = App("small", [small])
"""
SETTINGS = """
[up]
app = "small:app"
web = "1..2"
[http]
port = {port}
[worker]
concurrency = 1
[scale]
queue_age_s = 0.5
window_s = 2.0
pause_s = 0.1
start_s = 2.0
"""


@pytest.mark.timeout(240)
@pytest.mark.soak
def test_a_fleet_grows_under_work_that_waits_and_shrinks_when_it_is_done(tmp_path: Path) -> None:
    """One instance does ten jobs a second, of which the last ones wait for a file. The cool-down is compressed from 90 s to 2."""
    port = free_port()
    (tmp_path / "small.py").write_text(APP)
    (tmp_path / "tenfold.toml").write_text(SETTINGS.format(port=port))
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    command = [sys.executable, "-m", "tenfold", "up"]
    state = State(tmp_path / "data")
    try:
        with Process(command, ready="is up at", cwd=tmp_path, env={"PYTHONPATH": path}) as up:
            assert ready(state) == ["web.1"]
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/work?count=60", method="POST"), timeout=10)  # fmt: skip
            until(lambda: ready(state) == ["web.1", "web.2"], up)
            assert "From 1 to 2: the oldest job has been due for" in up.output

            (tmp_path / "go").touch()
            until(lambda: ready(state) == ["web.1"], up)
            assert "From 2 to 1: " in up.output
            *_, said = ask(state.socket, Request("down"))
            assert said.sentence == "The fleet has ended."
    finally:
        for instance in state.load().instances.values():
            if psutil.pid_exists(instance.pid):
                os.killpg(instance.pid, signal.SIGKILL)


def ready(state: State) -> list[str]:
    (said,) = ask(state.socket, Request("ps"))
    return sorted(row.instance.name for row in said.rows if row.instance.state == "ready")


def until(condition: Callable[[], bool], up: Process) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, up.output
        time.sleep(0.1)
