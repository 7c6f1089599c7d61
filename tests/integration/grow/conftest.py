"""A shop of one's own, and the command that moves it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.servers import free_port
from support.shop_server import EXAMPLES, Shop

Done = subprocess.CompletedProcess[str]
Grow = Callable[..., Done]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Running on SQLite."""
    # What is judged are moves, on a machine that serves, asks and moves at once: nothing is to be shed.
    made = Shop(tmp_path / "data", free_port(), free_port(), http_concurrency="1000")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def grow(shop: Shop) -> Grow:
    """Runs ``tenfold grow`` on the shop; ``failpoint`` makes it die there."""

    def run(*options: str, failpoint: str = "") -> Done:
        command = [
            sys.executable,
            "-m",
            "tenfold",
            "grow",
            "shop.app:app",
            "--data",
            str(shop.data),
            *options,
        ]
        env = {**os.environ, "PYTHONPATH": str(EXAMPLES)}
        if failpoint:
            env |= {"TENFOLD_APP_ENV": "test", "TENFOLD_FAILPOINTS": f"{failpoint}=kill"}
        return subprocess.run(
            command, cwd=EXAMPLES, env=env, capture_output=True, text=True, timeout=110, check=False
        )

    return run
