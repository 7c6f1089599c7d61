"""The small app as a process of its own, somebody who writes to it all the time, and the command that moves it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx2
import pytest

from support.orphans import die_with_parent
from support.process import Process
from support.servers import free_port

TESTS = Path(__file__).parents[1]


class Growing:
    """One data directory, one process at most, and runs of ``tenfold grow``."""

    def __init__(self, data: Path, commands: Commands) -> None:
        self.data = data
        self._commands = commands
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
        self._process = Process(
            ["run", "support.grow_app:app"],
            cwd=TESTS,
            env=env,
            ready=f"{self.ops_url}/health/ready",
            forked="support.grow_app",
        )
        if wait:
            self._process.wait_ready()
        return self._process

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def stop(self) -> None:
        """SIGTERM, and its end."""
        process, self._process = self._process, None
        assert process is not None
        with process:
            assert process.stop() == 0, process.output

    def hide_ops(self) -> None:
        """From now on the command is told another port than the process has."""
        self._env["TENFOLD_OPS_PORT"] = str(free_port())

    def grow(self, *options: str, failpoint: str = "") -> Done:
        """Run the command to its end; it is killed at ``failpoint``."""
        order = {"options": options, "env": self._env, "failpoint": failpoint}
        return self._commands.run(order)


class Done(NamedTuple):
    """How a run of the command ended."""

    returncode: int
    stdout: str
    stderr: str


class Commands:
    """Forks the command off a process that has imported everything (:mod:`support.grow_zygote`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.grow_zygote"], cwd=TESTS, text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )  # fmt: skip

    def run(self, order: dict[str, Any]) -> Done:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Done(answer["status"], answer["out"], answer["err"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="session")
def grow_commands() -> Iterator[Commands]:
    """Runs ``tenfold grow`` for the tests of this process."""
    made = Commands()
    yield made
    made.close()


@pytest.fixture
def growing(tmp_path: Path, grow_commands: Commands) -> Iterator[Growing]:
    """The small app, not started yet."""
    made = Growing(tmp_path / "data", grow_commands)
    yield made
    made.kill()


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
