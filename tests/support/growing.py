"""The small app as a process of its own, somebody who writes to it all the time, and the command that moves it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Self

import httpx2

from support.process import Process
from support.servers import free_port

TESTS = Path(__file__).parents[1]
Done = subprocess.CompletedProcess[str]


class Growing:
    """One data directory, one process at most, and runs of ``tenfold grow``."""

    def __init__(self, data: Path) -> None:
        self.data = data
        port, ops_port = free_port(), free_port()
        self.url, self.ops_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}"
        self._env = {
            "PYTHONPATH": str(TESTS),
            "TENFOLD_HTTP_PORT": str(port),
            "TENFOLD_OPS_PORT": str(ops_port),
            "TENFOLD_APP_DATA_DIR": str(data),
            "TENFOLD_APP_ENV": "test",
            "TENFOLD_DATABASE_MIGRATE": "auto",
        }
        self._process: Process | None = None

    def start(self, *, failpoints: str = "", database: str = "", wait: bool = True) -> Process:
        """Run the app; on ``database`` instead of the SQLite file when given."""
        env = dict(self._env) | ({"TENFOLD_FAILPOINTS": failpoints} if failpoints else {})
        env |= {"TENFOLD_DATABASE_URL": database} if database else {}
        command = [sys.executable, "-m", "tenfold", "run", "support.grow_app:app"]
        self._process = Process(command, cwd=TESTS, env=env, ready=f"{self.ops_url}/health/ready")
        if wait:
            self._process.wait_ready()
        return self._process

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def grow(self, *options: str, failpoint: str = "") -> Done:
        """Run the command to its end; it is killed at ``failpoint``."""
        env = {**os.environ, **self._env} | ({"TENFOLD_FAILPOINTS": f"{failpoint}=kill"} if failpoint else {})
        command = [sys.executable, "-m", "tenfold", "grow", "support.grow_app:app", *options]
        return subprocess.run(
            command, cwd=TESTS, env=env, capture_output=True, text=True, timeout=100, check=False
        )


class Writer:
    """Makes items one after another, each with its own key, from ``__enter__`` to ``__exit__``."""

    def __init__(self, url: str) -> None:
        self.made: dict[str, int] = {}
        """By key, what was acknowledged."""
        self.failed: list[str] = []
        self.slowest_s = 0.0
        self._url = url
        self._stop = threading.Event()
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def wait_for_more(self, count: int = 3) -> None:
        """Until so many more items are acknowledged."""
        with self._more:
            wanted = len(self.made) + count
            assert self._more.wait_for(lambda: len(self.made) >= wanted, 20), self.failed[:3]

    def _run(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.wait(0.01):
                key = str(uuid.uuid4())
                try:
                    answer = client.post("/items", headers={"idempotency-key": key})
                except httpx2.TransportError as error:
                    self.failed.append(repr(error))
                    continue
                self.slowest_s = max(self.slowest_s, answer.elapsed.total_seconds())
                with self._more:
                    if answer.status_code == 201:
                        self.made[key] = answer.json()["id"]
                    else:
                        self.failed.append(answer.text)
                    self._more.notify_all()
