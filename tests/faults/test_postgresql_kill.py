"""G1 on PostgreSQL: what was acknowledged survives SIGKILL of the application and of the server, none of it half.

Quick setting: 4 kills of the application, 2 of the server; `make soak` runs 100 and 30. A violation rate below 3/N
cannot be seen with N acknowledgements.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.servers import Postgres, running

CHILD = Path(__file__).with_name("sqlite_child.py")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """With fsync, and killed by its tests."""
    with running(Postgres(durable=True)) as server:
        yield server


class Child:
    """One process that transfers money; ``acknowledged`` is what it said it had done."""

    def __init__(self, folder: Path, url: str, name: str, *, mode: str = "sound", points: str = "") -> None:
        self.acknowledged: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD), str(folder), name, mode, url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "TENFOLD_APP_ENV": "test", "TENFOLD_FAILPOINTS": points},
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):
                self.acknowledged.append(line.strip())

    def until(self, count: int, seconds: float = 30.0) -> None:
        """Wait for so many acknowledgements."""
        end = time.monotonic() + seconds
        while len(self.acknowledged) <= count:  # the first line says that it is ready
            assert time.monotonic() < end, self.end()
            assert self._process.poll() is None, self.end()
            time.sleep(0.002)

    def end(self) -> str:
        """SIGKILL; what it wrote to stderr."""
        self._process.kill()
        return self.wait()

    def wait(self) -> str:
        """After it was killed by a failpoint."""
        self._process.wait(30)
        self._reader.join()
        if "ready" in self.acknowledged:
            self.acknowledged.remove("ready")
        assert self._process.stderr is not None
        return self._process.stderr.read()

    @property
    def code(self) -> int | None:
        return self._process.returncode


def judge(url: str, acknowledged: list[str]) -> tuple[list[str], list[str]]:
    """Transfers that are lost, and those of which only a half is there."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT transfer, count(*), sum(amount) FROM entries GROUP BY transfer"
        ).fetchall()
    whole = {transfer for transfer, count, total in found if (count, total) == (2, 0)}
    torn = [transfer for transfer, *_ in found if transfer not in whole]
    return [t for t in acknowledged if t not in whole and t not in torn], torn


def kill_the_application(folder: Path, url: str, times: int) -> list[str]:
    rng, acknowledged = random.Random(7), list[str]()
    for n in range(times):
        child = Child(folder, url, f"run{n}")
        child.until(rng.randrange(1, 200))
        child.end()
        acknowledged += child.acknowledged
    return acknowledged


def kill_the_server(folder: Path, server: Postgres, url: str, times: int) -> list[str]:
    child = Child(folder, url, "kills")
    for n in range(1, times + 1):
        child.until(100 * n)
        server.kill()
        server.start()
        child.until(len(child.acknowledged) + 20)
    child.end()
    return child.acknowledged


@pytest.mark.timeout(120)
def test_nothing_acknowledged_is_lost_when_the_application_is_killed(
    server: Postgres, tmp_path: Path
) -> None:
    with server.database() as url:
        acknowledged = kill_the_application(tmp_path, url, 4)
        assert len(acknowledged) > 100
        assert judge(url, acknowledged) == ([], [])


@pytest.mark.timeout(120)
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(server: Postgres, tmp_path: Path) -> None:
    """And the application goes on by itself when the server is back."""
    with server.database() as url:
        acknowledged = kill_the_server(tmp_path, server, url, 2)
        assert len(acknowledged) > 200
        assert judge(url, acknowledged) == ([], [])


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("mode", "seen"), [("early", "lost"), ("torn", "torn"), ("sound", "")])
def test_the_checker_notices_a_broken_build(server: Postgres, tmp_path: Path, mode: str, seen: str) -> None:
    """Acknowledging before the commit, and committing halves, are found by one kill at the right moment."""
    with server.database() as url:
        child = Child(tmp_path, url, "x", mode=mode, points="db.commit.before=kill@2")
        said = child.wait()
        assert child.code == -signal.SIGKILL, said
        lost, torn = judge(url, child.acknowledged)
        assert (bool(lost), bool(torn)) == (seen == "lost", seen == "torn")


@pytest.mark.soak
def test_a_hundred_kills_of_the_application_and_thirty_of_the_server(
    server: Postgres, tmp_path: Path
) -> None:
    with server.database() as url:
        acknowledged = kill_the_application(tmp_path, url, 100)
        acknowledged += kill_the_server(tmp_path, server, url, 30)
        assert judge(url, acknowledged) == ([], [])
