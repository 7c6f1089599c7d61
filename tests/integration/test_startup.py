"""How long the shop takes to start, and how much memory it holds when idle."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from support.process import Process
from support.shop_server import EXAMPLES

MEMORY_MAX_MB = 120.0
LEFT_MAX = 5_000
"""Objects that are looked through for garbage when the shop has just started."""
HEAVY = (
    "alembic", "matplotlib", "numpy", "argon2", "pydantic", "IPython", "granian", "httpx2", "multiprocessing.pool",
    "sqlalchemy.orm", "sqlalchemy.ext.asyncio", "sqlalchemy.dialects.postgresql", "cyclopts.help", "code",
    "tenfold.testing", "tenfold.cli.jobs", "tenfold.cli.shell", "pytest",
)  # fmt: skip
PROBE = """
import asyncio, gc, sys, tempfile
from tenfold.cli import target
before = sum(generation["collections"] for generation in gc.get_stats())
app = target.load("shop.app:app")
looked = sum(generation["collections"] for generation in gc.get_stats()) - before
app.configure(environ={{}}, app__data_dir={data!r}, http__port=0, ops__port=0)
from tenfold.runtime.serve import Roles, run
import os, signal
left = []
def started(_):
    left.append(len(gc.get_objects()))
    os.kill(os.getpid(), signal.SIGTERM)
run(app, Roles(), started=started)
print(looked, gc.isenabled(), gc.get_freeze_count() > 100_000, left[0] < {left})
print(*sorted(sys.modules))
"""


def test_an_idle_shop_is_small_and_says_how_fast_it_was_ready(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tenfold", "run", "shop.app:app", "--port", "0", "--ops-port", "0"]
    words = [*command, "--data", str(tmp_path)]
    env = {"PYTHONPATH": str(EXAMPLES)}
    with Process(words, cwd=EXAMPLES, env=env, ready="Ready after") as first:  # makes and fills the database
        assert first.stop() == 0
    began = time.perf_counter()
    with Process(words, cwd=EXAMPLES, env=env, ready="Ready after") as shop:
        ready_s = time.perf_counter() - began
        used = psutil.Process(shop.pid)
        megabytes, cpu_s = used.memory_info().rss / 2**20, sum(used.cpu_times()[:2])
        assert shop.stop() == 0
    print(f"ready after {ready_s:.2f} s ({cpu_s:.2f} s of CPU), {megabytes:.0f} MB")
    assert megabytes < MEMORY_MAX_MB


def test_a_start_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """The time of a start is its imports: these are for other commands, or for later."""
    probe = [sys.executable, "-c", PROBE.format(data=str(tmp_path), left=LEFT_MAX)]
    for _ in range(2):  # the first start makes the tables, which takes more
        done = subprocess.run(
            probe, cwd=EXAMPLES, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    garbage, modules = done.stdout.splitlines()[-2:]
    assert garbage == "0 True True True", "imports or the start were searched for garbage, or will be"
    loaded = set(modules.split())
    assert "tenfold.http.asgi" in loaded
    assert [name for name in HEAVY if name in loaded] == []


SCRIPT = """
import asyncio, gc, tempfile
from shop.app import app
app.configure(environ={{}}, app__data_dir={data!r})

async def main():
    await app.start(worker=False)
    left, kept = len(gc.get_objects()), gc.get_freeze_count()
    await app.stop()
    await app.start(worker=False)
    print(left, kept, gc.get_freeze_count() - kept)
    await app.stop()

asyncio.run(main())
"""


def test_a_script_that_starts_an_app_looks_through_it_for_garbage_no_more(tmp_path: Path) -> None:
    """It has imported the app by itself. What the second start makes is garbage one day, and not kept."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(data=str(tmp_path))], cwd=EXAMPLES, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), *sys.path])}, check=True,
    )  # fmt: skip
    left, kept, more = map(int, done.stdout.splitlines()[-1].split())
    assert left < 10_000 < 100_000 < kept
    assert more <= 0
