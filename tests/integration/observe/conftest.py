"""Two instances of a small app, each in a process of its own, for monitoring systems to look at."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.orphans import die_with_parent
from support.servers import free_port

APP = """
from tenfold import App, Service, public

orders = Service("orders", auth=public, slo="99.9% under 300ms")


@orders.get("/orders/{order_id}")
async def show(order_id: int) -> int:
    if order_id == 13:
        raise RuntimeError("unlucky")
    return order_id


@orders.get("/ping", slo=None)
async def ping() -> int:
    return 1


app = App("watched", [orders])
"""
SOURCE = Path(__file__).parents[3] / "src"


@dataclass
class Watched:
    """One instance."""

    port: int
    ops_port: int
    process: subprocess.Popen[bytes]

    @property
    def ops(self) -> str:
        return f"http://127.0.0.1:{self.ops_port}"

    def get(self, path: str) -> int:
        """The status of an answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def ready(self) -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.ops_port)):
                return False
        with urllib.request.urlopen(f"{self.ops}/health/ready", timeout=10) as answer:
            return int(answer.status) == 200


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Watched]]:
    folder = tmp_path_factory.mktemp("watched")
    (folder / "watched.py").write_text(APP)
    instances = [_start(folder, f"web.{number}") for number in (1, 2)]
    until = time.monotonic() + 60
    while not all(instance.ready() for instance in instances):
        assert time.monotonic() < until, (folder / "web.1.log").read_text()
        time.sleep(0.05)
    yield instances
    for instance in instances:
        instance.process.terminate()
    for instance in instances:
        instance.process.wait(20)


def _start(folder: Path, name: str) -> Watched:
    port, ops_port = free_port(), free_port()
    environ = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{folder}", "TENFOLD_INSTANCE": name}
    command = [
        sys.executable, "-m", "tenfold", "run", "watched:app", "--port", str(port), "--ops-port", str(ops_port),
        "--data", str(folder / name),
    ]  # fmt: skip
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=log, stderr=log, preexec_fn=die_with_parent
        )
    return Watched(port, ops_port, process)
